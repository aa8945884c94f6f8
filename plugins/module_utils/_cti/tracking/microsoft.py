# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The database of Microsoft's agent. Of what it holds, only the items of files are known: the key is the base64 of a path, the
value the item as JSON, as in File.json."""

import base64
import binascii
import os
import re
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set

from .. import bolt, host
from ..errors import SinceError, StateError
from ..kinds.files.kind import FILES
from ..kinds.kind import Row
from ..text import decode, is_utf8, load_json, quoted, timestamp
from . import bounded

MAX_PATH_BYTES = 4096
MAX_VALUES = 4 << 20  # in all items together, each of which may take 64 bytes of memory
SHOWN = 5  # keys of values that are not known
_SHOWN_KEY = 100  # characters of such a key


class Microsoft(NamedTuple):
    """What the database holds."""

    written_at: float  # unix seconds
    items: Dict[str, Row]  # of files, by path
    ambiguous: Set[str]  # paths that have several items, which differ; these are not in `items`
    buckets: List[Row]  # see _Summary.row()


class _Summary:
    """One bucket: how many values it has, how many of them are items of files, and which are not known."""

    def __init__(self, bucket: bolt.Bucket) -> None:
        self._name = "/".join(quoted(decode(name)) for name in bucket.name)
        self._count = len(bucket.values)
        self._files = 0
        self._unknown: List[str] = []

    def file(self) -> None:
        self._files += 1

    def unknown(self, key: bytes) -> None:
        if len(self._unknown) < SHOWN:
            self._unknown.append(quoted(_as_text(key), _SHOWN_KEY))

    def row(self) -> Row:
        return {
            "name": self._name,
            "count": self._count,
            "files": self._files,
            "unknown": self._count - self._files,
            "unknown_keys": self._unknown,
        }


def load(path: str, owner: Optional[int] = None) -> Microsoft:
    """What the database at `path` holds. `owner`: a uid that may control it, in addition to root and the current user. Raises
    BoltError and StateError."""
    content = bolt.read(path, (0, os.geteuid(), owner))
    items: Dict[str, Row] = {}
    ambiguous: Set[str] = set()
    buckets: List[Row] = []
    values = 0
    for bucket in content.buckets:
        summary = _Summary(bucket)
        for key, value in bucket.values:
            name = _path(key)
            values += 0 if name is None else sum(map(value.count, (b",", b"[", b"{")))
            if values > MAX_VALUES:
                raise StateError("The database '%s' has items with more than %d values." % (quoted(path), MAX_VALUES))
            item = None if name is None else _item(name, value)
            if name is None or item is None:
                summary.unknown(key)
                continue
            summary.file()
            if items.setdefault(name, item) != item:
                ambiguous.add(name)
        buckets.append(summary.row())
    for name in ambiguous:
        del items[name]
    return Microsoft(content.written_at, {name: items[name] for name in sorted(items)}, ambiguous, buckets)


def describe(
    path: str, kinds: Sequence[str], wanted: str, owner: Optional[int], since: Any, warn: Callable[[str], None]
) -> Dict[str, Any]:
    """The result of ct_state_info from such a database: the items of files unchanged, and each bucket. There are no changes in it.
    `wanted`, `warn`: see run_host(). `owner`: see load(). Raises StateError, BoltError and SinceError."""
    if since is not None:
        raise SinceError(
            "'%s' is a database of Microsoft's agent, which holds no changes. Leave out since, or give the path of a state database."
            % quoted(path)
        )
    found = load(path, owner)
    if found.ambiguous:
        warn("The database '%s' has several items of %s, which are left out." % (quoted(path), _some(found.ambiguous)))
    if not found.items:
        warn(missing(path, found))
    result: Dict[str, Any] = {"inventory": {}, "buckets": found.buckets}
    if FILES.name in kinds:
        result["inventory"][FILES.name] = {"count": len(found.items), "collected_at": timestamp(found.written_at)}
    if wanted == "full":
        items = {FILES.name: bounded.Items(list(found.items.values()), dict, _owner)} if FILES.name in kinds else {}
        result["packed"] = bounded.pack_items(items, {}, str(host.identity()["Computer"]), warn, result["inventory"])
    return result


def missing(path: str, found: Microsoft) -> str:
    """The sentence about a database in which no item of a file is recognized."""
    names = ", ".join(bucket["name"] for bucket in found.buckets[:SHOWN]) or "none"
    return "The database '%s' has no items of files in the known format (its buckets: %s)." % (quoted(path), names)


def _some(paths: Set[str]) -> str:
    first = quoted(min(paths))
    return first if len(paths) == 1 else "%s and %d more files" % (first, len(paths) - 1)


def _path(key: bytes) -> Optional[str]:
    """The absolute path that a key stands for; None for any other key."""
    try:
        raw = base64.b64decode(key.translate(_URL_SAFE) + b"=" * (-len(key) % 4), validate=True)
    except (ValueError, binascii.Error):
        return None
    return decode(raw) if raw[:1] == b"/" and b"\0" not in raw and len(raw) <= MAX_PATH_BYTES else None


_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def _item(path: str, value: bytes) -> Optional[Row]:
    """The item of a file; None for any other value."""
    try:
        item = load_json(value)
    except (ValueError, RecursionError):
        return None
    if not isinstance(item, dict):
        return None
    own = item.get("FileSystemPath", item.get("CollectionName"))
    if own == path or (isinstance(own, str) and not is_utf8(path) and _replaced(own) == _replaced(path)):
        return item
    return None


def _replaced(path: str) -> str:
    """A path in which bytes that are not UTF-8 are replaced, as the JSON of Go does."""
    return re.sub("[\ud800-\udfff\ufffd]+", "\ufffd", path)


def _as_text(key: bytes) -> str:
    """A key, decoded if it is the base64 of a text."""
    try:
        text = base64.b64decode(key, validate=True).decode("utf-8")
    except (ValueError, binascii.Error):
        text = ""
    return text if text and text.isprintable() else decode(key)


def _owner(item: Row) -> str:
    owner = item.get("Owner")
    return owner if isinstance(owner, str) and owner != "root" else bounded.ROOT


def require_items(path: str, found: Microsoft) -> None:
    """Raise StateError where no item of a file is recognized."""
    if not found.items:
        raise StateError(missing(path, found))
