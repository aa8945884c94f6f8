# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sum that `make test` ends with: tests/tools/summary.py."""

import subprocess
import sys
from pathlib import Path

SUMMARY = Path(__file__).parents[2] / "tools" / "summary.py"
CASES = """<testsuites><testsuite>
<testcase name="good"/>
<testcase name="left out"><skipped message="why"/></testcase>
<testcase name="bad"><failure message="two\nlines">the values</failure></testcase>
</testsuite></testsuites>"""


def summary(folder: Path, make_status: int = 0, **statuses: str) -> tuple[int, list[str]]:
    results = folder / ".build" / "results"
    results.mkdir(parents=True)
    for step, status in statuses.items():
        (results / (step + ".status")).write_text(status + "\n")
        if not step.startswith("lint"):
            (results / step).mkdir()
            (results / step / "pytest.xml").write_text(CASES)
    command = [sys.executable, SUMMARY, str(make_status)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


def test_a_failed_case_of_a_step_that_passed_is_no_test(tmp_path):
    assert summary(tmp_path, relay="passed") == (
        0,
        ["relay                1 passed, 1 skipped", "1 passed, 0 failed, 1 skipped"],
    )


def test_what_failed_is_said_before_the_total(tmp_path):
    assert summary(tmp_path, make_status=2, relay="failed", lint="failed") == (
        1,
        [
            "lint                 1 failed",
            "relay                1 passed, 1 failed, 1 skipped",
            "FAILED   lint: see .build/logs/lint.log",
            "FAILED   relay: bad: two lines",
            "1 passed, 2 failed, 1 skipped",
        ],
    )


def test_a_preparation_that_failed_is_a_failure(tmp_path):
    status, lines = summary(tmp_path, make_status=2, relay="passed")
    assert (status, lines[-2:]) == (
        1,
        ["FAILED   make: a step's preparation failed: see above", "1 passed, 1 failed, 1 skipped"],
    )
