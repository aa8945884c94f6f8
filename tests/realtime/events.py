# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A storm of changes in a tracked tree, with faults, compared with what was reported:
events.py IMAGE MINUTES [SEED] [--only FAULT]...

Boots the image (as root; see tests/hosts) with agent and relay as the roles install them. For so long, a process on the host makes
100 to 2,000 changes a second, with pauses, while the agent is killed, is frozen until the queue of inotify overflows, gets another
rule, its clock is set an hour forward and back, and others write 20,000 times a second. The schedule runs too, every 20 seconds. Only
the time that Python gives the agent is set: the clocks that cannot be set, and the times of files, stay right.

--only FAULT   this fault instead of all; may be repeated

In the end, what is stored must be the tree (path, type, mode, checksum), and the reported changes, applied in their order to the
tree as it was, must give the same; each must follow from the one before it. A change that is undone between two runs is none.
Prints what was done, missed and invented, and what the schedule alone found. Exit status 0: nothing was missed or invented.
"""

import argparse
import calendar
import glob
import json
import random
import sys
import threading
import time

from booted import AGENT, Host, rule
from cost import agent
from storm import BURST

TREE = "/srv/measured"
MORE = "/srv/more"
CLOCK = "/opt/realtime/clock"  # by how many seconds the agent's clock is wrong
CLOCK_OF_AGENT = """import time
real = time.time
def fake():
    with open("%s") as file:
        return real() + int(file.read() or 0)
time.time = fake
"""
EVERY = 20  # seconds between two scheduled runs
BEFORE = "mkdir -p %s && seq 100 > %s/file && python3 -B /opt/realtime/storm.py start %s 1" % (MORE, MORE, TREE)
ROWS = "var/lib/ctrelay/rows/*CHANGE*.jsonl"


class Counters:
    """What the status of each process of the agent counted last."""

    NAMES = ("Changes", "Missed", "Overflows")

    def __init__(self, host):
        self._host = host
        self._stop = threading.Event()
        self._of_process = {}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def sample(self):
        status = self._host.status()
        files = status.get("Realtime", {}).get("files")
        if files:
            self._of_process[status["Pid"], status["StartedAt"]] = [files[name] for name in self.NAMES]

    def end(self):
        self._stop.set()
        self._thread.join()
        self.sample()
        return dict(zip(self.NAMES, map(sum, zip(*self._of_process.values()))))

    def _run(self):
        while not self._stop.wait(0.3):
            self.sample()


def kill(host, _dice):
    host.sh("systemctl kill --signal=KILL ctagent")


def freeze(host, dice):
    """More events than the queue holds (fs.inotify.max_queued_events) while nobody reads it."""
    host.sh("systemctl kill --signal=STOP ctagent")
    host.run("storm.py", "burst", TREE, dice.randrange(1 << 30))
    host.sh("systemctl kill --signal=CONT ctagent")


def make_burst(host, dice):
    host.run("storm.py", "burst", TREE, dice.randrange(1 << 30))


def change_rule(host, dice):
    """To one that tracks more, or the same tree by other file items, and back."""
    others = [[TREE, MORE], [MORE, TREE], [TREE + "/d0", TREE], [TREE, TREE + "/d1"]]
    for every, folders in ((dice.choice([10, 15]), dice.choice(others)), (EVERY, [TREE])):
        host.put_rule(rule(every, *folders, type="*"))
        wait_until(lambda: host.status()["Kinds"]["files"]["Every"] == every, 120, "the agent does not use the rule")  # noqa: B023
        time.sleep(dice.uniform(5, 20))


def write_fast(host, dice):
    """Returns the writes a second, the agent's use of a CPU in percent, and the most memory that it has had, in MiB."""
    before, start = agent(host)[0], time.monotonic()
    made = host.run("storm.py", "writes", TREE, dice.randrange(1 << 30))
    took = time.monotonic() - start
    seconds, _resident, most = agent(host)
    return made / took, 100 * (seconds - before) / took, most / 1024


def fake_clock(host):
    """Let the agent have a clock that set_clock() sets."""
    (host.root / CLOCK.lstrip("/")).write_text("+0")
    (host.root / "opt/realtime/sitecustomize.py").write_text(CLOCK_OF_AGENT % CLOCK)
    unit = host.root / "etc/systemd/system/ctagent.service.d"
    unit.mkdir(exist_ok=True)
    (unit / "clock.conf").write_text("[Service]\nEnvironment=PYTHONPATH=/opt/realtime\n")
    host.sh("systemctl daemon-reload")
    host.restart_agent()


def set_clock(host, dice):
    """Set the agent's clock an hour forward or back, or right again."""
    place = host.root / CLOCK.lstrip("/")
    hours = dice.choice([hours for hours in ("-3600", "+0", "+3600") if hours != place.read_text()])
    place.write_text(hours)
    end = time.monotonic() + 3 * EVERY
    while abs(clock_of(host) - time.time() - int(hours)) > 2 * EVERY:
        assert time.monotonic() < end, "the agent has another clock"
        time.sleep(0.5)


def clock_of(host):
    """The time at which the agent last collected files, by its clock."""
    return calendar.timegm(time.strptime(host.status()["Kinds"]["files"]["CollectedAt"], "%Y-%m-%dT%H:%M:%SZ"))


FAULTS = {
    "agent killed": kill,
    "agent frozen during a burst": freeze,
    "burst": make_burst,
    "rule changed": change_rule,
    "fast writes": write_fast,
    "clock set": set_clock,
}


