# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Finds the Linux extension's settings in a document that holds data collection rules, whatever its form.

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
_RESOURCE_ID = re.compile(r"/subscriptions/[\w./()-]{1,400}\Z", re.ASCII)


class Element(NamedTuple):
    """What one rule says to the extension, not checked yet."""

    id: str
    settings: Any  # extensionSettings
    streams: Any  # outputStreams; {} in ARM's forms, which have none


def find(document: Any, origin: str) -> List[Element]:
    """The elements of all rules in a document that is already parsed, sorted by id; at least one.

    `origin` is what messages call the document. Raises DcrError.
    """
    unknown: List[str] = []
    found = sorted(_walk(document, origin, unknown), key=lambda element: element.id)
    if found:
        return found
    if unknown:
        raise DcrError("The DCR %s has no settings that can be read: %s" % (origin, unknown[0]))
    raise DcrError(
        "The DCR %s has no settings for the extension %s; add a data source of kind extension with that extensionName."
        % (origin, EXTENSION)
    )


def as_chunk(document: Any, origin: str, name: str, streams: Sequence[str]) -> Dict[str, Any]:
    """The document in the form of a config chunk; one that is a whole config chunk already is returned as it is.

    `name` is put before the ids of the rules, so that those of several documents differ; a rule without outputStreams
    gets a tag of its own for each of `streams`. Raises DcrError.
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
        tags = element.streams or {stream: "%s:%s" % (ident, stream) for stream in streams}
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
    """What a rule calls itself or a part of it, as it is written but short; empty where only Azure knows it."""
    return value[:MAX_NAME] if isinstance(value, str) and not is_expression(value) else ""


def label(value: Any) -> str:
    """The same, printable."""
    return printable(name_of(value))


def is_expression(value: Any) -> bool:
    """Whether a value is a template expression, such as "[parameters('paths')]"."""
    return isinstance(value, str) and value.startswith("[") and not value.startswith("[[") and value.endswith("]")


def expression_refused(where: str, value: str) -> str:
    """Why a template expression cannot be used, and what to do."""
    return "%s is the template expression %s, which only Azure evaluates; give the rule as Azure has it: %s" % (
        where,
        shown(value),
        az_rest(),
    )


def az_rest(resource: Any = None) -> str:
    """The command that prints a rule with its settings. `resource`: its id, where that is known."""
    known = isinstance(resource, str) and _RESOURCE_ID.match(resource)
    name = (
        resource
        if known
        else "/subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/Microsoft.Insights/dataCollectionRules/NAME"
    )
    return 'az rest --method get --url "%s?api-version=2022-06-01"' % name


def _walk(document: Any, origin: str, unknown: List[str]) -> Iterator[Element]:
    """Every element, wherever in the document it is. Appends to `unknown` why a place cannot be read.

    It uses a list of its own instead of recursion: a document may be nested deeper than Python's stack.
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
            yield from _configurations(value, configurations, origin)
            continue
        yield from _data_sources(value.get("dataSources"), name, resource, origin, unknown)
        for key in ("resources", "properties"):
            if is_expression(value.get(key)):
                unknown.append(expression_refused(key, value[key]))
        pending += [(inner, name, resource) for inner in reversed(list(value.values()))]


def _configurations(document: Dict[str, Any], configurations: Any, origin: str) -> Iterator[Element]:
    """Of a config chunk, where they are an object by extension, or of TaggedData, where they are one extension's list."""
    if isinstance(configurations, list):
        configurations = {EXTENSION: configurations} if document.get("extensionName", EXTENSION) == EXTENSION else {}
    for element in _objects(configurations.get(EXTENSION, []), "extensionConfigurations.%s" % EXTENSION, origin):
        where = label(element.get("id")) or origin
        if element.get("extensionSettings") is None:
            raise DcrError("%s: extensionSettings is missing or null; correct the DCR." % where)
        yield Element(where, element["extensionSettings"], element.get("outputStreams", {}))


def _data_sources(sources: Any, name: str, resource: Any, origin: str, unknown: List[str]) -> Iterator[Element]:
    """Of an ARM resource's `dataSources`."""
    extensions = sources.get("extensions", []) if isinstance(sources, dict) else sources
    if is_expression(extensions):
        unknown.append(
            expression_refused("dataSources.extensions" if isinstance(sources, dict) else "dataSources", extensions)
        )
    elif isinstance(sources, dict):
        for element in _objects(extensions, "dataSources.extensions", origin):
            if element.get("extensionName") == EXTENSION:
                yield _of_arm(element, name, resource, origin)


def _of_arm(element: Dict[str, Any], name: str, resource: Any, origin: str) -> Element:
    settings = element.get("extensionSettings")
    if settings is None:
        raise DcrError(
            "The DCR %s has no extensionSettings (they are missing or null, as newer versions of az print them); print the rule"
            " with them: %s" % (origin, az_rest(resource))
        )
    return Element(":".join(filter(None, (name, label(element.get("name"))))) or origin, settings, {})


def _objects(value: Any, where: str, origin: str) -> List[Dict[str, Any]]:
    if is_expression(value):
        raise DcrError("The DCR %s: %s" % (origin, expression_refused(where, value)))
    if not isinstance(value, list) or not all(isinstance(element, dict) for element in value):
        raise DcrError("The DCR %s: %s is not a list of objects; correct the rule." % (origin, where))
    return value
