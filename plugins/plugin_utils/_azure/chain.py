# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks everything between a machine and the tables, from Azure to the sockets on the host. Azure itself reports "Succeeded" and no data.

Pure functions of what was read (see plan.py). A check is a mapping with Name, Status, Message and Remedy, as those of the agent's doctor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...module_utils._cti.text import plural
from .._bounded import calm
from . import rule
from .arm import ArmError, provisioning_state
from .ids import machine_kind, name_of, same
from .machine import CT, extension, extensions_of, other_rules, principal_of
from .plan import identity_of, is_without_ama, rule_of, workspace_of
from .resource import instance_view

OK, WARNING, BROKEN, UNKNOWN = "ok", "warning", "broken", "unknown"
DEPLOY = "Run the playbook azure_deploy again."
CHUNKS = "/etc/opt/microsoft/azuremonitoragent/config-cache/configchunks"
Check = dict[str, str]


def checks(options: Mapping[str, Any], ident: str, reads: Mapping[str, Any], host: Mapping[str, Any]) -> list[Check]:
    """All checks up to the first that fails. `host`: what was seen on the host, see _on_host(); {} if nobody looked."""
    found: list[Check] = []
    for check in _all(options, ident, reads, host):
        found.append({key: calm(value) for key, value in check.items()})
        if check["Status"] == BROKEN:
            break
    return found


def summary(found: list[Check]) -> str:
    """The result in one line."""
    for check in found:
        if check["Status"] == BROKEN:
            return f"First failed check: {check['Name']}. {_sentences(check)}"
    notes = [check for check in found if check["Status"] != OK]
    if not notes:
        return "All checks passed."
    names = ", ".join(check["Name"] for check in notes)
    return f"Checks passed, with {plural(len(notes), 'warning')}: {names}. {_sentences(notes[0])}"


def _sentences(check: Check) -> str:
    return f"{check['Message']} {check['Remedy']}".rstrip()


def _all(options: Mapping[str, Any], ident: str, reads: Mapping[str, Any], host: Mapping[str, Any]) -> Iterator[Check]:
    yield _workspace(options, reads)
    if is_without_ama(options):
        yield from _without_ama(options, ident, reads, host)
        return
    yield _rule(options, reads)
    yield _machine(ident, reads)
    yield _identity(options, ident, reads)
    for name in extensions_of(options):
        yield _extension(ident, reads, name)
    if CT not in extensions_of(options):
        yield _no_extension(ident, reads)
    yield _association(options, ident, reads)
    yield from _on_host(options, host)


def _check(name: str, status: str, message: str, remedy: str = "") -> Check:
    return {"Name": name, "Status": status, "Message": message, "Remedy": remedy if status != OK else ""}


def _workspace(options: Mapping[str, Any], reads: Mapping[str, Any]) -> Check:
    workspace, found = name_of(workspace_of(options)), reads.get("workspace")
    if not found:
        return _check(
            "workspace",
            BROKEN,
            f"The workspace {workspace} does not exist.",
            f"Correct azure_workspace, or set azure_location. {DEPLOY}",
        )
    if is_without_ama(options):
        return _check("workspace", OK, f"{workspace} exists.")
    if not reads.get("solution"):
        return _check(
            "workspace", BROKEN, f"The workspace {workspace} does not have the solution ChangeTracking.", DEPLOY
        )
    return _check("workspace", OK, f"{workspace} has the solution ChangeTracking.")


def _without_ama(
    options: Mapping[str, Any], ident: str, reads: Mapping[str, Any], host: Mapping[str, Any]
) -> Iterator[Check]:
    from . import without_ama  # which few need

    rule_id = without_ama.direct_rule_of(options)
    try:
        yield _check("rule", OK, without_ama.destination(options, reads.get("direct_rule")))
    except ArmError as error:
        yield _check("rule", BROKEN, str(error), DEPLOY if not reads.get("direct_rule") else "")
    yield _machine(ident, reads)
    yield _identity(options, ident, reads)
    principal = principal_of(options, reads["machine"])
    if not without_ama.is_sender(options, principal, reads.get("senders") or []):
        problem = (
            f"{name_of(ident)} does not have the role Monitoring Metrics Publisher on the rule {name_of(rule_id)}."
        )
        yield _check("role", BROKEN, problem, DEPLOY)
    yield _check("role", OK, f"{name_of(ident)} may send to the rule {name_of(rule_id)}.")
    if host:
        yield _own_agent(host.get("agent"))


