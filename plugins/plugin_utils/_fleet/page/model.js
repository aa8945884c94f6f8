"use strict";
// What the report holds: hosts, their items by kind, and changes. No text of it is ever read as markup.

function undelta(numbers) {
  let sum = 0;
  return numbers.map((number) => (sum += number));
}

function lowerBound(sorted, isBefore) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isBefore(sorted[middle])) low = middle + 1; else high = middle;
  }
  return low;
}

function has(sorted, number) {
  return sorted[lowerBound(sorted, (one) => one < number)] === number;
}

class Column {
  constructor(raw) {
    this.texts = raw.texts;
    this.of = undelta(raw.of);
  }
  at(row) {
    return this.texts[this.of[row]];
  }
}

const VALUES = {
  packages: ([version]) => version,
  services: ([state, startup, path]) => [state, startup, path].filter(Boolean).join(", "),
  files: ([digest, mode, owner, group, size, type, target]) =>
    [digest && "SHA-256 " + digest, mode, owner || group ? owner + ":" + group : "", size && size + " bytes", type === "file" ? "" : type,
      target && "to " + target].filter(Boolean).join(", "),
};

// The items of one kind. They are numbered in the order of their identity, which `key` numbers.
class Kind {
  constructor(raw, hosts) {
    this.name = raw.name;
    this.columns = raw.columns.map((column) => new Column(column));
    this.identity = raw.identity;
    this.about = raw.about;
    this.size = this.columns[0].of.length;
    this.bases = raw.bases.map(undelta);
    this.base = raw.base;
    this.added = raw.added.map(undelta);
    this.gone = raw.gone.map(undelta);
    this.missing = raw.missing;
    this.hosts = hosts;
    this.key = new Int32Array(this.size);
    for (let item = 1; item < this.size; item++) {
      const same = this.columns.slice(0, this.identity).every((column) => column.of[item] === column.of[item - 1]);
      this.key[item] = this.key[item - 1] + (same ? 0 : 1);
    }
    this.collected = [];
    for (let host = 0; host < hosts; host++) {
      if (this.base[host] >= 0 || this.added[host].length) this.collected.push(host);
    }
    this._cache = {};
  }

  once(name, make) {
    return this._cache[name] ??= make();
  }

  title(item) {
    return this.columns[0].at(item);
  }

  label(item) {
    const more = this.columns.slice(1, this.identity).map((column) => column.at(item)).filter(Boolean);
    return this.title(item) + (more.length ? " (" + more.join(", ") + ")" : "");
  }

  value(item) {
    const join = VALUES[this.name] || ((texts) => texts.filter(Boolean).join(", "));
    return join(this.columns.slice(this.identity, this.columns.length - this.about).map((column) => column.at(item)));
  }

  description(item) {
    return this.about ? this.columns[this.columns.length - 1].at(item) : "";
  }

  // The places of the items of a key in a sorted list, as [start, end].
  range(items, key) {
    const start = lowerBound(items, (item) => this.key[item] < key);
    let end = start;
    while (end < items.length && this.key[items[end]] === key) end++;
    return [start, end];
  }

  hasKey(items, key) {
    const [start, end] = this.range(items, key);
    return end > start;
  }

  itemsOf(host) {
    const base = this.base[host] < 0 ? [] : this.bases[this.base[host]];
    const added = this.added[host], gone = this.gone[host];
    if (!added.length && !gone.length) return base;
    const kept = base.filter((item) => !has(gone, item) && !this.hasKey(added, this.key[item]));
    return kept.concat(added).sort((one, other) => one - other);
  }

  hostsOfBase() {
    return this.once("hostsOfBase", () => {
      const found = this.bases.map(() => []);
      this.base.forEach((base, host) => base >= 0 && found[base].push(host));
      return found;
    });
  }

  // On how many hosts each item is.
  counts() {
    return this.once("counts", () => {
      const counts = new Int32Array(this.size);
      const hosts = this.hostsOfBase();
      this.bases.forEach((items, base) => { for (const item of items) counts[item] += hosts[base].length; });
      for (let host = 0; host < this.hosts; host++) {
        const items = this.base[host] < 0 ? [] : this.bases[this.base[host]];
        let before = -1;
        for (const item of this.added[host]) {
          counts[item]++;
          if (this.key[item] === before) continue;
          before = this.key[item];
          const [start, end] = this.range(items, before);
          for (let place = start; place < end; place++) counts[items[place]]--;
        }
        for (const item of this.gone[host]) counts[item]--;
      }
      return counts;
    });
  }

  hostsOf(item) {
    const own = this.once("own", () => {
      const found = new Map();
      this.added.forEach((items, host) => {
        for (const one of items) found.has(one) ? found.get(one).push(host) : found.set(one, [host]);
      });
      return found;
    });
    const found = [...(own.get(item) || [])];
    this.bases.forEach((items, base) => {
      if (!has(items, item)) return;
      for (const host of this.hostsOfBase()[base]) {
        if (!has(this.gone[host], item) && !this.hasKey(this.added[host], this.key[item])) found.push(host);
      }
    });
    return found.sort((one, other) => one - other);
  }

  // For each key: its values with the items and the number of hosts of each, the most frequent one first.
  keys() {
    return this.once("keys", () => {
      const counts = this.counts(), found = [];
      for (let item = 0; item < this.size; item++) {
        if (item === 0 || this.key[item] !== this.key[item - 1]) found.push({ item, total: 0, values: new Map() });
        if (!counts[item]) continue;
        const key = found[found.length - 1], value = this.value(item);
        key.total += counts[item];
        const entry = key.values.get(value);
        if (entry) { entry.items.push(item); entry.count += counts[item]; } else key.values.set(value, { value, items: [item], count: counts[item] });
      }
      for (const key of found) key.values = [...key.values.values()].sort((one, other) => other.count - one.count);
      return found;
    });
  }

