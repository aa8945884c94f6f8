# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kernel wrote about what some users did in /srv/w, of inode FOLDER: uid 1001 and 1002, logged in."""

from pathlib import Path

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.audit.messages import Assembler

FOLDER = 2155350


def _read():
    label = ""
    path = Path(__file__).parents[1] / "unit/fixtures/audit/records.txt"
    for line in path.read_bytes().splitlines():
        if line.startswith(b"# "):
            label = line[2:].decode()
        else:
            kind, _blank, text = line.partition(b" ")
            yield label, int(kind), text


RECORDS = list(_read())  # (what was done, type, text)


def events(label=None, keys=None):
    """The events of what was done; of all, without a label. `keys`: those with these alone."""
    assembler = Assembler()
    found = [assembler.add(kind, text) for name, kind, text in RECORDS if label in (name, None)]
    return [event for event in found if event is not None and (keys is None or list(event.keys) == keys)]
