// The views. Each has an address, so that it can be linked, and the browser's Back works.

function kindSelect(report, given, show) {
  return select("Kind", "kind", [["", "all kinds"], ...report.kinds.map(({ name }) => [name, name])], given.kind, show);
}

function contains(text) {
  const words = (text || "").toLowerCase().split(/\s+/).filter(Boolean);
  return (...texts) => words.every((word) => texts.some((one) => one.toLowerCase().includes(word)));
}

// A form and the results below it, which are made again when the form changes; the address follows.
function filtered(view, parameters, fields, results) {
  const below = el("div");
  const show = () => {
    const chosen = { ...values(filter) };
    history.replaceState(null, "", address(view, chosen));
    below.replaceChildren(results(chosen, filter));
  };
  const filter = form(...fields(show, parameters));
  below.append(results(parameters, filter));
  return el("div", {}, filter, below);
}

function changesView(report, parameters) {
  const { changes } = report;
  const fields = (show, given) => [
    input("Item or change", "q", given.q, show),
    kindSelect(report, given, show),
    select("Change", "category", [["", "all"], ["Added", "added"], ["Removed", "removed"], ["Modified", "modified"]], given.category, show),
    select("By", "level", [["", "anybody"], ...LEVELS.map((level) => [level, LEVEL_WORDS[level]])], given.level, show),
    input("Task, user or program", "who", given.who, show),
    select("Marked", "marked", [["", "hidden"], ["show", "shown"], ["only", "alone"]], given.marked, show),
    input("Host", "host", given.host, show),
    input("From", "from", given.from, show, { type: "date" }),
    input("Until", "until", given.until, show, { type: "date" }),
    select("Colors", "color", [["level", "by whom"], ["kind", "kind"], ["category", "change"]], given.color, show),
    select("First", "order", [["drift", "drift"], ["hosts", "most hosts"], ["latest", "the latest"]], given.order, show),
  ];
  return filtered("changes", parameters, fields, (chosen, filter) => {
    const fits = contains(chosen.q), onHost = contains(chosen.host), byWhom = contains(chosen.who);
    const from = chosen.from ? Date.parse(chosen.from) / 1000 : -Infinity, until = chosen.until ? Date.parse(chosen.until) / 1000 + DAY : Infinity;
    const contents = changes.name.of.map((_name, content) => (!chosen.kind || changes.kind.at(content) === chosen.kind)
      && (!chosen.category || changes.category.at(content) === chosen.category) && (!chosen.q || fits(changes.name.at(content), changes.detail.at(content))));
    const actors = changes.actors.map(([level, ...texts]) => (!chosen.level || level === chosen.level) && (!chosen.who || byWhom(...texts.slice(0, 5))));
    const hosts = chosen.host ? report.hosts.map((name) => onHost(name)) : null;
    const marks = changes.marks.map(([mark]) => chosen.marked === "show" || (chosen.marked === "only") === Boolean(mark));
    const fitting = (row) => contents[changes.content[row]] && actors[changes.actor[row]] && (!hosts || hosts[changes.host[row]])
      && changes.when[row] >= from && changes.when[row] < until;
    const accept = (row) => marks[changes.mark[row]] && fitting(row);
    const hidden = new Map();
    changes.mark.forEach((mark, row) => { if (!marks[mark] && changes.marks[mark].length && fitting(row)) hidden.set(changes.marks[mark][0], (hidden.get(changes.marks[mark][0]) || 0) + 1); });
    const groups = sortGroups(report.grouped(accept), chosen.order || "drift");
    const rows = groups.reduce((sum, group) => sum + group.rows, 0);
    const caption = rows ? `${plural(rows, "change")} in ${plural(groups.length, "line")}: equal ones are one line` : "No changes.";
    announce(caption);
    const open = (first, last) => {
      for (const [name, value] of [["from", first], ["until", last]]) filter.elements[name].value = value;
      filter.elements.from.dispatchEvent(new Event("input"));
    };
    const unrecorded = changes.actors.some(([level]) => level === "unknown");
    return el("div", {},
      unrecorded ? el("p", { class: "soft" }, "No run of Ansible was recorded. With the callback run_log, changes by Ansible and drift are told apart.") : "",
      hidden.size ? el("p", { class: "soft" }, "Not shown: " + [...hidden].map(([mark, count]) => number(count) + " " + MARK_WORDS[mark]).join(", ")) : "",
      timeLine(report, accept, chosen.color || "level", open), changesTable(report, groups, caption));
  });
}

