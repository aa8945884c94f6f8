# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's audit by its own tools, and an auditd of the tests' own."""

import csv
import io
import os
import signal
import subprocess

AUDITD = """\
local_events = yes
write_logs = yes
log_file = %s
log_format = RAW
log_group = root
flush = NONE
freq = 0
num_logs = 2
max_log_file = 512
max_log_file_action = IGNORE
space_left = 1
space_left_action = IGNORE
admin_space_left = 0
admin_space_left_action = IGNORE
disk_full_action = IGNORE
disk_error_action = IGNORE
"""


def auditctl(*arguments):
    done = subprocess.run(
        ["auditctl", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=False
    )
    return done.stdout


def rules():
    """The rules of the kernel as auditctl writes them."""
    return [line for line in auditctl("-l").splitlines() if line.startswith("-")]


class Referee:
    """An auditd with a log of its own."""

    def __init__(self, folder):
        self.log = folder / "audit.log"
        (folder / "auditd.conf").write_text(AUDITD % self.log)
        self._process = subprocess.Popen(["auditd", "-n", "-s", "enable", "-c", str(folder)])
        while "\npid %d\n" % self._process.pid not in auditctl("-s"):
            assert self._process.poll() is None, "auditd has ended"
        auditctl("-b", "8192")

    def events(self):
        """What happened to files, as ausearch tells it: dictionaries."""
        found = subprocess.run(
            ["ausearch", "-if", str(self.log), "-k", "ctagent", "--format", "csv", "--extra-obj2", "--extra-time"],
            stdout=subprocess.PIPE, universal_newlines=True, errors="surrogateescape", check=False,
        )  # fmt: skip
        return list(csv.DictReader(io.StringIO(found.stdout)))

    def about(self, path):
        """The raw records of the events that name a file so, in whichever folder."""
        name = os.fsencode(os.path.basename(path))
        forms = (b'%s"' % name, name.hex().upper().encode())
        found = {}
        for line in self.log.read_bytes().splitlines():
            found.setdefault(line.partition(b"audit(")[2].partition(b")")[0], []).append(line)
        return [line for lines in found.values() if any(form in b"".join(lines) for form in forms) for line in lines]

    def stop(self):
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
