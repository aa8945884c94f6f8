# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of booted hosts, made by Ansible, by hand, and by both at once: what attribution says of each, and what is true."""

import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.store import open_store
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet.attribution import DRIFT, RUN, TASK, Tasks
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet.changes import from_record
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet.run_store import read_tasks
from ansible_collections.changetracking.inventory.tests.helpers import reader

SKEWED = Path(__file__).parent / "skewed"
STATE = "/var/lib/ct/attribution.db"
RULE = {
    "extensionConfigurations": {
        "ChangeTracking-Linux": [
            {
                "id": "x",
                "extensionSettings": {
                    "enableFiles": True,
                    "enableSoftware": True,
                    "enableServices": True,
                    "fileSettings": {
                        "fileInfo": [{"name": "etc", "destinationPath": "/etc/*", "recurse": True, "maxOutputSize": 1}]
                    },
                },
            }
        ]
    }
}
INVENTORY = """
deb
rpm
[all:vars]
ansible_python_interpreter=/usr/bin/python3
ansible_ssh_common_args=-F {config} -o ControlMaster=auto -o ControlPersist=60s -o ControlPath={short}/%C
"""
# Packages with a dependency, a file in /etc, and a service, in a local repository.
DEBS = r"""
set -e
mkdir -p /srv/debs /etc/old && cd /srv/debs
make() {
  folder=$(mktemp -d)
  mkdir -p $folder/DEBIAN $folder/etc/$1 $folder/lib/systemd/system
  echo $2 > $folder/etc/$1/$1.conf
  echo /etc/$1/$1.conf > $folder/DEBIAN/conffiles
  printf '[Unit]\nDescription=%s\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' $1 \
    > $folder/lib/systemd/system/$1.service
  find $folder -exec touch -d 2024-01-01 {} +
  printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: Me <me@example.org>\nDescription: test\n' $1 $2 > $folder/DEBIAN/control
  [ $# = 2 ] || echo "Depends: $3" >> $folder/DEBIAN/control
  chmod 755 $folder && dpkg-deb --root-owner-group --build $folder $1_$2_all.deb > /dev/null
}
make webapp 1.0 weblib; make weblib 1.0; make upgraded 1.0; make upgraded 2.0; make dropped 1.0; make handmade 1.0; make handgone 1.0
make twice 1.0; make twice 2.0
for file in *.deb; do
  dpkg-deb --field $file; printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' $file $(stat -c %s $file) $(sha256sum $file | cut -d' ' -f1)
done > Packages
rm -rf /etc/apt/sources.list.d; echo 'deb [trusted=yes] file:///srv/debs ./' > /etc/apt/sources.list
apt-get -qq update
dpkg --install upgraded_1.0_all.deb dropped_1.0_all.deb handgone_1.0_all.deb > /dev/null
"""
BOTH = r"""
set -e
mkdir -p /etc/app /etc/arch /etc/hand /etc/tree /etc/oldapp
for name in template line replaced block edited mode hand gone handgone restored raced during mixed both claimed; do
  echo "$name = 1" > /etc/app/$name.conf
done
for name in tree oldapp; do echo "$name = 1" > /etc/$name/$name.conf; done
unit() {
  printf '[Unit]\nDescription=%s\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' $1 > /etc/systemd/system/$1.service
}
for name in stopped started enabled masked handstopped handenabled restarted half found during; do unit $name; done
mv /etc/systemd/system/masked.service /usr/lib/systemd/system/
systemctl daemon-reload
systemctl start stopped handstopped restarted during
"""
PLAY = """
- name: Set up
  hosts: all
  gather_subset: [min]
  tasks:
    - {name: copy, ansible.builtin.copy: {content: "one\\n", dest: /etc/app/copied.conf}}
    - {name: copy then edit, ansible.builtin.copy: {content: "one\\n", dest: /etc/app/edited.conf}}
    - {name: template, ansible.builtin.template: {src: "{{ dir }}/t.j2", dest: /etc/app/template.conf, mode: "0600"}}
    - {name: line, ansible.builtin.lineinfile: {path: /etc/app/line.conf, line: "{{ item }}"}, loop: [two, three]}
    - {name: replace, ansible.builtin.replace: {path: /etc/app/replaced.conf, regexp: "1", replace: "2"}}
    - {name: block, ansible.builtin.blockinfile: {path: /etc/app/block.conf, block: "more = 1"}}
    - {name: mode, ansible.builtin.file: {path: /etc/app/mode.conf, mode: "0600"}}
    - {name: remove, ansible.builtin.file: {path: /etc/app/gone.conf, state: absent}}
    - {name: remove folder, ansible.builtin.file: {path: /etc/oldapp, state: absent}}
    - {name: group, ansible.builtin.file: {path: /etc/tree, state: directory, recurse: true, group: daemon}}
    - {name: new, ansible.builtin.copy: {content: "new\\n", dest: /etc/app/new.conf, mode: "0644"}}
    - {name: restrict, ansible.builtin.file: {path: /etc/app/new.conf, mode: "0600"}}
    - {name: edit, ansible.builtin.lineinfile: {path: /etc/app/mixed.conf, line: mixed}}
    - {name: edit again, ansible.builtin.lineinfile: {path: /etc/app/both.conf, line: both}}
    - {name: claim, ansible.builtin.lineinfile: {path: /etc/app/claimed.conf, line: claimed = 1}, changed_when: true}
    - {name: unpack, ansible.builtin.unarchive: {src: "{{ dir }}/a.tar", dest: /etc/arch}}
    - {name: restore, ansible.builtin.copy: {content: "restored\\n", dest: /etc/app/restored.conf}}
    - {name: user, ansible.builtin.user: {name: bob, create_home: false}}
    - {name: stop, ansible.builtin.systemd_service: {name: stopped, state: stopped}}
    - {name: start, ansible.builtin.systemd_service: {name: started, state: started}}
    - {name: enable, ansible.builtin.service: {name: enabled, enabled: true}}
    - {name: half, ansible.builtin.systemd_service: {name: half, state: started, masked: false}}
    - {name: find, ansible.builtin.systemd_service: {name: found, state: started, enabled: true}}
    - {name: unit, ansible.builtin.copy: {content: "[Service]\\nExecStart=/bin/true\\n", dest: /etc/systemd/system/added.service}, notify: [handler, restart]}
    - {name: background, ansible.builtin.lineinfile: {path: /etc/app/background.conf, line: x, create: true}, async: 60, poll: 0, register: job}
    - name: wait
      ansible.builtin.async_status: {jid: "{{ job.ansible_job_id }}"}
      register: polled
      until: polled.finished is truthy
      delay: 1
      retries: 60
    - {name: unchanged, ansible.builtin.file: {path: /etc/hand, state: directory}}
    - {name: check, ansible.builtin.copy: {content: "check\\n", dest: /etc/app/checked.conf}, check_mode: true}
    - name: delegated
      ansible.builtin.copy: {content: "{{ inventory_hostname }}\\n", dest: "/etc/app/delegated.conf"}
      delegate_to: "{{ 'rpm' if inventory_hostname == 'deb' else 'deb' }}"
  handlers:
    - {name: handler, ansible.builtin.copy: {content: "h\\n", dest: /etc/app/handled.conf}}
    - {name: restart, ansible.builtin.service: {name: restarted, state: restarted}}

- name: Commands
  hosts: rpm
  gather_facts: false
  tasks:
    - {name: command, ansible.builtin.command: {cmd: cp /etc/hostname /etc/app/command.conf, creates: /etc/app/command.conf}}
    - {name: hidden, ansible.builtin.copy: {content: "secret\\n", dest: /etc/app/hidden.conf}, no_log: true}
    - block:
        - {name: fails, ansible.builtin.command: "false"}
      rescue:
        - {name: rescue, ansible.builtin.copy: {content: "r\\n", dest: /etc/app/rescued.conf}}
"""
OTHER = """
- name: Another run
  hosts: all
  gather_subset: [min]
  tasks:
    - {name: other, ansible.builtin.copy: {content: "other\\n", dest: /etc/app/other.conf}}
    - {name: race, ansible.builtin.lineinfile: {path: /etc/app/raced.conf, line: raced}}
    - {name: mask, ansible.builtin.systemd_service: {name: masked, masked: true}}
    - {name: link, ansible.builtin.file: {src: /etc/hostname, dest: /etc/app/link.conf, state: link}}

- name: Packages of dpkg
  hosts: deb
  gather_facts: false
  tasks:
    - {name: install, ansible.builtin.apt: {name: webapp}}
    - {name: upgrade, ansible.builtin.apt: {name: upgraded, state: latest}}
    - {name: purge, ansible.builtin.apt: {name: dropped, state: absent, purge: true}}
    - {name: old version, ansible.builtin.apt: {name: twice=1.0}}

- name: Packages of rpm
  hosts: rpm
  gather_facts: false
  tasks:
    - {name: install, ansible.builtin.dnf: {name: [not-installed]}}
    - {name: upgrade, ansible.builtin.package: {name: openssl-libs, state: latest}}
    - {name: purge, ansible.builtin.dnf: {name: [plain05, plain07], state: absent}}
"""
CHECK = """
- hosts: all
  tasks:
    - {ansible.builtin.copy: {content: "check\\n", dest: /etc/app/hand.conf}}
"""
# Before, while and after Ansible runs: what one does on the host in a shell.
BY_HAND_BEFORE = """
echo "restored = 0" >> /etc/app/restored.conf
echo "hand = 2" >> /etc/app/hand.conf
rm /etc/app/handgone.conf
chmod 600 /etc/app/mixed.conf
echo "both = 0" >> /etc/app/both.conf
echo "claimed = 0" >> /etc/app/claimed.conf
systemctl start found
systemctl --quiet enable restarted
"""
BY_HAND_MEANWHILE = """
echo "during = 2" >> /etc/app/during.conf
echo new > /etc/hand/during.conf
systemctl stop during
"""
BY_HAND_AFTER = """
sleep 2
echo "by = hand" >> /etc/app/edited.conf
echo check > /etc/app/checked.conf
echo new > /etc/hand/new.conf
printf '[Service]\\nExecStart=/bin/true\\n' > /etc/systemd/system/handunit.service
systemctl daemon-reload
systemctl stop handstopped
systemctl --quiet enable handenabled half
"""
DEB_BY_HAND = "cd /srv/debs; dpkg --install handmade_1.0_all.deb twice_2.0_all.deb > /dev/null; dpkg --purge handgone > /dev/null 2>&1"
RPM_BY_HAND = "rpm --erase --nodeps plain09; rpm --install --nodeps $(find /srv/repo -name 'kernel-core-5.14.0-503*')"

