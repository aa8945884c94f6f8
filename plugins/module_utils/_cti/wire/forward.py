# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Encodes and decodes messages of the Fluentd forward protocol. No I/O.

Source: https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1 and -v1.5, in which a time may have metadata. Of
its authentication, only TLS is supported, and no shared keys.
"""

import json
import math
import os
import struct
import time as clock
from binascii import b2a_base64
from typing import Any, Dict, Iterable, Iterator, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..errors import FormatError
from ..text import decode_printable as decode_text
from .msgpack import MAX_BYTES, ExtType, Unpacker, array_head, pack, pack_entries, pack_str

MESSAGE_BYTES = 1 << 20  # that a message is filled up to; AMA accepts ten times as much
CHUNK_CHARACTERS = 1024  # of the option `chunk`, which every acknowledgement repeats; senders use 24
MEMBERS = 1 << 17  # gzip members of a message; a sender has one for a record at most
RECORDS = 1000  # that share one ack at most; more would gain nothing
Entry = Tuple[int, Mapping[str, Any]]  # unix seconds, record


class ForwardMessage(NamedTuple):
    """The content of a message, in any of the four modes of the protocol."""

    tag: str
    entries: Iterable[Tuple[int, Dict[str, Any]]]  # unix seconds, and a record of what JSON has a form for
    options: Dict[str, Any]  # "chunk": the sender wants an ack

    @property
    def chunk(self) -> str:
        """The value to acknowledge with ack() when the entries are stored; empty where the sender does not request it."""
        chunk = self.options.get("chunk")
        return chunk if isinstance(chunk, str) else ""


# --- receiving


def decode(message: Any) -> ForwardMessage:
    """Decode a value from the Unpacker, in Message, Forward, PackedForward or CompressedPackedForward mode.

    Fractions of a second are dropped, since the records have times of their own; nil is the present time. Raises FormatError for
    any other value. A nil instead of a message is a heartbeat, which the caller has to handle.
    """
    batch = decode_lazily(message)
    return batch._replace(entries=list(batch.entries))


def decode_lazily(message: Any) -> ForwardMessage:
    """The same as decode(), but packed entries are read one by one, and only once, so that they are not all in memory. The entries
    raise FormatError too.
    """
    if not isinstance(message, list) or not 2 <= len(message) <= 4:
        raise FormatError("a forward message is an array of 2 to 4 elements")
    tag, body = message[0], message[1]
    if isinstance(tag, bytes):
        tag = decode_text(tag)
    if not isinstance(tag, str):
        raise FormatError("a forward message starts with its tag")
    if isinstance(body, list):
        options = _options(message, 2)
        entries = [_entry(entry) for entry in body]
    elif isinstance(body, (str, bytes)):
        options = _options(message, 2)
        packed = body.encode("utf-8") if isinstance(body, str) else body
        return ForwardMessage(tag, _unpack_entries(packed, options.get("compressed", "text")), options)
    else:
        if len(message) < 3:
            raise FormatError("a forward message with a time has a record, too")
        options = _options(message, 3)
        entries = [_entry(message[1:3])]
    return ForwardMessage(tag, entries, options)


def _options(message: Sequence[Any], at: int) -> Dict[str, Any]:
    if len(message) > at + 1:
        raise FormatError("a forward message has elements after its options")
    options = message[at] if len(message) > at else None
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise FormatError("the options of a forward message are a map")
    known = _jsonable(options)
    chunk = known.get("chunk")
    if isinstance(chunk, str) and len(chunk) > CHUNK_CHARACTERS:
        raise FormatError(
            f"the option chunk of a forward message has {len(chunk)} characters; send one of at most {CHUNK_CHARACTERS}"
        )
    return dict(known)


def _unpack_entries(packed: bytes, compression: object) -> Iterator[Tuple[int, Dict[str, Any]]]:
    if compression not in ("gzip", "text"):
        raise FormatError("the entries of a forward message are compressed by other means than gzip")
    unpacker = Unpacker(one=True)
    for piece in _gunzip(packed) if compression == "gzip" else _pieces(packed):
        unpacker.feed(piece)
        for entry in unpacker:
            yield _entry(entry)
    if len(unpacker):
        raise FormatError("the last entry of a packed forward message is cut off")


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), _PIECE):
        yield data[start : start + _PIECE]  # noqa: E203


_PIECE = 64 << 10


def _gunzip(data: bytes) -> Iterator[bytes]:
    """The contents of all gzip members, which senders append to each other, up to the limit for a message.

    A decompressor copies the input after the end of its member, so it first gets little: the time stays linear in the length of
    the data, however many members there are.
    """
    import zlib

    at = size = members = 0
    while at < len(data):
        members += 1
        if members > MEMBERS:
            raise FormatError(f"the entries of a forward message have more than {MEMBERS} gzip members")
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        length = 256
        while not member.eof:
            piece = member.unconsumed_tail
            if not piece:
                piece = data[at : at + length]  # noqa: E203
                at += len(piece)
                length = min(2 * length, _PIECE)
                if not piece:
                    raise FormatError("the compressed entries of a forward message are cut off")
            try:
                out = member.decompress(piece, _PIECE)
            except zlib.error as error:
                raise FormatError(f"the entries of a forward message are not valid gzip ({error})") from error
            size += len(out)
            if size > MAX_BYTES:
                raise FormatError(f"the entries of a forward message decompress to more than {MAX_BYTES} bytes")
            yield out
        at -= len(member.unused_data)


def _entry(entry: Any) -> Tuple[int, Dict[str, Any]]:
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[1], dict):
        raise FormatError("an entry of a forward message is a time and a record")
    time, record = entry
    if time.__class__ is not int:
        if isinstance(time, list) and len(time) == 2 and isinstance(time[1], dict):
            time = time[0]  # the rest is metadata, which Fluent Bit sends
        time = _seconds(time)
    if not _EARLIEST < time < _LATEST:
        raise FormatError("the time of an entry is no unix time in seconds")
    for key, value in record.items():
        if value.__class__ is not str or key.__class__ is not str:
            return time, _jsonable(record)
    return time, record


_EARLIEST, _LATEST = -(1 << 40), 1 << 40  # some 34,000 years


def _seconds(time: Any) -> int:
    if time is None:
        return int(clock.time())
    if time.__class__ is int:
        return int(time)
    if isinstance(time, ExtType):
        parts = _ext_time(time)
        if parts is not None:
            return parts[0]
    elif isinstance(time, float) and _EARLIEST < time < _LATEST:
        return int(time)
    raise FormatError("the time of an entry is neither unix seconds nor an EventTime nor a Timestamp")


def _ext_time(value: ExtType) -> Optional[Tuple[int, int]]:
    """Seconds and nanoseconds of Fluentd's EventTime (type 0) and of msgpack's Timestamp (type -1)."""
    kind = (value.code, len(value.data))
    if kind == (-1, 4):
        return struct.unpack(">I", value.data)[0], 0
    if kind == (-1, 8):
        both = struct.unpack(">Q", value.data)[0]
        return both & 0x3FFFFFFFF, both >> 34
    if kind == (-1, 12):
        nanoseconds, seconds = struct.unpack(">Iq", value.data)
        return seconds, nanoseconds
    if kind == (0, 8):
        seconds, nanoseconds = struct.unpack(">II", value.data)
        return seconds, nanoseconds
    return None


def _jsonable(value: Any) -> Any:
    """The value with everything that JSON cannot represent as text, and times as seconds."""
    if isinstance(value, dict):
        return {_jsonable_key(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    if isinstance(value, bytes):
        return decode_text(value)
    if isinstance(value, ExtType):
        parts = _ext_time(value)
        return value.data.hex() if parts is None else parts[0] + parts[1] / 1e9
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _jsonable_key(key: Any) -> str:
    return key if isinstance(key, str) else str(_jsonable(key))


def ack(chunk: str) -> bytes:
    """The receiver's answer to a message with the option `chunk`."""
    return pack({"ack": chunk})


