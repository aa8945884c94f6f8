# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way a task takes, for all that a task can ask for, on a booted host over ssh: the result is right each time."""

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TESTHOST = ROOT / "tests/hosts/testhost"
PACKAGES = ("tcsh", "fish", "fish-common", "libpcre2-32-0", "opendoas")
SET_UP = """
set -e
dpkg --force-depends -i /debs/*.deb > /dev/null
echo root:secret | chpasswd
add() { useradd --create-home --shell "$2" "$1"; install -d -m 700 "/home/$1/.ssh"; echo "$1:secret" | chpasswd
  cp /root/.ssh/authorized_keys "/home/$1/.ssh/"; chown -R "$1:" "/home/$1/.ssh"; }
add asked /bin/bash; add terminal /bin/bash; add fish /usr/bin/fish; add csh /usr/bin/tcsh; add noisy /bin/bash
echo 'asked ALL=(ALL) ALL' > /etc/sudoers.d/asked
printf 'Defaults:terminal requiretty\nterminal ALL=(ALL) NOPASSWD: ALL\n' > /etc/sudoers.d/terminal
printf 'permit nopass ansible as root\npermit asked as root\n' > /etc/doas.conf
echo 'Authorized use only. {"a": 1}' | tee /etc/banner > /etc/motd
printf 'Banner /etc/banner\nAcceptEnv *\n' >> /etc/ssh/sshd_config
systemctl reload ssh
sed -i '1i echo "{}"; echo FOUND; printf "\\033[2J"; echo to stderr >&2' /home/noisy/.bashrc
"""
PYTHON = {"ansible_python_interpreter": "/usr/bin/python3"}
ANSIBLE = {"ansible_user": "ansible", **PYTHON}
BECOME = {**ANSIBLE, "ansible_become": True}
ASKED = {**BECOME, "ansible_user": "asked", "ansible_become_password": "secret"}
DIRECTLY, AS_MODULE = "runs directly: ", "runs as a module: "

# Name: variables of the host, what -vvv shows, and more settings of the run that it needs.
WAYS = {
    "plain": (PYTHON, DIRECTLY),
    "user": (ANSIBLE, DIRECTLY),
    "sudo": (BECOME, DIRECTLY),
    "sudo_to_user": ({**BECOME, "ansible_become_user": "nobody"}, DIRECTLY),
    "sudo_password": (ASKED, DIRECTLY),
    "sudo_wrong_password": ({**ASKED, "ansible_become_password": "wrong"}, "Incorrect sudo password"),
    "sudo_requiretty": ({**BECOME, "ansible_user": "terminal"}, AS_MODULE + r"it did not start .*tty"),
    "su": (
        {**PYTHON, "ansible_become": True, "ansible_become_method": "su", "ansible_become_user": "ansible"},
        DIRECTLY,
    ),
    "su_password": ({**ASKED, "ansible_become_method": "su"}, AS_MODULE + "su asks for a password"),
    "doas": ({**BECOME, "ansible_become_method": "doas"}, DIRECTLY),
    "doas_refused": (
        {**BECOME, "ansible_user": "csh", "ansible_become_method": "doas"},
        AS_MODULE + "it did not start",
    ),
    "become_without_input": (
        {**BECOME, "ansible_become_method": "deaf"},
        AS_MODULE + "deaf hands on no standard input",
    ),
    "connection_without_input": (
        {**PYTHON, "ansible_connection": "deaf"},
        AS_MODULE + "the connection deaf hands on no",
    ),
    "fish": ({**ANSIBLE, "ansible_user": "fish"}, DIRECTLY),
    "csh": ({**ANSIBLE, "ansible_user": "csh"}, DIRECTLY),
    "noisy": ({**ANSIBLE, "ansible_user": "noisy"}, DIRECTLY),
    "discovered": ({"ansible_user": "ansible"}, DIRECTLY),
    "discovered_with_sudo": ({"ansible_user": "ansible", "ansible_become": True}, DIRECTLY),
    "discovered_silently": ({"ansible_user": "ansible", "ansible_python_interpreter": "auto_silent"}, DIRECTLY),
    "discovered_by_fish": ({"ansible_user": "fish"}, DIRECTLY),
    "templated": ({**ANSIBLE, "py": "python3", "ansible_python_interpreter": "/usr/bin/{{ py }}"}, DIRECTLY),
    "interpreter_by_env": ({**ANSIBLE, "ansible_python_interpreter": "/usr/bin/env python3"}, DIRECTLY),
    "interpreter_with_option": ({**ANSIBLE, "ansible_python_interpreter": "/usr/bin/python3 -u"}, DIRECTLY),
    "no_interpreter": ({**ANSIBLE, "ansible_python_interpreter": "/usr/bin/nopython"}, AS_MODULE + "it did not start"),
    "pipelining": ({**BECOME, "ansible_pipelining": True}, DIRECTLY),
    "no_remote_folder": ({**PYTHON, "ansible_remote_tmp": "/proc/nowhere"}, DIRECTLY),
    "never": ({**ANSIBLE, "ct_direct": "never"}, AS_MODULE + "ct_direct is never"),
    "templated_never": ({**ANSIBLE, "ct_direct": "{{ 'never' if true else '' }}"}, AS_MODULE + "ct_direct is never"),
    "require": ({**ANSIBLE, "ct_direct": "require"}, DIRECTLY),
    "require_in_vain": (
        {**ANSIBLE, "ct_direct": "require", "ansible_python_interpreter": "/usr/bin/nopython"},
        "cannot run directly: it did not start",
    ),
    "misspelled": ({**ANSIBLE, "ct_direct": "always"}, "Give auto, never or require"),
}
FAIL = {"doas_refused", "sudo_wrong_password", "no_interpreter", "require_in_vain", "misspelled"}

