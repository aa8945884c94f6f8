# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""answers.py STORE REPORT: prints, as JSON, what SQL, the report and the event source say changed, as sorted lists of [host, kind,
category, item, level, task]. SQL knows neither level nor task; `records` are its RecordIds, and `packages` what each host has."""

import asyncio
import base64
import contextlib
import importlib.util
import json
import re
import sqlite3
import sys
import zlib
from itertools import accumulate
from pathlib import Path

EVENT_SOURCE = Path(__file__).parents[2] / "extensions/eda/plugins/event_source/changes.py"
KINDS = {"Software": "packages", "Daemons": "services", "Files": "files"}
CHANGES = (
    "SELECT Host, ConfigChangeType, ChangeCategory, coalesce(SoftwareName, SvcName, FileSystemPath), RecordId"
    " FROM ConfigurationChange"
)
PACKAGES = "SELECT Host, SoftwareName, CurrentVersion FROM ConfigurationData WHERE SoftwareName <> 'gpg-pubkey'"
PATIENCE = 60  # seconds for an event


def main(store, report):
    database = sqlite3.connect(store)
    rows = database.execute(CHANGES).fetchall()
    packages = {}
    for host, name, version in database.execute(PACKAGES):
        packages.setdefault(host, set()).add(f"{name}@{version[2:] if version.startswith('0:') else version}")
    events = asyncio.run(of_events(store, len(rows)))
    answers = {
        "sql": sorted([host, KINDS[kind], category, item] for host, kind, category, item, _record in rows),
        "records": sorted(record for *_change, record in rows),
        "packages": {host: sorted(found) for host, found in packages.items()},
        "report": sorted(of_report(report)),
        "events": sorted(of_event(event["change"]) for event in events),
        "event_records": sorted(event["meta"]["uuid"] for event in events),
    }
    print(json.dumps(answers))


def of_report(path):
    packed = re.search('id="data">([^<]*)<', Path(path).read_text("ascii"))[1]
    data = json.loads(zlib.decompress(base64.b64decode(packed)))
    hosts, changes = data["hosts"]["name"], data["changes"]
    columns = [[column["texts"][number] for number in accumulate(column["of"])] for column in changes["contents"]]
    contents = list(zip(*columns))
    for host, content, actor in zip(changes["host"], changes["content"], changes["actor"]):
        level, task = changes["actors"][actor][:2]
        yield [hosts[host], *contents[content][:3], level, task if level == "task" else ""]


async def of_events(store, number):
    """The first events, and those that come at once with them."""
    spec = importlib.util.spec_from_file_location("changes", EVENT_SOURCE)
    source = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source)
    queue = asyncio.Queue()
    running = asyncio.create_task(source.main(queue, {"store": store, "since": "all"}))
    events = [await asyncio.wait_for(queue.get(), PATIENCE) for _number in range(number)]
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    while not queue.empty():
        events.append(queue.get_nowait())
    return events


def of_event(change):
    task = change["task"]["name"] if change["level"] == "task" else ""
    return [change["host"], change["kind"], change["category"], change["item"], change["level"], task]


main(*sys.argv[1:])