function searchView(report, parameters) {
  const fields = (show, given) => [
    input("Name, version or description", "q", given.q, show),
    kindSelect(report, given, show),
    select("Match", "match", [["", "part of the text"], ["name", "whole name"]], given.match, show),
  ];
  return filtered("search", parameters, fields, (chosen) => {
    if (!chosen.q) return el("p", { class: "soft" }, "Type a name, for example openssl or /etc/ssh/sshd_config.");
    const fits = contains(chosen.q), found = [];
    for (const kind of report.kinds) {
      if (chosen.kind && kind.name !== chosen.kind) continue;
      for (const key of kind.keys()) {
        const exact = kind.title(key.item) === chosen.q;
        if (chosen.match === "name" && !exact) continue;
        for (const value of key.values) {
          if (exact || fits(kind.label(key.item), value.value, kind.description(value.items[0]))) found.push({ kind, key, value, exact });
        }
      }
    }
    found.sort((one, other) => other.exact - one.exact);
    const caption = found.length ? `${number(found.length)} found` : "Nothing found.";
    announce(caption);
    return table(caption, [
      ["Item", ({ kind, key }) => bdi(kind.label(key.item))],
      ["Kind", ({ kind }) => kind.name, "whole"],
      ["Value", ({ value }) => bdi(value.value)],
      ["Hosts", ({ value }) => number(value.count), "number"],
      ["Which", ({ kind, value }) => hostList(report, new Set(value.items.flatMap((item) => kind.hostsOf(item))))],
      ["Description", ({ kind, value }) => bdi(kind.description(value.items[0]))],
    ], found);
  });
}

function outliersView(report, parameters) {
  const fields = (show, given) => [input("Item", "q", given.q, show), kindSelect(report, given, show)];
  return filtered("outliers", parameters, fields, (chosen) => {
    const fits = contains(chosen.q);
    const found = report.kinds.filter((kind) => !chosen.kind || kind.name === chosen.kind).flatMap((kind) => kind.outliers())
      .filter(({ kind, key }) => !chosen.q || fits(kind.label(key.item))).sort((one, other) => one.number - other.number);
    const caption = found.length ? `${plural(found.length, "item")} in which up to 5 % of the hosts differ from the others, the rarest first` : "No host differs.";
    announce(caption);
    const usual = ({ kind, key, rare }) => {
      const [top] = key.values;
      if (rare.includes(top)) return "not there (" + plural(kind.comparable(key.item).length - key.total, "host") + ")";
      return el("span", {}, bdi(top.value), " (" + plural(top.count, "host") + ")");
    };
    const odd = ({ kind, key, rare, lacking }) => {
      const list = el("div");
      for (const value of rare.slice(0, 5)) {
        list.append(el("div", {}, bdi(value.value), " ", hostList(report, new Set(value.items.flatMap((item) => kind.hostsOf(item))))));
      }
      if (rare.length > 5) list.append(el("div", {}, el("a", { href: address("search", { q: kind.title(key.item), kind: kind.name, match: "name" }) }, "and " + number(rare.length - 5) + " more values")));
      if (lacking) list.append(el("div", {}, "not there ", hostList(report, kind.without(key.item))));
      return list;
    };
    return table(caption, [
      ["Item", ({ kind, key }) => el("a", { href: address("search", { q: kind.title(key.item), kind: kind.name, match: "name" }) }, bdi(kind.label(key.item)))],
      ["Kind", ({ kind }) => kind.name, "whole"],
      ["Hosts that differ", ({ number: count }) => number(count), "number"],
      ["What they have", odd],
      ["Most others have", usual],
    ], found);
  });
}

