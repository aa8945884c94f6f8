// Tables and the time line.

const ROWS = 100;

// columns: [label, cell(row), class]; the first column is the heading of its row. `rows` is a list, of which so many are shown at a time.
function table(caption, columns, rows) {
  const body = el("tbody", { role: "rowgroup" });
  const cell = (row) => ([label, make, class_ = ""], place) => {
    const content = make(row);
    const attributes = { "data-label": label, class: class_ + (content === "" ? " empty" : ""), role: place ? "cell" : "rowheader" };
    return place ? el("td", attributes, content) : el("th", { ...attributes, scope: "row" }, content);
  };
  let shown = 0;
  const more = el("button", { type: "button", click: () => { const first = shown; add(); body.rows[first]?.querySelector("a, summary")?.focus(); } });
  const add = () => {
    for (const row of rows.slice(shown, shown + ROWS)) body.append(el("tr", { role: "row" }, ...columns.map(cell(row))));
    shown = Math.min(rows.length, shown + ROWS);
    more.textContent = "Show more (" + number(shown) + " of " + number(rows.length) + " are shown)";
    more.hidden = shown >= rows.length;
  };
  add();
  const heads = columns.map(([label, , class_ = ""]) => el("th", { scope: "col", role: "columnheader", class: class_ }, label));
  return el("div", {},
    rows.length ? el("table", { role: "table" }, el("caption", {}, caption), el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...heads)), body)
      : el("p", {}, caption), more);
}

const LEVELS = ["drift", "unknown", "run", "task"];
const MARK_WORDS = { ignore: "ignored", window: "in a maintenance window", acknowledge: "acknowledged" };
const LEVEL_WORDS = { drift: "Drift", run: "Perhaps Ansible", task: "Ansible", unknown: "Not known" };
const WITNESS_WORDS = { confirmed: "confirmed by the host: ", differs: "but on the host by " };
const BARS = 90;
const DAY = 86400;

// The parts of the time line that a change can be in, by what is chosen.
const PARTS = {
  kind: (report) => [(row) => report.changes.kind.at(report.changes.content[row]), report.kinds.map((kind) => kind.name), (word) => word],
  category: (report) => [(row) => report.changes.category.at(report.changes.content[row]), ["Added", "Removed", "Modified"], (word) => word],
  level: (report) => [(row) => report.changes.actors[report.changes.actor[row]][0], LEVELS, (word) => LEVEL_WORDS[word]],
};

