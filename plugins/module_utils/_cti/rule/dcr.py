# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Validates a data collection rule (DCR), in any form that forms.py finds, and makes Settings of it.

Only the settings of the Linux extension are read. An invalid file item is left out, an invalid frequency or switch counts as
missing, and an unknown key is ignored: each is named in Settings.warnings, and the rest is used. A rule with file items of which
none can be used has an error in Settings.errors: given() refuses the rule, and load() leaves it to the caller to use the last good
items, see hold(). Where the structure is invalid, the whole rule is refused with a DcrError.
"""

import json
from functools import lru_cache
from typing import Any, Dict, List, Tuple, Union

from ..errors import DcrError
from ..kinds.files.kind import FILES
from ..kinds.files.scope import FileRule
from ..kinds.kind import DcrKeys
from ..kinds.registry import all_kinds
from ..text import load_json
from . import forms
from .file_items import MAX_FILE_ITEMS, TRACK, DestinationPaths, file_rules, misplaced
from .forms import shown
from .reading import Warnings, read_section
from .settings import Settings

MAX_BYTES = 4 << 20  # a DCR with Azure's limit of 500 file items is about 200 KB
MAX_RULES = 100  # in one document; each record is sent under the tags of all of them
MAX_SECONDS = 10**9
REMEDY = "Correct the rule, or set enableFiles to false to track no files."
REMEDY_TRACK = "Correct agent_track.files, or remove it to track no files."

INVENTORY = DcrKeys("enableInventory", "inventorySettings", "inventoryCollectionFrequency", 36000)
UPLOAD = "enableUpload"
WITHOUT_EFFECT = ("enableRegistry", "registrySettings")  # known keys of extensionSettings


def loads(raw: Union[str, bytes], origin: str) -> Settings:
    """The settings in a DCR's JSON text; `origin` is what messages call it. Raises DcrError."""
    return load(parse(raw, origin), origin)


def parse(raw: Union[str, bytes], origin: str, limit: int = MAX_BYTES) -> Any:
    """A DCR's JSON text, of at most `limit` bytes, as data. Raises DcrError."""
    if len(raw) > limit:
        raise DcrError(f"The DCR {origin} is larger than {limit} bytes. Give a data collection rule.")
    try:
        return load_json(raw, _object)
    except _RepeatedKey as error:
        raise DcrError(f"The DCR {origin} has the key {error} twice in one object. Remove one of them.") from error
    except (ValueError, RecursionError) as error:
        raise DcrError(
            f"The DCR {origin} is not JSON ({error}). Give the rule in the form that Azure or the agent writes."
        ) from error


def load(document: Any, origin: str) -> Settings:
    """The settings in a parsed document with one rule or several. Raises DcrError.

    Several rules are merged: all file items, and the shortest frequencies.
    """
    if not isinstance(document, (dict, list)):
        raise DcrError(f"The DCR {origin} is {shown(document)}. Give the JSON object of the rule.")
    warnings, paths = Warnings(), DestinationPaths()
    elements = forms.find(document, origin)
    if len(elements) > MAX_RULES:
        text = "Only the first %d of %d rules, sorted by id, are used. Associate fewer rules with this machine."
        warnings.add(text.__mod__, (MAX_RULES, len(elements)))
    return _merge([_settings(element, warnings, paths) for element in elements[:MAX_RULES]], warnings, paths)


def given(document: Any, origin: str) -> Settings:
    """load(), for a rule that an operator gives. Raises DcrError where there is an error in Settings.errors as well."""
    settings = load(document, origin)
    for error in settings.errors.values():
        raise DcrError(f"{error} {_remedy(error)}")
    return settings


def _remedy(error: str) -> str:
    return REMEDY_TRACK if error.startswith(TRACK + ": ") else REMEDY


class _RepeatedKey(ValueError):
    """A key is twice in one object, and JSON does not say which one counts."""


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _RepeatedKey(shown(key))
        found[key] = value
    return found


@lru_cache(maxsize=None)
def section_keys() -> Dict[str, Tuple[str, ...]]:
    """The objects of extensionSettings, each with the keys that it may have."""
    sections: Dict[str, Tuple[str, ...]] = {FILES.dcr.section: (FILES.dcr.frequency, "fileInfo", "uploadSetting")}
    for keys in (*(kind.dcr for kind in all_kinds().values()), INVENTORY):
        sections.setdefault(keys.section, (keys.frequency,))
    return sections


