# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""A folder whose entries count to different owners, or of which the entries of some owners are left out, see listing.py."""

import os
from typing import Callable, Dict, FrozenSet, Sequence, Tuple

from .file_rules import to_name, to_text
from .items import stamp_of
from .kind import File
from .listing import Listing
from .owners import ROOT, Owners
from .statx import LINKS, MODE, UID, local_status_of, unpack

WhyLater = Callable[[str], str]  # see Parts._why_later()


def count_by_owner(listing: Listing, known: Sequence[File], owners: Owners, why_later: WhyLater) -> bool:
    """Count the entries that seem to differ for their owners, and leave those of owners who have no changes left for the next
    run. Returns whether there are any."""
    before = {item.path: item for item in known}
    later: Dict[str, str] = {}  # owner -> the kind of the note
    kept = []
    for found in listing.found:
        path = to_text(listing.prefix + found[0])
        old = before.pop(path, None)
        owner = _trusted(listing, _owner(listing, found[1], owners))
        differs = old is None or old.stamp is None or tuple(old.stamp) != stamp_of(unpack(found[1]))
        if differs and _is_later(listing, path, owner, later, why_later):
            listing.doubt(found[0])
            listing.targets.pop(found[0], None)
        else:
            kept.append(found)
    listing.found[:] = kept
    for path, item in before.items():
        user = owners.of_name(item.owner)
        owner = listing.place.owner if user is None else _trusted(listing, user)
        if (path,) not in listing.unsure and _is_later(listing, path, owner, later, why_later):
            listing.doubt(to_name(path).rpartition("/")[2])
    for owner, why in sorted(later.items()):
        listing.claims.note(why, listing.place.path, owner)
    return bool(later)


def _is_later(listing: Listing, path: str, owner: str, later: Dict[str, str], why_later: WhyLater) -> bool:
    """Count an entry that seems to differ. Returns whether it is left for the next run, with the reason in `later`."""
    if owner != listing.place.owner:
        listing.owners[(path,)] = owner
    if owner not in listing.changed:
        listing.changed[owner] = 0
        why = why_later(owner)
        if why:
            later[owner] = why
    if owner in later:
        return True
    listing.changed[owner] += 1
    return False


def _trusted(listing: Listing, owner: str) -> str:
    """The owner of an entry as far as nobody else can rename it; otherwise, that of the directory."""
    place = listing.place
    return owner if place.holder in (ROOT, owner) else place.owner


def _owner(listing: Listing, status: bytes, owners: Owners) -> str:
    numbers = unpack(status)
    return owners.of_entry(numbers[UID], numbers[MODE], numbers[LINKS], listing.place.owner)


def left_out_before(
    left_out: Sequence[str], listing: Listing, known: Sequence[File], owners: Owners
) -> FrozenSet[Tuple[str]]:
    """Identities of entries that were left out so far, so that nobody can tell since when they are there. `left_out`: their owners."""
    if not left_out:
        return frozenset()
    paths = {item.path for item in known}
    found = [(to_text(listing.prefix + name), status) for name, status, _claims in listing.found]
    return frozenset(
        (path,) for path, status in found if path not in paths and _owner(listing, status, owners) in left_out
    )


def keep_left_out(listing: Listing, known: Sequence[File]) -> None:
    """Report no removal of a known entry that was left out: it is looked up by its name."""
    there = {name for name, _status, _claims in listing.found}
    for item in known:
        name = to_name(item.path).rpartition("/")[2]
        if name in there:
            continue
        try:
            local_status_of(listing.place.descriptor, os.fsencode(name))
        except FileNotFoundError:
            continue
        except OSError:
            pass
        listing.doubt(name)
