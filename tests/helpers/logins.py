# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users who log in, and what they run: as PAM does it, a login is written to /proc/self/loginuid, once for a session."""

import contextlib
import pwd
import subprocess
import sys

LOGIN = "import os, sys; open('/proc/self/loginuid', 'w').write(sys.argv[1]); os.execvp(sys.argv[2], sys.argv[2:])"
DAEMON = "import os, sys; os.fork() and os._exit(0); os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])"


@contextlib.contextmanager
def users(*names):
    """Accounts of these names, which are deleted in the end."""
    for name in names:
        subprocess.run(["userdel", name], stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/sh", name], check=True)
    try:
        yield {name: pwd.getpwnam(name).pw_uid for name in names}
    finally:
        for name in names:
            subprocess.run(["userdel", name], check=False)


def logged_in(uid, *command):
    """The command, in a new login session of a user; it stays root, as with sudo."""
    return [sys.executable, "-c", LOGIN, str(uid), *command]


def ways(name, uid, script):
    """How somebody has a script of sh run, each with whether the user logged in for it."""
    return {
        "sudo": logged_in(uid, "sh", "-c", script),
        "su": logged_in(uid, "su", "-s", "/bin/sh", name, "-c", script),
        "setsid": logged_in(uid, "setsid", "--wait", "sh", "-c", script),
        "cron": ["setsid", "--wait", "setpriv", "--reuid", str(uid), "--clear-groups", "sh", "-c", script],
    }