function hostsView(report, parameters) {
  const statuses = Object.keys(STATUS_WORDS);
  const fields = (show, given) => [
    input("Host", "q", given.q, show),
    select("Status", "status", [["", "all"], ...Object.entries(STATUS_WORDS)], given.status, show),
    select("First", "order", [["", "failed and stale"], ["rare", "most outliers"], ["changes", "most changes"], ["name", "by name"]], given.order, show),
  ];
  return filtered("hosts", parameters, fields, (chosen) => {
    const fits = contains(chosen.q), rare = (host) => report.kinds.reduce((sum, kind) => sum + kind.rareOfHosts()[host], 0);
    const found = [...report.hosts.keys()].filter((host) => (!chosen.q || fits(report.hosts[host], report.about.computer[host]))
      && (!chosen.status || report.status(host) === chosen.status));
    const orders = {
      "": (one, other) => statuses.indexOf(report.status(one)) - statuses.indexOf(report.status(other)),
      rare: (one, other) => rare(other) - rare(one),
      changes: (one, other) => report.changesOfHost[other] - report.changesOfHost[one],
      name: () => 0,
    };
    found.sort(orders[chosen.order || ""]);
    const caption = found.length ? plural(found.length, "host") : "No hosts.";
    announce(caption);
    return table(caption, [
      ["Host", (host) => hostLink(report, host)],
      ["Status", (host) => statusCell(report, host)],
      ["Last seen (UTC)", (host) => time(report.about.seen[host]), "whole"],
      ["Changes", (host) => number(report.changesOfHost[host]), "number"],
      ["Outliers", (host) => number(rare(host)), "number"],
      ["Problems", (host) => bdi(report.about.problems[host].join("; "))],
    ], found);
  });
}

function hostView(report, parameters) {
  const host = report.number.get(parameters.name);
  if (host === undefined) return el("p", {}, "There is no host ", bdi(parameters.name || ""), " in this report.");
  const { about } = report;
  const facts = el("div", {}, el("p", {}, statusCell(report, host), ". Last seen: " + time(about.seen[host]) + " UTC.",
    about.computer[host] && " It calls itself ", bdi(about.computer[host]), about.computer[host] && "."));
  for (const problem of about.problems[host]) facts.append(el("p", {}, "Problem: ", bdi(problem)));
  for (const kind of report.kinds) {
    if (kind.missing[host]) facts.append(el("p", {}, `${number(kind.missing[host])} ${kind.name} are left out, because there are too many.`));
  }
  facts.append(el("p", { class: "screen" }, el("a", { href: address("compare", { a: report.hosts[host] }) }, "Compare with another host or a group")));
  const changed = sortGroups(report.grouped((row) => report.changes.host[row] === host), "latest");
  const rare = report.kinds.flatMap((kind) => kind.itemsOf(host).filter((item) => kind.rareItems()[item]).map((item) => ({ kind, item })))
    .sort((one, other) => one.kind.counts()[one.item] - other.kind.counts()[other.item]);
  const columns = [
    ["Item", ({ kind, item }) => bdi(kind.label(item))],
    ["Kind", ({ kind }) => kind.name, "whole"],
    ["Value", ({ kind, item }) => bdi(kind.value(item))],
    ["Hosts with it", ({ kind, item }) => number(kind.counts()[item]), "number"],
  ];
  const fields = (show, given) => [el("input", { type: "hidden", name: "name", value: given.name }), input("Item", "q", given.q, show), kindSelect(report, given, show)];
  const items = filtered("host", parameters, fields, (chosen) => {
    const fits = contains(chosen.q);
    const found = report.kinds.filter((kind) => !chosen.kind || kind.name === chosen.kind).flatMap((kind) => kind.itemsOf(host)
      .filter((item) => !chosen.q || fits(kind.label(item), kind.value(item), kind.description(item))).map((item) => ({ kind, item })));
    return table(found.length ? plural(found.length, "item") : "No items.", [...columns, ["Description", ({ kind, item }) => bdi(kind.description(item))]], found);
  });
  return el("div", {}, facts,
    el("h3", {}, "What changed"), changesTable(report, changed, changed.length ? plural(changed.length, "change") : "No changes.", true),
    el("h3", {}, "What differs from the other hosts"), table(rare.length ? plural(rare.length, "item") + " that up to 5 % of the hosts have" : "Nothing differs.", columns, rare),
    el("h3", {}, "All items"), items);
}

