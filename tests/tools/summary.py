# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Adds up what the steps of ``make test`` left in .build/results, and prints the total as the last line, with the steps
that were not run.

A step with JUnit files counts as their test cases, one without as a single test; a step that failed though none of its
cases did counts as one failure more. ``summary.py MAKE_STATUS``: with another status than 0 the total is no success.
"""

import sys
from pathlib import Path
from xml.etree import ElementTree

RESULTS = Path(".build/results")


def count(status_file: Path) -> dict[str, int]:
    """The step's test cases by outcome."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    reports = sorted(status_file.with_suffix("").glob("**/*.xml"))
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            outcomes = {child.tag for child in case}
            if outcomes & {"failure", "error"}:
                counts["failed"] += 1
            elif "skipped" in outcomes:
                counts["skipped"] += 1
            else:
                counts["passed"] += 1
    status = status_file.read_text().strip()
    if status in counts and (not reports or (status == "failed" and not counts["failed"])):
        counts[status] += 1
    return counts


def main(make_status: int) -> int:
    total = {"passed": 0, "failed": 0, "skipped": 0}
    gaps = []
    for status_file in sorted(RESULTS.glob("*.status")):
        counts = count(status_file)
        if status_file.read_text().strip() == "skipped":
            gaps.append(status_file.stem)
        if any(counts.values()):
            print("%-20s %s" % (status_file.stem, ", ".join("%d %s" % (n, what) for what, n in counts.items() if n)))
        for what, number in counts.items():
            total[what] += number
    if make_status and not total["failed"]:
        print("%-20s a step's preparation failed: see above" % "make")
        total["failed"] += 1
    skipped = ", %d skipped" % total["skipped"] if total["skipped"] else ""
    not_run = "; not run: %s" % ", ".join(gaps) if gaps else ""
    print("%d passed, %d failed%s%s" % (total["passed"], total["failed"], skipped, not_run))
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
