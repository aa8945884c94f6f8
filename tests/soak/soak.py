# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes at random on a booted host, and faults at random in what tracks them, compared record by record.

soak.py IMAGE MINUTES [SEED]: boots the image (as root; see tests/hosts), runs agent and relay there as services, changes
files, packages and services for that long, each item at most once between two looks of the agent, and prints what was
done, seen, missed and invented. Exit status 0: nothing was missed, nothing invented, nothing there twice.
"""

import collections
import json
import os
import random
import shlex
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTHOST = os.environ.get("CT_TESTHOST", str(ROOT / "tests/hosts/testhost"))
HOST = "soak"
EVERY = 3  # seconds between two looks of the agent
ITEMS = 30  # of each kind, and as many files

CHUNK = {
    "extensionConfigurations": {
        "ChangeTracking-Linux": [
            {
                "id": "dcr-soak:CTDataSource-Linux",
                "extensionSettings": {
                    "fileSettings": {
                        "fileCollectionFrequency": EVERY,
                        "fileInfo": [{"name": "soak", "destinationPath": "/srv/soak/*"}],
                    },
                    "softwareSettings": {"softwareCollectionFrequency": EVERY},
                    "servicesSettings": {"serviceCollectionFrequency": EVERY},
                    "inventorySettings": {"inventoryCollectionFrequency": 60},
                },
                "outputStreams": {
                    "CONFIG_CHANGE_BLOB_V2": "dcr-soak:CTDataSource-Linux:CONFIG_CHANGE_BLOB_V2",
                    "CONFIG_DATA_BLOB_V2": "dcr-soak:CTDataSource-Linux:CONFIG_DATA_BLOB_V2",
                },
            }
        ]
    }
}

SET_UP = r"""
set -e
mkdir -p /srv/soak /srv/debs /etc/soak/chunks
for name in agent relay; do chmod 755 /root/$name.pyz; done
cat > /etc/systemd/system/soak-relay-program.service <<'UNIT'
[Service]
Type=notify
NotifyAccess=all
ExecStart=/usr/bin/python3 /root/relay.pyz run --chunks /etc/soak/chunks --events /var/lib/soak-relay/events \
  --upload sqlite:/var/lib/soak-relay/relay.db --interval 1
Restart=always
RestartSec=0.2
UNIT
cat > /etc/systemd/system/soak-agent-program.service <<'UNIT'
[Service]
Type=notify
ExecStart=/usr/bin/python3 /root/agent.pyz run --state /var/lib/soak-agent --jitter 0 --refresh 5
Restart=always
RestartSec=0.2
WatchdogSec=90
Environment=MALLOC_ARENA_MAX=1
UNIT
sed -i 's/^\[Service\]/[Unit]\nStartLimitIntervalSec=0\n[Service]/' /etc/systemd/system/soak-*-program.service
build() {
  mkdir -p /tmp/deb/DEBIAN
  printf 'Package: soak-%s\nVersion: %s\nArchitecture: all\nMaintainer: Me <me@example.org>\nDescription: soak\n' "$1" "$2" > /tmp/deb/DEBIAN/control
  dpkg-deb --build /tmp/deb "/srv/debs/$1_$2.deb" > /dev/null
}
for number in $(seq 0 LAST); do for version in 1.0 2.0 3.0; do build $number $version; done; done
for number in $(seq 0 LAST); do
  printf '[Unit]\nDescription=soak\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' > /srv/debs/soak-$number.service