// The changes by day, or by so many days that there are at most BARS bars. A time outside counts for the first or the last bar.
function timeLine(report, accept, part, open) {
  const [partOf, words, wordOf] = PARTS[part](report);
  const first = Math.floor(report.since / DAY), last = Math.floor(report.made / DAY);
  const width = Math.ceil((last - first + 1) / BARS), bars = Math.ceil((last - first + 1) / width);
  const counts = words.map(() => new Int32Array(bars)), totals = new Int32Array(bars);
  const { when } = report.changes;
  for (let row = 0; row < when.length; row++) {
    if (!accept(row)) continue;
    const bar = Math.min(bars - 1, Math.max(0, Math.floor((Math.floor(when[row] / DAY) - first) / width)));
    const word = words.indexOf(partOf(row));
    if (word >= 0) { counts[word][bar]++; totals[bar]++; }
  }
  const most = Math.max(1, ...totals);
  const colors = part === "level" ? [0, 3, 1, 2] : [5, 4, 1, 2, 0, 3];
  const drawing = svg("svg", { class: "chart", viewBox: `0 0 ${bars} 100`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (let bar = 0; bar < bars; bar++) {
    let top = 100;
    words.forEach((_word, place) => {
      const height = 96 * counts[place][bar] / most;
      top -= height;
      if (height) drawing.append(svg("rect", { x: bar + 0.1, y: top, width: 0.8, height, class: "k" + colors[place] }));
    });
  }
  const from = (bar) => day((first + bar * width) * DAY), until = (bar) => day((first + (bar + 1) * width - 1) * DAY);
  drawing.addEventListener("click", (event) => {
    const box = drawing.getBoundingClientRect(), bar = Math.floor((event.clientX - box.left) / box.width * bars);
    open(from(bar), until(bar));
  });
  const legend = el("ul", { class: "legend" }, ...words.map((word, place) => [word, place]).filter(([, place]) => counts[place].some(Boolean))
    .map(([word, place]) => el("li", {}, el("i", { class: "k" + colors[place] }), wordOf(word) + ": " + number(counts[place].reduce((sum, one) => sum + one, 0)))));
  const busy = [...totals.keys()].filter((bar) => totals[bar]).reverse();
  const shown = words.map((word, place) => [wordOf(word), (bar) => number(counts[place][bar]), "number"]);
  const days = el("details", { class: "screen", toggle: () => {
    if (days.childElementCount > 1) return;
    const label = (bar) => from(bar) + (width > 1 ? " to " + until(bar) : "");
    days.append(table("Changes by time", [
      ["Day", (bar) => el("button", { type: "button", click: () => open(from(bar), until(bar)) }, label(bar)), "whole"],
      ...shown, ["All", (bar) => number(totals[bar]), "number"],
    ], busy));
  } }, el("summary", {}, "Time line as a table"));
  return el("div", {}, drawing, el("div", { class: "axis" }, el("span", {}, from(0)), el("span", {}, until(bars - 1))), legend, days);
}

function actorCell(group) {
  const [level, task, module, playbook, user, who, witness] = group.actor;
  const cell = el("span", {}, el("span", { class: "level " + level }, LEVEL_WORDS[level]));
  if (task || module) cell.append(": ", bdi(task || module), playbook ? el("span", { class: "soft" }, ", ", bdi(playbook)) : "", user ? el("span", { class: "soft" }, ", ", bdi(user)) : "");
  if (who) cell.append(task || module ? el("div", { class: "soft" }, WITNESS_WORDS[witness] || "on the host by ", bdi(who)) : el("span", {}, ": ", bdi(who)));
  const [mark, reason, by] = group.mark;
  if (mark) cell.append(el("div", { class: "soft" }, [MARK_WORDS[mark], by && "by " + by].filter(Boolean).join(" "), reason && ": ", bdi(reason)));
  return cell;
}

function sortGroups(groups, order) {
  const latest = (one, other) => other.last - one.last;
  const most = (one, other) => other.hosts.size - one.hosts.size;
  const level = (one, other) => LEVELS.indexOf(one.actor[0]) - LEVELS.indexOf(other.actor[0]);
  const orders = { drift: [level, most, latest], hosts: [most, latest], latest: [latest, most] };
  return groups.sort((one, other) => orders[order].reduce((found, compare) => found || compare(one, other), 0));
}

function changesTable(report, groups, caption, ofHost = false) {
  const { changes } = report;
  const columns = [
    ["Item", (group) => el("a", { href: address("search", { q: changes.name.at(group.content), kind: changes.kind.at(group.content) }) }, bdi(changes.name.at(group.content)))],
    ["Kind", (group) => changes.kind.at(group.content), "whole"],
    ["Change", (group) => el("span", {}, changes.category.at(group.content), changes.detail.at(group.content) && ": ", bdi(changes.detail.at(group.content)))],
    ["Hosts", (group) => hostList(report, group.hosts)],
    ["By", actorCell],
    ["When (UTC)", (group) => el("span", {}, day(group.first) === day(group.last) ? time(group.last) : time(group.first) + " to " + time(group.last))],
  ];
  return table(caption, ofHost ? columns.filter(([label]) => label !== "Hosts") : columns, groups);
}

const STATUS_WORDS = { failed: "Failed", stale: "Stale", partial: "Partial", ok: "OK" };

function statusCell(report, host) {
  const status = report.status(host);
  const cell = el("span", {}, el("span", { class: "level " + status }, STATUS_WORDS[status]));
  if (report.about.failure[host]) cell.append(": ", bdi(report.about.failure[host]));
  return cell;
}
