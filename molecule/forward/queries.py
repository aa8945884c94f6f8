# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""queries.py DOCUMENT DATABASE: runs the SQL that stands in the document; prints, as JSON, [Computer, name] of each row of
each query, and the names of all computers there are."""

import json
import re
import sqlite3
import sys

NAMES = ("SvcName", "SoftwareName", "FileSystemPath")


def main(document, path):
    with open(document, encoding="utf-8") as file:
        queries = re.findall("^SELECT .*;$", file.read(), re.MULTILINE)
    database = sqlite3.connect(path)
    database.row_factory = sqlite3.Row
    rows = [
        sorted(
            [row["Computer"], next(row[name] for name in NAMES if name in set(row.keys()) and row[name])]
            for row in database.execute(query)
        )
        for query in queries
    ]
    computers = database.execute(
        "SELECT Computer FROM ConfigurationData UNION SELECT Computer FROM ConfigurationChange ORDER BY 1"
    )
    print(json.dumps({"Computers": [row[0] for row in computers], "Rows": rows}))


main(*sys.argv[1:])
