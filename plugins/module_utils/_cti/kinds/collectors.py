# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What collects each kind, loaded when a kind is collected."""

from typing import TYPE_CHECKING, Any, Optional, Sequence

from ..model import Collection, Known
from .files.budget import REHASH_DAYS
from .kind import Kind
from .sources import Contained

if TYPE_CHECKING:
    from .files.partial import Named
    from .files.scan import Watch


def collect(
    kind: Kind,
    rules: Sequence[Any],
    known: Known,
    rehash_days: float = REHASH_DAYS,
    watch: "Optional[Watch]" = None,
    named: "Optional[Named]" = None,
    last_rules: Optional[Sequence[Any]] = None,
) -> Collection:
    """What is on the host now. A defect in what collects one kind is a failed source of that kind alone.

    rules: the file items of a data collection rule, or their fields as the store keeps them; for a kind with `reaches`.
    rehash_days: within how many days every file is read again, though its times are the same; 0: never.
    watch, last_rules: see Scan. named: collect only this anew, and take the rest from `known`, see Partial; None: collect everything.
    These are for files only.
    """
    return Contained(kind.name, lambda: _collector(kind.name, rules, known, rehash_days, watch, named, last_rules))


def _collector(
    name: str,
    rules: Sequence[Any],
    known: Known,
    rehash_days: float,
    watch: "Optional[Watch]",
    named: "Optional[Named]",
    last_rules: Optional[Sequence[Any]],
) -> Collection:
    if name == "packages":
        from .packages import databases

        return databases.collect(known)
    if name == "services":
        from .services import managers

        return managers.collect(known)
    if name == "files":
        from .files import scan
        from .files.scope import FileRule

        file_rules = [FileRule(*rule) for rule in rules]
        if named is not None:
            from .files.partial import Partial

            return Partial(file_rules, known, named, rehash_days=rehash_days, watch=watch)
        last = None if last_rules is None else [FileRule(*rule) for rule in last_rules]
        return scan.Scan(file_rules, known, rehash_days=rehash_days, watch=watch, last_rules=last)
    raise LookupError("Nothing collects the kind %r." % name)
