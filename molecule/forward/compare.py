# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""compare.py FOLDER HOST: whether FOLDER/relay.db holds of HOST just what FOLDER/HOST.json says the module returned."""

import json
import os
import sqlite3
import sys

TYPES = {"packages": "Software", "services": "Daemons", "files": "Files"}


def main(folder, host):
    with open(os.path.join(folder, host + ".json"), encoding="utf-8") as file:
        returned = json.load(file)
    database = sqlite3.connect(os.path.join(folder, "relay.db"))
    baseline = returned["baseline"]
    inventory = []
    for kind, rows in returned["items"].items():
        common = {key: baseline[key] for key in ("Computer", "SourceComputerId", "VMUUID")}
        common.update(ConfigDataType=TYPES[kind], TimeGenerated=baseline["inventory"][kind]["collected_at"])
        inventory += [dict(common, **row) for row in rows]
    problems = 0
    for table, expected in (("ConfigurationData", inventory), ("ConfigurationChange", returned["changes"])):
        wanted = {line(record) for record in expected}
        assert len(wanted) == len(expected), "%s: the module returned something twice" % table
        found = list(stored(database, table, host, with_id=table == "ConfigurationChange"))
        for text, missing in (("missing", wanted - set(found)), ("not expected", set(found) - wanted)):
            for one in sorted(missing):
                print("%s, %s: %s" % (table, text, one))
                problems += 1
        print("%s: %d records returned, %d in the table" % (table, len(expected), len(found)))
        problems += len(found) != len(expected) or not found
    return 1 if problems else 0


def stored(database, table, host, with_id):
    """Its columns and what else is there, as one record again."""
    database.row_factory = sqlite3.Row
    for row in database.execute("SELECT * FROM %s WHERE Computer = ?" % table, (host,)):
        record = dict(row)
        record.update(json.loads(record.pop("AdditionalColumns") or "{}"))
        assert record["Host"] == host
        for name in ("Host", "HostId", "Stream", "Seq") if with_id else ("Host", "HostId", "Stream", "RecordId"):
            del record[name]
        yield line(record)


def line(record):
    """As it travels: texts, and nothing for what is not known."""
    return json.dumps({key: str(value) for key, value in record.items() if value is not None}, sort_keys=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