function compareView(report, parameters) {
  const names = el("datalist", { id: "names" }, ...report.hosts.map((name) => el("option", { value: name })));
  const both = el("datalist", { id: "both" }, ...[...report.groups.keys()].map((name) => el("option", { value: "group " + name })), el("option", { value: "all hosts" }),
    ...report.hosts.map((name) => el("option", { value: name })));
  const fields = (show, given) => [
    input("Host", "a", given.a, show, { list: "names" }), input("With a host or a group", "b", given.b, show, { list: "both" }),
    kindSelect(report, given, show),
  ];
  const hostsOf = (name) => name === "all hosts" ? [...report.hosts.keys()] : report.number.has(name) ? [report.number.get(name)]
    : report.groups.get((name || "").replace(/^group /, ""));
  const view = filtered("compare", parameters, fields, (chosen) => {
    const host = report.number.get(chosen.a), others = hostsOf(chosen.b);
    if (host === undefined || !others) return el("p", { class: "soft" }, "Choose two hosts, or a host and a group. Of a group, the value that most of its hosts have counts.");
    const found = [];
    for (const kind of report.kinds) {
      if (chosen.kind && kind.name !== chosen.kind) continue;
      const members = others.filter((one) => kind.base[one] >= 0 || kind.added[one].length);
      const theirs = kind.majority(others), ours = new Map();
      for (const item of kind.itemsOf(host)) ours.has(kind.key[item]) ? ours.get(kind.key[item]).push(item) : ours.set(kind.key[item], [item]);
      for (const key of [...new Set([...theirs.keys(), ...ours.keys()])].sort((one, other) => one - other)) {
        const usual = theirs.get(key), own = ours.get(key) || [];
        const there = usual && usual.count * 2 >= members.length;
        if (own.some((item) => there && kind.value(item) === usual.value) || (!there && !own.length)) continue;
        found.push({ kind, item: own[0] ?? usual.item, own: own.map((item) => kind.value(item)).join(", "), usual, there, members: members.length });
      }
    }
    const caption = found.length ? plural(found.length, "difference") : "No differences.";
    announce(caption);
    return table(caption, [
      ["Item", ({ kind, item }) => bdi(kind.label(item))],
      ["Kind", ({ kind }) => kind.name, "whole"],
      ["First", ({ own }) => own ? bdi(own) : "not there"],
      ["Second", ({ usual, there, members }) => there ? el("span", {}, bdi(usual.value), members > 1 ? ` (${number(usual.count)} of ${plural(members, "host")})` : "") : "not there"],
    ], found);
  });
  return el("div", {}, names, both, view);
}

const VIEWS = {
  changes: ["Changes", changesView], search: ["Search", searchView], outliers: ["Outliers", outliersView], hosts: ["Hosts", hostsView], compare: ["Compare", compareView],
  host: ["Host", hostView],
};

function route(report, moveFocus) {
  const [view, query] = location.hash.slice(1).split("?", 2);
  const name = Object.hasOwn(VIEWS, view) ? view : "changes";
  const parameters = Object.fromEntries(new URLSearchParams(query || ""));
  const [title, make] = VIEWS[name];
  const heading = el("h2", { tabindex: "-1" }, title, name === "host" ? " " : "", name === "host" ? bdi(parameters.name || "") : "");
  document.title = title + (name === "host" ? " " + (parameters.name || "") : "") + " - " + report.title;
  document.getElementById("main").replaceChildren(heading, make(report, parameters));
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === "#" + name) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  if (moveFocus) { window.scrollTo(0, 0); heading.focus(); }
}

function start(report) {
  document.getElementById("title").replaceChildren(bdi(report.title));
  const counts = { failed: 0, stale: 0, partial: 0, ok: 0 };
  for (const host of report.hosts.keys()) counts[report.status(host)]++;
  document.getElementById("about").append(
    `${plural(report.hosts.length, "host")} (`, el("a", { href: address("hosts", { status: "failed" }) }, number(counts.failed) + " failed"), ", ",
    el("a", { href: address("hosts", { status: "stale" }) }, number(counts.stale) + " stale"), ", ",
    el("a", { href: address("hosts", { status: "partial" }) }, number(counts.partial) + " partial"),
    `), ${plural(report.changes.when.length, "change")} since ${time(report.since)}. Made ${time(report.made)}. All times are UTC.`);
  document.getElementById("views").append(...Object.entries(VIEWS).filter(([name]) => name !== "host")
    .map(([name, [title]]) => el("li", {}, el("a", { href: "#" + name }, title))));
  window.addEventListener("hashchange", () => route(report, true));
  document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); document.getElementById("main").focus(); });
  route(report, false);
}

Report.read().then(start).catch((error) => {
  document.getElementById("main").replaceChildren(el("p", {}, "This browser cannot read the report (" + error.message + "). It needs Chrome 103, Firefox 113, Safari 16.4, or later."));
});
