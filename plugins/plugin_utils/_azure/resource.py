# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes one resource in Azure what it should be: reads it, compares, and sends a request only if something differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from .arm import Arm, ArmError, Refusal, provisioning_state
from .compare import differing, merged, seen
from .ids import same
from .plan import LATER

MOVING = (
    "Creating",
    "Updating",
    "Deleting",
    "Accepted",
    "Provisioning",
    "ProvisioningAccount",
    "Running",
    "Transitioning",
    "Migrating",
)


class Wanted(NamedTuple):
    """A resource, and how it is made."""

    id: str
    api_version: str
    body: Mapping[str, Any]
    what: str  # its name in messages
    method: str = "PUT"  # PATCH changes a resource that exists
    create_only: bool = False  # a resource that exists is left as it is
    mark: Mapping[str, Any] = {}  # the part of the body that says who made it
    wait: bool = True  # until its provisioning ended
    used_by: Sequence[Mapping[str, Any]] = ()  # lists of what may use it, as in the option of ct_azure_resource


class Outcome(NamedTuple):
    changed: bool
    before: Any
    after: Any
    resource: Any
    kept: str = ""  # why it is not deleted
    lost: Sequence[str] = ()  # the keys of the body that Azure did not keep


def ensure(arm: Arm, wanted: Wanted, check: bool, given: Any = None) -> Outcome:
    """Create or update the resource. `given`: what a read returned before; {} if there is none; None if nobody looked. Raises ArmError."""
    found = arm.get(wanted.id, wanted.api_version) if given is None else given or None
    if found is not None and provisioning_state(found) in MOVING and not check:
        found = arm.settled(wanted.id, wanted.api_version, wanted.what, either=True)
    if found is None and _is_role_assignment(wanted):
        found = _same_assignment(arm, wanted)
    if found is None and wanted.method == "PATCH" and not check:
        raise ArmError(f"{wanted.what} does not exist ({wanted.id}). Correct the id.")
    if found is not None and wanted.create_only:
        return Outcome(False, {}, {}, found)
    before = seen(wanted.body, found) if found is not None else {}
    failed = provisioning_state(found) in ("Failed", "Canceled") and wanted.method == "PUT"
    if found is not None and before == wanted.body and not failed:
        return Outcome(False, before, before, found)
    if failed:
        before = {**before, "provisioningState": provisioning_state(found)}
    if check:
        return Outcome(True, before, wanted.body, found or {**wanted.body, "id": wanted.id})
    written = _written(arm, wanted, found)
    return Outcome(True, before, wanted.body, written, lost=differing(wanted.body, seen(wanted.body, written)))


def _written(arm: Arm, wanted: Wanted, found: Any) -> Any:
    """The resource after it was written, and its provisioning succeeded. Raises ArmError."""
    verb = "create" if found is None else "update"
    try:
        answer = arm.send(wanted.method, wanted.id, wanted.api_version, _body(wanted, found), f"{verb} {wanted.what}")
    except Refusal as error:
        if error.code == "RoleAssignmentExists":
            return {**wanted.body, "id": wanted.id}
        raise
    if not wanted.wait:
        return answer
    ready = isinstance(answer, Mapping) and answer.get("id") and provisioning_state(answer) == "Succeeded"
    result = answer if ready else arm.settled(wanted.id, wanted.api_version, wanted.what)
    if provisioning_state(result) in ("Failed", "Canceled"):
        raise ArmError(
            f"{wanted.what}: the provisioning {provisioning_state(result).lower()}. {reason(arm, wanted, result)}"
            " Remove the cause, and run this again."
        )
    return result


def _body(wanted: Wanted, found: Any) -> Any:
    """What is sent. A PUT replaces all, so what others wrote is kept; the mark is only for what is new, or has it already."""
    if wanted.method == "PATCH":
        return wanted.body
    if found is None:
        return merged(wanted.body, wanted.mark)
    properties = found.get("properties") or {}
    kept = {key: found[key] for key in ("tags", "kind") if found.get(key)}
    inside = {key: properties[key] for key in ("description", "dataCollectionEndpointId") if properties.get(key)}
    mark = wanted.mark if is_ours(wanted, found) else {}
    return merged(wanted.body, kept, {"properties": inside} if inside else {}, mark)


def remove(arm: Arm, wanted: Wanted, check: bool) -> Outcome:
    """Delete the resource, if it has the mark and nothing else uses it. Raises ArmError."""
    found = arm.get(wanted.id, wanted.api_version)
    if found is None:
        return Outcome(False, {}, {}, None)
    if not is_ours(wanted, found):
        return Outcome(False, {}, {}, found, f"{wanted.what} stays: the role azure did not make it.")
    users = [str(user["id"]) for listed in wanted.used_by for user in _users(arm, listed)]
    if users:
        more = f" and {len(users) - 1} more" if len(users) > 1 else ""
        return Outcome(False, {}, {}, found, f"{wanted.what} stays: {users[0]}{more} use{'' if more else 's'} it.")
    if not check:
        arm.send("DELETE", wanted.id, wanted.api_version, None, f"delete {wanted.what}")
        arm.settled(wanted.id, wanted.api_version, wanted.what, gone=True)
    return Outcome(True, {"id": wanted.id}, {}, None)


def _users(arm: Arm, listed: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    ignoring = listed.get("ignoring", ())
    return [
        user
        for user in arm.list(listed["url"], listed["api_version"])
        if isinstance(user, Mapping) and user.get("id") and not any(same(user["id"], one) for one in ignoring)
    ]


def is_ours(wanted: Wanted, found: Any) -> bool:
    """Whether the resource has the mark of the role."""
    return bool(wanted.mark) and seen(wanted.mark, found) == wanted.mark


def reason(arm: Arm, wanted: Wanted, found: Any) -> str:
    """What the machine says about the provisioning of an extension; "" if it says nothing."""
    view = instance_view(found)
    if not view and "/virtualmachines/" in wanted.id.lower() and "/extensions/" in wanted.id.lower():
        view = instance_view(arm.get(wanted.id + "?$expand=instanceView", wanted.api_version))
    return view


def instance_view(found: Any) -> str:
    properties = found.get("properties") if isinstance(found, Mapping) else None
    view = properties.get("instanceView") if isinstance(properties, Mapping) else None
    if not isinstance(view, Mapping):
        return ""
    statuses = view.get("statuses") or [view.get("status")]
    texts = [str(status["message"]) for status in statuses if isinstance(status, Mapping) and status.get("message")]
    return f"{texts[0].rstrip('.')}." if texts else ""


def _is_role_assignment(wanted: Wanted) -> bool:
    return "/providers/microsoft.authorization/roleassignments/" in wanted.id.lower()


def _same_assignment(arm: Arm, wanted: Wanted) -> Any:
    """An assignment of the same role to the same identity under another name, of which ARM allows one; None if there is none."""
    wants = wanted.body["properties"]
    if wants["principalId"] == LATER:
        return None
    scope = wanted.id.rpartition("/")[0]
    for other in arm.list(f"{scope}?$filter=principalId%20eq%20'{quote(wants['principalId'])}'", wanted.api_version):
        has = other.get("properties", {})
        if has.get("principalId") == wants["principalId"] and same(
            has.get("roleDefinitionId", "").rpartition("/")[2], wants["roleDefinitionId"].rpartition("/")[2]
        ):
            return {**other, "properties": wants}
    return None
