# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the service collector with `systemctl show` on this host, unit by unit and field by field.

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


def show(units):
    """{Id: fields} of all units with these names that exist; aliases fall together."""
    out = {}
    if not units:
        return out
    text = systemctl("show", "--all", "--property=Id," + ",".join(FIELDS), "--", *sorted(units))
    for block in text.split("\n\n"):
        unit = dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
        if unit.get("LoadState") == "not-found" and unit["ActiveState"] == "inactive":
            continue
        if unit:
            unit["WantedBy"] = " ".join(sorted(unit["WantedBy"].split()))
            out[unit.pop("Id")] = unit
    return out


def collected(systemd, known):
    part = systemd.collect(known)
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
                    item.wanted_by,
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
    from ansible_collections.changetracking.inventory.plugins.module_utils._cti.collect import systemd
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
