# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random changes on a booted host, and random faults in what tracks them, compared record by record.

soak.py IMAGE MINUTES [SEED] boots a Debian image (as root; see tests/hosts) with agent and relay as services, and a second
host for clones. For that long it changes files, packages and services, each item at most once between two runs of the
agent, while users log in, faults come and go, and two consumers read the host's history at their own pace. It prints what
was done, seen, missed and invented. Exit status 0: nothing was missed, invented or stored twice, by any reader.
"""

import collections
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from consumer import Consumer
from faults import CHUNK, FAULTS, QUIET
from things import ITEMS, Files, Packages, Services

ROOT = Path(__file__).resolve().parents[2]
TESTHOST = os.environ.get("CT_TESTHOST", str(ROOT / "tests/hosts/testhost"))
HOST, CLONE = "soak", "soak-clone"
PROGRAMS = ("soak-agent-program", "soak-relay-program")  # the units under test: faults change their state
STATE = "/var/lib/soak-agent"

SET_UP = r"""
set -e
mkdir -p /srv/soak /srv/debs /etc/soak/chunks /var/lib/soak-relay /var/lib/soak-agent
# File systems of their own, so that a fault can fill them.
mount -t tmpfs -o size=256m,mode=755 relay /var/lib/soak-relay
mount -t tmpfs -o size=256m,mode=700 agent /var/lib/soak-agent
for name in agent relay; do chmod 755 /root/$name.pyz; done
cat > /etc/systemd/system/soak-relay-program.service <<'UNIT'
[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
NotifyAccess=all
ExecStart=/usr/bin/python3 /root/relay.pyz run --chunks /etc/soak/chunks --events /var/lib/soak-relay/events \
  --upload sqlite:/var/lib/soak-relay/relay.db --interval 1
Restart=always
RestartSec=0.2
UNIT
cat > /etc/systemd/system/soak-agent-program.service <<'UNIT'
[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
ExecStart=/usr/bin/python3 /root/agent.pyz run --state /var/lib/soak-agent --jitter 0 --refresh 5
Restart=always
RestartSec=0.2
WatchdogSec=90
Environment=MALLOC_ARENA_MAX=1
UNIT
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
""".replace("LAST", str(ITEMS - 1))


class Machine:
    """The host that is tracked, and the one that its clones run on."""

    HOST = HOST

    def __init__(self, image):
        self.state = tempfile.mkdtemp(prefix="soak")
        self.environment = dict(os.environ, TESTHOST_DIR=self.state)
        self.logins = 0
        subprocess.run([TESTHOST, "up", image, HOST, CLONE], env=self.environment, check=True)

    def root(self, host=HOST):
        return Path(self.state, host, "root")

    def sh(self, script, check=True, host=HOST):
        command = [TESTHOST, "exec", host, "sh", "-c", script]
        done = subprocess.run(
            command, env=self.environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert not check or done.returncode == 0, script + "\n" + done.stdout
        return done.stdout

    def login(self, user):
        """A login of its own over ssh, as an operator or a play makes one."""
        options = ["-F", f"{self.state}/ssh_config", "-o", "ControlMaster=no", "-o", "ConnectTimeout=30", "-l", user]
        subprocess.run(["ssh", *options, HOST, "true"], check=False, stdin=subprocess.DEVNULL)
        self.logins += 1

    def collected_since(self, moment, host=HOST):
        """Whether every kind was collected, from the beginning, after that moment."""
        try:
            kinds = json.loads((self.root(host) / "root/status.json").read_text())["Kinds"]
        except (OSError, ValueError):
            return False
        stamps = [kinds.get(kind, {}).get("CollectedAt") for kind in ("files", "packages", "services")]
        return all(stamp and stamp > time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)) for stamp in stamps)

    def look(self):
        """Wait until the agent has looked at everything once more."""
        moment = time.time()
        wait_for(lambda: self._copy_status() and self.collected_since(moment), 400, "the agent stopped collecting")

    def _copy_status(self, host=HOST):
        self.sh(f"cp {STATE}/status.json /root/status.json", check=False, host=host)  # a tmpfs is not seen from outside
        return True

    def waiting(self):
        """How many records have not reached the tables."""
        agent = json.loads(self.sh(f"/root/agent.pyz status --json --state {STATE}", check=False))
        relay = json.loads(self.sh("/root/relay.pyz status --json"))
        return agent["Outbox"]["Records"] + sum(sink["Rows"] for sink in relay["Sinks"])

    def end(self):
        subprocess.run([TESTHOST, "down", "--all"], env=self.environment, check=False)


def wait_for(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.2)


def main(image, minutes, seed):
    dice = random.Random(seed)
    machine = Machine(image)
    try:
        for host in (HOST, CLONE):
            for name in ("agent", "relay"):
                program = machine.root(host) / f"root/{name}.pyz"
                subprocess.run([sys.executable, ROOT / "plugins/plugin_utils/_zipapp.py", name, program], check=True)
            machine.sh(SET_UP, host=host)
            (machine.root(host) / "etc/soak/chunks/a.json").write_text(json.dumps(CHUNK))
        machine.sh("systemctl start soak-relay-program soak-agent-program")
        machine.look()
        consumers = [Consumer(machine, STATE, "one", 7), Consumer(machine, STATE, "another", 45)]
        expected, done = soak(machine, dice, minutes, consumers)
        machine.sh("systemctl kill --signal=CONT soak-relay-program soak-agent-program", check=False)
        wait_for(lambda: not machine.waiting(), 600, "records still wait")
        for consumer in consumers:
            consumer.finish()
        return judge(machine, expected, done, consumers, seed)
    finally:
        if os.environ.get("SOAK_KEEP"):
            print(f"kept: {machine.state}")
        else:
            machine.end()


def soak(machine, dice, minutes, consumers):
    """(the records that must be there, how often each fault and each quiet event took place)"""
    kinds = [Files(dice), Packages(dice), Services(dice)]
    expected, done = [], collections.Counter()
    end = time.monotonic() + minutes * 60
    stop = threading.Event()
    threads = [threading.Thread(target=log_in_and_out, args=(machine, stop))]
    threads += [threading.Thread(target=consumer.run, args=(stop,)) for consumer in consumers]
    for thread in threads:
        thread.start()
    fault = None
    try:
        while time.monotonic() < end:
            if (fault is None or not fault.is_alive()) and dice.random() < 0.5:
                name = dice.choice(sorted(FAULTS))
                done[name] += 1
                fault = threading.Thread(target=machine.sh, args=(FAULTS[name], False))
                fault.start()
            for kind in kinds:
                for number in dice.sample(range(ITEMS), dice.randrange(1, 5)):
                    command, (category, name, detail) = kind.act(number, f"round {done['rounds']}")
                    machine.sh(command)
                    expected.append((kind.config_type, category, name, detail))
            machine.look()
            if (fault is None or not fault.is_alive()) and dice.random() < 0.3:
                name = dice.choice(sorted(QUIET))
                done[name] += 1
                QUIET[name](machine)
                machine.look()
            done["rounds"] += 1
    finally:
        stop.set()
        for thread in threads + ([fault] if fault is not None else []):
            thread.join()
    return expected, done


def log_in_and_out(machine, stop):
    while not stop.wait(1.5):
        machine.login("root" if machine.logins % 2 else "ansible")


def rows(machine, query, host=HOST):
    machine.sh("rm -f /root/copy.db", host=host)
    script = "import sqlite3; a = sqlite3.connect('/var/lib/soak-relay/relay.db'); b = sqlite3.connect('/root/copy.db'); a.backup(b)"
    machine.sh(f'python3 -c "{script}"', host=host)
    with sqlite3.connect(f"file:{machine.root(host)}/root/copy.db?mode=ro", uri=True) as db:
        return db.execute(query).fetchall()


CHANGES = (
    "SELECT ConfigChangeType, ChangeCategory, SoftwareName, SvcName, FileSystemPath, Current, Previous, SvcState,"
    " SvcStartupType, FieldsChanged, RecordId FROM ConfigurationChange"
)


def key(row):
    kind, category, package, service, path, current, previous, state, startup, fields, _id = row
    if kind == "Files":
        named = [field for field in ("FileContentChecksum", "Mode") if field in (fields or "").split(",")]
        return kind, category, path, "+".join(named) if category == "Modified" else ""
    if kind == "Software":
        return kind, category, package, f"{previous or ''}>{current or ''}"
    return kind, category, service, f"{state} {startup}" if category != "Removed" else ""


def judge(machine, expected, done, consumers, seed):
    stored = [row for row in rows(machine, CHANGES) if row[3] not in PROGRAMS]
    found, wanted = collections.Counter(map(key, stored)), collections.Counter(expected)
    missed, invented = wanted - found, found - wanted
    print(f"seed {seed}, {machine.logins} logins; " + ", ".join(f"{what}: {done[what]}" for what in sorted(done)))
    print(
        f"changes made {len(expected)}, seen {len(stored)}, missed {sum(missed.values())}, invented {sum(invented.values())}"
    )
    for title, counter in (("missed", missed), ("invented", invented)):
        for what, count in sorted(counter.items(), key=str):
            print(f"{title}: {what}" + (f" x {count}" if count > 1 else ""))
    wrong = bool(missed or invented)
    sent = {row[10] for row in rows(machine, CHANGES)}
    for consumer in consumers:
        lost, twice = sent - set(consumer.ids), len(consumer.ids) - len(set(consumer.ids))
        print(
            f"consumer {consumer.name}: asked {consumer.asked} times, got {len(consumer.ids)} changes, lost {len(lost)}, twice {twice}"
        )
        wrong = wrong or bool(lost or twice)
    if done["a clone starts"]:
        identities = {row[0] for row in rows(machine, "SELECT DISTINCT SourceComputerId FROM ConfigurationData")}
        of_clone = rows(machine, "SELECT SourceComputerId FROM ConfigurationChange", host=CLONE)
        of_clone += rows(machine, "SELECT SourceComputerId FROM ConfigurationData", host=CLONE)
        borrowed = sum(row[0] in identities for row in of_clone)
        print(f"records that a clone sent in the name of the host it was cloned from: {borrowed} of {len(of_clone)}")
        wrong = wrong or bool(borrowed)
    return 1 if wrong else 0


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(main(given[0], float(given[1]), int(given[2]) if len(given) > 2 else random.randrange(1 << 32)))
