# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the service collector with `systemctl show` on this host, unit by unit and field by field.

WantedBy is compared as what the targets say, `systemctl show --property=Wants,Requires TARGET`: what a service says itself
depends on which targets systemd has loaded. Units of other types that want a service are not compared.

    services.py FOLDER    FOLDER holds ansible_collections; run as root on a host where systemd is PID 1

Prints one JSON line {"compared": N, "differ": M, "summary": ..., "differences": [...]}; exit status 1 where M is not 0.
A difference counts when both sides still hold it after being read again: states change between two reads.
"""

import json
import subprocess
import sys

FIELDS = ("Description", "LoadState", "ActiveState", "SubState", "UnitFileState", "WantedBy", "FragmentPath")


def systemctl(*arguments):
    command = ("systemctl", "--no-pager", "--no-legend") + arguments
    return subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout.decode("utf-8", "backslashreplace")


def names():
    """Every service name that systemctl lists, in memory or on disk; templates cannot be shown."""
    lines = systemctl("list-unit-files", "--all", "*.service").splitlines()
    lines += systemctl("list-units", "--all", "--plain", "--full", "*.service").splitlines()
    found = {word for line in lines for word in line.split()[:2] if word.endswith(".service")}
    return {name for name in found if not name.endswith("@.service")}


def blocks(properties, units):
    text = systemctl("show", "--all", "--property=" + ",".join(properties), "--", *sorted(units)) if units else ""
    for block in text.split("\n\n"):
        unit = dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
        if unit:
            yield unit


def wanted():
    """{name of a service: the targets that want or require it}, loaded or not."""
    lines = systemctl("list-unit-files", "--all", "*.target").splitlines()
    lines += systemctl("list-units", "--all", "--plain", "--full", "*.target").splitlines()
    targets = {line.split()[0] for line in lines if line.split()}
    out = {}
    for target in blocks(("Id", "Wants", "Requires", "Upholds"), {name for name in targets if "@." not in name}):
        for key in ("Wants", "Requires", "Upholds"):
            for name in target.get(key, "").split():
                out.setdefault(name, set()).add(target["Id"])
    return out


def show(units):
    """{Id: fields} of all units with these names that exist; aliases fall together."""
    out = {}
    targets = wanted()
    for unit in blocks(("Id", "Names", *FIELDS), units):
        if unit["LoadState"] == "not-found" and unit["ActiveState"] == "inactive":
            continue
        names = unit.pop("Names").split()
        unit["WantedBy"] = " ".join(sorted(set().union(*(targets.get(name, ()) for name in names))))
        out[unit.pop("Id")] = unit
    return out


def collected(systemd, known):
    part = systemd.collect(known, transient=True)
    if part.unsure or part.message:
        sys.exit("not everything was collected: " + part.message)
    return {
        item.name + ".service": dict(
            zip(
                FIELDS,
                (
                    item.description,
                    item.load_state,
                    item.active_state,
                    item.sub_state,
                    item.unit_file_state,
                    " ".join(name for name in item.wanted_by.split() if name.endswith(".target")),
                    item.path,
                ),
            )
        )
        for item in part.items
    }


def differences(ours, theirs):
    out = {}
    for unit in set(ours) | set(theirs):
        mine, other = ours.get(unit), theirs.get(unit)
        if mine is None or other is None:
            out[unit] = "missing from the collector" if mine is None else "unknown to systemctl"
        elif mine != other:
            out[unit] = {key: [mine[key], other.get(key)] for key in FIELDS if mine[key] != other.get(key)}
    return out


def main():
    sys.path.insert(0, sys.argv[1])
    from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.services import systemd
    from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Known

    ours = collected(systemd, Known())
    theirs = show(names() | set(ours))
    differ = differences(ours, theirs)
    if differ:
        again = differences(collected(systemd, Known()), show(names() | set(ours)))
        differ = {unit: why for unit, why in again.items() if unit in differ}
    compared = len(set(ours) | set(theirs))
    summary = "{0} compared, {1} differ".format(compared, len(differ))
    result = {"compared": compared, "differ": len(differ), "summary": summary, "differences": sorted(differ.items())}
    print(json.dumps(result))
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
