# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The file items of a data collection rule, and which files they reach."""

import re
from functools import lru_cache
from typing import Any, NamedTuple, Sequence, Tuple

from .destination import PathSpec

TEMPLATE = "/etc/.*.conf"  # the destinationPath in Azure's template, which most runs have


class FileRule(NamedTuple):
    """One `fileInfo` item of a DCR."""

    name: str
    path: str  # destinationPath as written
    recurse: bool = True
    links: str = "follow"  # follow manage ignore
    type: str = "file"  # file directory any
    checksum: str = "sha256"  # sha256 md5 none
    contents: bool = False  # whether texts are kept, for differences
    max_file: int = 0  # bytes of a text; 0: the rule has no limit
    max_all: int = 0  # bytes of all its texts; likewise
    upload: Tuple[str, ...] = ()  # blobEndpoint, storageAccountResourceId, managedIdentity; empty: no text is uploaded

    @property
    def tracking(self) -> Tuple[str, str, bool, str, str, str]:
        """What is tracked, and how. Rules with equal ones see the same items."""
        return self[:6]


@lru_cache(maxsize=1000)  # as many as the file items of a rule
def parse_path(path: str) -> PathSpec:
    """Parse a destinationPath, see pathspec.parse()."""
    if path == TEMPLATE:
        return PathSpec("/etc", "regex", ".*.conf", re.compile(r"(?s)(?:.*.conf)\Z").match)
    from .pathspec import parse  # few hosts without a rule need it

    return parse(path)


def in_scope(rules: Sequence[Any], item: Any) -> bool:
    """Whether rules (FileRule, or their fields as the store keeps them) reach a File, by its path and type alone."""
    return any(reaches(FileRule(*rule), item.path, item.type) for rule in rules)


def reaches(rule: FileRule, path: str, type_: str) -> bool:
    """Whether a rule tracks a file of this path and type."""
    if rule.type != "any" and type_ != "link" and type_ != rule.type:
        return False
    spec = parse_path(rule.path)
    folder, _slash, name = path.rpartition("/")
    if spec.syntax == "literal":  # may name a folder, which stands for what is in it
        if path == rule.path or folder == rule.path:
            return True
        return rule.recurse and path.startswith(rule.path.rstrip("/") + "/")
    below = folder == spec.directory or (rule.recurse and (folder + "/").startswith(spec.directory.rstrip("/") + "/"))
    return below and spec.match(name)
