# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""File scans: beside sha256sum, AIDE, and find."""

import os
import shutil
import subprocess
from pathlib import Path

from core import python, shell

DEBIAN_PACKAGES = ("aide", "findutils", "coreutils", "util-linux")
SIZE = 4096  # bytes of a file
A_FOLDER = 100  # files
AIDE = """database_in=file:{work}/aide.db
database_out=file:{work}/aide.db.new
gzip_dbout=no
report_url=file:{work}/report
log_level=error
"""
SUMS = 'find "$@" -type f -print0 | xargs -0 sha256sum'
RUNS = 3  # of what takes many seconds each
FIRST = (
    "One file costs us at least its open, read, SHA-256 and close, the status before and after, and the birth time: the row "
    "of the bare loop. What comes on top is the item and the directory it is in; what is stored, is packed as well. "
    "A first scan reads small files on up to four CPUs; find and sha256sum, and the bare loop, use one."
)
INIT = FIRST + " AIDE computes checksums on all CPUs."
COLD = "The caches are dropped before each run. The single reader is the same scan with one CPU."
MILLION = "Empty files with names of 63 bytes."
NEWER = (
    "The interpreter's start and its imports are 35 to 40 ms of ours, and beside the status of each file, which is all that find asks for, "
    "there are a digest and a row of every directory, which is opened below its parent and within its file system."
)
CHECK = "AIDE reads every file again; we only those whose status changed."


def rows(bench):
    tree = bench.folder / "tree"
    amounts = (1000, 10000, 100000, 500000)
    first, again, memory = {}, {}, {}
    for amount in amounts:
        _grow(tree, max(first, default=0), amount)
        work = bench.folder / ("files%d" % amount)
        work.mkdir()
        if amount == 100000:
            yield from _scans(bench, [tree], "%d files of 4 KiB" % amount, work, sums=0.4, init=1 / 4)
            yield _cold(bench, tree)
        state = work / "state.db"
        scan = python("scan.py", state, tree)
        first[amount] = bench.measure(scan).wall
        bench.measure(scan)
        again[amount] = min(bench.measure(scan).wall for _run in range(3))
        if amount == amounts[-1]:
            yield _newer(bench, scan, [tree], "%d files of 4 KiB" % amount, state)
        memory[amount] = bench.memory(scan)
    shutil.rmtree(tree)
    work = bench.folder / "system"
    work.mkdir()
    yield from _scans(bench, ["/etc", "/usr/share"], "/etc and /usr/share", work)
    row = bench.row(
        "second scan, memory at 500,000 files / at 10,000", 2, memory[500000], memory[10000],
        memory[500000] / memory[10000], "MiB",
    )  # fmt: skip
    yield row._replace(target="25 MiB", verdict="met" if max(memory.values()) <= 25 << 20 else "NOT MET")
    yield from _million(bench)
    yield bench.growth("first scan, a file", amounts[1:], lambda amount: (first[amount], amount))
    yield bench.growth("second scan, nothing changed, a file", amounts[1:], lambda amount: (again[amount], amount))


def _grow(tree, there, amount):
    for number in range(there, amount):
        folder = tree / ("%04d" % (number // A_FOLDER))
        if number % A_FOLDER == 0:
            folder.mkdir(parents=True)
        line = b"%d\n" % number
        (folder / ("f%d.conf" % number)).write_bytes(line * (SIZE // len(line)))
    # Files younger than two seconds are read again by the next scan, whatever their dates say.
    subprocess.run(["find", tree, "-exec", "touch", "-d", "2020-01-01", "{}", "+"], check=True)


def _cold(bench, tree):
    scan = python("scan.py", "-", tree)

    def dropped(command):
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
        return bench.measure(command)

    return bench.compare(
        "first scan, cold cache / single reader, cold cache", 0.6,
        lambda: dropped(scan), lambda: dropped(["taskset", "-c", "0", *scan]), runs=RUNS, note=COLD,
    )  # fmt: skip


def _million(bench):
    folder = bench.folder / "million"
    folder.mkdir()
    for number in range(1000000):
        os.close(os.open("%s/%063d" % (folder, number), os.O_CREAT | os.O_WRONLY))
    scan = python("scan.py", bench.folder / "million.db", folder)
    memory = {which: bench.memory(scan) for which in ("first", "second")}
    shutil.rmtree(folder)
    for which, peak in memory.items():
        row = bench.row(
            "%s scan, memory at 1,000,000 files in one folder" % which, 64 << 20, peak, 0, peak, "MiB", note=MILLION
        )
        yield row._replace(peer="", ratio="", target="64 MiB")


def _scans(bench, folders, scanned, work, sums=0.55, init=1 / 3):
    config, state = work / "aide.conf", work / "scan.db"
    config.write_text(
        AIDE.format(work=work) + "".join("%s p+u+g+s+m+c+i+ftype+sha256\n" % folder for folder in folders)
    )
    unstored, stored = python("scan.py", "-", *folders), python("scan.py", state, *folders)
    check = shell('aide --check --config "$1" || [ $? -le 7 ]', config)

    def first():
        state.unlink(missing_ok=True)
        return bench.measure(stored)

    yield bench.compare(
        "first scan, nothing stored, %s / find, xargs sha256sum" % scanned, sums,
        lambda: bench.measure(unstored), lambda: bench.measure(shell(SUMS, *folders)), note=FIRST,
    )  # fmt: skip
    yield bench.compare(
        "first scan, stored, %s / AIDE init" % scanned, init,
        first, lambda: bench.measure(["aide", "--init", "--config", str(config)]), runs=RUNS, note=INIT,
    )  # fmt: skip
    bare = python("scan.py", "bare", *folders)
    yield bench.compare(
        "a bare loop of the calls a file needs, %s / find, xargs sha256sum" % scanned, None,
        lambda: bench.measure(bare), lambda: bench.measure(shell(SUMS, *folders)), note=FIRST,
    )  # fmt: skip
    os.rename(work / "aide.db.new", work / "aide.db")
    first()
    bench.measure(stored)
    yield bench.compare(
        "second scan, nothing changed, %s / AIDE check" % scanned, 1 / 45,
        lambda: bench.measure(stored), lambda: bench.measure(check), runs=RUNS, note=CHECK,
    )  # fmt: skip
    yield _newer(bench, stored, folders, scanned, config)


def _newer(bench, scan, folders, scanned, mark):
    newer = ["find", *map(str, folders), "-newer", str(mark)]
    return bench.compare(
        "second scan, nothing changed, %s / find -newer" % scanned, 2.0,
        lambda: bench.measure(scan), lambda: bench.measure(newer), note=NEWER,
    )  # fmt: skip
