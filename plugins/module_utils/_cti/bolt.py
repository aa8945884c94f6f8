# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Reads a BoltDB file (https://github.com/etcd-io/bbolt) that another program may be writing.

A transaction writes changed pages to places that are free, then one of the two meta pages, which names the new root. The pages
that it replaced are free from then on, and the next transaction overwrites them. So what was read is one whole state if the newest
meta page is the same at the end as it was at the beginning. Otherwise, it is read again. No lock is taken: it would hold up the
other program.
"""

import os
import stat
import struct
import time
from typing import Collection, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from . import folders
from .errors import CtiError
from .text import quoted

MAX_BYTES = 64 << 20  # of pages that are read
MAX_VALUES = 250000
MAX_DEPTH = 16  # of buckets in buckets
SECONDS = 20.0  # for all attempts
ATTEMPTS = 10
PAUSE_SECONDS = 0.1  # between two of them

_PAGE = struct.Struct("<QHHI")  # number, flags, elements, further pages
_META = struct.Struct(
    "<IIIIQQQQQQ"
)  # magic, version, page size, flags, root, sequence, free list, pages, transaction, checksum
_BRANCH = struct.Struct("<IIQ")  # position of the key relative to the element, length of the key, page
_LEAF = struct.Struct("<IIII")  # flags, position of the key, length of the key, length of the value
_BUCKET = struct.Struct("<QQ")  # root, sequence
_BRANCH_PAGE, _LEAF_PAGE, _META_PAGE = 1, 2, 4
_IS_BUCKET = 1
_MAGIC, _VERSION = 0xED0CDAED, 2
_PAGE_SIZES = [1 << bits for bits in range(9, 25)]


class BoltError(CtiError):
    """The database cannot be read as a whole."""


class Bucket(NamedTuple):
    name: Tuple[bytes, ...]  # of the buckets that it is in, and its own
    values: List[Tuple[bytes, bytes]]  # by key, without the buckets in it


class Content(NamedTuple):
    """One state of a database."""

    written_at: float  # unix seconds
    buckets: List[Bucket]


class _Meta(NamedTuple):
    page_size: int
    root: int
    pages: int  # of the database; the file may be larger
    transaction: int


class _Invalid(Exception):
    """What was read makes no sense: the file is damaged, or was written at the same time."""


def is_bolt(path: str) -> bool:
    """Whether the file at this path looks like a BoltDB file. False if it cannot be read."""
    expected = struct.pack("<II", _MAGIC, _VERSION)
    try:
        with open(path, "rb", buffering=0, opener=folders.opener()) as file:
            places = (0, *_PAGE_SIZES) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else ()
            return any(os.pread(file.fileno(), 8, place + _PAGE.size) == expected for place in places)
    except OSError:
        return False


def read(path: str, owners: Collection[Optional[int]]) -> Content:
    """All buckets of a database, which is not changed. `owners`: the uids that may control the file and its folder.

    Raises BoltError; there is no partial result.
    """
    try:
        folders.check(os.path.dirname(os.path.abspath(path)), owners)
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            _check_file(path, os.fstat(file), owners)
            return _read(path, file)
        finally:
            os.close(file)
    except FileNotFoundError:
        raise BoltError("There is no database '%s'." % quoted(path)) from None
    except folders.Controlled as error:
        raise BoltError(
            "The database '%s' is in a folder controlled by others than the current user (%s), so it is not used."
            % (quoted(path), quoted(error.filename))
        ) from error
    except OSError as error:
        raise BoltError(
            "Cannot read the database '%s' (%s). %s"
            % (quoted(path), error.strerror, folders.remedy(error, path, "Give the path of another file."))
        ) from error


def _check_file(path: str, status: os.stat_result, owners: Collection[Optional[int]]) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise BoltError("The database '%s' is not a regular file." % quoted(path))
    written_by_group = status.st_mode & 0o020 and status.st_gid
    if status.st_uid not in owners or status.st_mode & 0o002 or written_by_group:
        raise BoltError(
            "The database '%s' can be written by others than the current user, so it is not used. Restrict it (chown, chmod 600)."
            % quoted(path)
        )


def _read(path: str, file: int) -> Content:
    until = time.monotonic() + SECONDS
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_SECONDS)
        try:
            meta = _newest_meta(file)
        except _Invalid as error:  # also where both are written while they are read
            problem = "it is damaged: %s" % error
            continue
        buckets: List[Bucket] = []
        try:
            buckets = _Reader(file, meta, until).buckets()
            problem = ""
        except _Invalid as error:
            problem = str(error)
        try:
            is_same = _newest_meta(file) == meta
        except _Invalid:
            is_same = False
        if is_same and problem:
            break
        if is_same:
            return Content(os.fstat(file).st_mtime, buckets)
        problem = "another program wrote to it during each of %d attempts. Try again later" % ATTEMPTS
    raise BoltError("The database '%s' cannot be read: %s." % (quoted(path), problem))


def _newest_meta(file: int) -> _Meta:
    """The meta page of the last complete transaction."""
    first = _meta(file, 0, 0)
    second = None
    for size in [first.page_size] if first is not None else _PAGE_SIZES:
        second = _meta(file, size, 1)
        if second is not None and second.page_size == size:
            break
        second = None
    valid = [meta for meta in (first, second) if meta is not None]
    if not valid:
        raise _Invalid("neither of its meta pages is valid")
    return max(valid, key=lambda meta: meta.transaction)


def _meta(file: int, offset: int, number: int) -> Optional[_Meta]:
    """The meta page at an offset; None if it is not a valid one."""
    raw = os.pread(file, _PAGE.size + _META.size, offset)
    if len(raw) < _PAGE.size + _META.size:
        return None
    fields = raw[_PAGE.size :]  # noqa: E203
    magic, version, page_size, _flags, root, _sequence, _free, pages, transaction, checksum = _META.unpack(fields)
    if _PAGE.unpack_from(raw)[:2] != (number, _META_PAGE) or (magic, version) != (_MAGIC, _VERSION):
        return None
    if checksum != _fnv1a(fields[:-8]) or page_size not in _PAGE_SIZES:
        return None
    return _Meta(page_size, root, pages, transaction)


def _fnv1a(data: bytes) -> int:
    """The 64-bit FNV-1a hash."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


