# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""A data collection rule (DCR), in any form it is met in, as one validated Settings.

Forms: the ARM resource (`az monitor data-collection rule show`, a template), the config chunk as the Azure Monitor
Agent stores it, and the TaggedData that agent hands out. Only the Linux extension's settings are read.
"""

import json
from functools import lru_cache
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence, Tuple, Union

from . import pathspec
from .errors import DcrError
from .model import File, FileRule

parse_path = lru_cache(maxsize=1000)(pathspec.parse)

EXTENSION = "ChangeTracking-Linux"
CHANGE_STREAM = "CONFIG_CHANGE_BLOB_V2"
DATA_STREAM = "CONFIG_DATA_BLOB_V2"  # inventory
MAX_BYTES = 4 << 20  # a DCR with Azure's limit of 500 file items is about 200 KB

# What Azure's template asks for.
DEFAULT = {
    "enableFiles": True,
    "enableSoftware": True,
    "enableServices": True,
    "enableInventory": True,
    "fileSettings": {
        "fileCollectionFrequency": 900,
        "fileInfo": [{"name": "ChangeTrackingLinuxPath_default", "destinationPath": "/etc/.*.conf"}],
    },
    "softwareSettings": {"softwareCollectionFrequency": 300},
    "servicesSettings": {"serviceCollectionFrequency": 300},
    "inventorySettings": {"inventoryCollectionFrequency": 36000},
}

# The keys of extensionSettings; a nested dict describes a section, a list one of its items.
KEYS: Dict[str, Any] = {
    "enableFiles": bool,
    "enableSoftware": bool,
    "enableRegistry": bool,
    "enableServices": bool,
    "enableInventory": bool,
    "enableUpload": bool,
    "fileSettings": {
        "fileCollectionFrequency": int,
        "fileInfo": [
            {
                "name": str,
                "enabled": bool,
                "description": str,
                "destinationPath": str,
                "useSudo": bool,
                "recurse": bool,
                "maxContentsReturnable": int,
                "maxOutputSize": int,
                "pathType": str,
                "type": str,
                "links": str,
                "checksum": str,
                "uploadContent": bool,
                "groupTag": str,
            }
        ],
        "uploadSetting": {"storageAccountResourceId": str, "blobEndpoint": str, "managedIdentity": object},
    },
    "softwareSettings": {"softwareCollectionFrequency": int},
    "servicesSettings": {"serviceCollectionFrequency": int},
    "inventorySettings": {"inventoryCollectionFrequency": int},
    "registrySettings": object,
}

LINKS = {"follow": "follow", "manage": "manage", "ignore": "ignore"}
TYPES = {"file": "file", "directory": "directory", "*": "any", "any": "any"}
CHECKSUMS = {
    "sha256": "sha256",
    "sha-256": "sha256",
    "md5": "md5",
    # These two ask for the dates alone: the content is not read.
    "mtime": "none",
    "ctime": "none",
    "none": "none",
}


class Settings(NamedTuple):
    """What is to be collected, and every how many seconds."""

    kinds: Tuple[str, ...]
    file_rules: List[FileRule]
    files_every: int
    packages_every: int
    services_every: int
    inventory: bool
    inventory_every: int
    warnings: List[str]
    rules: Tuple[str, ...] = ()  # the ids of the data collection rules, sorted
    streams: Mapping[str, Tuple[str, ...]] = {}  # CHANGE_STREAM, DATA_STREAM -> tags, one a rule; none in the ARM form

    def every(self, kind: str) -> int:
        """Seconds between two collections of a kind."""
        return {"packages": self.packages_every, "services": self.services_every, "files": self.files_every}[kind]


def default() -> Settings:
    """What Azure's template asks for: every kind, and every *.conf below /etc."""
    return _merge([_settings("the default", DEFAULT, {}, [])], [])


def loads(raw: Union[str, bytes], origin: str) -> Settings:
    """The settings in a DCR's JSON text; `origin` is what messages call it. Raises DcrError."""
    return load(parse(raw, origin), origin)


