# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Requests the configuration of an extension, which comes from the DCRs, from the Azure Monitor Agent (AMA).

The request is a JSON text as one msgpack str; the answer is plain JSON, without a length or an end mark.
"""

import json
import re
import socket
import uuid
from typing import Any, Dict, Iterable, Optional

from ..errors import ForwardError
from ..text import load_json
from ..wire.address import Address
from ..wire.ama import AMA_USERS
from ..wire.msgpack import pack
from ..wire.sockets import Deadline, connect

MAX_BYTES = 8 << 20  # a DCR with Azure's limit of 500 file items is about 200 KB
_MAX_DEPTH = 64
_TOKEN = re.compile(rb'\\.|\\\Z|["{}\[\]]', re.DOTALL)
_AGAIN = (
    "try again; if that does not help, see the log of azuremonitoragent, or of the relay that takes its place (ctrelay)"
)


def ask(
    address: Address, tag: str, allowed_users: Iterable[str] = AMA_USERS, deadline: float = 10.0
) -> Optional[Dict[str, Any]]:
    """request() over a new connection; connect and request may take up to `deadline` seconds each. Raises ForwardError."""
    with connect(address, deadline, allowed_users) as sock:
        return request(sock, tag, deadline)


def request(sock: socket.socket, tag: str, deadline: float = 10.0) -> Optional[Dict[str, Any]]:
    """The TaggedData document for the name of an extension; None where AMA has no configuration for it.

    A connection serves one request. `deadline`: seconds for all of it. Raises ForwardError where there is no valid answer.
    """
    request_id = str(uuid.uuid4())
    question = {"Request": "AgentTaggedData", "RequestId": request_id, "Tag": tag, "Version": "1"}
    until = Deadline(deadline)
    try:
        until.limit(sock)
        sock.sendall(pack(json.dumps(question, separators=(",", ":"))))
        text = _receive(sock, until)
    except socket.timeout:
        raise ForwardError(f"AMA gave no complete answer about {tag} within {deadline:g} s; {_AGAIN}") from None
    except OSError as error:
        reason = error.strerror or error
        raise ForwardError(
            f"The connection to AMA broke during the request about {tag} ({reason}); {_AGAIN}"
        ) from error
    return _tagged_data(text, tag, request_id)


def _receive(sock: socket.socket, until: Deadline) -> bytes:
    answer = bytearray()
    end = JsonEnd()
    while True:
        until.limit(sock)
        data = sock.recv(1 << 16)
        if not data:
            raise ForwardError(f"AMA closed the connection after {len(answer)} bytes of an answer; {_AGAIN}")
        answer += data
        length = end.find(data)
        if length is not None:
            return bytes(answer[:length])
        if len(answer) > MAX_BYTES:
            raise ForwardError(f"AMA's answer is longer than {MAX_BYTES} bytes; {_AGAIN}")


class JsonEnd:
    """Finds the end of a JSON object while it arrives. Reads each byte once."""

    def __init__(self) -> None:
        self._before = 0  # bytes of earlier pieces
        self._depth = 0
        self._in_string = False
        self._escape = False  # the piece before ended in a backslash

    def find(self, piece: bytes) -> Optional[int]:
        """The object's length in all the pieces so far, or None. ForwardError: what comes is no object."""
        before = self._before
        self._before += len(piece)
        at = 1 if self._escape else 0
        self._escape = False
        if not self._depth:
            at = len(piece) - len(piece.lstrip(b" \t\r\n"))
            if piece[at : at + 1] not in (b"{", b""):  # noqa: E203
                raise ForwardError(
                    f"AMA's answer is not JSON, it starts with {piece[at : at + 20]!r}; {_AGAIN}"  # noqa: E203
                )
        for token in _TOKEN.finditer(piece, at):
            found = token.group()
            if found == b'"':
                self._in_string = not self._in_string
            elif found == b"\\":
                self._escape = True
            elif len(found) == 1 and not self._in_string:
                self._depth += 1 if found in b"{[" else -1
                if not self._depth:
                    return before + token.end()
                if self._depth > _MAX_DEPTH:
                    raise ForwardError(f"AMA's answer nests deeper than {_MAX_DEPTH}; {_AGAIN}")
        return None


def _tagged_data(text: bytes, tag: str, request_id: str) -> Optional[Dict[str, Any]]:
    answer = _object(text, "AMA's answer about " + tag)
    if answer.get("RequestId", request_id) != request_id:
        raise ForwardError(f"AMA answered another request about {tag} than this one; {_AGAIN}")
    if answer.get("Success") is not True:
        reason = answer.get("Description")
        explanation = " ".join(reason[:500].split()) if isinstance(reason, str) else ""
        raise ForwardError(f"AMA refused the request about {tag}: {explanation or 'without a reason'}; {_AGAIN}")
    document = answer.get("TaggedData")
    if document is None or document == "":
        return None
    if not isinstance(document, str):
        raise ForwardError(f"AMA's answer about {tag} has a TaggedData that is no text; {_AGAIN}")
    return _object(document.encode("utf-8", "surrogatepass"), "the TaggedData of AMA's answer about " + tag)


def _object(text: bytes, what: str) -> Dict[str, Any]:
    try:
        value = load_json(text)
    except (ValueError, RecursionError) as error:
        raise ForwardError(f"{what} is not JSON ({error}); {_AGAIN}") from error
    if not isinstance(value, dict):
        raise ForwardError(f"{what} is not a JSON object; {_AGAIN}")
    return value
