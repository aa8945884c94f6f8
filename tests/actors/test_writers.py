# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible over ssh, rpm, and others who use the kernel's audit at the same time."""

import contextlib
import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.tests.helpers import logins
from ansible_collections.changetracking.inventory.tests.helpers.actor_records import only, records, wait_for_runs
from ansible_collections.changetracking.inventory.tests.helpers.agent_process import Host
from ansible_collections.changetracking.inventory.tests.helpers.audit import Referee, auditctl, rules

ROOT = Path(__file__).parents[2]
CORE = ROOT / ".build/venv/core-2.19/bin"
ITEMS = max(1, int(os.environ.get("COUNT", "300")) // 300)  # files that a task changes
IMAGES = Path(os.environ["CT_TEST_CACHE"])


def test_ansible_over_ssh_is_the_user_who_logged_in_with_the_module(host, people, audited, sshd):
    files = {
        (name, module, number): host.tracked / ("%s %s %d" % (name, module, number))
        for name in people
        for module in ("copy", "lineinfile", "file")
        for number in range(ITEMS)
    }
    for (_name, module, _number), path in files.items():
        if module != "copy":
            path.write_text("text\n")
    path = "%s/{{ ansible_user }} %%s {{ item }}" % host.tracked
    loop = {"loop": list(range(ITEMS))}
    tasks = [
        {"ansible.builtin.copy": {"content": "new", "dest": path % "copy", "mode": "0600"}, **loop},
        {"ansible.builtin.lineinfile": {"path": path % "lineinfile", "line": "new"}, **loop},
        {"ansible.builtin.file": {"path": path % "file", "state": "absent"}, **loop},
    ]
    (host.folder / "play.yml").write_text(
        json.dumps([{"hosts": "all", "become": True, "gather_facts": False, "tasks": tasks}])
    )
    hosts = {
        "on-" + name: {
            "ansible_host": "127.0.0.1",
            "ansible_port": sshd.port,
            "ansible_user": name,
            "ansible_ssh_private_key_file": str(sshd.folder / "key"),
            "ansible_ssh_common_args": "-F none -o UserKnownHostsFile=/dev/null",
            "ansible_remote_tmp": "/tmp/ansible-" + name,
            "ansible_python_interpreter": logins.PYTHON,
        }
        for name in people
    }
    (host.folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    (host.folder / "ansible.cfg").write_text("")
    host.start("--who", "rules")
    wait_for_runs(host)
    environment = dict(
        os.environ, PATH="%s:%s" % (CORE, os.environ["PATH"]), ANSIBLE_HOST_KEY_CHECKING="False", ANSIBLE_PIPELINING="False",
        ANSIBLE_SSH_CONTROL_PATH=str(sshd.folder / "ansible-%%r"),
        ANSIBLE_CONFIG=str(host.folder / "ansible.cfg"), ANSIBLE_HOME=str(host.folder / "ansible"), ANSIBLE_PYTHON_INTERPRETER=logins.PYTHON,
    )  # fmt: skip
    environment.pop("VIRTUAL_ENV", None)
    try:
        done = subprocess.run(
            [str(CORE / "ansible-playbook"), "-i", str(host.folder / "hosts.json"), str(host.folder / "play.yml")],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=False,
        )  # fmt: skip
    finally:
        for name in people:
            shutil.rmtree("/tmp/ansible-" + name, ignore_errors=True)
    assert done.returncode == 0, done.stdout
    wait_for_runs(host)
    rows = records(host)
    wanted = {str(path): key[:2] for key, path in files.items()}
    outcome = Counter()
    wrong = []
    for row in rows:
        # A module makes a temporary file next to its own.
        path = row["FileSystemPath"]
        name, module = wanted.get(path) or next(wanted[each] for each in wanted if os.path.basename(each) in path)
        answer = (row["ChangedBy"], row["ChangedByUid"], row["ChangedByModule"], row["ChangedBySession"] is not None)
        right = answer == (name, people[name], module, True)
        outcome["right" if right else "unknown" if row["ChangedBy"] is None else "wrong"] += 1
        if not right:
            wrong.append((row, name, module))
    print("Ansible over ssh: %d records" % len(rows), dict(outcome))
    assert outcome["wrong"] == 0 and outcome["unknown"] * 100 <= outcome["right"], wrong
    assert {row["FileSystemPath"] for row in rows} >= set(wanted)


@pytest.fixture
def container(host):
    """Runs a command of a user in a booted container, in a session of its sshd, or as root from outside. The tracked folder is bound there."""
    testhost = str(ROOT / "tests/hosts/testhost")
    state = host.folder / "hosts"
    environment = dict(os.environ, TESTHOST_DIR=str(state), NSPAWN_ARGS="--bind=%s:/srv/tracked" % host.tracked)
    boot = logins.logged_in(logins.NOBODY, testhost, "up", str(IMAGES / "bookworm"), "ct-actors")
    subprocess.run(boot, env=environment, check=True)

    def run(*command, user=None):
        ssh = ["ssh", "-F", str(state / "ssh_config"), "-l", user or "", "ct-actors"]
        way = ssh if user else [testhost, "exec", "ct-actors"]
        subprocess.run([*way, *command], env=environment, check=True, stdout=subprocess.DEVNULL)

    yield run
    subprocess.run([testhost, "down", "ct-actors"], env=environment, check=True)


def test_a_booted_container_and_its_units_have_the_numbers_of_their_users(host, people, audited, container):
    uid = 4242  # which this machine has no name for
    container("useradd", "--uid", str(uid), "--create-home", "deploy")
    container("cp", "-r", "/root/.ssh", "/home/deploy/")
    container("chown", "-R", "deploy", "/home/deploy/.ssh")
    host.start("--who", "rules")
    wait_for_runs(host)
    unit = ["systemd-run", "--quiet", "--wait", "--uid=deploy", "sh", "-c"]
    for name, command, user, expected in (
        ("ssh", ["echo > /srv/tracked/ssh"], "deploy", (str(uid), uid, True)),
        ("root", ["echo > /srv/tracked/root"], "root", ("root", 0, True)),
        ("unit", [*unit, "echo > /srv/tracked/unit"], None, (str(uid), uid, False)),
    ):
        seen = max((row["Seq"] for row in records(host)), default=0)
        container(*command, user=user)
        wait_for_runs(host)
        row = only(host, seen)
        assert os.path.basename(row["FileSystemPath"]) == name
        assert (row["ChangedBy"], row["ChangedByUid"], row["ChangedBySession"] is not None) == expected


class RootedHost(Host):
    """The agent in another root, where audit works as on a host: it is in the namespaces of this machine."""

    def __init__(self, programs, folder, root):
        for name in ("agent.pyz", "relay.pyz"):
            shutil.copy(str(programs / name), str(folder))
        super().__init__(folder, folder)
        self._root = root

    def command(self, command, *options):
        return ["chroot", str(self._root), "/usr/bin/python3", *super().command(command, *options)[1:]]


@pytest.fixture
def rooted(programs, audited, people, host):
    """A host with rpm: its image below a layer of changes, but with the database on a file system of its own, as hosts have it."""
    root, inner, database = (host.folder / name for name in ("root", "inner", "rpm"))
    for name in (root, inner, host.folder / "upper", host.folder / "work"):
        name.mkdir()
    shutil.copytree(str(IMAGES / "rpm/var/lib/rpm"), str(database))
    layers = "lowerdir=%s,upperdir=%s,workdir=%s" % (IMAGES / "rpm", host.folder / "upper", host.folder / "work")
    with contextlib.ExitStack() as stack:
        for options, source, target in (
            (["-t", "overlay", "-o", layers], "overlay", root),
            (["--bind"], database, root / "var/lib/rpm"),
            (["--bind"], inner, root / str(inner).lstrip("/")),
            (["--bind"], "/proc", root / "proc"),
            (["--bind"], "/dev", root / "dev"),
        ):
            target.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", *options, str(source), str(target)], check=True)
            stack.callback(subprocess.run, ["umount", "--lazy", str(target)], check=True)
        with open(str(root / "etc/passwd"), "a") as file:
            file.writelines("%s:x:%d:%d::/:/bin/sh\n" % (name, uid, uid) for name, uid in people.items())
        inside = RootedHost(programs, inner, root)
        inside.relay.start()
        stack.callback(inside.end)
        yield inside, root


def test_an_rpm_package_is_changed_by_who_ran_rpm_for_it(rooted, people):
    host, root = rooted
    host.track(enableFiles=False, enableSoftware=True, softwareSettings={"softwareCollectionFrequency": 1})
    host.start("--who", "rules")
    wait_for_runs(host, "Package")
    seen = 0
    steps = (
        ("ctalice", ["-i", "--nodeps", "/srv/repo/noarch/not-installed-1.0-1.el9.noarch.rpm"], "Added"),
        ("ctbob", ["-e", "not-installed"], "Removed"),
        ("ctalice", ["-i", "--nodeps", "/srv/repo/noarch/not-installed-1.0-1.el9.noarch.rpm"], "Added"),
    )
    for name, arguments, category in steps:
        command = logins.logged_in(people[name], "chroot", str(root), "rpm", *arguments)
        subprocess.run(command, stderr=subprocess.DEVNULL, check=True)
        wait_for_runs(host, "Package")
        row = only(host, seen)
        seen = row["Seq"]
        answer = (row["ChangeCategory"], row["ChangedBy"], row["ChangedByUid"], row["ChangedByProcess"])
        assert answer == (category, name, people[name], "/usr/bin/rpm")


def change(host, uid, name):
    """A user adds a file. Who did it, for all that the agent knows."""
    seen = max((row["Seq"] for row in records(host)), default=0)
    subprocess.run(logins.logged_in(uid, "sh", "-c", 'echo > "$0"', str(host.tracked / name)), check=True)
    wait_for_runs(host)
    return only(host, seen)["ChangedBy"]


def test_auditd_ends_and_starts_and_somebody_deletes_all_rules_and_the_agent_goes_on(host, people, audited, tmp_path):
    host.start("--who", "rules", "--refresh", "300")  # which would add the rules again too
    wait_for_runs(host)
    own = rules()
    assert change(host, people["ctalice"], "without auditd") == "ctalice"
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        referee = Referee(tmp_path / str(number))
        try:
            assert change(host, people["ctbob"], "with auditd %d" % number) == "ctbob"
        finally:
            referee.stop()
        assert any("with auditd" in str(event) for event in referee.events())  # auditd got it too
        auditctl("-e", "1")
        assert change(host, people["ctalice"], "after auditd %d" % number) == "ctalice"
    auditctl("-D")
    change(host, people["ctbob"], "without a rule")
    assert rules() == own
    assert change(host, people["ctbob"], "with the rule again") == "ctbob"
    status = host.status()["Who"]
    assert (status["Why"], status["Lost"]) == ("", 0)
