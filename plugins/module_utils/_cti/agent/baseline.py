# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Takes the files that Microsoft's agent recorded as the baseline, once in the life of a state directory."""

import json
from typing import Any, List, NamedTuple, Optional

from .. import folders
from ..errors import CtiError
from ..kinds.files.kind import FILES
from ..replace import replace
from ..rule.settings import Settings
from ..state.store import Store
from ..text import load_json, timestamp
from ..tracking.snapshot import Snapshot
from .options import AgentOptions

FILE = "baseline.json"  # says that the baseline was taken, and from where
_MAX_BYTES = 1 << 16
_KEY = "Files"
_ORDINARY = "The first run is the baseline of files."


class Taken(NamedTuple):
    snapshot: Optional[Snapshot]  # None: the ordinary run is to be made
    sentence: str  # where the baseline comes from; empty if that was decided before, or is to be decided later


def take(options: AgentOptions, settings: Settings, store: Store, progress: Any, watch: Any = None) -> Taken:
    """Make the first run of files with the database in `options.baseline`, if it can be used. `watch`: see Scan.
    Raises StateError."""
    last = store.last_run(FILES)
    if (last is not None and last.scope) or not settings.file_rules:
        return Taken(None, "")
    if kept(options):  # the state was lost since: what that database has was reported then
        return Taken(None, "")
    from ..tracking import microsoft, takeover  # loaded once in the life of a state

    try:
        found = microsoft.load(options.baseline)
        microsoft.require_items(options.baseline, found)
    except CtiError as error:
        return Taken(None, "%s %s" % (error, _ORDINARY))
    taken = takeover.run_files(settings, store, found, progress, options.rehash_days, watch)
    sentence = "The baseline of files is what Microsoft's agent recorded in '%s' until %s: %s." % (
        options.baseline,
        timestamp(found.written_at),
        taken.sentence(),
    )
    return Taken(taken.snapshot, sentence)


def keep(options: AgentOptions, sentence: str) -> None:
    """Store where the baseline comes from. An error is none of the run's: the check `microsoft` then does not say it."""
    try:
        replace(options.path(FILE), [json.dumps({_KEY: sentence}).encode("ascii")])
    except OSError:
        pass


def kept(options: AgentOptions) -> List[str]:
    """What keep() stored; empty if that is nothing, or cannot be read."""
    try:
        stored = load_json(folders.read(options.path(FILE), _MAX_BYTES, follow=False)[0])
        sentence = stored[_KEY]
    except (OSError, ValueError, RecursionError, KeyError, TypeError, IndexError):
        return []
    return [sentence] if isinstance(sentence, str) else []
