# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packs the source of a module, and of what it imports, for host.py.

A payload is a row of compressed streams: the program host.py, the module with what it always imports, and one stream for each feature
that the request asks for. The same collection gives the same bytes. Docstrings, comments and annotations are left out; all
lines keep their numbers, so that a traceback of the host leads to the line.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

try:
    import lzma
except ImportError:  # a Python that was built without
    lzma = None  # type: ignore[assignment]

PLUGINS = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBRARY = "module_utils._cti."
# What is imported only where a request asks for the feature, or where it turns out that it is needed: inside of functions. A host that
# lacks one is sent everything in a second call. So each must be needed before the run stores its result, see host.Missing.
FEATURES = {
    "packages": (LIBRARY + "kinds.packages.databases",),
    "services": (LIBRARY + "kinds.services.managers",),
    "files": (LIBRARY + "kinds.files.scan",),
    "rule": (
        LIBRARY + "rule.dcr",
        LIBRARY + "rule.hold",
        LIBRARY + "kinds.files.pathspec",
        LIBRARY + "kinds.files.shared",
    ),
    "full": (LIBRARY + "tracking.bounded",),
    "since": (LIBRARY + "state.since",),
    "forward": ("module_utils._forward",),
    "rare": (
        LIBRARY + "kinds.files.cpus",
        LIBRARY + "kinds.files.readers",
        LIBRARY + "kinds.files.sliced",
        LIBRARY + "kinds.packages.deb822",
        LIBRARY + "kinds.packages.rpm_query",
        LIBRARY + "kinds.packages.versions",
        LIBRARY + "state.clone",
        LIBRARY + "state.numbering",
        LIBRARY + "state.repair",
        LIBRARY + "tracking.rules_changed",
        LIBRARY + "untrusted_sqlite",
    ),
}
_LZMA = [{"id": lzma.FILTER_LZMA1, "preset": 6, "lc": 4, "lp": 0, "pb": 0}] if lzma else []
DOCUMENTED = ("DOCUMENTATION", "EXAMPLES", "RETURN")
# A string, a comment, or an indentation; for text without docstrings. Strings are matched so that nothing in one is taken for the others.
_SPARED = re.compile(
    rb"""(\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|#[^\n]*|^((?:[ ]{4})+)""",
    re.DOTALL | re.MULTILINE,
)
_TRAILING = re.compile(rb"[ \t]+(?=\n)")
COMPILE_ONCE = "_compile_once"  # which is for zip files
TYPING = "ct_typing"  # what is imported in place of typing, see host.py
RETURNS, ASSIGN, FIELD = b" ", b" = ", b"0"  # in place of annotations


class Payload:
    """What is sent of one module. `features`: those of FEATURES that a request may leave out. `usual`: those of them that are in one
    stream with the module where all are asked for, which is smaller."""

    def __init__(self, module: str, features: Iterable[str], usual: Iterable[str] = ()) -> None:
        self._features = {name: FEATURES[name] for name in features}
        self._gates = {gate for gates in self._features.values() for gate in gates}
        self._base = _closure(["modules." + module], self._gates)
        self._usual = frozenset(usual)
        self._program = _program()
        self._streams: dict[frozenset[str], bytes] = {}

    def join(self, features: Iterable[str]) -> bytes:
        """The streams with these features. Each is made when it is first asked for."""
        first = self._usual.intersection(features)
        if first != self._usual:
            first = frozenset()
        others = (frozenset((name,)) for name in sorted(set(features) - first))
        return self._program + b"".join(map(self._stream, (first, *others)))

    def whole(self) -> bytes:
        """Everything, in streams that every host can read."""
        names = self._base.union(*(_closure(gates, self._gates) for gates in self._features.values()))
        return self._program + _pack(names, _compress)

    def _stream(self, features: frozenset[str]) -> bytes:
        """The stream of these features; that of the usual ones, or of none, has the module too."""
        if features not in self._streams:
            names = set().union(*(_closure(self._features[name], self._gates) for name in features))
            names = names | self._base if features == self._usual or not features else names - self._base
            self._streams[features] = _pack(names, _compress_well)
        return self._streams[features]


@functools.lru_cache(maxsize=None)
def build(module: str, features: frozenset[str] = frozenset(), usual: frozenset[str] = frozenset()) -> Payload:
    """The payload of a module of the collection, once for a process."""
    return Payload(module, features, usual)


def _program() -> bytes:
    return _compress(strip(_read(os.path.join(os.path.dirname(os.path.abspath(__file__)), "host.py"))))


class _Source(NamedTuple):
    text: bytes
    imports: list[str]  # names that may be modules


def _closure(roots: Iterable[str], gates: set[str]) -> set[str]:
    """The names of the roots and of all that they import inside the collection, without what only a gate leads to."""
    todo = list(roots)
    found: set[str] = set()
    while todo:
        name = todo.pop()
        if name and name not in found and _path(name) is not None:
            found.add(name)
            package = name.rpartition(".")[0]
            todo += [package, *(other for other in _source(name).imports if other not in gates)]
    return found


def _pack(names: set[str], compress: Callable[[bytes], bytes]) -> bytes:
    return compress(b"".join(b"\0%s\n%s" % (name.encode("ascii"), _source(name).text) for name in sorted(names)))


