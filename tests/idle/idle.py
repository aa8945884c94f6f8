# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Booted hosts that nobody changes, looked at again and again: nothing may be reported.

idle.py [RUNS]: boots a host of every image (as root; see tests/hosts) and runs RUNS times on each. Every run has a login of
its own, of root, of a user with sudo or of that user without it. Before each run something happens that is no change: timers
fire, systemd reloads or re-executes itself, status commands are run, package caches are refreshed, clients connect. Ansible
does some of the runs, and an agent watches throughout. Prints the runs, the logins and what was reported. Exit status 0:
nothing was reported until a service was stopped in the end, and then that alone.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTHOST = os.environ.get("CT_TESTHOST", str(ROOT / "tests/hosts/testhost"))
IMAGES = ("bookworm", "bullseye", "trixie", "rpm")
LIBRARY = "lib/ansible_collections/changetracking/inventory/plugins/module_utils"
RULE = {
    "extensionConfigurations": {
        "ChangeTracking-Linux": [
            {
                "id": "idle",
                "extensionSettings": {
                    "fileSettings": {
                        "fileCollectionFrequency": 5,
                        "fileInfo": [
                            {"name": "etc", "destinationPath": "/etc/.*"},
                            {"name": "units", "destinationPath": "/usr/lib/systemd/.*"},
                        ],
                    },
                    "softwareSettings": {"softwareCollectionFrequency": 5},
                    "servicesSettings": {"serviceCollectionFrequency": 5},
                },
            }
        ]
    }
}
CONNECT = "python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"{0}\")'"
HOLD = 'setsid sh -c "sleep 4 | timeout 4 python3 -c \'import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(\\"{0}\\"); sys.stdin.read()\'"'
# What happens before a run, in turn. Some of it fails where a host lacks the command or has nothing to answer with.
EVENTS = {
    "reload": "systemctl daemon-reload",
    "re-execution": "systemctl daemon-reexec",
    "every timer's service": "systemctl list-timers --all --plain --no-legend | grep -o '[^ ]*[.]service' | xargs -r systemctl start --no-block",
    "status commands": "systemctl status --no-pager; systemctl list-units --all; systemctl show '*'; systemctl list-dependencies --all; "
    "systemctl list-timers --all; systemctl list-sockets --all; systemd-cgls --no-pager; systemd-analyze",
    "status of what is not loaded": "systemctl status idle-refers idle-masked idle-web@other idle-nowhere user@4242; "
    "systemctl show idle-web@two; systemctl cat idle-timed; systemctl is-enabled idle-enabled getty@tty5",
    "ctl commands": "hostnamectl; timedatectl; localectl; loginctl; loginctl user-status root; journalctl -n 5; busctl list; networkctl",
    "bus activation": "busctl call org.freedesktop.hostname1 / org.freedesktop.DBus.Peer Ping; "
    "busctl call org.freedesktop.locale1 / org.freedesktop.DBus.Peer Ping; "
    "busctl call org.freedesktop.timedate1 / org.freedesktop.DBus.Peer Ping; busctl --timeout=1 call org.example.Idle / a.b C",
    "package caches": "timeout 20 apt-get -qq update; apt-get check; apt-cache stats; dnf -q makecache; dnf -q check-update; rpm -qa; dpkg -l",
    "connections": ";".join(CONNECT.format("/run/idle-" + name) for name in ("socket", "both", "each")),
    "connections that last": HOLD.format("/run/idle-each") + "& " + HOLD.format("/run/idle-socket") + "&",
    "a file that a path unit waits for": "touch /run/idle-path",
    "transient units": "systemd-run --quiet --wait true; systemd-run --quiet sleep 2; systemd-run --quiet --scope true; "
    "systemd-run --quiet --on-active=1 true",
    "another user's login": "su - ansible -c 'id; systemctl --user status; sudo -n true'; loginctl terminate-user ansible",
    "jobs": "run-parts /etc/cron.daily; systemd-tmpfiles --clean; systemd-tmpfiles --create; journalctl --rotate; udevadm settle",
    "lingering": "loginctl enable-linger ansible; loginctl disable-linger ansible",
    "reloads at once": "for i in 1 2 3; do systemctl daemon-reload & done; wait",
    "nothing": "true",
}


class Host:
    def __init__(self, image, runs, environment):
        self.image, self.runs = image, runs
        self.name = "idle-" + image
        self.environment = environment
        self.folder = Path(environment["TESTHOST_DIR"])
        self.logins = self.done = 0
        self.reported = []
        self.running = []  # the services that ran, by run

    def ssh(self, user, command, check=True):
        """A login of its own: nothing is shared with another one, and its session ends with it."""
        self.logins += 1
        options = ["-F", str(self.folder / "ssh_config"), "-o", "ControlMaster=no", "-o", "ControlPath=none"]
        done = subprocess.run(
            ["ssh", *options, "-l", user, self.name, command],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            timeout=180,
        )
        assert not check or done.returncode == 0, "{0}: {1}\n{2}".format(self.name, command, done.stdout)
        return done.stdout

    def set_up(self, programs):
        place = self.folder / self.name / "root/opt/idle"
        library = place / LIBRARY
        library.mkdir(parents=True)
        shutil.copytree(str(ROOT / "plugins/module_utils/_cti"), str(library / "_cti"))
        for source in (ROOT / "tests/idle/on_host.py", ROOT / "tests/idle/set_up.sh", programs / "agent.pyz"):
            shutil.copy(str(source), str(place))
        (place / "rule.json").write_text(json.dumps(RULE))
        self.ssh("root", "sh /opt/idle/set_up.sh")

    def look(self, number):
        """One run; what it reports. As root by two ways, and as a user, who has a state of his own: on each host another one."""
        user, prefix, state = (
            ("root", "", "/var/lib/idle/state.db"),
            ("ansible", "sudo ", "/var/lib/idle/state.db"),
            ("ansible", "", "/home/ansible/idle/state.db"),
        )[(number + IMAGES.index(self.image)) % 3]
        command = "{0}python3 -B /opt/idle/on_host.py /opt/idle/lib /opt/idle/rule.json {1}".format(prefix, state)
        result = json.loads(self.ssh(user, command).splitlines()[-1])
        self.done += 1
        self.running.append(set(result["running"]))
        # A user may not read all of /etc.
        return result["changes"] + [
            text for text in result["failed"] if "Permission denied" not in text or user == "root"
        ]

    def on_and_off(self):
        """The names of the services that some runs met while they ran, and some while they did not."""
        return set().union(*self.running).difference(set.intersection(*self.running))

    def idle(self):
        for number in range(-3, self.runs):
            happened = list(EVENTS)[number % len(EVENTS)] if number >= 0 else "the baseline"
            if number >= 0:
                self.ssh("root", EVENTS[happened], check=False)
            found = self.look(number)
            self.reported += [(self.name, happened, change) for change in found]

    def stopped(self):
        """What is reported once an enabled service was stopped."""
        self.ssh("root", "systemctl stop idle-enabled.service")
        return self.look(-IMAGES.index(self.image))  # as root


