# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Lists a very large directory in slices."""

import os
from typing import Iterator, List, Sequence, Tuple

from .file_rules import Claimants, Claims
from .hashing import constructor
from .listing import Lister, Listing, OpenDirectory, most_entries, note_unreadable, skip_mount, slice_name
from .opening import read_at_once
from .slices import Names, OwnedNames, names_by_slice
from .statx import unpack


def listings(lister: Lister, place: OpenDirectory, claims: Claims, first: bool) -> Iterator[Listing]:
    """The SLICES listings of a directory, see Lister.list_whole(). Where its entries are too many for these too, those of the
    owner with the most are left out."""
    names = names_by_slice(place.descriptor, most_entries(place))
    left_out: Sequence[str] = ()
    if names is None:
        names, left_out = _owned_names(lister, place, claims)
    for number, kinds in enumerate(names):
        listing = Listing(place, claims, lister.clock(), slice_name(number))
        listing.left_out = left_out
        listing.settled = not left_out
        _add_names(lister, listing, first, kinds)
        yield listing
        del listing, kinds  # not in memory while the next ones are made


def _owned_names(lister: Lister, place: OpenDirectory, claims: Claims) -> Tuple[Iterator[Names], List[str]]:
    """The names that are listed of a directory with too many entries, and the owners whose entries are left out."""
    barred = lister.paths.mounts.barred_in(place.real)

    def owner_of(name: str) -> str:
        links, uid, _gid, kind, *_rest = unpack(place.status_of(place.descriptor, os.fsencode(name)))
        return lister.budget.owners.of_entry(uid, kind, links, place.owner)

    found = OwnedNames(place.descriptor, most_entries(place), barred, owner_of)
    for owner, entries in sorted(found.left_out.items()):
        claims.note("crowded", place.path, (owner + ", " if owner else "") + f"0 of {entries} entries")
    return found.by_slice(), sorted(found.left_out)


def _add_names(lister: Lister, listing: Listing, first: bool, kinds: Sequence[Sequence[str]]) -> None:
    """Add the tracked ones among these files, symlinks, directories and other entries, and complete the listing."""
    files, symlinks, directories, others = kinds
    claims = listing.claims
    barred = lister.paths.mounts.barred_in(listing.place.real)
    for names, candidates in ((files, claims.files), (directories, claims.directories), (others, claims.others)):
        for name in names:
            try:
                if barred and name in barred:
                    skip_mount(listing, name, barred[name])
                    continue
                if names is directories:
                    listing.subdirectories.append((name, None))
                claimants = tuple([claim for claim in candidates if claim.wants(name)])
                if claimants:
                    _add(lister, listing, name, claimants, first and names is files)
            except OSError as error:
                note_unreadable(listing, name, error)
    lister.complete(listing, symlinks)


def _add(lister: Lister, listing: Listing, name: str, claimants: Claimants, read: bool) -> None:
    """Add an entry with its status; `read`: and its content, see read_at_once()."""
    place = listing.place
    algorithm = claimants[0].rule.checksum if read else "none"
    if algorithm == "none":
        status = place.status_of(place.descriptor, os.fsencode(name))
    else:
        status, content = read_at_once(lister.paths.descriptors, place.descriptor, place.device, name, place.status_of)
        if content is not None:
            listing.checksums[name] = constructor(algorithm)(content).hexdigest()
    listing.found.append((name, status, claimants))