# --- sending


def flat(row: Mapping[str, Any]) -> Dict[str, str]:
    """A record in the form that the Azure Monitor Agent accepts: texts only. None is left out, a nested value becomes JSON."""
    out = {}
    for key, value in row.items():
        if isinstance(value, str):
            out[key] = value
        elif isinstance(value, (dict, list, tuple)):
            out["json_" + key] = json.dumps(value, separators=(",", ":"))
        elif isinstance(value, bool):
            out[key] = "true" if value else "false"
        elif value is not None:
            out[key] = str(value)
    return out


def pack_batches(entries: Sequence[Entry]) -> Iterator[Tuple[bytes, int]]:
    """Yield (packed entries, their number) for message(): up to RECORDS each, and up to MESSAGE_BYTES where splitting helps.

    Raises FormatError where a record is too large for any receiver.
    """
    for start in range(0, len(entries), RECORDS):
        yield from _pack_halves(entries[start : start + RECORDS])  # noqa: E203


def _pack_halves(entries: Sequence[Entry]) -> Iterator[Tuple[bytes, int]]:
    packed = pack_entries(entries)
    if len(packed) > MESSAGE_BYTES and len(entries) > 1:
        half = len(entries) // 2
        yield from _pack_halves(entries[:half])
        yield from _pack_halves(entries[half:])
        return
    if len(packed) > MAX_BYTES - 4096:  # space for the tag and the options
        raise FormatError(f"a record of {len(packed)} bytes is larger than any receiver accepts; leave it out")
    yield packed, len(entries)


def message(tag: str, packed: bytes, count: int, chunk: str = "") -> bytes:
    """A message in Forward mode. With a `chunk`, from new_chunk(), the receiver has to answer with ack(chunk)."""
    options = pack({"chunk": chunk, "size": count}) if chunk else b""
    return array_head(3 if chunk else 2) + pack_str(tag) + packed + options


def new_chunk() -> str:
    """A new value for the option chunk: 128 random bits in base64."""
    return b2a_base64(os.urandom(16), newline=False).decode("ascii")
