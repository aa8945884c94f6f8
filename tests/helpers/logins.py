# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users who log in, and what runs their scripts: sshd, cron, sudo, su, services and containers. As root.

Where no PAM does it, a login is written to /proc/self/loginuid, as PAM does it, once for a session.
"""

import contextlib
import os
import pwd
import socket
import subprocess
from pathlib import Path
from typing import Callable, List, NamedTuple

from ansible_collections.changetracking.inventory.tests.helpers.program import PATIENCE, wait_for

PYTHON = "/usr/bin/python3"  # every user may run it
NOBODY = 4294967295  # of a process that nobody logged in for
LOGIN = "import os, sys; open('/proc/self/loginuid', 'w').write(sys.argv[1]); os.execvp(sys.argv[2], sys.argv[2:])"
SUDOERS = Path("/etc/sudoers.d/ct-actors")
SSHD = """\
ListenAddress 127.0.0.1:%(port)d
HostKey %(folder)s/host_key
AuthorizedKeysFile %(folder)s/key.pub
PidFile none
StrictModes no
UsePAM yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
MaxStartups 100
Subsystem sftp internal-sftp
"""
# Runs each script that is sent, in the session that it was started in.
WORKER = """\
import socket, subprocess, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen(1)
while True:
    peer = server.accept()[0]
    script = b"".join(iter(lambda: peer.recv(65536), b""))
    subprocess.call(["sh", "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peer.close()
"""
# Lets a worker run a script.
ASK = (
    "import socket, sys; peer = socket.socket(socket.AF_UNIX); peer.connect(sys.argv[1]); peer.sendall(sys.argv[2].encode());"
    " peer.shutdown(socket.SHUT_WR); peer.recv(1)"
)
# Its own cron: without the machine's crontabs, and without the traces of its cron daemon.
CRON = """\
mount -t tmpfs -o mode=755 none /run && mount -t tmpfs -o mode=755 none /etc/cron.d && mount -t tmpfs none /var/spool/cron || exit
mkdir /var/spool/cron/crontabs && : > /run/crontab && mount --bind /run/crontab /etc/crontab || exit
for name; do
  echo "@reboot $PYTHON $FOLDER/worker.py $FOLDER/cron/$name" > /var/spool/cron/crontabs/$name
  chown $name:crontab /var/spool/cron/crontabs/$name
  chmod 600 /var/spool/cron/crontabs/$name
done
exec cron -f
"""


@contextlib.contextmanager
def users(*names):
    """Accounts of these names, which may use sudo, and are deleted in the end."""
    for name in names:
        subprocess.run(["userdel", "--force", name], stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/sh", name], check=True)
    SUDOERS.write_text("".join("%s ALL=(ALL:ALL) NOPASSWD: ALL\n" % name for name in names))
    SUDOERS.chmod(0o440)
    try:
        yield {name: pwd.getpwnam(name).pw_uid for name in names}
    finally:
        SUDOERS.unlink()
        for name in names:
            subprocess.run(["userdel", "--force", name], stderr=subprocess.DEVNULL, check=False)


def logged_in(uid, *command):
    """The command, in a new login session of a user; it stays root, as with sudo."""
    return [PYTHON, "-c", LOGIN, str(uid), *command]


def as_user(uid, *command):
    """The command as a user, from root."""
    return ["setpriv", "--reuid", str(uid), "--regid", str(pwd.getpwuid(uid).pw_gid), "--init-groups", *command]


class Sshd:
    """Debian's sshd with PAM on the loopback interface; every user has the one key."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        for name in ("host_key", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        os.makedirs("/run/sshd", 0o755, exist_ok=True)
        (folder / "sshd.conf").write_text(SSHD % {"folder": folder, "port": self.port})
        self._process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", str(folder / "sshd.conf")])
        wait_for(lambda: self._answers() or self._process.poll() is not None)

    def _answers(self):
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def options(self):
        words = ["-F", "none", "-i", str(self.folder / "key"), "-p", str(self.port)]
        for option in (
            "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "LogLevel=ERROR", "ControlMaster=auto",
            "ControlPersist=5", "ControlPath=%s/%%r" % self.folder,
        ):  # fmt: skip
            words += ["-o", option]
        return words

    def command(self, name, script):
        """The script in a session of a user: a new one, unless one is open."""
        return ["ssh", *self.options, "%s@127.0.0.1" % name, script]

    def stop(self):
        for path in filter(Path.is_socket, self.folder.iterdir()):  # connections that are still open
            command = ["ssh", "-F", "none", "-o", "ControlPath=%s" % path, "-O", "exit", "nobody@127.0.0.1"]
            subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
        self._process.terminate()
        self._process.wait(PATIENCE)


class Cron:
    """Debian's cron daemon with PAM. It starts a worker for each user."""

    def __init__(self, folder, names):
        self._folder = folder
        (folder / "worker.py").write_text(WORKER)
        (folder / "cron").mkdir(0o777)
        (folder / "cron").chmod(0o777)
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", CRON, "cron", *names],
            env={"PATH": os.environ["PATH"], "PYTHON": PYTHON, "FOLDER": str(folder)},
        )
        wait_for(lambda: all((folder / "cron" / name).exists() for name in names) or self._process.poll() is not None)

    def command(self, name, script):
        """The script in the session of the user's job."""
        return [PYTHON, "-c", ASK, str(self._folder / "cron" / name), script]

    def stop(self):
        self._process.kill()
        self._process.wait(PATIENCE)


class Way(NamedTuple):
    """How somebody has a script of sh run."""

    command: Callable[[str], List[str]]
    has_session: bool = True  # whether somebody logged in for it


def ways(sshd, cron, cgroup, name, uid, other, folder):
    """By their names. `other`: another user. `cgroup`: of services. `folder`: where the files are that scripts change."""

    def user(*command):
        return logged_in(uid, *as_user(uid, *command))

    def service(*command):
        script = 'echo 0 > "$0/cgroup.procs" && exec "$@"'
        return logged_in(NOBODY, "sh", "-c", script, str(cgroup), "setsid", "--wait", *as_user(uid, *command))

    def mounted(script):
        """In another mount namespace, where the folder is at /mnt."""
        inside = script.replace(str(folder), "/mnt")
        return ["sh", "-c", 'mount --bind "$0" /mnt && exec sh -c "$1"', str(folder), inside]

    namespaces = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--mount-proc"]
    rootless = [*namespaces, "--map-root-user"]
    return {
        "sudo": Way(lambda script: user("sudo", "-n", "sh", "-c", script)),
        "sudo su": Way(lambda script: user("sudo", "-n", "su", "-s", "/bin/sh", other, "-c", script)),
        "su": Way(lambda script: logged_in(uid, "su", "-s", "/bin/sh", name, "-c", script)),
        "setsid": Way(lambda script: user("setsid", "--wait", "sh", "-c", script)),
        "ssh": Way(lambda script: sshd.command(name, script)),
        "ssh, sudo": Way(lambda script: sshd.command(name, "sudo -n sh -c '%s'" % script.replace("'", "'\\''"))),
        "cron": Way(lambda script: cron.command(name, script)),
        "service": Way(lambda script: service("sh", "-c", script), has_session=False),
        "service, forged login": Way(
            lambda script: service(*logged_in(pwd.getpwnam(other).pw_uid, "sh", "-c", script)), has_session=False
        ),
        "sudo, container": Way(lambda script: user("sudo", "-n", *namespaces, *mounted(script))),
        "container of a user": Way(lambda script: user(*rootless, *mounted(script))),
        "container, service": Way(lambda script: service(*rootless, *mounted(script)), has_session=False),
    }