class Playbook:
    """The playbook over all hosts, with a login for each step of it."""

    def __init__(self, hosts, folder):
        self.hosts, self.dest, self.logins = hosts, folder / "inventory", 0
        self.inventory = folder / "inventory.ini"
        self.environment = dict(
            os.environ,
            ANSIBLE_SSH_ARGS="-F {0} -o ControlMaster=no -o ControlPath=none".format(hosts[0].folder / "ssh_config"),
            ANSIBLE_HOST_KEY_CHECKING="false",
        )
        self.inventory.write_text("\n".join(host.name for host in hosts) + "\n")

    def run(self, number):
        """What the playbook, and the module of the agent's state, wrote of each host."""
        become = ["--become"] if number % 2 else []
        self._call("ansible-playbook", "changetracking.inventory.inventory", "--extra-vars", "ct_state=/var/lib/idle/playbook.db",
                   "--extra-vars", "ct_dest={0}".format(self.dest), *self._user(number), *become)  # fmt: skip
        out = []
        for host in self.hosts:
            changes = self.dest / host.name / "Changes.json"
            out += [(host.name, "playbook", change) for change in (json.loads(changes.read_text()) if number else [])]
        return out

    def agents(self):
        told = self.dest.parent / "agents"
        self._call("ansible", "all", "-m", "changetracking.inventory.ct_state_info", "--tree", str(told), "-a",
                   "path=/var/lib/idle-agent/changetracking.db report=changes", *self._user(0))  # fmt: skip
        states = {host.name: json.loads((told / host.name).read_text()) for host in self.hosts}
        assert all(state["inventory"]["services"]["count"] > 50 for state in states.values()), states
        return [(name, "agent", change) for name in states for change in states[name]["changes"]]

    def _user(self, number):
        return ["--user", "ansible" if number % 2 else "root", "--inventory", str(self.inventory)]

    def _call(self, *command):
        done = subprocess.run(
            command,
            env=self.environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
        )
        assert done.returncode == 0, done.stdout
        self.logins += len(self.hosts)


def together(work, hosts):
    """Do it on all hosts at once. The first failure is raised."""
    failures = []

    def guarded(host):
        try:
            work(host)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else len(EVENTS)
    with tempfile.TemporaryDirectory(prefix="idle") as scratch:
        folder = Path(scratch)
        environment = dict(os.environ, TESTHOST_DIR=os.environ.get("TESTHOST_DIR", str(folder / "hosts")))
        hosts = [Host(image, runs, environment) for image in IMAGES]
        subprocess.run(
            [sys.executable, str(ROOT / "plugins/plugin_utils/_zipapp.py"), "agent", str(folder / "agent.pyz")],
            check=True,
        )
        try:
            for host in hosts:
                image = os.path.join(os.environ["CT_TEST_CACHE"], host.image)
                subprocess.run([TESTHOST, "up", image, host.name], env=environment, check=True)
            return idle(hosts, folder)
        finally:
            subprocess.run([TESTHOST, "down", *(host.name for host in hosts)], env=environment, check=False)


def idle(hosts, folder):
    together(lambda host: host.set_up(folder), hosts)
    playbook = Playbook(hosts, folder)
    reported = playbook.run(0)
    together(Host.idle, hosts)
    for number in (1, 2, 3):
        reported += playbook.run(number)
    reported += playbook.agents()
    for host in hosts:
        reported += host.reported
    on_and_off = set().union(*(host.on_and_off() for host in hosts))
    for host, where, change in reported:
        print("REPORTED", host, where, change if isinstance(change, str) else json.dumps(change)[:300])
    blind = [host.name for host in hosts if [found[:2] for found in host.stopped()] != [["Modified", "idle-enabled"]]]
    for name in blind:
        print("NOT REPORTED", name, "a service that was stopped")
    done = sum(host.done for host in hosts) + 4 * len(hosts)
    logins = sum(host.logins for host in hosts) + playbook.logins
    print("met both running and stopped:", " ".join(sorted(on_and_off)) or "no service, so this shows nothing")
    print("%d hosts, %d runs, at least %d logins, %d changes reported" % (len(hosts), done, logins, len(reported)))
    return 1 if reported or blind or not on_and_off else 0


if __name__ == "__main__":
    sys.exit(main())
