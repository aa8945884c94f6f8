# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One direct call: a module's source and a request go to the host's interpreter on standard input, and its result comes back."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import shlex
import zlib
from typing import Any, NamedTuple

from ...module_utils._cti.text import check_size

MAX_BYTES = 256 << 20  # of an answer, unpacked
MAX_DEPTH = 50
MAX_WARNINGS = 100
# Runs on the host: checks what it was sent, then runs host.py, which is its first zlib stream. Without a quote, a line end, a
# backslash or an exclamation mark, which the login shells of hosts read in different ways.
BOOT = (
    "import sys;sys.version_info<(3,6)and sys.exit(1);a=sys.argv;i=sys.stdin.buffer.read(int(a[1]));import hashlib,zlib;"
    "o=zlib.decompressobj();g={};hashlib.sha256(i).hexdigest()==a[2]and"
    '(exec(o.decompress(i),g),g["main"](o.unused_data,*a[2:]))'
)


class NotStarted(Exception):
    """Nothing was run on the host."""


class HalfAnswer(Exception):
    """The host started, and its answer is not complete or invalid."""


LZMA = "lzma"  # which the host lacks, so that it has read nothing of the request


class Missing(Exception):
    """The host needs more of the collection than it was sent: the name of a module, or LZMA. It stored nothing."""


class Answer(NamedTuple):
    result: dict[str, Any]
    warnings: list[str]
    interpreter: str  # that the host found among the candidates; empty where it was given


class Call:
    """What is sent. `payload`: that of the module, see payload.py."""

    def __init__(self, payload: bytes, request: dict[str, Any]) -> None:
        """Raises TypeError: the request has values that JSON does not have."""
        self.data = payload + zlib.compress(json.dumps(request).encode("ascii"), 9)
        self._marker = hashlib.sha256(self.data).hexdigest()

    def command(self, interpreter: str, environment: str) -> str:
        """The command for a shell of any kind. An interpreter that fails at once must not leave the data unread."""
        return f"{environment} {self._python(interpreter)} || cat > /dev/null".lstrip()

    def searching_command(self, candidates: list[str], environment: str) -> str:
        """The command for a POSIX shell. It looks for the first of the interpreters, as Ansible does."""
        names = " ".join(map(shlex.quote, candidates))
        search = f'for p in {names}; do p=$(command -v "$p"); case $p in /*) break;; esac; done'
        return f"{search}; {environment} {self._python(_FOUND)} {_FOUND} || cat > /dev/null"

    def _python(self, interpreter: str) -> str:
        return f"{interpreter} -I -S -c {shlex.quote(BOOT)} {len(self.data)} {self._marker}"

    def read(self, output: str) -> Answer:
        """Raises NotStarted, HalfAnswer and Missing. Nothing but the form of an answer is checked."""
        if f"{self._marker} started" not in output:
            raise NotStarted
        match = re.search(rf"{self._marker} ended ([A-Za-z0-9+/=]+) {self._marker}\b", output)
        if match is None:
            raise HalfAnswer("it has no end")
        try:
            answer = _load(base64.b64decode(match[1], validate=True))
            if "missing" in answer:
                raise Missing(str(answer["missing"]))
            result, warnings, interpreter = (answer[name] for name in ("result", "warnings", "interpreter"))
        except (binascii.Error, zlib.error, ValueError, KeyError, TypeError, RecursionError) as error:
            raise HalfAnswer("it is invalid") from error
        if not (isinstance(result, dict) and isinstance(warnings, list) and isinstance(interpreter, str)):
            raise HalfAnswer("it is invalid")
        return Answer(result, [text for text in warnings[:MAX_WARNINGS] if isinstance(text, str)], interpreter)


_FOUND = '"$p"'


def _load(packed: bytes) -> Any:
    stream = zlib.decompressobj()
    text = stream.decompress(packed, MAX_BYTES)
    if not stream.eof:
        raise ValueError("too large, or cut off")
    check_size(text)
    answer = json.loads(text)
    level = [answer]
    for _depth in range(MAX_DEPTH):
        level = [value for container in level for value in _values(container) if isinstance(value, (dict, list))]
    if level:
        raise ValueError("nested too deeply")
    return answer


def _values(container: Any) -> Any:
    return container.values() if isinstance(container, dict) else container
