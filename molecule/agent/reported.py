# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""reported.py PYTHON SINCE: waits until each kind was collected once more and all records are in the tables of the relay. Prints
the changes after row SINCE, the number of inventory rows of each kind, and the number of the last row, as JSON.
"""

import json
import sqlite3
import subprocess
import sys
import time

AGENT = ["/usr/local/lib/ctagent/agent.pyz", "status", "--json"]
RELAY = ["/usr/local/lib/ctrelay/relay.pyz", "status", "--json", "--allow-user", "ctrelay"]
STATUS = "/var/lib/ctagent/status.json"
TABLES = "/var/lib/ctrelay/relay.db"
SECONDS = 120
# user@.service and its like are the sessions that this test opens and closes.
CHANGES = "SELECT * FROM ConfigurationChange WHERE Seq > ? AND coalesce(SvcName, '') NOT LIKE 'user%@%' ORDER BY Seq"
COUNTS = "SELECT ConfigDataType, count(*) FROM ConfigurationData GROUP BY 1"
LAST = "SELECT coalesce(max(Seq), 0) FROM ConfigurationChange"


def main(python, since):
    end = time.monotonic() + SECONDS
    # The run that ends next may have started before this script; the one after it has not.
    wait(end, "another run of each kind", later_than(collected()))
    wait(end, "another run of each kind", later_than(collected()))
    # Each question starts a program.
    wait(end, "delivery", lambda: ask(python, AGENT)["Outbox"]["Records"] == 0, every=1)
    wait(end, "the relay's upload", lambda: not any(sink["Rows"] for sink in ask(python, RELAY)["Sinks"]), every=1)
    with sqlite3.connect(TABLES) as tables:
        last = tables.execute(LAST).fetchone()[0]
        counts = dict(tables.execute(COUNTS).fetchall())
        tables.row_factory = sqlite3.Row
        changes = [
            {key: value for key, value in dict(row).items() if value is not None}
            for row in tables.execute(CHANGES, (since,))
        ]
    print(json.dumps({"changes": folded(changes), "inventory": counts, "last": last}))


def folded(changes):
    """Changes of one service as one change: `systemctl enable` creates a symlink, and then reloads systemd."""
    out = {}
    for change in changes:
        first = out.setdefault(change.get("SvcName", change["RecordId"]), {})
        fields = {*first.get("FieldsChanged", "").split(","), *change["FieldsChanged"].split(",")}
        kept = {key: value for key, value in first.items() if "Previous" in key or key == "ChangeCategory"}
        first.update(change, FieldsChanged=",".join(sorted(fields - {""})), **kept)
    return list(out.values())


def collected():
    """The time of the last collection of each kind."""
    try:
        with open(STATUS) as file:
            return {kind: state.get("CollectedAt", "") for kind, state in json.load(file)["Kinds"].items()}
    except FileNotFoundError:
        return {}


def later_than(before):
    def looked():
        now = collected()
        return all(now.get(kind, "") > before.get(kind, "") for kind in ("files", "packages", "services"))

    return looked


def wait(end, what, done, every=0.2):
    while not done():
        if time.monotonic() > end:
            raise SystemExit("%s did not come within %d s" % (what, SECONDS))
        time.sleep(every)


def ask(python, command):
    done = subprocess.run([python, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    try:
        return json.loads(done.stdout.decode())
    except ValueError:
        raise SystemExit("%s: %s" % (" ".join(command), done.stdout.decode())) from None


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