# As community.general.doas, and plugins of others that hand on no standard input.
PLUGINS = {
    "become_plugins/doas.py": """
from ansible.plugins.become import BecomeBase

DOCUMENTATION = '''
name: doas
short_description: Become by doas
description: As community.general.doas.
author: tests
options:
  become_user: {description: User., default: root, vars: [{name: ansible_become_user}]}
  become_exe: {description: Program., default: doas}
  become_flags: {description: Options., default: -n}
  become_pass: {description: Password., vars: [{name: ansible_become_password}]}
'''


class BecomeModule(BecomeBase):
    name = "doas"
    pipelining = False

    def build_become_command(self, cmd, shell):
        super().build_become_command(cmd, shell)
        words = [self.get_option("become_exe"), self.get_option("become_flags"), "-u", self.get_option("become_user")]
        return " ".join([*words, self._build_success_command(cmd, shell)])
""",
    "connection_plugins/deaf.py": """
from ansible.plugins.connection.local import Connection as Local

DOCUMENTATION = '''
name: deaf
short_description: This machine, without standard input
description: A connection without pipelining.
author: tests
extends_documentation_fragment: [connection_pipelining]
options:
  become_success_timeout: {description: Seconds., type: int, default: 10}
  become_strip_preamble: {description: Strip., type: bool, default: true}
'''


class Connection(Local):
    transport = "deaf"
    has_pipelining = False
""",
}
PLUGINS["become_plugins/deaf.py"] = (
    PLUGINS["become_plugins/doas.py"].replace("doas", "deaf").replace("default: deaf}", "default: sudo}")
)

PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - changetracking.inventory.ct_package_facts: {name: bash, fields: [SoftwareName]}
    - ansible.builtin.assert: {that: "ansible_facts.ct_packages['items'] == [{'SoftwareName': 'bash'}]"}
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    folder = tmp_path_factory.mktemp("debs")
    subprocess.run(["apt-get", "download", *PACKAGES], cwd=str(folder), check=True)
    state = Path(os.environ.get("TESTHOST_DIR") or ROOT / ".build/hosts/direct") / "direct"
    environment = dict(os.environ, TESTHOST_DIR=str(state), NSPAWN_ARGS="--bind-ro=%s:/debs" % folder)

    def testhost(*arguments):
        subprocess.run([str(TESTHOST), *arguments], env=environment, check=True)

    testhost("up", os.environ["CT_TEST_CACHE"] + "/bookworm", "direct")
    try:
        testhost("exec", "direct", "bash", "-c", SET_UP)
        yield state / "ssh_config"
    finally:
        testhost("down", "--all")


