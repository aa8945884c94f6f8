# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Config chunks, as the Azure Monitor Agent keeps them in config-cache/configchunks/*.json, and replies of them."""

import json
import os
import stat
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from .. import folders
from ..text import load_json, plural

MAX_FILE_BYTES = 8 << 20
MAX_FILES = 1000
MAX_EXTENSIONS = 32
MAX_REPLY_BYTES = 8 << 20  # clients read no more than that
MAX_NAME = 50  # with the rest of the socket's name within sun_path's 108 bytes, unix(7)
NAME_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_"
SETTLED_SECONDS = 2  # a file written more recently may change again within its time stamp's grain

Element = Dict[str, Any]
Stamp = Tuple[int, int, int, int]


class ChunkFile(NamedTuple):
    stamp: Optional[Stamp]  # None: read it again next time
    modified: int
    elements: Dict[str, List[Element]]  # by extension
    problem: str = ""  # why a configuration that it holds is not known


class Chunks:
    """The chunks in `folder`. A file that cannot be read, or is half written, counts as it last was."""

    def __init__(
        self, folder: str, warn: Callable[[str], None], inform: Optional[Callable[[str], None]] = None
    ) -> None:
        """`warn` gets what is wrong with the chunks, `inform` that a chunk is right again."""
        self._folder = folder
        self._warn = warn
        self._inform = inform or warn
        self._files: Dict[str, ChunkFile] = {}
        self._logged: Dict[str, str] = {}
        self._replies: Dict[str, bytes] = {}
        self.extensions: List[str] = []
        self.unread = ""  # why it is not known what all of the folder says, so that what is missing may be in it

    def refresh(self) -> bool:
        """Look at the folder again; whether anything that matters has changed. Unchanged files are not read."""
        try:
            found = dict(_candidates(self._folder))
        except OSError as error:
            self.unread = "The folder of config chunks %s cannot be read (%s)" % (self._folder, error.strerror)
            self._say("", self.unread + "; what it held stays in force.")
            return False
        self._logged.pop("", None)
        if len(found) > MAX_FILES:
            self._say(
                " ",
                "%s holds %d config chunks; only the first %d by name are read."
                % (self._folder, len(found), MAX_FILES),
            )
        names = sorted(found)[:MAX_FILES]
        files = {name: self._read(name, found[name]) for name in names}
        changed = _content(files) != _content(self._files)
        self._logged = {name: text for name, text in self._logged.items() if not name.strip() or name in files}
        self._files = files
        self.unread = next((file.problem for file in files.values() if file.problem), "")
        if changed:
            self._merge()
        return changed

    def document(self, extension: str) -> Optional[Dict[str, Any]]:
        """What the answer about an extension holds as its TaggedData; None where no chunk names it."""
        reply = self._replies.get(extension)
        return None if reply is None else dict(json.loads(json.loads(reply.decode("ascii"))))

    def answer(self, request: Any) -> List[bytes]:
        """The reply to a request (JSON, parsed), in pieces to be sent one after the other; it has no terminator."""
        if not isinstance(request, dict):
            return [_reply({}, "The request is not a JSON object.")]
        if request.get("Request") != "AgentTaggedData":
            return [_reply(request, "Only AgentTaggedData can be requested.")]
        tag = request.get("Tag")
        if not isinstance(tag, str):
            return [_reply(request, "The request's Tag is not the name of an extension.")]
        # The configuration can be megabytes: it is the same bytes object for all who ask.
        return [_reply(request)[: -len(b"null}")], self._replies.get(tag, b"null"), b"}"]

    def _read(self, name: str, stamp: Stamp) -> ChunkFile:
        known = self._files.get(name)
        if known is not None and known.stamp == stamp:
            return known
        path = os.path.join(self._folder, name)
        kept: Optional[Stamp] = stamp if abs(time.time() - stamp[0] / 1e9) > SETTLED_SECONDS else None
        try:
            elements, ignored, dropped = _parse(path)
        except (OSError, ValueError, RecursionError) as error:
            before = known.elements if known is not None else {}
            effect = "it counts as it was before" if before else "it is ignored until it changes"
            problem = "The config chunk %s cannot be used (%s)" % (path, _reason(error))
            self._say(name, "%s; %s." % (problem, effect))
            return ChunkFile(kept, stamp[0], before, "" if before else problem)
        if ignored:
            self._say(name, "The config chunk %s: %s." % (path, ignored))
        elif self._logged.pop(name, None) is not None:
            self._inform("The config chunk %s is read again." % path)
        return ChunkFile(kept, stamp[0], elements, ignored if dropped else "")

    def _merge(self) -> None:
        """One reply an extension, of the chunks' elements in the order of their ids."""
        by_extension: Dict[str, Dict[str, Element]] = {}
        newest_last = sorted(self._files.items(), key=lambda pair: (pair[1].modified, pair[0]))
        for name, file in newest_last:
            for extension, elements in file.elements.items():
                known = by_extension.setdefault(extension, {})
                for element in elements:
                    if known.get(element["id"], element) != element:
                        self._warn(
                            "%s is in several config chunks that differ; the newest, %s, is used."
                            % (element["id"], name)
                        )
                    known[element["id"]] = element
        if len(by_extension) > MAX_EXTENSIONS:
            self._warn(
                "The config chunks name %d extensions; only the first %d by name are served."
                % (len(by_extension), MAX_EXTENSIONS)
            )
        self.extensions = sorted(by_extension)[:MAX_EXTENSIONS]
        self._replies = {}
        for extension in self.extensions:
            elements = [element for _id, element in sorted(by_extension[extension].items())]
            self._replies[extension] = _tagged_data(extension, elements)
            if len(self._replies[extension]) > MAX_REPLY_BYTES:
                self._warn(
                    "The configuration of %s is larger than the %d MiB clients read; take DCRs off this host."
                    % (extension, MAX_REPLY_BYTES >> 20)
                )

    def _say(self, about: str, text: str) -> None:
        """Log it once, and again only when it is another text."""
        if self._logged.get(about) != text:
            self._logged[about] = text
            self._warn(text)


