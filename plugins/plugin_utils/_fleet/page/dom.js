// Elements. A text becomes a text node, whatever is in it.

function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== ""));
  return element;
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A text of a host, which does not change the direction of the text around it.
function bdi(text) {
  return text === "" ? "" : el("bdi", {}, text);
}

function number(count) {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ",");
}

function plural(count, noun) {
  return number(count) + " " + (count === 1 ? noun : noun + "s");
}

function time(seconds) {
  if (!seconds) return "never";
  const date = new Date(seconds * 1000);
  return isNaN(date) ? "unknown" : date.toISOString().slice(0, 16).replace("T", " ");
}

function day(seconds) {
  return time(seconds).slice(0, 10);
}

function address(view, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined && value !== "")).toString();
  return "#" + view + (query ? "?" + query : "");
}

function hostLink(report, host) {
  return el("a", { href: address("host", { name: report.hosts[host] }) }, bdi(report.hosts[host]));
}

const LISTED = 200;

// "3 hosts", which opens to their names.
function hostList(report, hosts) {
  hosts = [...hosts];
  if (hosts.length === 1) return hostLink(report, hosts[0]);
  const list = el("ul");
  const details = el("details", {
    toggle: () => {
      if (list.firstChild) return;
      list.append(...hosts.slice(0, LISTED).map((host) => el("li", {}, hostLink(report, host))));
      if (hosts.length > LISTED) list.append(el("li", {}, "and " + number(hosts.length - LISTED) + " more"));
    },
  }, el("summary", {}, plural(hosts.length, "host")), list);
  return details;
}

function announce(text) {
  document.getElementById("status").textContent = text;
}

// A control with its label. There is one form at a time.
function field(label, name, control) {
  control.id = "field-" + name;
  control.name = name;
  return el("div", { class: "field" }, el("label", { for: control.id }, label), control);
}

function select(label, name, options, value, onChange) {
  return field(label, name, el("select", { change: onChange }, ...options.map(([key, text]) => el("option", { value: key, selected: key === value }, text))));
}

function input(label, name, value, onInput, more = {}) {
  let waiting;
  const later = () => { clearTimeout(waiting); waiting = setTimeout(onInput, 150); };
  const control = el("input", { type: "search", autocomplete: "off", spellcheck: "false", input: later, ...more });
  control.value = value || "";
  return field(label, name, control);
}

function form(...fields) {
  return el("form", { role: "search", submit: (event) => event.preventDefault() }, ...fields);
}

function values(of) {
  return Object.fromEntries([...new FormData(of)].filter(([, value]) => value !== ""));
}