HAND = (DRIFT, None)
MIXED = ("both", None)  # edited by hand, and then by a task that edits a part of a file
UNKNOWN = ("", None)  # of folders, which several changed
MAKERS = {DRIFT: "hand", TASK: "Ansible", RUN: "Ansible", "both": "both", "": "unknown"}


def ansible(title):
    return (TASK, title)


def truth():
    """{(kind, name): (level, task)} on both hosts, on the one with dpkg, and on the one with rpm."""
    files = {
        "copied": ansible("copy"), "edited": HAND, "template": ansible("template"), "line": ansible("line"),
        "replaced": ansible("replace"), "block": ansible("block"), "mode": ansible("mode"), "gone": ansible("remove"),
        "restored": ansible("restore"), "background": ansible("background"), "checked": HAND, "delegated": ansible("delegated"),
        "handled": ansible("handler"), "other": ansible("other"), "raced": ansible("race"), "link": ansible("link"), "hand": HAND,
        "handgone": HAND, "new": ansible("new"), "during": HAND, "mixed": HAND, "both": MIXED, "claimed": HAND,
    }  # fmt: skip
    both = {("files", f"/etc/app/{name}.conf"): said for name, said in files.items()}
    accounts = ("passwd", "shadow", "subuid", "subgid", "group", "gshadow")
    both.update({("files", f"/etc/{name}{copy}"): ansible("user") for name in accounts for copy in ("", "-")})
    both.update({
        ("files", "/etc/arch/one.conf"): ansible("unpack"),
        ("files", "/etc/arch/two.conf"): ansible("unpack"), ("files", "/etc/hand/new.conf"): HAND,
        ("files", "/etc/hand/during.conf"): HAND, ("files", "/etc/oldapp/oldapp.conf"): ansible("remove folder"),
        ("files", "/etc/tree/tree.conf"): ansible("group"),
        ("files", "/etc/systemd/system/added.service"): ansible("unit"), ("files", "/etc/systemd/system/handunit.service"): HAND,
        ("files", "/etc/systemd/system/multi-user.target.wants/enabled.service"): ansible("enable"),
        ("files", "/etc/systemd/system/multi-user.target.wants/handenabled.service"): HAND,
        ("files", "/etc/systemd/system/multi-user.target.wants/half.service"): HAND,
        ("files", "/etc/systemd/system/multi-user.target.wants/restarted.service"): HAND,
        ("files", "/etc/systemd/system/multi-user.target.wants/found.service"): ansible("find"),
        ("services", "stopped"): ansible("stop"), ("services", "started"): ansible("start"), ("services", "enabled"): ansible("enable"),
        ("services", "masked"): ansible("mask"), ("services", "added"): ansible("unit"), ("services", "handunit"): HAND,
        ("services", "handstopped"): HAND, ("services", "handenabled"): HAND, ("services", "restarted"): HAND, ("services", "half"): HAND,
        ("services", "found"): HAND, ("services", "during"): HAND,
    })  # fmt: skip
    deb = {
        ("packages", "webapp"): ansible("install"), ("packages", "weblib"): ansible("install"), ("packages", "upgraded"): ansible("upgrade"),
        ("packages", "dropped"): ansible("purge"), ("packages", "handmade"): HAND, ("packages", "handgone"): HAND, ("packages", "twice"): HAND,
        ("services", "webapp"): ansible("install"), ("services", "weblib"): ansible("install"), ("services", "dropped"): ansible("purge"),
        ("services", "handmade"): HAND, ("services", "handgone"): HAND, ("services", "twice"): HAND,
        ("files", "/etc/webapp/webapp.conf"): ansible("install"), ("files", "/etc/weblib/weblib.conf"): ansible("install"),
        ("files", "/etc/upgraded/upgraded.conf"): ansible("upgrade"), ("files", "/etc/dropped/dropped.conf"): ansible("purge"),
        ("files", "/etc/handmade/handmade.conf"): HAND, ("files", "/etc/handgone/handgone.conf"): HAND, ("files", "/etc/twice/twice.conf"): HAND,
    }  # fmt: skip
    rpm = {
        ("packages", "not-installed"): ansible("install"), ("packages", "openssl-libs"): ansible("upgrade"),
        ("packages", "plain05"): ansible("purge"), ("packages", "plain07"): ansible("purge"), ("packages", "plain09"): HAND,
        ("packages", "kernel-core"): HAND, ("files", "/etc/app/command.conf"): ansible("command"),
        ("files", "/etc/app/rescued.conf"): ansible("rescue"), ("files", "/etc/app/hidden.conf"): (RUN, None),
    }  # fmt: skip
    return {"deb": {**both, **deb}, "rpm": {**both, **rpm}}