def _content(files: Dict[str, ChunkFile]) -> Dict[str, Dict[str, List[Element]]]:
    return {name: file.elements for name, file in files.items() if file.elements}


def _candidates(folder: str) -> Iterator[Tuple[str, Stamp]]:
    """The files that may be chunks. OSError: the folder cannot be read."""
    for entry in os.scandir(folder):
        if entry.name.endswith(".json"):
            try:
                status = entry.stat()
            except OSError:  # gone since, or a link to nowhere
                continue
            if stat.S_ISREG(status.st_mode):
                yield entry.name, _stamp(status)


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _reason(error: Exception) -> str:
    return str(error.strerror if isinstance(error, OSError) else error)


def _parse(path: str) -> Tuple[Dict[str, List[Element]], str, bool]:
    """A chunk's extension configurations, what of it is ignored, and whether that is a configuration.

    Raises OSError or ValueError.
    """
    document = load_json(folders.read(path, MAX_FILE_BYTES)[0])
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    configurations = document.get("extensionConfigurations") or {}
    if not isinstance(configurations, dict):
        raise ValueError("its extensionConfigurations is not an object")
    found: Dict[str, List[Element]] = {}
    ignored, dropped = "", False
    for extension, elements in configurations.items():
        if not _is_name(extension):
            ignored = "the extension name %s is not one a socket can bear, and is ignored" % json.dumps(extension)[:80]
            continue
        if not isinstance(elements, list):
            raise ValueError("its extensionConfigurations.%s is not a list" % extension)
        good = [element for element in elements if _is_element(element)]
        if len(good) != len(elements):
            dropped = True
            ignored = "%d of %s of %s ignored: without id or outputStreams" % (
                len(elements) - len(good),
                plural(len(elements), "configuration"),
                extension,
            )
        if good:
            found[extension] = good
    if not configurations and not isinstance(document.get("dataSources"), list):  # which AMA's own for others have
        ignored = (
            "it has no extensionConfigurations, so it configures nothing; give a rule in the form of a config chunk"
        )
    return found, ignored, dropped


def _is_name(extension: str) -> bool:
    """Whether it fits into a socket's name, and into a file's."""
    return 0 < len(extension) <= MAX_NAME and extension[0] != "." and all(char in NAME_CHARACTERS for char in extension)


def _is_element(element: Any) -> bool:
    if not isinstance(element, dict) or not isinstance(element.get("id"), str):
        return False
    streams = element.get("outputStreams")
    return isinstance(streams, dict) and all(isinstance(stream, str) for stream in streams.values())


def _tagged_data(extension: str, elements: List[Element]) -> bytes:
    """The TaggedData member's value: a JSON string that holds JSON."""
    document = {"schemaVersion": 1, "version": "", "extensionName": extension, "extensionConfigurations": elements}
    return json.dumps(json.dumps(document, separators=(",", ":"))).encode("ascii")


def _reply(request: Dict[str, Any], refusal: str = "") -> bytes:
    """A reply without configuration; its last member is that for the configuration."""
    return json.dumps(
        {
            "Request": str(request.get("Request", ""))[:256],
            "RequestId": str(request.get("RequestId", ""))[:256],
            "Version": "1",
            "Success": not refusal,
            "Description": refusal,
            "TaggedData": None,
        },
        separators=(",", ":"),
    ).encode("ascii")
