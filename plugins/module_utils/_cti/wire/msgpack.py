# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""A bounded msgpack codec (https://github.com/msgpack/msgpack/blob/master/spec.md) for peers that are not trusted.

What a message declares is checked against the limits before anything is allocated for it: while a message arrives, it is
only skipped; its values are made when it is complete.
"""

import struct
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from ..errors import FormatError

try:
    from msgpack import Packer  # type: ignore[import-not-found,import-untyped,unused-ignore]
except ImportError:
    _c_pack: Optional[Callable[[Any], Any]] = None
else:  # its own fallback in Python is slower than ours
    _c_pack = None if Packer.__module__ == "msgpack.fallback" else Packer(use_bin_type=True).pack

MAX_BYTES = 10 << 20  # a message; AMA takes 10,485,760 bytes a string
MAX_ITEMS = 1 << 20  # values in a message; an empty map is 1 byte on the wire and 64 in memory
MAX_DEPTH = 10
_MAX_KEYS = 1000  # that an Unpacker remembers


class ExtType:
    """An extension value: an application's type code (-128 to 127) and its bytes."""

    __slots__ = ("code", "data")

    def __init__(self, code: int, data: bytes) -> None:
        self.code = code
        self.data = data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExtType) and (self.code, self.data) == (other.code, other.data)

    def __hash__(self) -> int:
        return hash((self.code, self.data))

    def __repr__(self) -> str:
        return f"ExtType({self.code}, {self.data!r})"


# --- packing


def pack(value: Any) -> bytes:
    """Pack None, bool, int, float, str, bytes, list, tuple, dict or ExtType in the shortest form.

    Raises FormatError for any other type, and for an integer beyond 64 bits. A lone surrogate in a str becomes \\uNNNN.
    """
    out: List[bytes] = []
    _pack(value, out.append)
    return b"".join(out)


def _pack(value: Any, put: Callable[[bytes], None]) -> None:
    if isinstance(value, str):
        put(pack_str(value))
    elif value is None or value is True or value is False:
        put(_CONSTANTS[value])
    elif isinstance(value, int):
        put(_pack_int(value))
    elif isinstance(value, float):
        put(struct.pack(">Bd", 0xCB, value))
    elif isinstance(value, bytes):
        put(_head(len(value), 0, 0, 0xC4) + value)
    elif isinstance(value, (list, tuple)):
        put(array_head(len(value)))
        for item in value:
            _pack(item, put)
    elif isinstance(value, dict):
        put(map_head(len(value)))
        for key, item in value.items():
            _pack(key, put)
            _pack(item, put)
    elif isinstance(value, ExtType):
        put(_pack_ext(value))
    else:
        raise FormatError(f"msgpack has no form for a Python {type(value).__name__}")


_CONSTANTS = {None: b"\xc0", False: b"\xc2", True: b"\xc3"}


def pack_str(value: str) -> bytes:
    try:
        raw = value.encode("utf-8")
    except UnicodeEncodeError:
        raw = value.encode("utf-8", "backslashreplace")
    return _head(len(raw), 0xA0, 32, 0xD9) + raw


def array_head(length: int) -> bytes:
    return _head(length, 0x90, 16, 0xDB)


def map_head(length: int) -> bytes:
    return _head(length, 0x80, 16, 0xDD)


def _head(length: int, fixed: int, below: int, code: int) -> bytes:
    """The header of a length: in one byte `below` that, else with `code` for 8 bits (which arrays and maps lack)."""
    if length < below:
        return bytes((fixed | length,))
    if length < 0x100 and code < 0xDA:
        return bytes((code, length))
    if length < 0x10000:
        return struct.pack(">BH", code + 1, length)
    if length < 0x100000000:
        return struct.pack(">BI", code + 2, length)
    raise FormatError(f"msgpack has no form for {length} bytes or items")