def parse(raw: Union[str, bytes], origin: str) -> Any:
    """A DCR's JSON text as data. Raises DcrError."""
    if len(raw) > MAX_BYTES:
        raise DcrError("The DCR %s is larger than %d bytes; give a data collection rule." % (origin, MAX_BYTES))
    try:
        return json.loads(raw.decode("utf-8-sig") if isinstance(raw, bytes) else raw)
    except (ValueError, RecursionError) as error:
        raise DcrError(
            "The DCR %s is not JSON (%s); give the rule as Azure or the agent writes it." % (origin, error)
        ) from error


def load(document: Any, origin: str) -> Settings:
    """The settings in a DCR that is already parsed. Several rules in one are merged: all files, the shortest frequencies."""
    if not isinstance(document, dict):
        raise DcrError("The DCR %s is a %s; give the rule's JSON object." % (origin, type(document).__name__))
    warnings: List[str] = []
    elements = sorted(_extension_elements(document, origin), key=lambda element: element[0])
    found = [_settings(where, settings, streams, warnings) for where, settings, streams in elements]
    if not found:
        raise DcrError(
            "The DCR %s has no settings for the extension %s; add a data source of kind extension with that extensionName."
            % (origin, EXTENSION)
        )
    return _merge(found, warnings)


def in_scope(scope: Sequence[Any], item: Any) -> bool:
    """Whether rules (FileRule, or their fields as the store keeps them) reach a File, by its path and type alone."""
    return any(reaches(FileRule(*rule), item) for rule in scope)


def reaches(rule: FileRule, item: File) -> bool:
    if rule.type != "any" and item.type != "link" and item.type != rule.type:
        return False
    spec = parse_path(rule.path)
    folder, _slash, name = item.path.rpartition("/")
    if spec.syntax == "literal":  # may name a folder, which stands for what is in it
        if item.path == rule.path or folder == rule.path:
            return True
        return rule.recurse and item.path.startswith(rule.path.rstrip("/") + "/")
    below = folder == spec.directory or (rule.recurse and (folder + "/").startswith(spec.directory.rstrip("/") + "/"))
    return below and spec.match(name)


def _extension_elements(document: Dict[str, Any], origin: str) -> Iterator[Tuple[str, Any, Any]]:
    """(id, extensionSettings, outputStreams) of each Linux data source, whatever the form."""
    configurations = document.get("extensionConfigurations")
    if isinstance(configurations, list) and document.get("extensionName", EXTENSION) == EXTENSION:  # TaggedData
        configurations = {EXTENSION: configurations}
    if isinstance(configurations, dict):  # config chunk
        elements = configurations.get(EXTENSION, [])
        for element in _objects(elements, "extensionConfigurations.%s" % EXTENSION, origin):
            yield str(element.get("id", origin)), element.get("extensionSettings"), element.get("outputStreams", {})
        return
    body = document.get("properties", document)
    sources = body.get("dataSources", {}) if isinstance(body, dict) else {}
    extensions = sources.get("extensions", []) if isinstance(sources, dict) else []
    for element in _objects(extensions, "dataSources.extensions", origin):
        if element.get("extensionName") == EXTENSION:
            yield str(element.get("name", origin)), element.get("extensionSettings"), {}
    for resource in _objects(document.get("resources", []), "resources", origin):  # an ARM template
        yield from _extension_elements(resource, origin)


def _objects(value: Any, where: str, origin: str) -> List[Dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(element, dict) for element in value):
        raise DcrError("The DCR %s: %s is not a list of objects; correct the rule." % (origin, where))
    return value


def _settings(where: str, settings: Any, streams: Any, warnings: List[str]) -> Settings:
    _check(where + ": extensionSettings", settings, KEYS, warnings)
    if not isinstance(streams, dict) or not all(isinstance(tag, str) for tag in streams.values()):
        raise DcrError("%s: outputStreams does not map streams to texts; correct the DCR." % where)
    files = settings.get("fileSettings", {})
    kinds = [
        kind
        for kind, switch in (("packages", "enableSoftware"), ("services", "enableServices"), ("files", "enableFiles"))
        if settings.get(switch, True)
    ]
    return Settings(
        tuple(kinds),
        [_file_rule(where, item) for item in files.get("fileInfo", []) if item.get("enabled", True)],
        _seconds(where, files, "fileCollectionFrequency", 900),
        _seconds(where, settings.get("softwareSettings", {}), "softwareCollectionFrequency", 300),
        _seconds(where, settings.get("servicesSettings", {}), "serviceCollectionFrequency", 300),
        settings.get("enableInventory", True),
        _seconds(where, settings.get("inventorySettings", {}), "inventoryCollectionFrequency", 36000),
        [],
        (where,),
        {stream: (tag,) for stream, tag in streams.items()},
    )