done
systemctl daemon-reload
systemctl start soak-relay-program soak-agent-program
""".replace("LAST", str(ITEMS - 1))


class Machine:
    def __init__(self, image):
        self.environment = dict(os.environ, TESTHOST_DIR=tempfile.mkdtemp(prefix="soak"))
        subprocess.run([TESTHOST, "up", image, HOST], env=self.environment, check=True)
        self.root = Path(self.environment["TESTHOST_DIR"], HOST, "root")

    def sh(self, script, check=True):
        command = [TESTHOST, "exec", HOST, "sh", "-c", script]
        done = subprocess.run(
            command,
            env=self.environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
        )
        assert not check or done.returncode == 0, script + "\n" + done.stdout
        return done.stdout

    def end(self):
        subprocess.run([TESTHOST, "down", "--all"], env=self.environment, check=False)


class Files:
    kind, config_type = "files", "Files"

    def __init__(self, dice):
        self.dice = dice
        self.there = {}  # name -> content

    def act(self, number, stamp):
        """(command, expected record) of one change to one item."""
        name, content = "f%d" % number, "%s %d\n" % (stamp, self.dice.randrange(1 << 30))
        path = "/srv/soak/" + name
        if name not in self.there:
            self.there[name] = content
            return "printf %%s %s > %s" % (shlex.quote(content), path), ("Added", path, "")
        what = self.dice.choice(["edit", "replace", "chmod", "delete"])
        if what == "edit":
            return "printf %%s %s > %s" % (shlex.quote(content), path), ("Modified", path, "FileContentChecksum")
        if what == "replace":
            command = "printf %%s %s > /srv/new && chmod --reference=%s /srv/new && mv /srv/new %s"
            return command % (shlex.quote(content), path, path), ("Modified", path, "FileContentChecksum")
        if what == "chmod":
            modes = "if [ $(stat -c %%a %s) = 600 ]; then chmod 644 %s; else chmod 600 %s; fi"
            return modes % (path, path, path), ("Modified", path, "Mode")
        del self.there[name]
        return "rm " + path, ("Removed", path, "")


class Packages:
    kind, config_type = "packages", "Software"

    def __init__(self, dice):
        self.dice = dice
        self.there = {}

    def act(self, number, _stamp):
        name, was = "soak-%d" % number, self.there.get(number)
        if was is not None and self.dice.random() < 0.4:
            del self.there[number]
            return "dpkg --purge %s" % name, ("Removed", name, was + ">")
        version = self.dice.choice([version for version in ("1.0", "2.0", "3.0") if version != was])
        self.there[number] = version
        command = "dpkg --install --force-downgrade /srv/debs/%d_%s.deb" % (number, version)
        return command, ("Modified" if was else "Added", name, "%s>%s" % (was or "", version))


class Services:
    kind, config_type = "services", "Daemons"

    def __init__(self, dice):
        self.dice = dice
        self.there = {}  # number -> (running, enabled)

    def act(self, number, _stamp):
        name = "soak-%d" % number
        if number not in self.there:
            self.there[number] = (False, False)
            command = "cp /srv/debs/%s.service /etc/systemd/system/ && systemctl daemon-reload" % name
            return command, ("Added", name, "Stopped Disabled")
        running, enabled = self.there[number]
        what = self.dice.choice(["run", "enable", "remove"])
        if what == "remove" and not running and not enabled:
            del self.there[number]
            return "rm /etc/systemd/system/%s.service && systemctl daemon-reload" % name, ("Removed", name, "")
        if what == "run":
            self.there[number] = (not running, enabled)
            command = "systemctl %s %s" % ("stop" if running else "start", name)
        else:
            self.there[number] = (running, not enabled)
            command = "systemctl %s %s" % ("disable" if enabled else "enable", name)
        state = "%s %s" % (
            "Running" if self.there[number][0] else "Stopped", "Enabled" if self.there[number][1] else "Disabled"
        )  # fmt: skip
        return command, ("Modified", name, state)


FAULTS = {
    "agent killed": "systemctl kill --signal=KILL soak-agent-program",
    "relay killed": "systemctl kill --signal=KILL soak-relay-program",
    "agent restarted": "systemctl restart soak-agent-program",
    "relay stopped for 4 s": "systemctl stop soak-relay-program; sleep 4; systemctl start soak-relay-program",
    "relay frozen for 12 s": "systemctl kill --signal=STOP soak-relay-program; sleep 12; systemctl kill --signal=CONT soak-relay-program",
    "agent frozen for 5 s": "systemctl kill --signal=STOP soak-agent-program; sleep 5; systemctl kill --signal=CONT soak-agent-program",
    "systemd reloading": "for i in 1 2 3 4 5; do systemctl daemon-reload; done",
    "rule broken for 6 s": "cp /etc/soak/chunks/a.json /root/a.json; echo '{' > /etc/soak/chunks/a.json; sleep 6; mv /root/a.json /etc/soak/chunks/a.json",
    "rule withdrawn for 8 s": "mv /etc/soak/chunks/a.json /root/a.json; sleep 8; mv /root/a.json /etc/soak/chunks/a.json",
    "dpkg locked for 4 s": "flock /var/lib/dpkg/lock sleep 4",
}


def collected_since(machine, moment):
    """Whether every kind was looked at, from the beginning, after that moment."""
    try:
        kinds = json.loads((machine.root / "var/lib/soak-agent/status.json").read_text())["Kinds"]
    except (OSError, ValueError):
        return False
    stamps = [kinds.get(kind, {}).get("CollectedAt") for kind in ("files", "packages", "services")]
    return all(stamp and stamp > time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)) for stamp in stamps)


def waiting(machine):
    """How many records have not reached the tables."""
    agent = json.loads(machine.sh("/root/agent.pyz status --json --state /var/lib/soak-agent", check=False))
    relay = json.loads(machine.sh("/root/relay.pyz status --json"))
    return agent["Outbox"]["Records"] + sum(sink["Rows"] for sink in relay["Sinks"])


def wait_for(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.2)


def seen(machine):
    database = "file:%s/var/lib/soak-relay/relay.db?mode=ro" % machine.root
    query = (
        "SELECT ConfigChangeType, ChangeCategory, SoftwareName, SvcName, FileSystemPath, Current, Previous, SvcState,"
        " SvcStartupType, FieldsChanged, RecordId FROM ConfigurationChange ORDER BY TimeGenerated, rowid"
    )
    with sqlite3.connect(database, uri=True) as db:
        return db.execute(query).fetchall()


def key(row):
    kind, category, package, service, path, current, previous, state, startup, fields, _id = row
    if kind == "Files":
        named = [field for field in ("FileContentChecksum", "Mode") if field in (fields or "").split(",")]
        return kind, category, path, "+".join(named) if category == "Modified" else ""
    if kind == "Software":
        return kind, category, package, "%s>%s" % (previous or "", current or "")
    return kind, category, service, "%s %s" % (state, startup) if category != "Removed" else ""


def main(image, minutes, seed):
    dice = random.Random(seed)
    machine = Machine(image)
    try:
        for name in ("agent", "relay"):
            program = machine.root / ("root/%s.pyz" % name)
            subprocess.run([sys.executable, ROOT / "plugins/plugin_utils/_zipapp.py", name, program], check=True)
        machine.sh("mkdir -p /etc/soak/chunks")
        (machine.root / "etc/soak/chunks/a.json").write_text(json.dumps(CHUNK))
        machine.sh(SET_UP)
        wait_for(lambda: collected_since(machine, time.time() - 60), 60, "the agent collects nothing")
        expected, faults = soak(machine, dice, minutes)
        machine.sh("systemctl kill --signal=CONT soak-relay-program soak-agent-program", check=False)
        wait_for(lambda: not waiting(machine), 400, "records still wait")
        return judge(machine, expected, faults, seed)
    finally:
        if os.environ.get("SOAK_KEEP"):
            print("kept: %s" % machine.environment["TESTHOST_DIR"])
        else:
            machine.end()


def soak(machine, dice, minutes):
    kinds = [Files(dice), Packages(dice), Services(dice)]
    expected, faults = [], collections.Counter()
    end = time.monotonic() + minutes * 60
    fault = None
    rounds = 0
    while time.monotonic() < end:
        if (fault is None or not fault.is_alive()) and dice.random() < 0.4:
            name = dice.choice(sorted(FAULTS))
            faults[name] += 1
            fault = threading.Thread(target=machine.sh, args=(FAULTS[name], False))
            fault.start()
        for kind in kinds:
            for number in dice.sample(range(ITEMS), dice.randrange(1, 5)):
                command, (category, name, detail) = kind.act(number, "round %d" % rounds)
                machine.sh(command)
                expected.append((kind.config_type, category, name, detail))
        moment = time.time()
        wait_for(lambda moment=moment: collected_since(machine, moment), 400, "the agent stopped collecting")
        rounds += 1
    if fault is not None:
        fault.join()
    print("%d rounds" % rounds)
    return expected, faults


def judge(machine, expected, faults, seed):
    rows = seen(machine)
    ours = [
        row
        for row in rows
        if "soak" in (row[2] or "") + (row[3] or "") + (row[4] or "") and "program" not in (row[3] or "")
    ]
    found = collections.Counter(map(key, ours))
    wanted = collections.Counter(expected)
    missed, invented = wanted - found, found - wanted
    print("seed %d; faults: %s" % (seed, ", ".join("%s: %d" % pair for pair in sorted(faults.items()))))
    print(
        "changes made %d, seen %d, missed %d, invented %d"
        % (len(expected), len(ours), sum(missed.values()), sum(invented.values()))
    )
    print("records of other units of the host: %d" % (len(rows) - len(ours)))
    for title, counter in (("missed", missed), ("invented", invented)):
        for what, count in sorted(counter.items(), key=str):
            print("%s: %s %s" % (title, what, "" if count == 1 else "x %d" % count))
    return 1 if missed or invented else 0


if __name__ == "__main__":
    image, minutes = sys.argv[1], float(sys.argv[2])
    sys.exit(main(image, minutes, int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 32)))
