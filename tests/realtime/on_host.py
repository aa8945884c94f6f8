# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs as root on the host: makes changes, and waits for their records in the JSON lines that the relay writes.

on_host.py latency WHAT FIRST COUNT   prints, as JSON, the seconds from the end of each change to its record (null: not within a minute)
on_host.py packages COUNT             makes small packages for it, in /opt/realtime
on_host.py writes RATE FOLDER         writes so many files a second until its standard input ends
on_host.py transactions               installs and removes packages until its standard input ends
"""

import glob
import json
import os
import random
import select
import shutil
import subprocess
import sys
import time

ROWS = "/var/lib/ctrelay/rows/*CHANGE*.jsonl"
PLACE = "/opt/realtime"
TRACKED = "/srv/measured"
BUSY = "/srv/measured/busy"
UNITS = "/etc/systemd/system"
PATIENCE = 60.0  # seconds
LOOP = 20  # packages that are installed and removed all the time
IS_RPM = os.path.isdir("/var/lib/rpm") and shutil.which("rpm") and not os.path.exists("/var/lib/dpkg/status")


class Records:
    """The change records that the relay writes."""

    def __init__(self):
        self._places = {path: os.path.getsize(path) for path in glob.glob(ROWS)}
        self._rest = {}

    def new(self):
        for path in glob.glob(ROWS):
            place = self._places.get(path, 0)
            if os.path.getsize(path) > place:
                with open(path, "rb") as file:
                    file.seek(place)
                    data = self._rest.get(path, b"") + file.read()
                    self._places[path] = file.tell()
                *lines, self._rest[path] = data.split(b"\n")
                for line in lines:
                    yield json.loads(line.decode())["record"]

    def wait(self, wanted):
        """The time at which the first record that is wanted was there; None: not soon enough."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if [True for record in self.new() if wanted(record)]:
                return time.time()
            time.sleep(0.002)
        return None


def call(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def change_file(number):
    """A new file, or a new text of the last one."""
    path = "%s/quiet/%d" % (TRACKED, number // 2)
    with open(path, "w") as file:
        file.write("text %d\n" % number)
    return lambda record: record.get("FileSystemPath") == path


def change_package(number):
    """Installed, or removed."""
    name = "measured-%d" % (number // 2)
    category = "Removed" if number % 2 else "Added"
    if IS_RPM:
        call("rpm", "--erase", name) if number % 2 else call("rpm", "--install", package(name))
    else:
        call("dpkg", "--purge", name) if number % 2 else call("dpkg", "--install", package(name))
    return lambda record: record.get("SoftwareName") == name and record["ChangeCategory"] == category


def change_service(number):
    """A new unit file, or a service that starts."""
    name = "measured-%d" % (number // 2)
    if number % 2:
        call("systemctl", "start", name)
        return lambda record: record.get("SvcName") == name and record.get("SvcState") == "Running"
    with open("%s/%s.service" % (UNITS, name), "w") as file:
        file.write("[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n")
    call("systemctl", "daemon-reload")
    return lambda record: record.get("SvcName") == name and record["ChangeCategory"] == "Added"


def latency(what, first, count):
    change = {"file": change_file, "package": change_package, "service": change_service}[what]
    records, dice, out = Records(), random.Random(first), []
    for number in range(first, first + count):
        time.sleep(dice.uniform(1, 3))
        wanted = change(number)
        made = time.time()
        seen = records.wait(wanted)
        out.append(seen and seen - made)
    return out


def package(name):
    return glob.glob("%s/%s[_-]1*" % (PLACE, name))[0]


def make_packages(count):
    names = ["measured-%d" % number for number in range(count)] + ["loop-%d" % number for number in range(LOOP)]
    if IS_RPM:
        with open(PLACE + "/measured.spec", "w") as spec:
            spec.write(
                "Name: all\nVersion: 1\nRelease: 1\nSummary: s\nLicense: MIT\nBuildArch: noarch\n%description\ns\n"
            )
            for name in names:
                spec.write("%%package -n %s\nSummary: s\n%%description -n %s\ns\n%%files -n %s\n" % (name, name, name))
        call("rpmbuild", "-bb", "-D", "_rpmdir " + PLACE, "-D", "_rpmfilename %%{NAME}-1.rpm", PLACE + "/measured.spec")
        return
    for name in names:
        os.makedirs("/tmp/deb/DEBIAN", exist_ok=True)
        with open("/tmp/deb/DEBIAN/control", "w") as control:
            control.write("Package: %s\nVersion: 1\nArchitecture: all\nMaintainer: Me <me@example.org>\n" % name)
            control.write("Description: measured\n")
        call("dpkg-deb", "--build", "/tmp/deb", "%s/%s_1.deb" % (PLACE, name))


def is_asked_to_end(seconds):
    return bool(select.select([sys.stdin], [], [], max(0.0, seconds))[0])


def write_all_the_time(rate, folder):
    """So many open-write-close a second, of 500 files in turn."""
    started = time.monotonic()
    number = 0
    while not is_asked_to_end(started + number / rate - time.monotonic()):
        for _write in range(max(1, rate // 100)):
            with open("%s/%d" % (folder, number % 500), "w") as file:
                file.write("%d\n" % number)
            number += 1
    return number / (time.monotonic() - started)


def install_all_the_time():
    number = 0
    while not is_asked_to_end(0):
        name = "loop-%d" % (number // 2 % LOOP)
        if IS_RPM:
            call("rpm", "--erase", name) if number % 2 else call("rpm", "--install", package(name))
        else:
            call("dpkg", "--purge", name) if number % 2 else call("dpkg", "--install", package(name))
        number += 1
    return number


def main(what, *arguments):
    if what == "latency":
        return latency(arguments[0], int(arguments[1]), int(arguments[2]))
    if what == "packages":
        return make_packages(int(arguments[0]))
    if what == "writes":
        return write_all_the_time(int(arguments[0]), arguments[1])
    return install_all_the_time()


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