def _check(where: str, value: Any, expected: Any, warnings: List[str]) -> None:
    """Raise on a value of the wrong type; warn of keys that mean nothing."""
    if isinstance(expected, list):
        if not isinstance(value, list):
            raise DcrError("%s is a %s, not a list; correct the DCR." % (where, type(value).__name__))
        for number, element in enumerate(value):
            _check("%s[%d]" % (where, number), element, expected[0], warnings)
    elif isinstance(expected, dict):
        if not isinstance(value, dict):
            raise DcrError("%s is a %s, not an object; correct the DCR." % (where, type(value).__name__))
        for key, element in value.items():
            if key in expected:
                _check("%s.%s" % (where, key), element, expected[key], warnings)
            else:
                warnings.append(_ignored(where, key, expected))
    elif not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise DcrError("%s is %s, not a %s; correct the DCR." % (where, json.dumps(value)[:80], expected.__name__))


def _ignored(where: str, key: str, expected: Dict[str, Any]) -> str:
    import difflib

    folded = {name.lower(): name for name in expected}
    near = difflib.get_close_matches(key.lower(), list(folded), 1, 0.8)
    meant = " (did you mean %s?)" % folded[near[0]] if near else ""
    return "%s.%s is not a key of the DCR format and is ignored%s." % (where, key[:80], meant)


def _file_rule(where: str, item: Dict[str, Any]) -> FileRule:
    path = item.get("destinationPath", "")
    name = item.get("name") or path
    if not path:
        raise DcrError("%s: the file item %s has no destinationPath; add one." % (where, json.dumps(name)))
    parse_path(path)
    return FileRule(
        name,
        path,
        item.get("recurse", True),
        _choice(where, name, item, "links", LINKS, "follow"),
        _choice(where, name, item, "type", TYPES, "file"),
        _choice(where, name, item, "checksum", CHECKSUMS, "sha256"),
        *(_contents(item) if item.get("uploadContent", False) else ()),
    )


def _contents(item: Dict[str, Any]) -> Tuple[bool, int, int]:
    return True, max(0, item.get("maxContentsReturnable", 0)), max(0, item.get("maxOutputSize", 0))


def _choice(where: str, name: str, item: Dict[str, Any], key: str, words: Dict[str, str], preset: str) -> str:
    value = item.get(key) or preset
    if value.lower() not in words:
        raise DcrError(
            "%s: %s of the file item %s is %s; use one of %s." % (where, key, name, value[:80], ", ".join(words))
        )
    return words[value.lower()]


def _seconds(where: str, section: Dict[str, Any], key: str, preset: int) -> int:
    value = section.get(key, preset)
    if value < 1:
        raise DcrError("%s: %s is %d; give a number of seconds above 0." % (where, key, value))
    return int(value)


def _merge(found: List[Settings], warnings: List[str]) -> Settings:
    kinds = tuple(
        kind for kind in ("packages", "services", "files") if any(kind in settings.kinds for settings in found)
    )
    rules: Dict[Any, FileRule] = {}
    for settings in found:
        for rule in settings.file_rules if "files" in settings.kinds else ():
            same = rules.get(rule.tracking)
            if same is None or (rule.contents and not same.contents):
                rules[rule.tracking] = rule
    streams: Dict[str, Tuple[str, ...]] = {}
    for settings in found:
        for stream, (tag,) in settings.streams.items():
            streams[stream] = tuple(dict.fromkeys(streams.get(stream, ()) + (tag,)))
    return Settings(
        kinds,
        list(rules.values()),
        min(settings.files_every for settings in found),
        min(settings.packages_every for settings in found),
        min(settings.services_every for settings in found),
        any(settings.inventory for settings in found),
        min(settings.inventory_every for settings in found),
        warnings,
        tuple(where for settings in found for where in settings.rules),
        streams,
    )