  few(number) {
    return Math.max(1, Math.floor(number / 20));
  }

  // The architecture of each host, by the package of its package manager; of packages only.
  architectures() {
    return this.once("architectures", () => {
      const found = new Array(this.hosts).fill("");
      if (this.name !== "packages") return found;
      for (let item = 0; item < this.size; item++) {
        if (!["dpkg", "rpm"].includes(this.title(item))) continue;
        for (const host of this.hostsOf(item)) found[host] = this.columns[1].at(item);
      }
      return found;
    });
  }

  // The hosts on which an item can be expected: of a package, those that are not of another architecture.
  comparable(item) {
    const architecture = this.name === "packages" ? this.columns[1].at(item) : "";
    return this.once("comparable " + architecture, () => {
      const architectures = this.architectures();
      if (!architecture || !architectures.includes(architecture)) return this.collected;
      return this.collected.filter((host) => !architectures[host] || architectures[host] === architecture);
    });
  }

  // Keys with values, or an absence, of few hosts. Those of the fewest hosts first.
  outliers() {
    return this.once("outliers", () => {
      const found = [];
      for (const key of this.keys()) {
        const all = this.comparable(key.item).length;
        if (all < 3) continue;
        const absent = Math.max(0, all - key.total), few = this.few(all);
        let rare = key.values.filter((value) => value.count <= this.few(key.total) && value.count < key.values[0].count);
        if (key.total && key.total <= few) rare = key.values;
        const lacking = absent > 0 && absent <= few && rare !== key.values ? absent : 0;
        const number = rare.reduce((sum, value) => sum + value.count, 0) + lacking;
        if (number) found.push({ kind: this, key, rare, lacking, number });
      }
      return found.sort((one, other) => one.number - other.number);
    });
  }

  rareItems() {
    return this.once("rareItems", () => {
      const rare = new Uint8Array(this.size);
      for (const { rare: values } of this.outliers()) for (const value of values) for (const item of value.items) rare[item] = 1;
      return rare;
    });
  }

  // In how many items each host is an outlier.
  rareOfHosts() {
    return this.once("rareOfHosts", () => {
      const rare = this.rareItems(), found = new Int32Array(this.hosts);
      for (const host of this.collected) for (const item of this.itemsOf(host)) found[host] += rare[item];
      return found;
    });
  }

  without(item) {
    return this.comparable(item).filter((host) => !this.hasKey(this.itemsOf(host), this.key[item]));
  }

  // What some hosts have: key -> its most frequent value there, the number of hosts that have it, and the item.
  majority(hosts) {
    const counts = new Map();
    for (const host of hosts) {
      for (const item of this.itemsOf(host)) counts.set(item, (counts.get(item) || 0) + 1);
    }
    const found = new Map();
    for (const [item, count] of counts) {
      const key = this.key[item], before = found.get(key), value = this.value(item);
      if (!before || count > before.count) found.set(key, { item, value, count });
    }
    return found;
  }
}

class Report {
  constructor(raw) {
    Object.assign(this, { title: raw.title, version: raw.version, made: raw.made, since: raw.since, stale: raw.stale });
    this.hosts = raw.hosts.name;
    this.about = raw.hosts;
    this.number = new Map(this.hosts.map((name, host) => [name, host]));
    this.kinds = raw.kinds.map((kind) => new Kind(kind, this.hosts.length));
    this.groups = new Map(Object.entries(raw.groups).map(([name, hosts]) => [name, undelta(hosts)]));
    const changes = raw.changes;
    this.changes = {
      when: undelta(changes.when), host: changes.host, content: changes.content, actor: changes.actor, mark: changes.mark,
      actors: changes.actors, marks: changes.marks,
    };
    [this.changes.kind, this.changes.category, this.changes.name, this.changes.detail] = changes.contents.map((column) => new Column(column));
    this.changesOfHost = new Int32Array(this.hosts.length);
    for (const host of this.changes.host) this.changesOfHost[host]++;
  }

  static async read() {
    const binary = atob(document.getElementById("data").textContent.trim());
    const bytes = new Uint8Array(binary.length);
    for (let place = 0; place < binary.length; place++) bytes[place] = binary.charCodeAt(place);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Report(JSON.parse(await new Response(stream).text()));
  }

  status(host) {
    if (this.about.failure[host] || this.about.failed[host]) return "failed";
    if (this.made - this.about.seen[host] > this.stale) return "stale";
    return this.about.problems[host].length ? "partial" : "ok";
  }

  // Changes as they are shown: equal ones, by the same actor and with the same mark, are one group with its hosts.
  grouped(accept) {
    const { when, host, content, actor, actors, mark, marks } = this.changes, groups = new Map();
    for (let row = 0; row < when.length; row++) {
      if (!accept(row)) continue;
      const id = (content[row] * actors.length + actor[row]) * marks.length + mark[row];
      const group = groups.get(id);
      if (group) { group.hosts.add(host[row]); group.first = when[row]; group.rows++; } else {
        groups.set(id, { content: content[row], actor: actors[actor[row]], mark: marks[mark[row]], hosts: new Set([host[row]]), first: when[row], last: when[row], rows: 1 });
      }
    }
    return [...groups.values()];
  }
}
