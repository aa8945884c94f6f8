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

ROOT = Path(__file__).resolve().parents[2]
TESTHOST = ROOT / "tests/hosts/testhost"
PACKAGES = ("tcsh", "fish", "fish-common", "libpcre2-32-0", "opendoas")
SET_UP = """
set -e
dpkg -i /debs/*.deb
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
mkdir -p /root/noexec && mount -t tmpfs -o noexec,size=16k tmpfs /root/noexec
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
    "sudo_wrong_password": ({**ASKED, "ansible_become_password": "wrong"}, "Incorrect sudo password|failed, as it was"),
    "sudo_requiretty": ({**BECOME, "ansible_user": "terminal"}, AS_MODULE + r"it did not start .*tty"),
    "su": ({**PYTHON, "ansible_become": True, "ansible_become_method": "su", "ansible_become_user": "ansible"}, DIRECTLY),
    "su_password": ({**ASKED, "ansible_become_method": "su"}, AS_MODULE + "su asks for a password"),
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
FAIL = {"sudo_wrong_password", "no_interpreter", "require_in_vain", "misspelled"}

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
    lines = "\n".join(re.findall(r"^(?:<%s> |fatal: \[%s\]).*$" % (name, name), output, re.MULTILINE))
    assert re.search(WAYS[name][1], lines), lines or output
    recap = re.search(r"^%s +: ok=(\d).*failed=(\d)" % name, output, re.MULTILINE)
    assert recap.groups() == (("0", "1") if name in FAIL else ("2", "0")), lines