class Fleet:
    """Two booted hosts, and this machine as their controller."""

    def __init__(self, folder):
        self.folder = folder
        state = Path(reader.state_folder()) / "attribution"
        self.short = Path(tempfile.mkdtemp(prefix="ct"))
        self._environment = dict(os.environ, TESTHOST_DIR=str(state))
        self.testhost("up", Path(os.environ["CT_TEST_CACHE"]) / "bookworm", "deb")
        self.testhost("up", Path(os.environ["CT_TEST_CACHE"]) / "rpm", "rpm")
        (folder / "hosts").write_text(INVENTORY.format(config=state / "ssh_config", short=self.short))
        self.environment = dict(
            os.environ,
            ANSIBLE_CALLBACKS_ENABLED="changetracking.inventory.run_log",
            ANSIBLE_PIPELINING="1",
            RUN_LOG_SPOOL=str(folder / "spool"),
            PYTHONPATH=os.pathsep.join([str(SKEWED), os.environ.get("PYTHONPATH", "")]),
        )

    def close(self):
        self.testhost("down", "deb", "rpm")

    def testhost(self, *arguments):
        return subprocess.run([str(reader.TESTHOST), *map(str, arguments)], env=self._environment, check=True)

    def by_hand(self, script, *hosts):
        for host in hosts or ("deb", "rpm"):
            self.testhost("exec", host, "bash", "-euc", script)

    def play(self, text, *arguments, skew=0):
        """Start a playbook on a controller whose clock is ahead by `skew` seconds."""
        name = f"play{len(list(self.folder.glob('play*')))}.yml"
        (self.folder / name).write_text(text)
        command = ["ansible-playbook", "-i", "hosts", name, "-e", f"dir={self.folder}", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=dict(self.environment, CT_SKEW=str(skew)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def inventory(self):
        """{host: (changes since the last time, {package: InstalledOn})}."""
        arguments = json.dumps({"dest": str(self.folder / "told"), "state": STATE, "dcr": RULE})
        command = [
            "ansible",
            "-i",
            "hosts",
            "all",
            "-m",
            "changetracking.inventory.ct_inventory_fetch",
            "-a",
            arguments,
        ]
        subprocess.run(command, cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL, check=True)
        return {host: (self.told(host, "Changes"), self.installed(host)) for host in ("deb", "rpm")}

    def told(self, host, name):
        return json.loads((self.folder / "told" / host / f"{name}.json").read_text())

    def installed(self, host):
        return {row["SoftwareName"]: row["InstalledOn"] for row in self.told(host, "Packages")}

    def tasks(self):
        with open_store(str(self.folder / "told" / "fleet.db")) as store:
            return Tasks(read_tasks(store))


def done(process):
    output = process.communicate()[0]
    assert process.returncode == 0, output


@pytest.mark.no_core  # test_run_log shows what the versions record
def test_no_change_by_hand_is_called_ansibles_and_ansibles_are_named(tmp_path):
    (tmp_path / "t.j2").write_text("template = {{ 1 + 1 }}\n")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("one.conf", "two.conf"):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = 2, 1_700_000_000
            archive.addfile(member, io.BytesIO(b"x\n"))
    fleet = Fleet(tmp_path)
    try:
        fleet.by_hand(DEBS, "deb")
        fleet.by_hand(BOTH)
        assert [changes for changes, _installed in fleet.inventory().values()] == [[], []]
        fleet.by_hand(BY_HAND_BEFORE)
        done(fleet.play(CHECK, "--check"))
        runs = [fleet.play(PLAY), fleet.play(OTHER, skew=7200)]
        fleet.by_hand(BY_HAND_MEANWHILE)
        assert [run.poll() for run in runs] == [None, None]
        for run in runs:
            done(run)
        fleet.by_hand(BY_HAND_AFTER)
        fleet.by_hand(DEB_BY_HAND, "deb")
        fleet.by_hand(RPM_BY_HAND, "rpm")
        changes = fleet.inventory()
        tasks = fleet.tasks()
    finally:
        fleet.close()
    table = [row for host, expected in truth().items() for row in rows(tasks, host, expected, *changes[host])]
    keep(table)
    by_hand = [row for row in table if row.true == HAND]
    by_ansible = [row for row in table if row.true[0] in (TASK, RUN)]
    assert len(by_hand) > 40 and len(by_ansible) > 60
    named = [row for row in by_ansible if row.said == row.true and row.said[0] == TASK]
    assert len(named) >= 0.95 * len(by_ansible)
    assert [row for row in by_hand if row.said[0] == TASK] == []
    # What has no time of its own may have been made by a command, which can do anything: there were two on `rpm`. The mode of that file
    # may have been set by a script of a package, if one was installed while a task edited it.
    perhaps = {
        row.name
        for row in by_hand
        if row.said != HAND and (row.host == "deb" or (row.kind == "files" and row.category == "Modified"))
    }
    assert perhaps <= {"/etc/app/mixed.conf"}
    assert [row for row in by_ansible if row.said != row.true] == []
    assert {(row.said, row.reason) for row in table if row.true == MIXED} == {
        (ansible("edit again"), "it edited this path at that time")
    }
    assert set(truth()["deb"]) <= {(row.kind, row.name) for row in table if row.host == "deb"}


class Row(NamedTuple):
    host: str
    kind: str
    name: str
    category: str
    true: tuple
    said: tuple
    reason: str


def keep(table):
    """Print the table, and keep it with the results of the step: each change, and how many there are of which."""
    lines = [
        f"{row.host} | {row.category} {row.kind} {row.name} | true: {shown(row.true)} | said: {shown(row.said)} | {row.reason}"
        for row in sorted(table)
    ]
    counts = Counter((MAKERS[row.true[0]], verdict(row)) for row in table)
    lines += [f"{count:4} made by {maker}, said {level}" for (maker, level), count in sorted(counts.items())]
    print(*lines, sep="\n")  # with `pytest -s`
    if "RESULTS" in os.environ:
        Path(os.environ["RESULTS"], "attribution.txt").write_text("\n".join(lines) + "\n")


def shown(pair):
    level, title = pair
    return f"{level} {title!r}" if title else level or "unknown"


def verdict(row):
    level = row.said[0]
    return f"{level}, the right one" if level == TASK == row.true[0] and row.said == row.true else level


def rows(tasks, host, expected, records, installed):
    """What is true and what is said of each change."""
    changes = [from_record(host, record, installed.get(record.get("SoftwareName"))) for record in records]
    for change, found in zip(changes, tasks.attribute_all(changes)):
        said = found.level, found.task.title if found.level == TASK else None
        true = expected.get((change.kind, change.name), UNKNOWN)
        yield Row(host, change.kind, change.name, change.category, true, said, found.reason)