def apply(tree, changes):
    """Apply change records to a tree (path -> [type, mode, content]). Yields what does not follow from what was before."""
    for record in changes:
        path, category = record["FileSystemPath"], record["ChangeCategory"]
        before = tree.get(path)
        if category != "Added" and not is_same(before, entry(record, "Previous")):
            yield "%s %s: was %s, reported as %s" % (category, path, before, entry(record, "Previous"))
        if category == "Added" and before is not None:
            yield "Added %s, which was there" % path
        if category == "Removed":
            tree.pop(path, None)
        else:
            tree[path] = entry(record, "")


def entry(row, prefix):
    kind = row[prefix + "FileType"]
    content = {"link": "LinkTarget", "file": "FileContentChecksum"}.get(kind)
    return [kind, int(row[prefix + "Mode"], 8), row[prefix + content] if content else ""]


def is_same(one, other):
    """A file that changed while it was read has no checksum; that it has one later is no change."""
    if one and other and one[0] == other[0] == "file" and "" in (one[2], other[2]):
        return one[:2] == other[:2]
    return one == other


def reported(host):
    """The change records of files, each once, and how many came twice."""
    records, twice = {}, 0
    for path in glob.glob(str(host.root / ROWS)):
        with open(path) as file:
            for line in file:
                record = json.loads(line)["record"]
                twice += record["RecordId"] in records
                records.setdefault(record["RecordId"], record)
    return [record for record in records.values() if record["ConfigChangeType"] == "Files"], twice


def stored(host):
    """What the state has."""
    rows = map(json.loads, host.sh(AGENT + " show files --json").splitlines())
    return {row["FileSystemPath"]: entry(row, "") for row in rows if row["FileSystemPath"].startswith(TREE + "/")}


def differences(one, other):
    return sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))


def wait_until(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.5)


def is_delivered(host):
    agent = json.loads(host.sh(AGENT + " status --json", check=False))
    relay = json.loads(host.sh("/usr/bin/python3 /usr/local/lib/ctrelay/relay.pyz status --json --allow-user ctrelay"))
    return not agent["Outbox"]["Records"] and not any(sink["Rows"] for sink in relay["Sinks"])


def wait_for_schedule(host):
    """Until a scheduled run has begun after now, and ended."""
    time.sleep(EVERY + 1)
    last = host.status()["Kinds"]["files"]["CollectedAt"]
    wait_until(
        lambda: host.status()["Kinds"]["files"]["CollectedAt"] > last, 10 * EVERY, "the agent stopped collecting"
    )


def storm(host, minutes, dice, faults):
    """How often each fault took place, the changes made, paths behind, what the agent counted, and what write_fast() measured."""
    done = dict.fromkeys(faults, 0)
    measured = []
    counters = Counters(host)
    process = host.start("storm.py", "storm", TREE, dice.randrange(1 << 30))
    try:
        end = time.monotonic() + minutes * 60
        while time.monotonic() < end:
            time.sleep(dice.uniform(5, 40))
            name = min(done, key=lambda name: (done[name], dice.random()))
            counters.sample()
            figures = faults[name](host, dice)
            done[name] += 1
            if figures:
                measured.append(figures)
    finally:
        made = int(process.communicate()[0])
    time.sleep(10)  # for the runs that events started
    behind = len(differences(stored(host), host.run("storm.py", "look", TREE)))
    wait_for_schedule(host)
    return done, made, behind, counters.end(), measured


def main(image, minutes, seed, faults):
    dice = random.Random(seed)
    with Host(image, rule(EVERY, TREE, type="*"), before=BEFORE) as host:
        fake_clock(host)
        tree = host.run("storm.py", "look", TREE)
        wrong = differences(stored(host), tree)
        assert not wrong, "the baseline is another one: %s" % wrong[:5]
        done, made, behind, counted, measured = storm(host, minutes, dice, faults)
        final = host.run("storm.py", "look", TREE)
        not_stored = differences(stored(host), final)
        wait_until(lambda: is_delivered(host), 600, "records still wait")
        changes, twice = reported(host)
        impossible = list(apply(tree, [record for record in changes if record["FileSystemPath"].startswith(TREE)]))
        elsewhere = [record for record in changes if not record["FileSystemPath"].startswith(TREE)]
        missed = [path for path in differences(tree, final) if not is_same(tree.get(path), final.get(path))]
    print("seed %d, %g minutes; %s" % (seed, minutes, ", ".join("%s: %d" % fault for fault in done.items())))
    bursts = BURST * (done.get("burst", 0) + done.get("agent frozen during a burst", 0))
    print("operations %d and %d in bursts; overflows %d" % (made, bursts, counted["Overflows"]))
    for figures in measured:
        print("fast writes: %d a second; the agent used %.0f %% of a CPU, and %.0f MiB at most so far" % figures)
    print("changes reported %d, and %d of them twice" % (len(changes), twice))
    found = counted["Changes"] + counted["Missed"]
    print("found by the schedule alone: %d of %d (%.2f %%)" % (counted["Missed"], found, 100 * counted["Missed"] / max(1, found)))  # fmt: skip
    print("paths behind 10 s after the end, before a scheduled run: %d" % behind)
    wrong = (len(missed), len(impossible) + len(elsewhere), len(not_stored), len(final))
    print("missed %d, invented %d, wrong in the state %d, of %d paths" % wrong)
    for title, texts in (("missed", missed), ("invented", impossible), ("elsewhere", elsewhere), ("wrong", not_stored)):
        for text in texts[:10]:
            print("%s: %s" % (title, text))
    return 1 if missed or impossible or elsewhere or not_stored else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("minutes", type=float)
    parser.add_argument("seed", type=int, nargs="?", default=random.randrange(1 << 32))
    parser.add_argument("--only", action="append", choices=sorted(FAULTS), default=[])
    given = parser.parse_args()
    chosen = {name: FAULTS[name] for name in given.only or FAULTS}
    sys.exit(main(given.image, given.minutes, given.seed, chosen))
