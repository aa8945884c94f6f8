# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A storm of changes in a tracked tree, with faults, compared with what was reported: events.py IMAGE MINUTES [SEED]

Boots the image (as root; see tests/hosts) with agent and relay as the roles install them. For so long, a process on the host makes
100 to 2,000 changes a second, with pauses, while the agent is killed, is frozen until the queue of inotify overflows, and gets
another rule. The schedule runs too, every 20 seconds.

In the end, what is stored must be the tree (path, type, mode, checksum), and the reported changes, applied in their order to the
tree as it was, must give the same; each must follow from the one before it. A change that is undone between two runs is none.
Prints what was done, missed and invented, and what the schedule alone found. Exit status 0: nothing was missed or invented.
"""

import glob
import json
import random
import sys
import threading
import time

from booted import AGENT, Host, rule
from storm import BURST

TREE = "/srv/measured"
MORE = "/srv/more"
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


FAULTS = {"agent killed": kill, "agent frozen during a burst": freeze, "burst": make_burst, "rule changed": change_rule}


def apply(tree, changes):
    """Apply change records to a tree (path -> [type, mode, content]). Yields what does not follow from what was before."""
    for record in changes:
        path, category = record["FileSystemPath"], record["ChangeCategory"]
        before = tree.get(path)
        if category != "Added" and before != entry(record, "Previous"):
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


def storm(host, minutes, dice):
    """(how often each fault took place, changes made, what the agent counted)"""
    done = dict.fromkeys(FAULTS, 0)
    counters = Counters(host)
    process = host.start("storm.py", "storm", TREE, dice.randrange(1 << 30))
    try:
        end = time.monotonic() + minutes * 60
        while time.monotonic() < end:
            time.sleep(dice.uniform(5, 40))
            name = min(done, key=lambda name: (done[name], dice.random()))
            counters.sample()
            FAULTS[name](host, dice)
            done[name] += 1
    finally:
        made = int(process.communicate()[0])
    time.sleep(10)  # for the runs that events started
    behind = len(differences(stored(host), host.run("storm.py", "look", TREE)))
    wait_for_schedule(host)
    return done, made, behind, counters.end()


def main(image, minutes, seed):
    dice = random.Random(seed)
    with Host(image, rule(EVERY, TREE, type="*"), before=BEFORE) as host:
        tree = host.run("storm.py", "look", TREE)
        wrong = differences(stored(host), tree)
        assert not wrong, "the baseline is another one: %s" % wrong[:5]
        done, made, behind, counted = storm(host, minutes, dice)
        final = host.run("storm.py", "look", TREE)
        not_stored = differences(stored(host), final)
        wait_until(lambda: is_delivered(host), 600, "records still wait")
        changes, twice = reported(host)
        impossible = list(apply(tree, [record for record in changes if record["FileSystemPath"].startswith(TREE)]))
        elsewhere = [record for record in changes if not record["FileSystemPath"].startswith(TREE)]
        missed = differences(tree, final)
    print("seed %d, %g minutes; %s" % (seed, minutes, ", ".join("%s: %d" % fault for fault in done.items())))
    bursts = BURST * (done["burst"] + done["agent frozen during a burst"])
    print("operations %d and %d in bursts; overflows %d" % (made, bursts, counted["Overflows"]))
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
    given = sys.argv[1:]
    sys.exit(main(given[0], float(given[1]), int(given[2]) if len(given) > 2 else random.randrange(1 << 32)))
