# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Finds the settings of the Linux extension in a document with data collection rules, in any known form.

Known forms: the ARM resource (with or without `properties`), a list of resources or `{"value": [...]}`, an ARM or Bicep
template (`resources` as a list or an object, nested deployments, policies), a config chunk of the Azure Monitor Agent,
and the TaggedData which that agent hands out.
"""

import json
import re
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from ..errors import DcrError
from ..text import printable
from .settings import EXTENSION

MAX_NAME = 256  # characters of what a rule calls itself or a part of it
# What the config chunk of the Azure Monitor Agent calls the streams of a rule. Not documented: concluded from their order.
CHUNK_STREAMS = {
    "Microsoft-ConfigurationChange": "CONFIG_CHANGE_BLOB",
    "Microsoft-ConfigurationChangeV2": "CONFIG_CHANGE_BLOB_V2",
    "Microsoft-ConfigurationData": "CONFIG_DATA_BLOB_V2",
}
_RESOURCE_ID = re.compile(r"/subscriptions/[\w./()-]{1,400}\Z", re.ASCII)


class Element(NamedTuple):
    """What one rule has for the extension, not validated yet."""

    id: str
    settings: Any  # extensionSettings
    streams: Any  # outputStreams; {} in ARM's forms, which have none
    named: Any = None  # the list of streams in ARM's forms


def find(document: Any, origin: str) -> List[Element]:
    """The elements of all rules in a parsed document, sorted by id; at least one.

    `origin` is what messages call the document. Raises DcrError.
    """
    unreadable: List[str] = []
    found = sorted(_elements(document, origin, unreadable), key=lambda element: element.id)
    if found:
        return found
    if unreadable:
        raise DcrError(f"The DCR {origin} has no settings that can be read: {unreadable[0]}")
    raise DcrError(
        f"The DCR {origin} has no settings for the extension {EXTENSION}. Add a data source of kind extension with that"
        " extensionName."
    )


def as_chunk(document: Any, origin: str, name: str, streams: Sequence[str]) -> Dict[str, Any]:
    """The document in the form of a config chunk; a complete config chunk is returned as it is.

    The ids of the rules get the prefix `name`, so that those of several documents differ. A rule without outputStreams gets its
    own tag for each of `streams`, and for the others that it names. Raises DcrError.
    """
    elements = find(document, origin)
    configurations = document.get("extensionConfigurations") if isinstance(document, dict) else None
    if isinstance(configurations, dict) and all(map(_is_whole, configurations[EXTENSION])):
        return dict(document)
    made: Dict[str, Any] = {}
    for element in elements:
        base = ident = ":".join(filter(None, (name, element.id)))
        while ident in made:
            ident = "%s-%d" % (base, len(made) + 1)
        named = element.named if isinstance(element.named, list) else ()
        also = [chunk for stream, chunk in CHUNK_STREAMS.items() if stream in named and chunk not in streams]
        tags = element.streams or {stream: "%s:%s" % (ident, stream) for stream in (*also, *streams)}
        made[ident] = {"id": ident, "extensionSettings": element.settings, "outputStreams": tags}
    others = configurations if isinstance(configurations, dict) else {}
    return {"extensionConfigurations": dict(others, **{EXTENSION: list(made.values())})}


def _is_whole(element: Dict[str, Any]) -> bool:
    return isinstance(element.get("id"), str) and bool(element.get("outputStreams"))


def shown(value: Any) -> str:
    """A value of a rule as messages quote it, in ASCII and at most 80 characters."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, default=str)  # YAML knows dates
    return text if len(text) <= 80 else text[:77] + "..."


def name_of(value: Any) -> str:
    """The name of a rule or of a part of it, cut to MAX_NAME; empty where only Azure can evaluate it."""
    return value[:MAX_NAME] if isinstance(value, str) and not is_expression(value) else ""


def label(value: Any) -> str:
    """name_of(), printable."""
    return printable(name_of(value))


def is_expression(value: Any) -> bool:
    """Whether a value is a template expression, such as "[parameters('paths')]"."""
    return isinstance(value, str) and value.startswith("[") and not value.startswith("[[") and value.endswith("]")