@lru_cache(maxsize=None)
def setting_keys() -> Tuple[str, ...]:
    """The keys of extensionSettings."""
    switches = (kind.dcr.switch for kind in all_kinds().values())
    return (*switches, INVENTORY.switch, UPLOAD, *section_keys(), *WITHOUT_EFFECT)


def _settings(element: forms.Element, warnings: Warnings, paths: DestinationPaths) -> Settings:
    where, streams = element.id, element.streams
    settings = read_section(where + ": extensionSettings", element.settings, setting_keys(), warnings)
    if not isinstance(streams, dict) or not all(isinstance(tag, str) for tag in streams.values()):
        raise DcrError(f"{where}: outputStreams does not map streams to texts. Correct the DCR.")
    sections = {
        name: read_section("%s: %s" % (where, name), settings.get(name), keys, warnings)
        for name, keys in section_keys().items()
    }
    kinds = all_kinds()
    on = {name: _switch(where, settings, kind.dcr.switch, True, warnings) for name, kind in kinds.items()}
    inventory = _switch(where, settings, INVENTORY.switch, True, warnings)

    section = FILES.dcr.section
    items, error = file_rules(where, sections[section].get("fileInfo"), warnings, paths)
    if not items:
        error = error or misplaced(settings, setting_keys(), section_keys()[section])
    if any(item.contents for item in items) and _switch(where, settings, UPLOAD, False, warnings):
        from .uploads import with_upload  # few rules need it

        place = "%s: %s.uploadSetting" % (where, section)
        items = with_upload(place, items, sections[section].get("uploadSetting"), warnings)
    if error and on[FILES.name]:
        warnings.errors.setdefault(FILES.name, "%s: %s" % (where, error))

    def every(keys: DcrKeys) -> int:
        return _seconds(
            "%s: %s" % (where, keys.section), sections[keys.section], keys.frequency, keys.seconds, warnings
        )

    return Settings(
        tuple(name for name in kinds if on[name]),
        items,
        {kind.name: every(kind.dcr) for kind in sorted(kinds.values(), key=lambda kind: kind is not FILES)},
        inventory,
        every(INVENTORY),
        [],
        (where,),
        {stream: (tag,) for stream, tag in streams.items()},
    )


def _switch(where: str, section: Dict[str, Any], key: str, preset: bool, warnings: Warnings) -> bool:
    value = section.get(key)
    if value is None or isinstance(value, bool):
        return preset if value is None else value
    warnings.add(_unusable, where + "." + key, value, "true or false", json.dumps(preset))
    return preset


def _seconds(where: str, section: Dict[str, Any], key: str, preset: int, warnings: Warnings) -> int:
    value = section.get(key)
    if value is None:
        return preset
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SECONDS:
        return int(value)
    warnings.add(
        _unusable, where + "." + key, value, "a whole number of seconds from 1 to %d" % MAX_SECONDS, str(preset)
    )
    return preset


def _unusable(where: str, value: Any, form: str, preset: str) -> str:
    if forms.is_expression(value):
        return f"{forms.expression_refused(where, value)} (Until then, {preset} is used.)"
    return f"{where} is {shown(value)}. Give {form}. Until then, {preset} is used."


def _merge(found: List[Settings], warnings: Warnings, paths: DestinationPaths) -> Settings:
    kinds = tuple(name for name in all_kinds() if any(name in settings.kinds for settings in found))
    rules: Dict[Any, FileRule] = {}
    for settings in found:
        for rule in settings.file_rules if FILES.name in settings.kinds else ():
            same = rules.get(rule.tracking)
            if same is None or (rule.contents, rule.upload) > (same.contents, same.upload):
                rules[rule.tracking] = rule
    total = len(rules) + paths.skipped
    if total > min(len(rules), MAX_FILE_ITEMS):
        text = "Only the first %d of %d file items are used. Remove some from the rules."
        warnings.leave_out(text % (min(len(rules), MAX_FILE_ITEMS), total))
    streams: Dict[str, Dict[str, None]] = {}
    for settings in found:
        for stream, (tag,) in settings.streams.items():
            streams.setdefault(stream, {})[tag] = None
    return Settings(
        kinds,
        list(rules.values())[:MAX_FILE_ITEMS],
        {name: min(settings.every(name) for settings in found) for name in all_kinds()},
        any(settings.inventory for settings in found),
        min(settings.inventory_every for settings in found),
        ["%s %s" % (error, _remedy(error)) for error in warnings.errors.values()] + warnings.texts(),
        tuple(where for settings in found for where in settings.rules),
        {stream: tuple(tags) for stream, tags in streams.items()},
        warnings.errors,
        warnings.left_out,
    )
