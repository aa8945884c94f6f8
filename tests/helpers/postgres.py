# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL server for tests, in a temporary folder, as a user of its own, without TCP and without a root service."""

import glob
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile

USERS = ("postgres", "nobody")
MEMORY = "/dev/shm"  # a database has some 300 files, and each test has one
QUICK = "-c fsync=off -c full_page_writes=off -c listen_addresses='' -c max_connections=50"


def missing():
    """Why there can be no server; empty if there can."""
    try:
        import psycopg
    except ImportError:
        return "the Python package psycopg is not installed"
    return "" if psycopg and _programs() else "PostgreSQL is not installed"


def _programs():
    return sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1:]


class Server:
    """A running server. `restart(fast=False)` ends its sessions as a crash does."""

    def __init__(self, options=QUICK):
        self.folder = tempfile.mkdtemp(prefix="pg", dir=MEMORY if _room(MEMORY) > 2 << 30 else None)
        self._options = "%s -k %s" % (options, self.folder)
        self._user = next(name for name in USERS if _exists(name)) if os.geteuid() == 0 else ""
        if self._user:
            shutil.chown(self.folder, self._user)
        self._numbers = itertools.count()
        self._run("initdb", "-A", "trust", "-U", "tester", "-E", "UTF8", "--locale=C", "-N", "-D", self._data)
        self.start()

    @property
    def _data(self):
        return os.path.join(self.folder, "data")

    def database(self):
        """The URL of a new, empty database."""
        import psycopg

        name = "fleet%d" % next(self._numbers)
        with psycopg.connect(self.url("postgres"), autocommit=True) as db:
            db.execute("CREATE DATABASE " + name)
        return self.url(name)

    def url(self, database):
        return "postgresql://tester@/%s?host=%s" % (database, self.folder)

    def start(self):
        log = os.path.join(self.folder, "log")
        self._run("pg_ctl", "-D", self._data, "-l", log, "-w", "-o", self._options, "start")

    def stop(self, mode="immediate"):
        self._run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def close(self):
        self.stop("fast")  # which leaves nothing in shared memory
        shutil.rmtree(self.folder)

    def _run(self, program, *arguments):
        command = [os.path.join(_programs()[0], program), *arguments]
        if self._user:
            command = [
                "setpriv",
                "--reuid",
                self._user,
                "--regid",
                str(pwd.getpwnam(self._user).pw_gid),
                "--clear-groups",
                *command,
            ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")


def _room(folder):
    """Bytes that are free there."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def _exists(name):
    try:
        return bool(pwd.getpwnam(name))
    except KeyError:
        return False
