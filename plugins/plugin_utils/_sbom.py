# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a software bill of materials (CycloneDX 1.6) of the packages of hosts.

A package is in it once, however many hosts have it. The dependencies say which host has which. The compositions say of which
hosts the packages are complete: no data about a host is not the same as no packages.
"""

from __future__ import annotations

import datetime
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote

from ..module_utils._cti.daemon import VERSION

MAX_VERSION = 1024  # characters, by the schema
MAX_TEXT = 4096
NEEDED = ("SoftwareName", "CurrentVersion", "Architecture", "Source")
OPTIONAL = ("Publisher", "SoftwareDescription")
NAMESPACE = uuid.UUID("6d2f3b1e-0f0e-5d0c-9a55-8c1b1f0a7c11")  # of the serial numbers; any
# The ID of os-release(5) by the fact `distribution`, where it is not that fact in lower case.
IDS = {"redhat": "rhel", "oraclelinux": "ol", "amazon": "amzn", "opensuse leap": "opensuse-leap",
       "opensuse tumbleweed": "opensuse-tumbleweed", "linux mint": "linuxmint", "pop!_os": "pop"}  # fmt: skip
MAJOR_ONLY = ("debian", "centos", "raspbian")  # their VERSION_ID is that, and the fact has more
_SOURCE = re.compile(r"(\S+) \(([^()\s]+)\)\Z")


class Distribution(NamedTuple):
    """The operating system of a host, by os-release(5)."""

    id: str
    version: str


class Host(NamedTuple):
    """What is known of a host."""

    name: str
    distribution: Distribution
    packages: list[dict[str, Any]]  # components without a bom-ref
    complete: bool  # whether these are all packages
    problem: str = ""  # why nothing is known
    collected_at: str = ""


def read(name: str, variables: Mapping[str, Any]) -> Host:
    """A host, from the facts in its variables. They are what the host says: what has another form is a problem."""
    facts = _mapping(variables.get("ansible_facts"))
    found = facts.get("ct_packages")
    distribution = _distribution(facts)
    if not isinstance(found, Mapping) or not isinstance(found.get("items"), list):
        return Host(name, distribution, [], False, "There is no fact ct_packages.")
    if not distribution.id:
        return Host(name, distribution, [], False, "There is no fact distribution.")
    rows = found["items"]
    if not all(isinstance(row, Mapping) and all(isinstance(row.get(key), str) for key in NEEDED) for row in rows):
        return Host(name, distribution, [], False, f"The items of ct_packages do not have {', '.join(NEEDED)}.")
    sources = [source for source in _mapping(found.get("sources")).values() if isinstance(source, Mapping)]
    counts = {key: source["count"] for key, source in _mapping(found.get("sources")).items() if _counted(source)}
    complete = all(source.get("status") in ("ok", "absent") for source in sources) and sum(counts.values()) == len(rows)
    packages = [
        _package(
            tuple(str(row.get(key) or "") for key in (*NEEDED, *OPTIONAL)),
            distribution,
            "rpm" in counts if len(counts) == 1 else _looks_like_rpm(row),
        )
        for row in rows
        if row["SoftwareName"]
    ]
    return Host(name, distribution, packages, complete, "", _time(found.get("collected_at")))


def _counted(source: Any) -> bool:
    return isinstance(source, Mapping) and isinstance(source.get("count"), int) and source["count"] > 0


def _looks_like_rpm(row: Mapping[str, Any]) -> bool:
    """Whether rpm has this package, on a host that has packages of dpkg as well."""
    return bool(row["Source"].endswith(".rpm") or row["CurrentVersion"].startswith("0:"))


def bom(hosts: Iterable[Host], name: str) -> dict[str, Any]:
    """The bill of materials. `name`: of the group of hosts; empty for one host alone."""
    hosts = list(hosts)
    packages = {package["purl"]: package for host in reversed(hosts) for package in host.packages}
    refs = {purl: f"package-{number}" for number, purl in enumerate(sorted(packages), 1)}
    distributions = sorted({host.distribution for host in hosts if host.packages})
    systems = {distribution: f"os-{number}" for number, distribution in enumerate(distributions, 1)}
    devices = [_device(host) for host in hosts]
    components = [{"bom-ref": ref, **_system(system)} for system, ref in systems.items()]
    components += [{"bom-ref": refs[purl], **packages[purl]} for purl in sorted(packages)]
    dependencies = [
        {
            "ref": device["bom-ref"],
            "dependsOn": [systems[host.distribution], *sorted({refs[package["purl"]] for package in host.packages})],
        }
        for host, device in zip(hosts, devices)
        if host.packages
    ]
    subject = devices[0]
    if name:
        subject = {"bom-ref": "group", "type": "platform", "name": name}
        components = devices + components
        dependencies.insert(0, {"ref": "group", "dependsOn": [device["bom-ref"] for device in devices]})
    tool = {"type": "application", "name": "changetracking.inventory", "version": VERSION}
    collected_at = max(host.collected_at for host in hosts)
    content = {
        "metadata": {
            **({"timestamp": collected_at} if collected_at else {}),
            "tools": {"components": [tool]},
            "component": subject,
        },
        "components": components,
        "dependencies": dependencies,
        "compositions": _compositions(hosts, devices),
    }
    serial = uuid.uuid5(NAMESPACE, json.dumps(content, sort_keys=True))
    head = {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", "version": 1}
    return {"$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", **head, **content}


def _device(host: Host) -> dict[str, Any]:
    device: dict[str, Any] = {"bom-ref": f"host-{host.name}", "type": "device", "name": host.name}
    if host.problem:
        device["properties"] = [{"name": "changetracking:problem", "value": host.problem}]
    return device


def _compositions(hosts: list[Host], devices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    refs: dict[str, list[str]] = {}
    for host, device in zip(hosts, devices):
        aggregate = "unknown" if host.problem else "complete" if host.complete else "incomplete"
        refs.setdefault(aggregate, []).append(device["bom-ref"])
    return [{"aggregate": aggregate, "dependencies": refs[aggregate]} for aggregate in sorted(refs)]


def _system(system: Distribution) -> dict[str, str]:
    component = {"type": "operating-system", "name": system.id}
    return {**component, "version": system.version} if system.version else component


@lru_cache(maxsize=1 << 17)  # most hosts have the same packages
def _package(values: tuple[str, ...], distribution: Distribution, is_rpm: bool) -> dict[str, Any]:
    """The component of a package. `values`: of NEEDED and OPTIONAL."""
    name, version, architecture, source, publisher, description = map(_text, values)
    component = {
        "type": "library",
        "name": name,
        "version": (version[2:] if is_rpm and version.startswith("0:") else version)[:MAX_VERSION],
        "purl": purl(name, version, architecture, source, distribution, is_rpm),
    }
    more = {"publisher": publisher, "description": description}
    return {**component, **{key: value for key, value in more.items() if value}}


def purl(name: str, version: str, architecture: str, source: str, distribution: Distribution, is_rpm: bool) -> str:
    """The package URL, with the parts and qualifiers that the tools which match vulnerabilities expect."""
    namespace = distribution.id
    epoch = ""
    if is_rpm:
        epoch, _colon, version = version.rpartition(":")
        upstream = "" if source == "(none)" else source
        namespace = "redhat" if namespace == "rhel" else "opensuse" if namespace.startswith("opensuse") else namespace
    else:
        match = _SOURCE.match(source)
        upstream = "@".join(match.groups()) if match else source
    qualifiers = {
        "arch": architecture,
        "distro": distribution.version and f"{distribution.id}-{distribution.version}",
        "epoch": "" if epoch == "0" else epoch,
        "upstream": upstream,
    }
    query = "&".join(f"{key}={_quoted(value)}" for key, value in qualifiers.items() if value)
    return f"pkg:{'rpm' if is_rpm else 'deb'}/{_quoted(namespace)}/{_quoted(name)}@{_quoted(version)}" + (
        query and f"?{query}"
    )


def _quoted(text: str) -> str:
    return quote(text, safe=":")


def _distribution(facts: Mapping[str, Any]) -> Distribution:
    name = _text(facts.get("distribution")).lower()
    ident = IDS.get(name, name.replace(" ", "-"))
    key = "distribution_major_version" if ident in MAJOR_ONLY else "distribution_version"
    return Distribution(ident, _text(facts.get(key)))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    """A text without what UTF-8 cannot have; empty for any other value."""
    return value[:MAX_TEXT].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _time(value: Any) -> str:
    try:
        return datetime.datetime.strptime(_text(value), "%Y-%m-%dT%H:%M:%SZ").strftime("%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return ""
