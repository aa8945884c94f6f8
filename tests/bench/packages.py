# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages: beside dpkg-query, rpm, package_facts, and ping, the least that any module costs."""

import re
import sqlite3
import subprocess

from core import payload, python

DEBIAN_PACKAGES = ("dpkg", "python3-apt", "rpm")
RPM_PACKAGES = 2000
SPEC = """
Name: bench
Version: 1
Release: 1
Summary: A package of a usual size
License: none
BuildArch: noarch
%description
A package of a usual size.
%install
mkdir -p %{buildroot}/usr/share/bench
for number in $(seq 100); do echo $number > %{buildroot}/usr/share/bench/file$number; done
%files
/usr/share/bench
"""
FIELDS = ("Package", "Description", "Maintainer", "Installed-Size", "Version", "db:Status-Status", "Architecture")
RPM_FIELDS = ("NAME", "SUMMARY", "PACKAGER", "INSTALLTIME", "SIZE", "EPOCH", "VERSION", "RELEASE", "ARCH")
MODULE = "changetracking.inventory.ct_package_facts"
FLOOR = (
    "Python compiles what a module imports anew on every run, some 7 ms for the library, though nothing is loaded that the host has "
    "no use for; and to write 700 packages with 8 fields as JSON takes 4 ms, which the row of one package does without."
)

RPM = (
    "Some 12 ms are the interpreter's start. Each header and text is checked and bounded, and a damaged header costs only its own package: "
    "that is a tenth of the rest."
)


def rows(bench):
    query = ["dpkg-query", "-W", "-f", "; ".join("${%s}" % field for field in FIELDS) + "\\n"]
    ours = python("timed.py", "packages")
    yield bench.compare(
        "dpkg collector with install times, inside a process / dpkg-query -W, 7 fields",
        0.6,
        lambda: bench.seconds(ours),
        lambda: bench.measure(query),
    )
    yield from _modules(bench)
    yield _rpm(bench)
    yield bench.growth(
        "dpkg collector, a package", (500, 5000, 50000), lambda amount: (_dpkg_of(bench, amount), amount)
    )


def _modules(bench):
    module, ping, facts = payload(bench, MODULE), payload(bench, "ping"), payload(bench, "package_facts")
    one = payload(bench, MODULE, "name=dpkg")
    yield bench.compare(
        "package module / package_facts, CPU",
        1 / 4,
        lambda: bench.measure(module),
        lambda: bench.measure(facts),
        by="cpu",
    )
    for what, command, note in (
        ("package module / ping module, CPU", module, FLOOR),
        ("package module with `name: dpkg` / ping module, CPU", one, FLOOR),
    ):
        yield bench.compare(
            what, 1.12, lambda command=command: bench.measure(command), lambda: bench.measure(ping), by="cpu",
            runs=3 * bench.runs, note=note,
        )  # fmt: skip
    floor = bench.memory(ping)
    ours, theirs = bench.memory(module) - floor, bench.memory(facts) - floor
    row = bench.row(
        "package module's memory above ping's / that of package_facts", 1, ours, theirs, ours / theirs, "MiB"
    )
    yield row._replace(target="6 MiB", verdict="met" if ours <= 6 << 20 else "NOT MET")


def _rpm(bench):
    """On a database that rpm made: one package of a usual size, as often as makes a host's worth, which rpm does not mind."""
    root, build = bench.folder / "rpm", bench.folder / "rpmbuild"
    database = root / "var/lib/rpm"
    database.mkdir(parents=True)
    build.mkdir()
    (build / "bench.spec").write_text(SPEC)
    subprocess.run(
        ["rpmbuild", "-bb", "--quiet", "--define", "_topdir %s" % build, str(build / "bench.spec")],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    built = next(build.glob("RPMS/*/*.rpm"))
    subprocess.run(
        ["rpm", "--dbpath", str(database), "-i", "--justdb", "--nodeps", "--ignorearch", str(built)],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    with sqlite3.connect(database / "rpmdb.sqlite") as connection:
        connection.executemany(
            "INSERT INTO Packages (blob) SELECT blob FROM Packages LIMIT 1", [()] * (RPM_PACKAGES - 1)
        )
    connection.close()
    query = [
        "rpm",
        "--dbpath",
        str(database),
        "-qa",
        "--queryformat",
        "; ".join("%%{%s}" % field for field in RPM_FIELDS) + "\\n",
    ]
    ours = python("timed.py", "once", "rpm", root)
    return bench.compare(
        "rpm collector / rpm -qa, sqlite, %d packages of 100 files" % RPM_PACKAGES,
        0.5,
        lambda: bench.measure(ours),
        lambda: bench.measure(query),
        note=RPM,
    )


def _dpkg_of(bench, amount):
    """Seconds that the collector takes with this host's packages, repeated under other names up to that amount."""
    root = bench.folder / ("dpkg%d" % amount)
    info = root / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    with open("/var/lib/dpkg/status", encoding="utf-8") as file:
        stanzas = file.read().rstrip("\n").split("\n\n")
    written = []
    for number in range(amount):
        stanza, name = stanzas[number % len(stanzas)], "package%d" % number
        written.append(
            re.sub("^Multi-Arch: same\n", "", re.sub("^Package: .*", "Package: " + name, stanza), flags=re.M)
        )
        (info / (name + ".list")).touch()
    (root / "var/lib/dpkg/status").write_text("\n\n".join(written) + "\n\n", encoding="utf-8")
    return bench.seconds(python("timed.py", "packages", root)).wall
