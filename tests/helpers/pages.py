# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a page of the documentation asks its reader to do: write files, run commands, compare the output.

    ```sh        commands; each block is run as a whole and must succeed
    ```console   lines with a prompt, `$ ` (the controller) or `web01# ` (root on that host), are commands; the lines below
                 are the output that is expected. A command may go on after a `\\` at the end of its line, or as a here-document up to END.
                 `...` stands for any text within a line, or for any lines. A comment that ends with `later:` means that
                 the command may have to be run again until its output is the one shown.
    ```yaml, ```ini, ```json   a first line such as `# group_vars/all.yml` names the file that the block is written to

A block that starts with `# Not run by the tests: REASON` is not run.
"""

import re
from typing import Iterator, List, NamedTuple, Tuple

NOT_RUN = "# Not run by the tests: "
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.(?:yml|yaml|cfg|ini|service|timer)|hosts)\n")
_PROMPT = re.compile(r"(?:(\w+)# |\$ )(.*)")


class Block(NamedTuple):
    language: str
    text: str
    line: int

    @property
    def file(self) -> str:
        """Path of the file that this block is the content of, or "" if it is not a file."""
        found = _FILE.match(self.text)
        return found.group(1) if found and self.language in ("yaml", "ini") else ""

    @property
    def reason(self) -> str:
        """Why the tests do not run this block, or ""."""
        first = self.text.partition("\n")[0]
        return first[len(NOT_RUN) :] if first.startswith(NOT_RUN) else ""


class Command(NamedTuple):
    host: str  # "" is the controller
    text: str
    output: Tuple[str, ...]  # lines expected; empty where the page shows none
    later: bool
    line: int


def blocks(page: str) -> Iterator[Block]:
    for found in _FENCE.finditer(page):
        indent, language, text = found.groups()
        text = re.sub("^" + indent, "", text, flags=re.MULTILINE)
        yield Block(language, text, page.count("\n", 0, found.start()) + 2)


def commands(block: Block) -> List[Command]:
    if block.reason:
        return []
    if block.language == "sh":
        return [Command("", block.text, (), False, block.line)]
    found: List[Command] = []
    later = False
    lines = iter(enumerate(block.text.splitlines(), block.line))
    for number, line in lines:
        prompt = _PROMPT.match(line)
        if prompt:
            text = prompt.group(2)
            while text.endswith("\\") or ("<<'END'" in text and not text.endswith("\nEND")):
                text += "\n" + next(lines)[1]
            found.append(Command(prompt.group(1) or "", text, (), later, number))
            later = False
        elif line.startswith("# ") and line.endswith("later:"):
            later = True
        else:
            assert found, "line %d: output without a command" % number
            found[-1] = found[-1]._replace(output=(*found[-1].output, line))
    return found


_VARYING = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z?", "TIME"),
    (r"\b\d{8}T\d{6}Z", "TIME"),
    (r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", "UUID"),
    (r"\b[0-9a-f]{16,}\b", "HASH"),
    (r"\b\d+[:.][\w.+~:-]*\w", "NUMBER"),  # versions, times, decimals
    (r"\b\d{2,}\b", "NUMBER"),  # a digit alone counts something that the page is about
    (r"-{2,}|─+", "RULE"),
    (r"\*{2,}", "STARS"),
)


def shape(line: str) -> str:
    """The line without what differs from run to run: times, versions, large numbers, hashes, the width of columns."""
    for pattern, name in _VARYING:
        line = re.sub(pattern, name, line)
    return " ".join(line.split())


_HOST = re.compile(r"\w+ \| (?:SUCCESS|CHANGED|FAILED!|UNREACHABLE!)")


def _by_host(lines: List[str]) -> List[str]:
    """The lines with what `ansible` prints for each host sorted by host: hosts answer in any order."""
    chunks: List[List[str]] = [[]]
    for line in lines:
        if _HOST.match(line):
            chunks.append([])
        chunks[-1].append(line)
    return [line for chunk in (chunks[:1] + sorted(chunks[1:], key=lambda chunk: chunk[0])) for line in chunk]


def matches(expected: Tuple[str, ...], output: str) -> bool:
    """Whether the output has the shape of the lines that a page shows."""
    pattern = ""
    for line in expected:
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += re.sub(r"(?:\\ )?\\\.\\\.\\\.(?:\\ )?", ".*", re.escape(shape(line))) + "\n"
    actual = "".join(shape(line) + "\n" for line in _by_host(output.rstrip("\n").splitlines()))
    return re.fullmatch(pattern, actual) is not None