class Runs:
    """Runs of Ansible against the host, under a name each that has the variables given."""

    def __init__(self, folder, ssh_config):
        self.folder = folder
        self._short = tempfile.mkdtemp(prefix="ct")  # sockets of ssh have short paths
        self._environment = dict(
            os.environ, ANSIBLE_NOCOLOR="1", ANSIBLE_FORCE_COLOR="0", ANSIBLE_FORKS="8",
            ANSIBLE_SSH_CONTROL_PATH_DIR=self._short,
            ANSIBLE_SSH_ARGS="-F %s -o ControlMaster=auto -o ControlPersist=60s" % ssh_config,
        )  # fmt: skip

    def play(self, text, hosts, **environment):
        """The output at -vvv. `hosts`: variables by name."""
        for name, variables in hosts.items():
            hosts[name] = {"ansible_host": "direct", **variables}
        (self.folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
        (self.folder / "play.yml").write_text(text)
        for path, plugin in PLUGINS.items():
            (self.folder / path).parent.mkdir(exist_ok=True)
            (self.folder / path).write_text(plugin)
        run = subprocess.run(
            ["ansible-playbook", "-vvv", "-i", "hosts.json", "play.yml"], cwd=str(self.folder),
            env=dict(self._environment, **environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        return run.stdout.decode("utf-8", "replace")


@pytest.fixture
def runs(host, tmp_path):
    return Runs(tmp_path, host)


@pytest.fixture(scope="module")
def output(host, tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("ways"), host).play(PLAY, {name: way[0] for name, way in WAYS.items()})


@pytest.mark.parametrize("name", WAYS)
def test_the_way_that_a_task_takes(name, output):
    lines = "\n".join(re.findall(r"^(?:<%s> .*|fatal: \[%s\](?:.|\n)*?^})$" % (name, name), output, re.MULTILINE))
    assert re.search(WAYS[name][1], lines), lines or output
    recap = re.search(r"^%s +: ok=(\d).*failed=(\d)" % name, output, re.MULTILINE)
    assert recap.groups() == (("0", "1") if name in FAIL else ("2", "0")), lines


# What a task asks for: its keywords and options, the way, and what is then true of its result.
TASKS = {
    "check_mode": ({"check_mode": True, "module": "ct_inventory_info", "state": "/root/check.db"}, DIRECTLY,
                   "'not_stored' in result.history"),
    "diff": ({"diff": True}, DIRECTLY, "result.diff is undefined"),
    "loop": ({"loop": ["bash", "sudo"], "name": "{{ item }}"}, DIRECTLY,
             "result.results | map(attribute='ansible_facts.ct_packages.count') | list == [1, 1]"),
    "retries": ({"until": "result.attempts > 1", "retries": 2, "delay": 0}, DIRECTLY, "result.attempts == 2"),
    "async": ({"async": 60, "poll": 1}, AS_MODULE + "the task is asynchronous", "result.ansible_job_id is defined"),
    "async_later": ({"async": 60, "poll": 0}, AS_MODULE + "the task is asynchronous", "result.started"),
    "environment": ({"environment": {"CT_PATH": "/no where"}, "module": "ct_state_info", "path": "$CT_PATH/state.db"},
                    DIRECTLY, "result is failed and '/no where/state.db' in result.msg"),
    "environment_of_python": ({"environment": {"PYTHONUTF8": "1"}}, AS_MODULE + "the environment", "result is success"),
    "home": ({"module": "ct_state_info", "path": "~/state.db", "vars": {"ansible_user": "noisy"}}, DIRECTLY,
             "'/home/noisy/state.db' in result.msg"),
    "delegated": ({"delegate_to": "other"}, DIRECTLY, "result.ansible_facts.keys() | list == ['ct_packages']"),
    "delegated_facts": ({"delegate_to": "other", "delegate_facts": True}, DIRECTLY,
                        "'python' in result.ansible_facts.discovered_interpreter_python"),
    "unreachable": ({"ignore_unreachable": True, "vars": {"ansible_port": 1}}, DIRECTLY, "result.unreachable"),
    "timed_out": ({"timeout": 1, "vars": {"ansible_python_interpreter": "/root/slow"}}, DIRECTLY,
                  "result is failed and ('timed' in (result | string) or 'time frame' in result.msg)"),
    "quiet": ({"no_log": True, "name": "secret"}, DIRECTLY, "result.ansible_facts.ct_packages.count == 0"),
    "defaults": ({"module_defaults": {"group/changetracking.inventory.ct": {"fields": ["Size"]}}}, DIRECTLY,
                 "result.ansible_facts.ct_packages['items'][0].keys() | list == ['Size']"),
    "half_an_answer": ({"vars": {"ansible_python_interpreter": "/root/half"}}, DIRECTLY,
                       "'its answer did not arrive: it has no end. Run the task again.' in result.msg"),
    "another_answer": ({"vars": {"ansible_python_interpreter": "/root/other"}}, DIRECTLY,
                       "'its answer did not arrive: it is invalid' in result.msg"),
    "killed": ({"vars": {"ansible_python_interpreter": "/root/killed"}}, DIRECTLY, "'did not arrive' in result.msg"),
    "damaged_on_its_way": ({"vars": {"ansible_python_interpreter": "/root/damaged"}}, AS_MODULE + "it did not start",
                           "result is success"),
    "python_2": ({"vars": {"ansible_python_interpreter": "/root/old"}}, AS_MODULE + "it did not start", "result is success"),
}  # fmt: skip
INTERPRETERS = r"""
cd /root
write() { cat > "$1"; chmod +x "$1"; }
echo '#!/bin/sh
case $* in *-S*) sleep 9;; esac; exec python3 "$@"' | write slow
echo '#!/bin/sh
python3 "$@" | head -c 200' | write half
echo '#!/bin/sh
python3 "$@" | sed "s/ended ..../ended AAAA/"' | write other
echo '#!/bin/sh
python3 "$@" | head -n 1; kill -9 $$' | write killed
echo '#!/bin/sh
case $* in *-S*) { head -c 99; echo x; cat; } | python3 "$@";; *) exec python3 "$@";; esac' | write damaged
echo '#!/bin/sh
case $* in *-I*) echo "Unknown option: -I" >&2; exit 2;; *) exec python3 "$@";; esac' | write old
"""


def task(name, keywords):
    given = {"module": "ct_package_facts", **keywords}
    words = {"check_mode", "diff", "loop", "until", "retries", "delay", "async", "poll", "environment", "delegate_to",
             "delegate_facts", "ignore_unreachable", "timeout", "no_log", "module_defaults", "vars", "module"}  # fmt: skip
    options = {key: value for key, value in given.items() if key not in words}
    if given["module"] == "ct_package_facts":
        options.setdefault("name", "bash")
    every = {
        "name": name,
        "changetracking.inventory." + given["module"]: options,
        "register": "result",
        "ignore_errors": True,
    }
    return {**every, **{key: value for key, value in given.items() if key in words - {"module"}}}


@pytest.fixture(scope="module")
def sections(host, tmp_path_factory):
    """What a run printed, by the name of the task."""
    tasks = [{"name": "set up", "ansible.builtin.shell": INTERPRETERS}]
    for name, (keywords, _way, check) in TASKS.items():
        tasks.append(task(name, keywords))
        tasks.append({"name": name + " checked", "ansible.builtin.assert": {"that": check}, "ignore_errors": True})
    tasks.append({"name": "log", "ansible.builtin.command": "journalctl --no-pager --grep Invoked"})
    play = [{"hosts": "one", "gather_facts": False, "tasks": tasks}]
    runs = Runs(tmp_path_factory.mktemp("tasks"), host)
    output = runs.play(yaml.safe_dump(play), {"one": PYTHON, "other": {"ansible_user": "ansible"}})
    parts = re.split(r"^TASK \[(.*)\] \**$", output, flags=re.MULTILINE)
    return {"all": output, **dict(zip(parts[1::2], parts[2::2]))}


@pytest.mark.parametrize("name", TASKS)
def test_what_a_task_asks_for_is_honored(name, sections):
    assert re.search(TASKS[name][1], sections[name]), sections[name]
    assert "All assertions passed" in sections[name + " checked"], sections[name] + sections[name + " checked"]


def test_the_log_of_the_host_has_each_run_unless_it_is_not_to_be_logged(sections):
    lines = re.findall(r"ansible-changetracking.inventory.ct_package_facts.*Invoked with .*", sections["log"])
    assert any("name=['bash'] fields=[] version=[] gpg_keys=False" in line for line in lines), sections["log"]
    assert not any("secret" in line for line in lines)


@pytest.mark.parametrize(
    "environment, way",
    [
        ({"ANSIBLE_KEEP_REMOTE_FILES": "1"}, AS_MODULE + "Ansible is to keep its files"),
        ({"ANSIBLE_PYTHON_MODULE_RLIMIT_NOFILE": "512"}, AS_MODULE + "modules are to have another limit"),
        ({"ANSIBLE_STRATEGY": "free"}, DIRECTLY),
        ({"ANSIBLE_PIPELINING": "1"}, DIRECTLY),
        ({"ANSIBLE_SSH_TRANSFER_METHOD": "piped", "ANSIBLE_SHELL_EXECUTABLE": "/bin/bash"}, DIRECTLY),
    ],
)
def test_settings_of_ansible(environment, way, runs):
    output = runs.play(PLAY, {"one": BECOME, "two": PYTHON}, **environment)
    assert len(re.findall("(?:<one>|<two>).* " + way, output)) == 2, output
    assert len(re.findall(r"ok=2 .* failed=0", output)) == 2, output