def _pack_int(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack("b" if value < 0 else "B", value)
    for code, form, least, most in _INTEGERS:
        if least <= value <= most:
            return struct.pack(form, code, value)
    raise FormatError("msgpack has no form for an integer beyond 64 bits")


_INTEGERS = (
    (0xCC, ">BB", 0, 0xFF),
    (0xCD, ">BH", 0, 0xFFFF),
    (0xCE, ">BI", 0, 0xFFFFFFFF),
    (0xCF, ">BQ", 0, 0xFFFFFFFFFFFFFFFF),
    (0xD0, ">Bb", -0x80, 0),
    (0xD1, ">Bh", -0x8000, 0),
    (0xD2, ">Bi", -0x80000000, 0),
    (0xD3, ">Bq", -0x8000000000000000, 0),
)


def _pack_ext(value: ExtType) -> bytes:
    code = struct.pack("b", value.code)
    if len(value.data) in _FIXED_EXT:
        return _FIXED_EXT[len(value.data)] + code + value.data
    return _head(len(value.data), 0, 0, 0xC7) + code + value.data


_FIXED_EXT = {1: b"\xd4", 2: b"\xd5", 4: b"\xd6", 8: b"\xd7", 16: b"\xd8"}


def pack_entries(entries: Sequence[Tuple[int, Mapping[str, Any]]]) -> bytes:
    """The same as pack(), for a list of (integer, record): fast for flat records of texts with few different sets of keys.

    Uses the PyPI package msgpack where its C extension is installed.
    """
    if _c_pack is not None:
        try:
            return bytes(_c_pack(entries))
        except UnicodeEncodeError:
            pass
        except (TypeError, ValueError, OverflowError) as error:
            raise FormatError(f"msgpack has no form for a record ({error})") from error
    return b"".join(_packed_entries(entries))


def _packed_entries(entries: Sequence[Tuple[int, Mapping[str, Any]]]) -> List[bytes]:
    """Records with the same keys share a template that has everything packed but the values."""
    templates: Dict[Tuple[str, ...], bytes] = {}
    heads = _STR_HEADS
    out = [array_head(len(entries))]
    last, start = None, b""
    for number, record in entries:
        if number != last:
            last, start = number, b"\x92" + _pack_int(number)
        out.append(start)
        keys = tuple(record)
        template = templates.get(keys)
        if template is None:
            packed = [pack(key).replace(b"%", b"%%") + b"%b%b" for key in keys]
            template = templates[keys] = map_head(len(keys)) + b"".join(packed)
        values: List[bytes] = []
        add = values.append
        try:
            for value in record.values():
                raw = value.encode()
                add(heads[len(raw)])
                add(raw)
            out.append(template % tuple(values))
        except (AttributeError, IndexError, UnicodeEncodeError):  # no text, a long one, or one with a lone surrogate
            out.append(pack(record))
    return out


_STR_HEADS = [_head(length, 0xA0, 32, 0xD9) for length in range(256)]

# --- unpacking: what each first byte announces

_SCALAR = [0] * 256  # bytes of a value whose length its first byte tells
_LENGTH: Dict[int, Tuple[Callable[..., Any], int]] = {}  # str bin ext: where the length is, and bytes besides the data
_FIXED: Dict[int, Callable[..., Any]] = {}  # how to read a number
_COUNT: Dict[int, Tuple[Callable[..., Any], int]] = {}  # array and map: where the count is, and bytes of the header


def _announcements() -> None:
    for code in range(256):
        if code < 0x80 or code >= 0xE0:
            _SCALAR[code] = 1
        elif 0xA0 <= code < 0xC0:
            _SCALAR[code] = 1 + (code & 31)
    for code in (0xC0, 0xC2, 0xC3):
        _SCALAR[code] = 1
    for code, form in zip((0xCA, 0xCB) + tuple(range(0xCC, 0xD4)), "fdBHIQbhiq"):
        layout = struct.Struct(">" + form)
        _SCALAR[code] = 1 + layout.size
        _FIXED[code] = layout.unpack_from
    for code, size in zip(range(0xD4, 0xD9), (1, 2, 4, 8, 16)):
        _SCALAR[code] = 2 + size
    for first, codes in ((0xC4, 0), (0xC7, 1), (0xD9, 0)):
        for offset, form in enumerate("BHI"):
            layout = struct.Struct(">" + form)
            _LENGTH[first + offset] = (layout.unpack_from, 1 + layout.size + codes)
    for code, form, size in ((0xDC, "H", 3), (0xDD, "I", 5), (0xDE, "H", 3), (0xDF, "I", 5)):
        _COUNT[code] = (struct.Struct(">" + form).unpack_from, size)


_announcements()


def _is_map(code: int) -> bool:
    return code < 0x90 or code >= 0xDE


def _count(data: Union[bytes, bytearray], at: int) -> Tuple[int, int]:
    """(items of an array or map, bytes of its header). FormatError: nothing starts with that byte."""
    code = data[at]
    if code < 0xA0:
        return code & 15, 1
    if code not in _COUNT:
        raise FormatError(f"the byte {code:#x} starts no msgpack value")
    read, size = _COUNT[code]
    return read(data, at + 1)[0], size


class Unpacker:
    """Reads values from a stream of bytes.

        unpacker.feed(data)
        for value in unpacker: ...      # those that are complete by now

    A str becomes a str, or bytes where it is not UTF-8; a bin becomes bytes, an array a list, a map a dict, an extension ExtType.
    Raises FormatError where the bytes are no msgpack or exceed a limit; nothing more can be read then. Memory is bounded by
    `max_bytes` and what is fed at once, and by `max_items` while the values of a message are made. `one`: everything that is fed
    is part of one message, so `max_items` is for all of it. `keys`: a dict to remember short keys in, shared by all
    Unpackers that get the same one; it grows to about 200 KB.
    """

    def __init__(
        self,
        max_bytes: int = MAX_BYTES,
        max_items: int = MAX_ITEMS,
        max_depth: int = MAX_DEPTH,
        one: bool = False,
        keys: Optional[Dict[bytes, Any]] = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._max_items = max_items
        self._max_depth = max_depth
        self._one = one
        self._buffer = bytearray()
        self._keys: Dict[bytes, Any] = {} if keys is None else keys  # records have the same ones
        self._items = 0
        self._begin()

    def __len__(self) -> int:
        """Bytes held."""
        return len(self._buffer)

    def _begin(self) -> None:
        self._at = 0  # bytes of the message that have been skipped
        self._items = self._items + 1 if self._one else 1  # values that it has declared
        self._missing = 1  # values that the innermost open container still lacks
        self._outer: List[int] = []  # the same for each container around it, the innermost last

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def __iter__(self) -> Iterator[Any]:
        while self._skip_message():
            with memoryview(self._buffer) as view:  # which spares a copy
                message = bytes(view[: self._at])
            del self._buffer[: self._at]
            self._begin()
            self._check_items()
            yield _Reader(message, self._keys).value()

    def _skip_message(self) -> bool:
        """Go on to the end of the message, or of what has arrived of it. Returns whether the message is complete."""
        buffer, scalar = self._buffer, _SCALAR
        at, missing, outer, end = self._at, self._missing, self._outer, len(self._buffer)
        try:
            while missing:
                code = buffer[at]
                size = scalar[code]
                if not size:
                    if code in _LENGTH:
                        read_length, extra = _LENGTH[code]
                        size = read_length(buffer, at + 1)[0] + extra
                    else:
                        count, size = _count(buffer, at)
                        if count:  # a container that is not empty: its values come next
                            outer.append(missing - 1)
                            missing = count * 2 if _is_map(code) else count
                            at += size
                            self._check_container(missing)
                            continue
                if at + size > end:  # a part of the value has not arrived
                    self._check_length(at + size)
                    break
                at += size
                missing -= 1
                while not missing and outer:  # the innermost container is complete
                    missing = outer.pop()
        except (IndexError, struct.error):  # a part of the next header has not arrived
            pass
        self._at, self._missing = at, missing
        self._check_length(at)
        return not missing

    def _check_container(self, values: int) -> None:
        if len(self._outer) > self._max_depth:
            raise FormatError(f"a msgpack message nests deeper than {self._max_depth}")
        self._items += values
        self._check_items()

    def _check_items(self) -> None:
        if self._items > self._max_items:
            raise FormatError(f"a msgpack message has more than {self._max_items} values")

    def _check_length(self, length: int) -> None:
        if length > self._max_bytes:
            raise FormatError(f"a msgpack message is longer than {self._max_bytes} bytes")


class _Reader:
    """Makes the values of a complete message, all of whose lengths have been checked."""

    def __init__(self, data: bytes, keys: Dict[bytes, Any]) -> None:
        self._data = data
        self._at = 0
        self._keys = keys  # short ones met before, by their bytes

    def value(self) -> Any:
        data, at = self._data, self._at
        code = data[at]
        if code < 0x80 or code >= 0xE0:
            self._at = at + 1
            return code if code < 0x80 else code - 0x100
        if code < 0xA0 or code in _COUNT:
            count, size = _count(data, at)
            self._at = at + size
            return self._map(count) if _is_map(code) else self._array(count)
        if code < 0xC0:
            start = at + 1
            self._at = end = start + (code & 31)
            return _text(data[start:end])
        if code in _LENGTH:
            length, extra = _LENGTH[code]
            start = at + extra
            self._at = end = start + length(data, at + 1)[0]
            if code >= 0xD9:
                return _text(data[start:end])
            return data[start:end] if code < 0xC7 else _ext(data, start - 1, end)
        if code in _FIXED:
            self._at = at + _SCALAR[code]
            return _FIXED[code](data, at + 1)[0]
        self._at = at + _SCALAR[code]
        if code >= 0xD4:
            return _ext(data, at + 1, self._at)
        return {0xC0: None, 0xC2: False, 0xC3: True}[code]

    def _array(self, count: int) -> List[Any]:
        value = self.value
        return [value() for _unused in range(count)]

    def _map(self, count: int) -> Dict[Any, Any]:
        """Strings are read in place, not by calls: a record has hardly anything else, and calls cost most."""
        out: Dict[Any, Any] = {}
        data, at, keys = self._data, self._at, self._keys
        for _unused in range(count):
            code = data[at]
            end = at + 1 + (code & 31)
            key = keys.get(data[at:end]) if 0xA0 <= code < 0xC0 else None
            if key is None:
                key, end = self._key(at)
            at = end
            code = data[at]
            if 0xA0 <= code < 0xC0:
                start = at + 1
                at = start + (code & 31)
            elif code == 0xD9:
                start = at + 2
                at = start + data[at + 1]
            else:
                self._at = at
                out[key] = self.value()
                at = self._at
                continue
            try:
                out[key] = data[start:at].decode("utf-8")
            except UnicodeDecodeError:
                out[key] = data[start:at]
        self._at = at
        return out

    def _key(self, at: int) -> Tuple[Any, int]:
        self._at = at
        key = self.value()
        if key.__class__ in (list, dict):
            raise FormatError("a msgpack map has an array or a map for a key")
        if key.__class__ is str and self._at - at <= 32:
            if len(self._keys) >= _MAX_KEYS:
                self._keys.clear()  # so that what one client sent does not stay for all
            self._keys[self._data[at : self._at]] = key  # noqa: E203
        return key, self._at


def _text(raw: bytes) -> Any:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def _ext(data: bytes, at: int, end: int) -> ExtType:
    return ExtType(struct.unpack_from("b", data, at)[0], data[at + 1 : end])  # noqa: E203
