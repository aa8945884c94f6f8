# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Validates the file items of a rule."""

from itertools import islice
from typing import Any, Collection, Dict, List, Optional, Tuple

from ..errors import DcrError
from ..kinds.files import pathspec
from ..kinds.files.scope import FileRule
from . import forms
from .forms import shown
from .reading import Warnings, meant, read_section

MAX_FILE_ITEMS = 1000  # of all rules together
TRACK = "agent_track"  # the id of the rule that the role agent makes of its variable agent_track
MAX_UNKNOWN = 50  # keys that are compared with the known ones
# The keys of a file item. Some have no effect here.
ITEM_KEYS = (
    "name",
    "enabled",
    "description",
    "destinationPath",
    "useSudo",
    "recurse",
    "maxContentsReturnable",
    "maxOutputSize",
    "pathType",
    "type",
    "links",
    "checksum",
    "uploadContent",
    "groupTag",
)

LINKS = {"follow": "follow", "manage": "manage", "ignore": "ignore"}
TYPES = {"file": "file", "directory": "directory", "*": "any", "any": "any"}
CHECKSUMS = {
    "sha256": "sha256",
    "sha-256": "sha256",
    "md5": "md5",
    # With these, only the dates are compared: the content is not read.
    "mtime": "none",
    "ctime": "none",
    "none": "none",
}


class DestinationPaths:
    """The destinationPaths of the rules in normal form. Their number is limited, since regular expressions take long to compile."""

    def __init__(self) -> None:
        self.skipped = 0  # file items with a path beyond the first MAX_FILE_ITEMS
        self._known: Dict[str, str] = {}
        self._refused = 0

    def normal(self, written: str) -> Optional[str]:
        """The normal form of a path; None where it is beyond the limit. Raises DcrError."""
        found = self._known.get(written)
        if found is not None:
            return found
        if len(self._known) >= MAX_FILE_ITEMS or self._refused >= MAX_FILE_ITEMS:
            self.skipped += 1
            return None
        try:
            found = self._known[written] = pathspec.normal(written)
        except DcrError:
            self._refused += 1
            raise
        return found


def file_rules(where: str, items: Any, warnings: Warnings, paths: DestinationPaths) -> Tuple[List[FileRule], str]:
    """The file items that are enabled and valid; and an error where there are none because all others are invalid.

    Raises DcrError where `items` is no list.
    """
    if items is None:
        return [], ""
    if forms.is_expression(items):
        raise DcrError(forms.expression_refused(where + ": fileSettings.fileInfo", items))
    if not isinstance(items, list):
        raise DcrError(f"{where}: fileSettings.fileInfo is {shown(items)}, not a list. Correct the DCR.")
    key, separator = ("files", ".") if where == TRACK else ("fileSettings.fileInfo", ": ")
    rules: List[FileRule] = []
    refused = ""  # why the first invalid item is
    for number, item in enumerate(items):
        name = "" if not isinstance(item, dict) or not item.get("name") else " (%s)" % shown(item["name"])
        place = "%s%s%s[%d]%s" % (where, separator, key, number, name)
        try:
            rule = _file_rule(place, item, warnings, paths)
        except DcrError as error:
            warnings.leave_out("%s is left out: %s" % (place, error))
            refused = refused or str(error)
        else:
            rules += [rule] if rule is not None else []
    return rules, "" if rules or not refused else f"No file item in {key} can be used: {refused}"


def misplaced(settings: Dict[str, Any], keys: Collection[str], section_keys: Collection[str]) -> str:
    """Which unknown key a rule has in the place of its file items, such as fileinfo; empty where there is none.

    `settings`, `keys`: extensionSettings, and the keys that it may have. `section_keys`: those of fileSettings.
    """
    for name, given, known, needed in (
        ("extensionSettings", settings, keys, "fileSettings"),
        ("fileSettings", settings.get("fileSettings") or {}, section_keys, "fileInfo"),
    ):
        if given.get(needed) is None:
            unknown = (str(key) for key, value in given.items() if value and key not in known)
            for key in islice(unknown, MAX_UNKNOWN):
                if meant(key, (*known, "fileInfo")) in (needed, "fileInfo"):
                    return "%s has the unknown key %s instead of %s." % (name, shown(key), needed)
    return ""


def _file_rule(where: str, item: Any, warnings: Warnings, paths: DestinationPaths) -> Optional[FileRule]:
    """A file item; None where it is not enabled, or beyond the limit. Raises DcrError."""
    item = read_section(where if isinstance(item, dict) else "the file item", item, ITEM_KEYS, warnings)
    if not _typed(item, "enabled", bool, True):
        return None
    written = _typed(item, "destinationPath", str, "")
    if forms.is_expression(written):
        raise DcrError(forms.expression_refused("destinationPath", written))
    if not written.strip():
        raise DcrError(f"destinationPath is {shown(item.get('destinationPath'))}. Give an absolute path.")
    path = paths.normal(written.strip())
    if path is None:
        return None
    if written != written.strip():
        warnings.add("%s: destinationPath %s is read without the blanks around it.".__mod__, (where, shown(written)))
    return FileRule(
        forms.name_of(_typed(item, "name", str, "")) or path,
        path,
        _typed(item, "recurse", bool, True),
        _choice(item, "links", LINKS, "follow"),
        _choice(item, "type", TYPES, "file"),
        _choice(item, "checksum", CHECKSUMS, "sha256"),
        *(_contents(item) if _typed(item, "uploadContent", bool, False) else ()),
    )


def _contents(item: Dict[str, Any]) -> Tuple[bool, int, int]:
    return True, max(0, _typed(item, "maxContentsReturnable", int, 0)), max(0, _typed(item, "maxOutputSize", int, 0))


def _typed(item: Dict[str, Any], key: str, expected: type, preset: Any) -> Any:
    value = item.get(key)
    if value is None:
        return preset
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        form = {bool: "true or false", int: "a whole number", str: "a text"}[expected]
        raise DcrError(f"{key} is {shown(value)}. Give {form}.")
    return value


def _choice(item: Dict[str, Any], key: str, words: Dict[str, str], preset: str) -> str:
    value = _typed(item, key, str, "") or preset
    if value.lower() not in words:
        raise DcrError(f"{key} is {shown(value)}. Use one of {', '.join(words)}.")
    return words[value.lower()]