class _Page(NamedTuple):
    flags: int
    count: int  # type: ignore[assignment]  # nobody counts the fields of this tuple
    data: bytes  # with the header, and the further pages

    def part(self, start: int, length: int) -> bytes:
        """A key or a value, which is behind the elements."""
        if start < _PAGE.size + _LEAF.size * self.count or start + length > len(self.data):
            raise _Invalid("an element is outside of its page")
        return self.data[start : start + length]  # noqa: E203


class _Reader:
    """Follows the pages of one state. Each is read once, so that cycles end, and only those in use."""

    def __init__(self, file: int, meta: _Meta, until: float) -> None:
        self._file = file
        self._meta = meta
        self._until = until
        self._seen: Set[int] = set()  # numbers of pages
        self._bytes = 0
        self._values = 0

    def buckets(self) -> List[Bucket]:
        found: List[Bucket] = []
        pending: List[Tuple[Tuple[bytes, ...], Iterator[_Page]]] = [((), self._leaves(self._meta.root))]
        while pending:
            name, leaves = pending.pop()
            bucket = Bucket(name, [])
            if name:
                found.append(bucket)
            if len(name) > MAX_DEPTH:
                raise _Invalid("its buckets are nested more than %d deep" % MAX_DEPTH)
            nested: Dict[bytes, bytes] = {}
            last: Optional[bytes] = None
            for page in leaves:
                for flags, key, value in self._elements(page):
                    if last is not None and key <= last:
                        raise _Invalid("its keys are not in order")
                    last = key
                    if flags:
                        nested[key] = value
                    else:
                        bucket.values.append((key, value))
            if bucket.values and not name:
                raise _Invalid("it has values outside of buckets")
            pending += [((*name, key), self._open(value)) for key, value in reversed(list(nested.items()))]
        return found

    def _open(self, value: bytes) -> Iterator[_Page]:
        """The leaf pages of a bucket, which may itself be a page in the value."""
        if len(value) < _BUCKET.size:
            raise _Invalid("a bucket has no header")
        root = _BUCKET.unpack_from(value)[0]
        return self._leaves(root) if root else self._inline(value[_BUCKET.size :])  # noqa: E203

    def _inline(self, data: bytes) -> Iterator[_Page]:
        self._count(len(data), "the buckets")
        if len(data) < _PAGE.size:
            raise _Invalid("a bucket has no page")
        number, flags, count, more = _PAGE.unpack_from(data)
        if (number, flags, more) != (0, _LEAF_PAGE, 0):
            raise _Invalid("a bucket holds something else than a leaf page")
        yield _Page(flags, count, data)

    def _leaves(self, root: int) -> Iterator[_Page]:
        """The leaf pages of a tree, in the order of their keys."""
        pending = [(root, b"")]
        while pending:
            number, least = pending.pop()
            page = self._page(number)
            if page.flags == _LEAF_PAGE:
                if not page.count and number != root:
                    raise _Invalid("page %d is empty" % number)
                if page.count and self._key(page, _LEAF, 0) < least:
                    raise _Invalid("its keys are not in order")
                yield page
                continue
            children = list(self._children(page))
            if not children or children[0][1] < least:
                raise _Invalid("page %d does not lead on" % number)
            pending += reversed(children)

    def _children(self, page: _Page) -> Iterator[Tuple[int, bytes]]:
        """The number and the least key of each child of a branch page."""
        used = 0
        for at in range(page.count):
            key = self._key(page, _BRANCH, at)
            used += len(key)
            if used > len(page.data):  # elements may not share their bytes
                raise _Invalid("an element has a form that is not known")
            yield _BRANCH.unpack_from(page.data, _PAGE.size + _BRANCH.size * at)[2], key

    def _key(self, page: _Page, form: struct.Struct, at: int) -> bytes:
        offset = _PAGE.size + form.size * at
        if offset + form.size > len(page.data):
            raise _Invalid("an element is outside of its page")
        fields = form.unpack_from(page.data, offset)
        position, length = fields[:2] if form is _BRANCH else fields[1:3]
        return page.part(offset + position, length)

    def _elements(self, page: _Page) -> Iterator[Tuple[int, bytes, bytes]]:
        """The flags, key and value of each element of a leaf page."""
        if _PAGE.size + _LEAF.size * page.count > len(page.data):
            raise _Invalid("an element is outside of its page")
        used = 0
        for at in range(page.count):
            offset = _PAGE.size + _LEAF.size * at
            flags, position, key, value = _LEAF.unpack_from(page.data, offset)
            used += key + value
            if flags not in (0, _IS_BUCKET) or used > len(page.data):  # elements may not share their bytes
                raise _Invalid("an element has a form that is not known")
            start = offset + position
            self._values += 1
            if self._values > MAX_VALUES:
                raise _Invalid("it has more than %d values" % MAX_VALUES)
            yield flags, page.part(start, key), page.part(start + key, value)

    def _page(self, number: int) -> _Page:
        size = self._meta.page_size
        if number < 2 or number >= self._meta.pages:
            raise _Invalid("page %d is not one of its pages" % number)
        head = os.pread(self._file, _PAGE.size, number * size) if number * size < 1 << 62 else b""
        if len(head) < _PAGE.size:
            raise _Invalid("the file is truncated")
        own, flags, count, more = _PAGE.unpack(head)
        if own != number or flags not in (_BRANCH_PAGE, _LEAF_PAGE) or number + more >= self._meta.pages:
            raise _Invalid("page %d is not what it should be" % number)
        self._count((more + 1) * size, "the pages")
        pages = range(number, number + more + 1)
        if not self._seen.isdisjoint(pages):
            raise _Invalid("page %d is in two places" % number)
        self._seen.update(pages)
        data = os.pread(self._file, (more + 1) * size, number * size)
        if len(data) < (more + 1) * size:
            raise _Invalid("the file is truncated")
        return _Page(flags, count, data)

    def _count(self, size: int, what: str) -> None:
        self._bytes += size
        if self._bytes > MAX_BYTES:
            raise _Invalid("%s in use have more than %d MiB" % (what, MAX_BYTES >> 20))
        if time.monotonic() > self._until:
            raise _Invalid("that takes more than %d s" % SECONDS)
