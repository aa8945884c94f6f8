# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Adds up what the steps of ``make test`` left in .build/results, and prints the total as the last line, with the steps
that were not run. Before it stand the first failures, so that the end of a log says what failed.

A step with JUnit files counts as their test cases, one without as a single test. Its exit status has the last word: a
step that failed though none of its cases did counts as one failure more, and a failed case of a step that passed, such
as a task that its scenario rescued, is no test. ``summary.py MAKE_STATUS``: with another status than 0 the total is no
success.
"""

import sys
from pathlib import Path
from xml.etree import ElementTree

RESULTS = Path(".build/results")
FAILURES = 10  # that are printed


def count(status_file: Path, failures: list[str]) -> dict[str, int]:
    """The step's test cases by outcome. Adds a line to ``failures`` for each that failed."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    step, status = status_file.stem, status_file.read_text().strip()
    reports = sorted(status_file.with_suffix("").glob("**/*.xml"))
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            outcomes = {child.tag: child for child in case}
            failure = outcomes.get("failure", outcomes.get("error"))
            if failure is None:
                counts["skipped" if "skipped" in outcomes else "passed"] += 1
            elif status == "failed":
                counts["failed"] += 1
                message = " ".join((failure.get("message") or failure.text or "").split())
                failures.append("%s: %s: %s" % (step, case.get("name", "")[:150], message[:400]))
    if status in counts and (not reports or (status == "failed" and not counts["failed"])):
        counts[status] += 1
        if status == "failed":
            failures.append("%s: see .build/logs/%s.log" % (step, step))
    return counts


def main(make_status: int) -> int:
    total = {"passed": 0, "failed": 0, "skipped": 0}
    gaps = []
    failures: list[str] = []
    for status_file in sorted(RESULTS.glob("*.status")):
        counts = count(status_file, failures)
        if status_file.read_text().strip() == "skipped":
            gaps.append(status_file.stem)
        if any(counts.values()):
            print("%-20s %s" % (status_file.stem, ", ".join("%d %s" % (n, what) for what, n in counts.items() if n)))
        for what, number in counts.items():
            total[what] += number
    if make_status and not total["failed"]:
        failures.append("make: a step's preparation failed: see above")
        total["failed"] += 1
    for failure in failures[:FAILURES]:
        print("FAILED   %s" % failure)
    if len(failures) > FAILURES:
        print("         and %d more" % (len(failures) - FAILURES))
    skipped = ", %d skipped" % total["skipped"] if total["skipped"] else ""
    not_run = "; not run: %s" % ", ".join(gaps) if gaps else ""
    print("%d passed, %d failed%s%s" % (total["passed"], total["failed"], skipped, not_run))
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