def expression_refused(where: str, value: str) -> str:
    """Why a template expression cannot be used, and what to do."""
    return f"{where} is the template expression {shown(value)}, which only Azure evaluates. Get the rule from Azure: {az_rest()}"


def az_rest(resource: Any = None) -> str:
    """The command that prints a rule from Azure with its settings. `resource`: the id of the rule, where it is known."""
    known = isinstance(resource, str) and _RESOURCE_ID.match(resource)
    name = (
        resource
        if known
        else "/subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/Microsoft.Insights/dataCollectionRules/NAME"
    )
    return 'az rest --method get --url "%s?api-version=2022-06-01"' % name


def _elements(document: Any, origin: str, unreadable: List[str]) -> Iterator[Element]:
    """Every element, wherever it is in the document. Appends to `unreadable` the reason for each place that cannot be read.

    Not recursive: a document may be nested deeper than Python's stack.
    """
    pending: List[Tuple[Any, str, Any]] = [(document, "", None)]  # value, name and id of the resource it belongs to
    while pending:
        value, name, resource = pending.pop()
        if isinstance(value, list):
            pending += [(element, name, resource) for element in reversed(value)]
        if not isinstance(value, dict):
            continue
        name, resource = label(value.get("name")) or name, value.get("id", resource)
        configurations = value.get("extensionConfigurations")
        if isinstance(configurations, (dict, list)):
            yield from _chunk_elements(value, configurations, origin)
            continue
        yield from _arm_elements(value.get("dataSources"), name, resource, origin, unreadable)
        for key in ("resources", "properties"):
            if is_expression(value.get(key)):
                unreadable.append(expression_refused(key, value[key]))
        pending += [(inner, name, resource) for inner in reversed(list(value.values()))]


def _chunk_elements(document: Dict[str, Any], configurations: Any, origin: str) -> Iterator[Element]:
    """The elements in the extensionConfigurations of a config chunk (lists by extension) or of TaggedData (one extension's list)."""
    if isinstance(configurations, list):
        configurations = {EXTENSION: configurations} if document.get("extensionName", EXTENSION) == EXTENSION else {}
    for element in _objects(configurations.get(EXTENSION, []), "extensionConfigurations.%s" % EXTENSION, origin):
        where = label(element.get("id")) or origin
        if element.get("extensionSettings") is None:
            raise DcrError(f"{where}: extensionSettings is missing or null. Correct the DCR.")
        yield Element(where, element["extensionSettings"], element.get("outputStreams", {}))


def _arm_elements(sources: Any, name: str, resource: Any, origin: str, unreadable: List[str]) -> Iterator[Element]:
    """The elements in the `dataSources` of an ARM resource."""
    extensions = sources.get("extensions", []) if isinstance(sources, dict) else sources
    if is_expression(extensions):
        where = "dataSources.extensions" if isinstance(sources, dict) else "dataSources"
        unreadable.append(expression_refused(where, extensions))
    elif isinstance(sources, dict):
        for element in _objects(extensions, "dataSources.extensions", origin):
            if element.get("extensionName") == EXTENSION:
                yield _arm_element(element, name, resource, origin)


def _arm_element(element: Dict[str, Any], name: str, resource: Any, origin: str) -> Element:
    settings = element.get("extensionSettings")
    if settings is None:
        raise DcrError(
            f"The DCR {origin} has no extensionSettings (missing, or null as newer versions of az print them). Get the rule with its"
            f" settings: {az_rest(resource)}"
        )
    where = ":".join(filter(None, (name, label(element.get("name"))))) or origin
    return Element(where, settings, {}, element.get("streams"))


def _objects(value: Any, where: str, origin: str) -> List[Dict[str, Any]]:
    if is_expression(value):
        raise DcrError(f"The DCR {origin}: {expression_refused(where, value)}")
    if not isinstance(value, list) or not all(isinstance(element, dict) for element in value):
        raise DcrError(f"The DCR {origin}: {where} is not a list of objects. Correct the rule.")
    return value
