# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A relay for as long as a playbook runs, and what it received.

`demo_relay.py start PID FOLDER RELAY` runs it until the process PID ends, whatever ends that, and returns once it is
ready. Prints, as JSON, the pid to end it earlier by, and the folder of its sockets, whose paths may have 107 bytes at
most wherever FOLDER is. It takes config chunks from FOLDER/chunks, fills FOLDER/relay.db and logs to FOLDER/relay.log.
`demo_relay.py show FOLDER COUNT` waits until the tables hold COUNT records, and tells of them.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time

PATIENCE_SECONDS = 30
LONGEST_SECONDS = 600  # in case nobody notices that PID has ended
PR_SET_PDEATHSIG = 1  # prctl(2)
QUERIES = (
    "SELECT 'ConfigurationData:', count(*), ConfigDataType FROM ConfigurationData GROUP BY ConfigDataType",
    "SELECT 'ConfigurationChange:', ConfigChangeType, ChangeCategory, coalesce(FileSystemPath, SvcName, SoftwareName),"
    " FieldsChanged FROM ConfigurationChange ORDER BY 2, 4",
)


def start(pid, folder, relay):
    sockets = tempfile.mkdtemp(prefix="ct-demo-", dir="/tmp")
    manager = os.path.join(sockets, "ready")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(manager)
        ready.settimeout(PATIENCE_SECONDS)
        watcher = os.fork()
        if watcher == 0:
            watch(pid, folder, relay, sockets, manager)
            os._exit(0)
        if ready.recv(100) != b"READY=1":
            with open(os.path.join(folder, "relay.log"), encoding="utf-8") as log:
                sys.exit("The relay did not start: " + log.read())
    print(json.dumps({"pid": watcher, "sockets": sockets}))


def watch(pid, folder, relay, sockets, manager):
    os.setsid()
    signal.signal(signal.SIGTERM, lambda *_signal: sys.exit())
    command = [sys.executable, relay, "run", "--sockets", sockets, "--interval", "0.1"]
    command += ["--chunks", "chunks", "--events", "events", "--upload", "sqlite:relay.db"]
    try:
        with open(os.path.join(folder, "relay.log"), "wb") as log, open(os.devnull, "r+b") as null:
            for descriptor in range(3):
                os.dup2(null.fileno(), descriptor)
            environment = dict(os.environ, NOTIFY_SOCKET=manager)
            process = subprocess.Popen(command, cwd=folder, stderr=log, env=environment, preexec_fn=end_with_parent)
        deadline = time.monotonic() + LONGEST_SECONDS
        with contextlib.suppress(SystemExit):
            while process.poll() is None and os.path.exists("/proc/" + pid) and time.monotonic() < deadline:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)
        process.terminate()
        process.wait()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as answer, contextlib.suppress(OSError):
            answer.sendto(b"it has ended", manager)  # heard only while start() waits
    finally:
        shutil.rmtree(sockets)


def end_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def show(folder, count):
    deadline = time.monotonic() + PATIENCE_SECONDS
    with sqlite3.connect(os.path.join(folder, "relay.db")) as database:
        while arrived(database) < int(count):
            if time.monotonic() > deadline:
                sys.exit("Only %d of %s records arrived; see %s/relay.log." % (arrived(database), count, folder))
            time.sleep(0.1)
        for query in QUERIES:
            for row in database.execute(query):
                print(*filter(None, row))


def arrived(database):
    (counts,) = database.execute(
        "SELECT (SELECT count(*) FROM ConfigurationData) + (SELECT count(*) FROM ConfigurationChange)"
    )
    return counts[0]


if __name__ == "__main__":
    {"start": start, "show": show}[sys.argv[1]](*sys.argv[2:])
