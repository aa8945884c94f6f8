# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measuring and comparing: what every subject of the bench uses, and the one table that comes of it.

A subject is a module beside this one with a function `rows(bench)` that yields rows, and with DEBIAN_PACKAGES, the peers
it needs. A row comes from `Bench.compare`, `Bench.growth`, or is a Row of one's own.
"""

import os
import shlex
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests/bench"
COLLECTIONS = Path(os.environ["ANSIBLE_COLLECTIONS_PATH"])
SYSTEM_PYTHON = "/usr/bin/python3"  # the one that has python3-apt, which package_facts needs
UNITS = {"ms": 1e3, "s": 1, "µs": 1e6, "MiB": 1 / (1 << 20)}  # what a second, or a byte, is multiplied with
SPREAD = 1.5  # a piece may cost so much more at the greatest amount than at the least, which no longer fits the caches


class Cost(NamedTuple):
    """Of one run."""

    wall: float  # seconds
    cpu: float  # seconds, of the process and all it waited for


class Row(NamedTuple):
    what: str
    ours: str = ""
    peer: str = ""
    ratio: str = ""
    cpu: str = ""  # the ratio of CPU times, where both are known and the ratio is another one's
    target: str = ""
    verdict: str = ""  # met, NOT MET, or empty where there is no target
    note: str = ""


class Bench:
    """The machine's measurements. `runs` pairs of each comparison, after one that is thrown away."""

    def __init__(self, runs):
        self.runs = runs
        self._folder = tempfile.TemporaryDirectory(prefix="ct-bench-")
        self.folder = Path(self._folder.name)
        self.environment = dict(os.environ, LC_ALL="C.UTF-8", PYTHONPYCACHEPREFIX=str(self.folder / "pycache"))
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self._folder.cleanup()

    def measure(self, command, **options):
        """The cost of one run of a command, which must succeed; what it prints is thrown away."""
        options.setdefault("env", self.environment)
        options.setdefault("stdin", subprocess.DEVNULL)
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **options)
        _pid, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        return Cost(wall, usage.ru_utime + usage.ru_stime)

    def memory(self, command):
        """The most memory a command had in RAM, in bytes. By time(1): a child of ours would begin with our own size."""
        report = self.folder / "memory"
        self.measure(["/usr/bin/time", "-f", "%M", "-o", str(report), *command])
        return int(report.read_text()) * 1024

    def output(self, command, **options):
        options.setdefault("env", self.environment)
        return subprocess.run(command, stdout=subprocess.PIPE, check=True, **options).stdout.decode()

    def seconds(self, command, **options):
        """The cost that a command measured itself, and printed."""
        wall = float(self.output(command, **options))
        return Cost(wall, wall)

    def compare(self, what, target, ours, peer, *, by="wall", unit="ms", runs=0, note=""):
        """A row; `ours` and `peer` are functions that run once and give a Cost, in turn.

        target: the limit of the ratio, or None where it is only told. by: the field of Cost that counts.
        """
        pairs = [(ours(), peer()) for _run in range((runs or self.runs) + 1)][1:]
        row = self.of_pairs(what, target, pairs, by, unit, note)
        whole = by == "wall" and all(cost.cpu != cost.wall for pair in pairs for cost in pair)
        return row._replace(cpu="%.3f" % _ratio(pairs, "cpu")) if whole else row

    def of_pairs(self, what, target, pairs, by, unit, note=""):
        """A row of pairs (ours, the peer's) of Cost that are measured already."""
        mine, theirs = (statistics.median(getattr(cost, by) for cost in costs) for costs in zip(*pairs))
        return self.row(what, target, mine, theirs, _ratio(pairs, by), unit, note)

    def row(self, what, target, ours, peer, ratio, unit, note=""):
        """Of figures that are measured already."""
        told = "%%.%df %s" % (1 if UNITS[unit] * max(ours, peer) < 1000 else 0, unit)
        verdict = "" if target is None else "met" if ratio <= target else "NOT MET"
        return Row(
            what, told % (ours * UNITS[unit]), told % (peer * UNITS[unit]), "%.3f" % ratio, "", limit(target), verdict, note
        )  # fmt: skip

    def growth(self, what, amounts, cost, unit="µs", note=""):
        """A row that says what each piece costs at every amount; `cost(amount)` gives (seconds, pieces)."""
        each = [seconds / pieces for seconds, pieces in map(cost, amounts)]
        ratio = each[-1] / each[0]
        sizes = " / ".join("{:,}".format(amount) for amount in amounts)
        figures = " / ".join("%.2f" % (value * UNITS[unit]) for value in each)
        verdict = "met" if ratio <= SPREAD else "NOT MET"
        return Row(
            "%s, at %s" % (what, sizes), "%s %s each" % (figures, unit), "", "%.3f" % ratio, "", limit(SPREAD), verdict, note
        )  # fmt: skip

    def missing(self, what, why):
        return Row(what, verdict="not measured", note=why)


def _ratio(pairs, field):
    return statistics.median(getattr(ours, field) / max(getattr(peer, field), 1e-9) for ours, peer in pairs)


def limit(target):
    """A ratio's limit as the targets were set: 1/4 rather than 0.25 where that is what it is."""
    if target is None:
        return ""
    inverse = 1 / target
    return "1/%d" % round(inverse) if target < 0.2 and abs(inverse - round(inverse)) < 1e-6 else "%.4g" % target


def python(script, *arguments):
    """A command that runs a script of this folder on the system's Python, with the collection at hand."""
    return [SYSTEM_PYTHON, str(HERE / script), str(COLLECTIONS), *map(str, arguments)]


def shell(command, *arguments):
    return ["sh", "-c", command, "sh", *map(str, arguments)]


def payload(bench, module, arguments=""):
    """A module as Ansible sends it to a host, one file with all it needs; gives the command that runs it there."""
    kept = bench.folder / "payloads" / ("%s %s" % (module, arguments)).strip().replace(" ", "_")
    if not kept.exists():
        remote = Path(tempfile.mkdtemp(dir=bench.folder))
        environment = dict(bench.environment, ANSIBLE_KEEP_REMOTE_FILES="1", ANSIBLE_REMOTE_TMP=str(remote))
        command = "ansible localhost -c local -e ansible_python_interpreter=%s -m %s" % (SYSTEM_PYTHON, module)
        subprocess.run(
            [*shlex.split(command), "-a", arguments], env=environment, check=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        kept.parent.mkdir(exist_ok=True)
        next(remote.glob("*/AnsiballZ_*.py")).rename(kept)
    return [SYSTEM_PYTHON, str(kept)]