def _rule(options: Mapping[str, Any], reads: Mapping[str, Any]) -> Check:
    name, found = name_of(rule_of(options)), reads.get("rule")
    if not found:
        return _check("rule", BROKEN, f"The rule {name} does not exist.", DEPLOY)
    if provisioning_state(found) in ("Failed", "Canceled"):
        return _check("rule", BROKEN, f"The provisioning of the rule {name} is {provisioning_state(found)}.", DEPLOY)
    try:
        settings = rule.check(found, f"{name} in Azure", bool(options.get("azure_allow_ignored")))
    except ArmError as error:
        return _check("rule", BROKEN, str(error))
    workspaces = [
        one.get("workspaceResourceId")
        for one in (found["properties"].get("destinations") or {}).get("logAnalytics") or []
    ]
    if not any(same(one, workspace_of(options)) for one in workspaces):
        return _check(
            "rule", BROKEN, f"The rule {name} does not send to the workspace {name_of(workspace_of(options))}.", DEPLOY
        )
    flows = [stream for flow in found["properties"].get("dataFlows") or [] for stream in flow.get("streams") or []]
    missing = [stream for stream in rule.STREAMS if stream not in flows and stream not in rule.OLDER_STREAMS]
    if missing:
        problem = f"The rule {name} does not send the stream {missing[0]}, so that data is missing."
        return _check("rule", BROKEN, problem, "Set azure_dcr or azure_track, and run the playbook azure_deploy again.")
    if not settings.kinds:
        return _check("rule", WARNING, f"The rule {name} tracks nothing.", "Set azure_track or azure_dcr.")
    return _check("rule", OK, f"{name} tracks {', '.join(settings.kinds)}.")


def _machine(ident: str, reads: Mapping[str, Any]) -> Check:
    kind, name, found = machine_kind(ident), name_of(ident), reads.get("machine")
    if not found:
        return _check("machine", BROKEN, f"The {kind.noun} {name} does not exist.", "Correct azure_machine.")
    problem = stopped(ident, found)
    if problem:
        return _check("machine", BROKEN, problem, "Start it, and run this again.")
    return _check("machine", OK, f"The {kind.noun} {name} exists.")


def stopped(ident: str, found: Mapping[str, Any]) -> str:
    """A sentence if no extension can be installed, because the machine does not run; "" otherwise."""
    name, properties = name_of(ident), found.get("properties") or {}
    status = str(properties.get("status") or "")
    if machine_kind(ident).name == "arc":
        return f"The Arc machine {name} is {status}." if status in ("Disconnected", "Expired", "Error") else ""
    codes = [str(one.get("code") or "") for one in (properties.get("instanceView") or {}).get("statuses") or []]
    power = [code.partition("/")[2] for code in codes if code.startswith("PowerState/")]
    return f"The virtual machine {name} is {power[0]}." if power and power[0] != "running" else ""


def _identity(options: Mapping[str, Any], ident: str, reads: Mapping[str, Any]) -> Check:
    name, has, wanted = name_of(ident), reads["machine"].get("identity") or {}, identity_of(options)
    types = str(has.get("type") or "None")
    assigned = has.get("userAssignedIdentities") or {}
    who = "it" if is_without_ama(options) else "AMA"
    if wanted and not any(same(one, wanted) for one in assigned):
        problem = f"{name} does not have the identity {name_of(wanted)}, so {who} cannot sign in."
        return _check("identity", BROKEN, problem, DEPLOY)
    if not wanted and "SystemAssigned" not in types:
        problem = f"{name} has no system-assigned identity, so {who} cannot sign in."
        choice = (
            f"Set azure_identity to one of its {len(assigned)} user-assigned identities, or run" if assigned else "Run"
        )
        return _check("identity", BROKEN, problem, choice + DEPLOY.removeprefix("Run"))
    return _check("identity", OK, f"{name} has the identity {name_of(wanted) if wanted else types}.")


def _extension(ident: str, reads: Mapping[str, Any], name: str) -> Check:
    found, machine = extension(reads, name), name_of(ident)
    if not found:
        return _check(name, BROKEN, f"{machine} does not have the extension {name}.", DEPLOY)
    state = provisioning_state(found)
    if state in ("Failed", "Canceled"):
        said = instance_view(found) or _said(reads, found)
        return _check(
            name,
            BROKEN,
            f"The provisioning of the extension {name} on {machine} is {state}. {said}".rstrip(),
            f"Remove the cause. {DEPLOY}",
        )
    strange = _strange_identity(reads, found)
    if strange:
        problem = (
            f"The extension {name} on {machine} signs in with the identity {strange}, which the machine does not have."
        )
        return _check(name, BROKEN, problem, f"Put it on the machine, or set azure_identity. {DEPLOY}")
    if state != "Succeeded":
        return _check(
            name,
            BROKEN,
            f"The extension {name} on {machine} is still {state or 'without a state'}.",
            "Run this again in some minutes.",
        )
    return _check(name, OK, f"The extension {name} is installed.")


