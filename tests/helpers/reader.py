# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines of a reader of the documentation: `control`, with ansible-core, and the hosts of the page's inventory.

All are booted afresh for each page. The user ansible works on control, in the folder ~/fleet, and may log in to the hosts and
use sudo there.
"""

import os
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

from ansible_collections.changetracking.inventory.tests.helpers import bolt

ROOT = Path(__file__).resolve().parents[2]
TESTHOST = ROOT / "tests/hosts/testhost"
PROGRAMS = ("ansible", "ansible-playbook", "ansible-galaxy", "ansible-doc", "ansible-inventory")
PATIENCE = 90  # seconds that a command is run again after "later:"
_END = "--- end of command ---"


class Shell:
    """A login shell on a machine that keeps its variables and folder from one command to the next."""

    def __init__(self, world, host, user):
        command = ["ssh", "-F", str(world.folder / "ssh_config"), "-l", user, host, "bash", "-l"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
        )
        self.run("export LC_ALL=C.UTF-8 NO_COLOR=1 COLUMNS=160 ANSIBLE_NOCOLOR=1 ANSIBLE_PIPELINING=1")

    def run(self, text):
        """(exit status, output)"""
        quoted = "cat > ~/.command <<'%s'\n%s\n%s\n" % (_END, text, _END)
        self._process.stdin.write(quoted + '. ~/.command </dev/null 2>&1; status=$?; echo; echo "%s $status"\n' % _END)
        self._process.stdin.flush()
        output = ""
        for line in self._process.stdout:
            if line.startswith(_END):
                return int(line.split()[-1]), output[:-1] if output.endswith("\n") else output
            output += line
        raise AssertionError("the shell ended: " + output)

    def close(self):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class World:
    def __init__(self, folder, archive, hosts, installed):
        """`installed`: whether the collection in the archive is installed already."""
        self.folder = folder
        self._hosts = hosts
        self._shells = {}
        root = Path(os.environ["CT_TEST_CACHE"]) / "bookworm"
        packages = sysconfig.get_paths()["purelib"]
        environment = dict(os.environ, TESTHOST_DIR=str(folder))
        self._testhost(environment, "up", root, *hosts)
        self._testhost(dict(environment, NSPAWN_ARGS="--bind-ro=%s:/opt/ansible" % packages), "up", root, "control")
        self._furnish(root.parent / "key", archive, installed)
        self.shell("").run("mkdir ~/fleet && cd ~/fleet && mv ~/%s ." % archive.name)

    def close(self):
        for shell in self._shells.values():
            shell.close()
        self._testhost(dict(os.environ, TESTHOST_DIR=str(self.folder)), "down", "--all")

    def shell(self, host):
        if host not in self._shells:
            self._shells[host] = Shell(self, host or "control", "root" if host else "ansible")
        return self._shells[host]

    def write(self, path, text):
        """Writes a file below the folder that the reader works in."""
        status, output = self.shell("").run(
            "mkdir -p \"$(dirname '%s')\" && cat > '%s' <<'--- end of file ---'\n%s--- end of file ---"
            % (path, path, text)
        )
        assert status == 0, output

    def give_microsoft(self, host):
        """Gives a host what Microsoft's agent leaves there: its service, which does nothing, and what it recorded of the files that it
        tracks by default."""
        system = self.folder / host / "root"
        items = []
        for path in sorted((system / "etc").rglob("*.conf")):
            if path.is_file() and not path.is_symlink():
                own = "/" + str(path.relative_to(system))
                items.append(bolt.item(path, FileSystemPath=own, CollectionName=own))
        database = system / "opt/microsoft/changetrackingdata/db/changetracking.db"
        database.parent.mkdir(parents=True)
        bolt.microsoft(database, items)
        unit = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
        (system / "etc/systemd/system/cxp.service").write_text(unit)
        self.shell(host).run("systemctl daemon-reload && systemctl enable --quiet --now cxp.service")

    def _testhost(self, environment, *arguments):
        subprocess.run([str(TESTHOST), *map(str, arguments)], env=environment, check=True)

    def _furnish(self, key, archive, installed):
        """Gives control what an operator's machine has: ansible-core, a key, the archive; and all machines the hosts' names."""
        system = self.folder / "control" / "root"
        (system / "usr/local/lib/python3.11/dist-packages").mkdir(parents=True, exist_ok=True)
        (system / "usr/local/lib/python3.11/dist-packages/ansible.pth").write_text("/opt/ansible\n")
        for name in PROGRAMS:
            module = name.partition("-")[2] or "adhoc"
            self._program(system, name, "ansible.cli.%s" % module)
        self._program(system, "pip", "pip._internal.cli.main")
        if installed:
            collection = system / "usr/share/ansible/collections/ansible_collections/changetracking/inventory"
            collection.mkdir(parents=True)
            with tarfile.open(str(archive)) as opened:
                opened.extractall(str(collection))
            # Python may store there what it compiles, instead of compiling the collection in every process.
            owner = (system / "home/ansible").stat()
            subprocess.run(["chown", "-R", "%d:%d" % (owner.st_uid, owner.st_gid), str(collection)], check=True)
        (system / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink()  # pip is that of a virtual environment
        home = system / "home/ansible"
        for path, text in (
            (home / ".ssh/id_ed25519", key.read_text()),
            (home / ".ssh/config", "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n"),
            (home / archive.name, None),
        ):
            path.write_bytes(archive.read_bytes() if text is None else text.encode())
            path.chmod(0o600)
            owner = home.stat()
            os.chown(str(path), owner.st_uid, owner.st_gid)
        names = "".join("%s %s\n" % (self._address(host), host) for host in self._hosts)
        for host in ("control", *self._hosts):
            with (self.folder / host / "root/etc/hosts").open("a") as file:
                file.write(names)

    def _address(self, host):
        return (self.folder / host / "ssh_config").read_text().split("HostName ")[1].split()[0]

    @staticmethod
    def _program(system, name, module):
        path = system / "usr/local/bin" / name
        path.write_text("#!/usr/bin/python3\nimport sys\nfrom %s import main\nsys.exit(main())\n" % module)
        path.chmod(0o755)


def state_folder():
    folder = Path(os.environ.get("TESTHOST_DIR") or ROOT / ".build/hosts/docs")
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def build(folder):
    """Builds the collection's archive in a folder and returns its path."""
    subprocess.run(
        [str(Path(sys.executable).parent / "ansible-galaxy"), "collection", "build", "--force", "--output-path", str(folder)],
        cwd=str(ROOT), check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return next(iter(Path(folder).glob("*.tar.gz")))