def _compress(text: bytes) -> bytes:
    return zlib.compress(text, 9)


def _compress_well(text: bytes) -> bytes:
    return lzma.compress(text, lzma.FORMAT_ALONE, filters=_LZMA) if lzma else zlib.compress(text, 9)


def _path(name: str) -> str | None:
    path = os.path.join(PLUGINS, *name.split("."))
    for found in (path + ".py", os.path.join(path, "__init__.py")):
        if os.path.isfile(found):
            return found
    return None if not os.path.isdir(path) else ""


@functools.lru_cache(maxsize=None)
def _source(name: str) -> _Source:
    path = _path(name)
    if not path:  # a folder without __init__.py
        return _Source(b"", [])
    text = _read(path)
    tree = ast.parse(text)
    package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
    return _Source(strip(text, tree), list(_imports(tree, package.split("."))))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _imports(tree: ast.Module, package: list[str]) -> Iterator[str]:
    """What the relative imports name, wherever they are: modules, and names in them that may be modules."""
    for node in _statements(tree.body):
        if isinstance(node, ast.ImportFrom) and node.level and not _is_import_of(node, COMPILE_ONCE):
            parts = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            yield ".".join(parts)
            yield from (".".join([*parts, alias.name]) for alias in node.names)


def _statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All statements, those inside of others too, except what only type checkers see."""
    for node in body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        for field in ("body", "handlers", "orelse", "finalbody"):
            yield from _statements(getattr(node, field, ()))


def strip(text: bytes, tree: ast.Module | None = None) -> bytes:
    """The source without docstrings, comments, annotations, imports of typing for these, and the documentation of a module. Lines
    keep their numbers."""
    starts = [0, *(match.end() for match in re.finditer(b"\n", text))]
    for start, end, instead in sorted(_edits(tree or ast.parse(text), text, starts), reverse=True):
        line_end = b"\\\n" if instead in (RETURNS, ASSIGN, FIELD) else b"\n"  # no brackets are open there
        text = b"".join((text[:start], instead, line_end * text.count(b"\n", start, end), text[end:]))
    return _TRAILING.sub(b"", _SPARED.sub(lambda match: match[1] or b" " * (len(match[2] or b"") // 4), text))


def _edits(tree: ast.Module, text: bytes, starts: list[int]) -> Iterator[tuple[int, int, bytes]]:
    """What to replace: start, end, and by what. `starts`: of the lines, in bytes."""
    used = _used(tree)

    def start(node: ast.expr | ast.stmt | ast.arg) -> int:
        return starts[node.lineno - 1] + node.col_offset

    def end(node: ast.expr | ast.stmt | ast.arg) -> int:
        return starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)

    def of_body(body: list[ast.stmt], in_class: bool) -> Iterator[tuple[int, int, bytes]]:
        for number, node in enumerate(body):
            if _is_docstring(node, first=not number) or _is_documentation(node):
                yield start(node), end(node), b"" if len(body) > 1 else b"pass"
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for arg in _arguments(node.args):
                    if arg.annotation is not None:
                        yield start(arg) + len(arg.arg.encode()), end(arg.annotation), b""
                if node.returns is not None:
                    yield text.rindex(b"->", 0, start(node.returns)), end(node.returns), RETURNS
                yield from of_body(node.body, in_class=False)
            elif isinstance(node, ast.AnnAssign) and in_class:
                yield start(node.annotation), end(node.annotation), FIELD
            elif isinstance(node, ast.AnnAssign):
                instead = (end(node), b"pass") if node.value is None else (start(node.value), ASSIGN)
                yield (start(node) if node.value is None else end(node.target), *instead)
            elif _is_import_of(node, COMPILE_ONCE):
                yield start(node), end(node), b""
            elif isinstance(node, ast.ImportFrom) and node.module == "typing":
                names = ", ".join(alias.name for alias in node.names if alias.name in used)
                yield start(node), end(node), f"from {TYPING} import {names}".encode() if names else b"pass"
            else:
                inside = in_class or isinstance(node, ast.ClassDef)
                for field in ("body", "orelse", "finalbody"):
                    yield from of_body(getattr(node, field, []), inside)
                for handler in getattr(node, "handlers", ()):
                    yield from of_body(handler.body, inside)

    return of_body(tree.body, in_class=False)


def _used(tree: ast.Module) -> set[str]:
    """The names that are used outside of annotations."""
    nodes = list(ast.walk(tree))
    annotations = [getattr(node, name, None) for node in nodes for name in ("annotation", "returns")]
    in_annotations = {id(node) for note in annotations if note for node in ast.walk(note)}
    return {node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in in_annotations}


def _is_docstring(node: ast.stmt, first: bool) -> bool:
    return (
        first
        and isinstance(node, ast.Expr)  # noqa: W503
        and isinstance(node.value, ast.Constant)  # noqa: W503
        and isinstance(node.value.value, str)  # noqa: W503
    )


def _is_import_of(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.ImportFrom) and [alias.name for alias in node.names] == [name]


def _is_documentation(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in DOCUMENTED


def _arguments(arguments: ast.arguments) -> Iterator[ast.arg]:
    yield from (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    yield from (one for one in (arguments.vararg, arguments.kwarg) if one is not None)