def _strange_identity(reads: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """The name of the user-assigned identity in the settings of an extension, if the machine does not have it."""
    settings = found["properties"].get("settings") or {}
    wanted = (settings.get("authentication") or {}).get("managedIdentity") or {}
    ident = str(wanted.get("identifier-value") or "")
    has = (reads["machine"].get("identity") or {}).get("userAssignedIdentities") or {}
    if wanted.get("identifier-name") != "mi_res_id" or any(same(one, ident) for one in has):
        return ""
    return name_of(ident)


def _said(reads: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """What a virtual machine says about an extension."""
    view = (reads["machine"].get("properties") or {}).get("instanceView") or {}
    named = [one for one in view.get("extensions") or [] if same(one.get("name"), found.get("name"))]
    return instance_view({"properties": {"instanceView": named[0]}}) if named else ""


def _no_extension(ident: str, reads: Mapping[str, Any]) -> Check:
    if extension(reads, CT):
        return _check(
            CT,
            BROKEN,
            f"{name_of(ident)} has the extension {CT}, so every change is reported twice.",
            "Delete it as soon as the agent of this collection runs (docs/moving.md), or set azure_agent to microsoft.",
        )
    return _check(CT, OK, f"{name_of(ident)} does not have the extension {CT}.")


def _association(options: Mapping[str, Any], ident: str, reads: Mapping[str, Any]) -> Check:
    ours, name = rule_of(options), name_of(ident)
    ids = [one.get("properties", {}).get("dataCollectionRuleId") for one in reads.get("associations") or []]
    if not any(same(one, ours) for one in ids):
        return _check("association", BROKEN, f"{name} is not associated with the rule {name_of(ours)}.", DEPLOY)
    others = other_rules(reads)
    if others:
        return _check(
            "association",
            BROKEN,
            f"{name} is also associated with {others[0]}, and Microsoft's agent takes one rule at random.",
            "Delete that association.",
        )
    return _check("association", OK, f"{name} is associated with the rule {name_of(ours)}.")


def _on_host(options: Mapping[str, Any], host: Mapping[str, Any]) -> Iterator[Check]:
    """`host`: `seen`, the lines `name=value` of the role's look at the host, and `agent`, the result of ct_agent_info; each may be of any type."""
    if not host:
        return
    seen = _pairs(host.get("seen"))
    if "ama" not in seen:
        yield _check(
            "host",
            UNKNOWN,
            "The host cannot be reached from here.",
            "Correct its connection in the inventory, or set azure_check_host to false.",
        )
        return
    yield _service("AMA", "azuremonitoragent", seen["ama"])
    rules = rule_of(options)
    if seen.get("chunks", "0") == "0":
        yield _check(
            "chunk",
            BROKEN,
            f"AMA has no rule for {CT} in {CHUNKS}.",
            "Wait 10 minutes; then restart AMA: systemctl restart azuremonitoragent",
        )
    if seen.get("rule", "0") == "0":
        yield _check(
            "chunk",
            BROKEN,
            f"AMA has another rule for {CT} than {name_of(rules)}.",
            "Wait 10 minutes; then delete its association.",
        )
    yield _check("chunk", OK, f"AMA has the rule {name_of(rules)}.")
    for name in ("config", "data"):
        if seen.get(f"{name}_socket", "0") == "0":
            yield _check(
                "sockets",
                BROKEN,
                f"AMA does not listen at its {name} socket.",
                "Restart AMA: systemctl restart azuremonitoragent",
            )
    yield _check("sockets", OK, "AMA listens at both sockets.")
    if CT in extensions_of(options):
        yield _service("agent", "cxp", seen.get("cxp", ""))
    else:
        yield _own_agent(host.get("agent"))


def _service(name: str, unit: str, state: str) -> Check:
    if state == "active":
        return _check(name, OK, f"The service {unit} runs.")
    return _check(
        name, BROKEN, f"The service {unit} is {state[:40] or 'not installed'}.", f"See its log: journalctl -u {unit}"
    )


def _own_agent(agent: Any) -> Check:
    doctor = agent.get("doctor") if isinstance(agent, Mapping) else None
    if not isinstance(doctor, Mapping):
        return _check("agent", WARNING, "The agent of this collection does not answer.", "Run the playbook deploy.")
    if doctor.get("Ok") is not True:
        return _check("agent", BROKEN, str(doctor.get("Remedy") or "The agent does not work."))
    return _check("agent", OK, str(doctor.get("Summary") or "All checks of the agent passed."))


def _pairs(seen: Any) -> dict[str, str]:
    lines = seen.splitlines()[:50] if isinstance(seen, str) else []
    return dict(line.split("=", 1) for line in lines if "=" in line)
