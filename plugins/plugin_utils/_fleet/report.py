# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: what the fleet store holds, as one HTML file that needs no network.

The file is the same for every fleet, except for one block of data: JSON, deflated, in base64. The script in the page turns each text in it
into a text node, never into markup, and its Content-Security-Policy allows this script and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...module_utils._cti.daemon import VERSION
from ...module_utils._cti.fleet.store import Store
from ...module_utils._cti.text import timestamp
from . import identities
from .marks import from_option, from_store
from .report_changes import read_changes
from .report_columns import delta, shown
from .report_items import read_hosts, read_items
from .selection import Groups, check_hosts, selecting

PAGE = Path(__file__).parent / "page"
SCRIPTS = ("model.js", "dom.js", "tables.js", "views.js")
MAX_GROUPS = 2_000


class Scope(NamedTuple):
    """What a report is about."""

    title: str
    made: float  # Unix seconds
    since: float  # likewise: changes from then on
    stale_after: float  # seconds without an inventory, after which a host is stale
    groups: Groups  # of the Ansible inventory
    hosts: Sequence[str] = ()  # names, patterns or groups; empty: all hosts of the store
    marks: Any = None  # as in the option of ct_fleet_report


class Report(NamedTuple):
    text: str
    hosts: int
    changes: int
    left_out: int  # items and changes that do not fit into the report
    # Of names that match no host, inventory names that are not known, and marks that cannot be used.
    warnings: list[str]


def make(store: Store, scope: Scope) -> Report:
    """Raises FleetError, and ValueError for what cannot be selected."""
    with store.reading():
        stored, wrong = from_store(store, scope.groups)
        marks = stored + from_option(scope.marks, scope.groups)
        known = {name for (name,) in store.query("SELECT name FROM hosts")}
        warnings = check_hosts("hosts", scope.hosts, scope.groups, known) if scope.hosts else []
        hosts = read_hosts(store, selecting(scope.hosts, scope.groups))
        items = read_items(store, hosts)
        changes = read_changes(store, hosts, scope.since, marks)
        warnings += identities.warnings(store, changes.drifted)
    data = {
        "title": shown(scope.title),
        "version": VERSION,
        "made": int(scope.made),
        "since": int(scope.since),
        "stale": int(scope.stale_after),
        "hosts": {
            "name": [host.label for host in hosts],
            "computer": [host.computer if host.computer != host.label else "" for host in hosts],
            "seen": [host.seen for host in hosts],
            "failed": [host.failed for host in hosts],
            "failure": [host.failure for host in hosts],
            "problems": [host.problems for host in hosts],
        },
        "kinds": items.kinds,
        "changes": changes.columns,
        "groups": _groups(scope.groups, {host.name: number for number, host in enumerate(hosts)}),
    }
    left_out = items.left_out + changes.left_out
    return Report(_page(data), len(hosts), changes.total, left_out, warnings + wrong)


def save(text: str, path: str) -> None:
    """Replace the file atomically; only its owner can read it. Raises OSError."""
    descriptor, new = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".report")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise


def default_title(now: float) -> str:
    return f"Fleet report of {str(timestamp(now))[:10]}"


def _groups(groups: Mapping[str, Iterable[str]], numbers: Mapping[str, int]) -> dict[str, list[int]]:
    """The groups that have some of the hosts, but not all of them."""
    found = {}
    for name in sorted(groups)[:MAX_GROUPS]:
        if name == "ungrouped":
            continue
        members = sorted({numbers[host] for host in groups[name] if host in numbers})
        if 0 < len(members) < len(numbers):
            found[shown(name)] = delta(members)
    return found


def _page(data: Mapping[str, Any]) -> str:
    style = _asset("page.css")
    script = "".join(map(_asset, SCRIPTS))
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; base-uri 'none'; form-action 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    )
    packed = zlib.compress(json.dumps(data, separators=(",", ":")).encode("ascii"), 9)
    parts = {"policy": policy, "style": style, "script": script, "data": base64.b64encode(packed).decode("ascii")}
    page = _asset("page.html")
    for name, text in parts.items():
        before, after = page.split("{{" + name + "}}")
        page = before + text + after
    return page


def _asset(name: str) -> str:
    return (PAGE / name).read_text("ascii")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("ascii")).digest()).decode("ascii")
