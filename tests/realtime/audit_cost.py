# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What it costs to know who made a change: audit_cost.py

Measures open, write and close of a file in a tracked folder, and in another one: with the option `who` off, read and rules, and with a
rule of auditd alone. On this very machine, as root, because the kernel audits no container: sets audit rules for some seconds,
and leaves audit as it was found. Prints the median, and the mean CPU time, in microseconds.
"""

import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from booted import ROOT, rule

TIMES = 3000
COLUMNS = "%-46s %12s %12s %12s %12s"


def auditctl(*arguments):
    done = subprocess.run(["auditctl", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.stdout.decode()


def write(folder):
    """(median, mean CPU time) of one open, write and close, in microseconds."""
    path, seconds = str(folder / "file"), []
    cpu = time.process_time()
    for number in range(TIMES):
        start = time.perf_counter()
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(file, b"%d\n" % number)
        os.close(file)
        seconds.append(time.perf_counter() - start)
    return 1e6 * statistics.median(seconds), 1e6 * (time.process_time() - cpu) / TIMES


@contextlib.contextmanager
def agent(folder, tracked, who):
    """The agent, from the end of its first run of files on."""
    (folder / "dcr.json").write_text(json.dumps(rule(900, str(tracked))))
    command = [sys.executable, str(folder / "agent.pyz"), "run", "--state", str(folder / who), "--config-address", "",
               "--address", str(folder / "nobody"), "--chunks", "", "--dcr", str(folder / "dcr.json"), "--jitter", "0",
               "--config", "", "--who", who]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, universal_newlines=True)
    try:
        for line in process.stderr:
            if "Number of File received in this run" in line:
                break
        yield
    finally:
        process.terminate()
        process.communicate()


@contextlib.contextmanager
def audit_rule(folder, key):
    auditctl("-w", str(folder), "-p", "wa", "-k", key)
    try:
        yield
    finally:
        auditctl("-W", str(folder), "-p", "wa", "-k", key)


@contextlib.contextmanager
def auditd(folder):
    """An auditd with a log of its own."""
    options = [
        "write_logs = yes",
        "log_format = RAW",
        "flush = NONE",
        "freq = 0",
        "log_file = %s" % (folder / "audit.log"),
    ]
    options += ["num_logs = 2", "max_log_file = 512", "space_left = 1", "admin_space_left = 0"]
    options += [
        "%s_action = IGNORE" % name
        for name in ("max_log_file", "space_left", "admin_space_left", "disk_full", "disk_error")
    ]
    (folder / "auditd.conf").write_text("\n".join(options) + "\n")
    process = subprocess.Popen(["auditd", "-n", "-s", "enable", "-c", str(folder)])
    try:
        while "\npid %d\n" % process.pid not in auditctl("-s"):
            assert process.poll() is None, "auditd has ended"
            time.sleep(0.05)
        auditctl("-b", "8192")
        yield
    finally:
        process.terminate()
        process.wait()


def main():
    found = dict(re.findall(r"^(enabled|backlog_limit) (\d+)", auditctl("-s"), re.MULTILINE))
    if "No rules" not in auditctl("-l"):
        raise SystemExit("There are audit rules on this machine already. Run this where there are none.")
    with tempfile.TemporaryDirectory(prefix="audit-cost") as scratch:
        folder = Path(scratch)
        tracked, other = folder / "tracked", folder / "other"
        for path in (tracked, other):
            path.mkdir()
        program = [sys.executable, str(ROOT / "plugins/plugin_utils/_zipapp.py"), "agent", str(folder / "agent.pyz")]
        subprocess.run(program, check=True)

        def show(what):
            print(
                COLUMNS % (what, *("%.1f" % figure for path in (tracked, other) for figure in write(path))), flush=True
            )

        print(COLUMNS % ("", "tracked", "CPU", "elsewhere", "CPU"))
        try:
            show("no agent, no audit")
            with agent(folder, tracked, "off"):
                show("who: off")
            auditctl("-e", "1")
            with agent(folder, tracked, "rules"):
                show("who: rules, without auditd")
            with auditd(folder):
                show("auditd without a rule")
                with audit_rule(tracked, "measured"):
                    show("auditd with a rule")
                    with agent(folder, tracked, "read"):
                        show("auditd with a rule, who: read")
                with agent(folder, tracked, "rules"):
                    show("auditd without a rule, who: rules")
        finally:
            auditctl("-D")
            auditctl("-e", found["enabled"])
            auditctl("-b", found["backlog_limit"])


if __name__ == "__main__":
    main()
