# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong while changes are made (FAULTS), and what happens that is no change of the host (QUIET)."""

import copy
import json
import time

EVERY = 3  # seconds between two runs of the agent

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

_AGENT, _RELAY = "systemctl kill --signal=%s soak-agent-program", "systemctl kill --signal=%s soak-relay-program"
_FILL = "dd if=/dev/zero of=/var/lib/%s/filler bs=1M 2>/dev/null; sleep %d; rm /var/lib/%s/filler"

# Shell scripts; they run while changes are made.
FAULTS = {
    "agent killed": _AGENT % "KILL",
    "relay killed": _RELAY % "KILL",
    "agent restarted": "systemctl restart soak-agent-program",
    "relay stopped for 4 s": "systemctl stop soak-relay-program; sleep 4; systemctl start soak-relay-program",
    "relay frozen for 12 s": f"{_RELAY % 'STOP'}; sleep 12; {_RELAY % 'CONT'}",
    "relay slow for 20 s": f"for i in $(seq 10); do {_RELAY % 'STOP'}; sleep 1.9; {_RELAY % 'CONT'}; sleep 0.1; done",
    "relay's disk full for 8 s": _FILL % ("soak-relay", 8, "soak-relay"),
    "agent's disk full for 6 s": _FILL % ("soak-agent", 6, "soak-agent"),
    "agent frozen for 5 s": f"{_AGENT % 'STOP'}; sleep 5; {_AGENT % 'CONT'}",
    "systemd reloading": "for i in 1 2 3 4 5; do systemctl daemon-reload; done",
    "rule broken for 6 s": "cp /etc/soak/chunks/a.json /root/a.json; echo '{' > /etc/soak/chunks/a.json; sleep 6; mv /root/a.json /etc/soak/chunks/a.json",
    "rule withdrawn for 8 s": "mv /etc/soak/chunks/a.json /root/a.json; sleep 8; mv /root/a.json /etc/soak/chunks/a.json",
    "dpkg locked for 4 s": "flock /var/lib/dpkg/lock sleep 4",
}


def _with_rule(machine, change):
    """Until the agent has looked with a changed rule, and with the old one again."""
    chunk = copy.deepcopy(CHUNK)
    items = chunk["extensionConfigurations"]["ChangeTracking-Linux"][0]["extensionSettings"]["fileSettings"]["fileInfo"]
    change(items)
    _put(machine, chunk)
    _put(machine, CHUNK)


def _put(machine, chunk):
    path = machine.root() / "etc/soak/chunks/.a.json"
    path.write_text(json.dumps(chunk))
    path.replace(path.with_name("a.json"))
    time.sleep(6)  # the agent asks for its rule every 5 s
    machine.look()


def another_item(machine):
    _with_rule(machine, lambda items: items.append({"name": "more", "destinationPath": "/etc/*.conf", "recurse": True}))


def other_links(machine):
    _with_rule(machine, lambda items: items[0].update(links="Manage", recurse=True))


def no_checksums(machine):
    _with_rule(machine, lambda items: items[0].update(checksum="None"))


def mounted_over(machine):
    """What a mount hides is out of sight, not gone."""
    machine.sh("mount -t proc proc /srv/soak")
    machine.look()
    machine.sh("umount /srv/soak")


def systemd_reexecuted(machine):
    machine.sh("systemctl daemon-reexec")


def status_commands(machine):
    machine.sh(
        "hostnamectl; timedatectl; loginctl; localectl; journalctl -n 5; systemctl status --no-pager; busctl list --no-pager",
        check=False,
    )


def caches_refreshed(machine):
    machine.sh("apt-get update; apt-cache policy; dpkg --audit", check=False)


def timers_fired(machine):
    machine.sh(
        "for t in $(systemctl list-timers --all --no-legend --no-pager | awk '{print $NF}'); do systemctl start $t; done",
        False,
    )


def clone(machine):
    """The state as it lies there, with what waits in it, on a machine of another identity."""
    state = "/var/lib/soak-agent"
    script = "import sqlite3; sqlite3.connect('%s/changetracking.db').backup(sqlite3.connect('/root/clone.db'))" % state
    machine.sh("rm -f /root/clone.db")
    machine.sh('python3 -c "%s"' % script)
    here, there = machine.root("soak") / "root/clone.db", machine.root("soak-clone") / "root/clone.db"
    there.write_bytes(here.read_bytes())
    machine.sh(
        f"systemctl stop soak-agent-program; rm -rf {state}/*; install -m 600 /root/clone.db {state}/changetracking.db;"
        " systemctl start soak-relay-program soak-agent-program",
        host="soak-clone",
    )


# Functions; they run while nothing is changed, and are followed by a look.
QUIET = {
    "an item joins the rule and leaves": another_item,
    "the rule treats links otherwise": other_links,
    "the rule wants no checksums": no_checksums,
    "a file system is mounted over": mounted_over,
    "systemd is executed again": systemd_reexecuted,
    "somebody asks for status": status_commands,
    "package caches are refreshed": caches_refreshed,
    "timers fire": timers_fired,
    "a clone starts": clone,
}
