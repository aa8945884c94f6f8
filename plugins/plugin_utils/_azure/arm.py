# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the Azure Resource Manager (ARM), sent by the module azure_rm_resource of azure.azcollection.

The module signs in, in every way that azcollection knows. It knows no retry, no Retry-After and no waiting after an answer 201, and an
answer that it does not expect ends it with an exception: all that is done here, once for every kind of resource. The module
azure_rm_resource_info would not do for reading: of a list of several pages it reads the first one for ever.
"""

from __future__ import annotations

import ast
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from .._bounded import calm

MODULE = "azure.azcollection.azure_rm_resource"
COLLECTION = (
    "Install the collection azure.azcollection on the controller, and its Python packages in the Python that runs ansible-playbook:"
    " ansible-galaxy collection install azure.azcollection && pip install -r"
    " ~/.ansible/collections/ansible_collections/azure/azcollection/requirements.txt"
)
FIRST_DELAY = 5.0  # seconds until a request is repeated; each delay is twice the one before
LONGEST_DELAY = 60.0
MOST_PAGES = 1000  # of a list
BUSY = (408, 429, 500, 502, 503, 504)
FINISHED = ("Succeeded", "Failed", "Canceled")
# The identity exists, but not everywhere yet, or a resource that was just made is not visible yet.
YOUNG = ("PrincipalNotFound", "ResourceNotReady")
# Answers 404 of another cause than that the resource does not exist.
MISTAKEN = ("SubscriptionNotFound", "InvalidResourceNamespace", "InvalidResourceType")
# Answers 409 that are the same however often the request is repeated.
LASTING = (
    "InvalidResourceGroupLocation",
    "InvalidResourceLocation",
    "MissingSubscriptionRegistration",
    "ReadOnlyDisabledSubscription",
    "RoleAssignmentExists",
    "ScopeLocked",
)
STOPPED = re.compile(r"\b(not running|deallocated|stopped)\b", re.IGNORECASE)
LATER = re.compile(r"after '?(\d{1,5})'? (second|minute)", re.IGNORECASE)
REFUSED = re.compile(r"""\(('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"), ([1-5]\d\d)\)""")
SIGN_IN = re.compile("credential|AADSTS|authenticat|subscription_id|az login", re.IGNORECASE)
# What is no reason in the output of a module that ended with an exception.
FRAME = re.compile(r"\s|Traceback |During handling of |The above exception |MODULE FAILURE|See stdout/stderr ")
EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception): ")
UNREACHABLE = re.compile(
    "failed to resolve|name or service not known|name resolution|connection (refused|reset)|timed out|unreachable",
    re.IGNORECASE,
)
# Any other URL may name another server, which azcollection would send the token to.
OF_ARM = re.compile(r"/[^/]")
# Keys of azure_credentials, and the variables for them.
SECRETS = {"secret": "AZURE_SECRET", "password": "AZURE_PASSWORD"}
TOKEN = re.compile(r"\beyJ[\w-]{10,}[\w.-]*", re.ASCII)
UNKNOWN_OPTIONS = re.compile(r"Unsupported parameters for \(\S+\) module: (.{1,200}?)\. Supported")
SUBSCRIPTION = re.compile(r"/subscriptions/([^/?]+)", re.IGNORECASE)
REMEDIES = {
    "AuthorizationFailed": "Give these credentials a role that permits this; a new role assignment takes up to ten minutes to work.",
    "LinkedAuthorizationFailed": "Give these credentials a role that permits this on both resources.",
    "InvalidAuthenticationToken": "Sign in again, and check the clock of the controller.",
    "SubscriptionNotFound": "Correct the subscription in the id, or give credentials that can see it.",
    "InvalidSubscriptionId": "Correct the subscription in the id.",
    "InvalidAuthenticationTokenTenant": "Sign in to the tenant of the subscription, or correct the subscription in the id.",
    "ReadOnlyDisabledSubscription": "Ask the owner of the subscription to enable it.",
    "InvalidResourceLocation": "Give the id of another resource, or set azure_location to the region that the message names.",
    "LocationNotAvailableForResourceGroup": "Correct azure_location.",
    "LocationNotAvailableForResourceType": "Set azure_location to one of the regions that the message names.",
    "ResourceGroupNotFound": "Create the resource group, or correct the id.",
    "MissingSubscriptionRegistration": "Register the resource provider that the message names: az provider register --namespace NAME",
    "RequestDisallowedByPolicy": "Ask the owner of the policy that the message names for an exemption.",
    "ScopeLocked": "Remove the lock, or ask its owner.",
}


class ArmError(Exception):
    """Why something cannot be done in Azure, and what to do, in one line without control characters."""

    def __init__(self, text: str) -> None:
        super().__init__(calm(text))


class Refusal(ArmError):
    """An answer of ARM other than success."""

    def __init__(self, what: str, status: int, code: str, message: str) -> None:
        self.status, self.code, self.message = status, code, message
        reason = f"{code}: {message.rstrip('.')}" if message else code
        remedy = (
            "Start it, and run this again." if status == 409 and STOPPED.search(message) else REMEDIES.get(code, "")
        )
        super().__init__(f"Azure refuses to {what} ({status} {reason}). {remedy}".rstrip())


class Arm:
    """ARM as these credentials see it.

    `run`: runs MODULE with arguments, and returns its result. `timeout`: seconds in which one resource has to get ready.
    """

    def __init__(
        self,
        run: Callable[[dict[str, Any]], Mapping[str, Any]],
        credentials: Mapping[str, Any],
        timeout: float,
        first_delay: float = FIRST_DELAY,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run, self._credentials, self._timeout = run, credentials, timeout
        self._first_delay, self._sleep, self._clock = first_delay, sleep, clock

    def get(self, ident: str, api_version: str) -> Any:
        """The resource; None if there is none. Raises ArmError."""
        try:
            return self.send("GET", ident, api_version, None, f"read {short(ident)}")
        except Refusal as error:
            if error.status == 404 and error.code not in MISTAKEN:
                return None
            raise

    def list(self, ident: str, api_version: str) -> list[Any]:
        """The elements of a collection; none if there is no such collection. Raises ArmError."""
        elements: list[Any] = []
        page = ident
        for _number in range(MOST_PAGES):
            found = self.get(page, api_version)
            value = found.get("value") if isinstance(found, Mapping) else None
            elements += [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
            following = found.get("nextLink") if isinstance(found, Mapping) else None
            if not following or not isinstance(following, str):
                break
            parts = urlsplit(following)  # asked of the same server, whatever it says
            page = f"{parts.path}?{parts.query}"
        return elements

    def send(self, method: str, ident: str, api_version: str, body: Any, what: str) -> Any:
        """What ARM answers to GET, PUT, PATCH or DELETE, once it takes it. Raises ArmError."""
        if not isinstance(ident, str) or not OF_ARM.match(ident):
            raise ArmError(f"Cannot {what}: '{ident}' is not the id of a resource in Azure. Nothing was sent.")
        arguments = {"url": ident, "api_version": api_version, "method": method}
        if body is not None:
            arguments["body"] = body
        if method == "DELETE":
            arguments["state"] = "absent"
        return self._patiently(lambda: self._call(arguments, what).get("response"))

    def settled(self, ident: str, api_version: str, what: str, gone: bool = False, either: bool = False) -> Any:
        """The resource once its provisioning ended, well or not. Raises ArmError.

        With `gone`, None once it is deleted; with `either`, whichever comes first.
        """
        until = self._clock() + self._timeout
        delay = self._first_delay
        while True:
            found = self.get(ident, api_version)
            state = provisioning_state(found)
            if gone or either if found is None else not gone and (state in FINISHED or not state):
                return found
            if self._clock() + delay > until:
                raise ArmError(
                    f"{what} is still {state or 'on its way'} after {self._timeout:.0f} s. Run this again, or set"
                    " azure_timeout to more seconds."
                )
            self._sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)

    def _patiently(self, request: Callable[[], Any]) -> Any:
        """The result of a request, which is repeated while ARM is busy with others, or with another change of the same resource."""
        until = self._clock() + self._timeout
        delay = self._first_delay
        while True:
            try:
                return request()
            except Refusal as error:
                if not _passes(error):
                    raise
                wait = max(delay, _asked_for(error.message))
                if self._clock() + wait > until:
                    raise ArmError(
                        f"{error} It was tried again for {self._timeout:.0f} s. Run this again later."
                    ) from error
            self._sleep(wait)
            delay = min(delay * 2, LONGEST_DELAY)

    def _call(self, arguments: dict[str, Any], what: str) -> Mapping[str, Any]:
        subscription = SUBSCRIPTION.match(arguments["url"])
        known = {"subscription_id": subscription.group(1)} if subscription else {}
        result = self._run({**self._credentials, **known, **arguments})
        if not result.get("failed"):
            return result
        raise _failure(result, what, self._hide)

    def _hide(self, text: str) -> str:
        """A text of Azure without secrets and tokens: it may repeat what it was sent."""
        for key, variable in SECRETS.items():
            for secret in (self._credentials.get(key), os.environ.get(variable)):
                text = text.replace(str(secret), "...") if secret else text
        return TOKEN.sub("...", text)


def short(ident: str) -> str:
    """The end of a resource id, as people name it: its last type and name."""
    return "/".join(str(ident).partition("?")[0].rstrip("/").split("/")[-2:])


def provisioning_state(found: Any) -> str:
    properties = found.get("properties") if isinstance(found, Mapping) else None
    state = properties.get("provisioningState") if isinstance(properties, Mapping) else None
    return state if isinstance(state, str) else ""


def _passes(error: Refusal) -> bool:
    """Whether it is worth while to send the same request again."""
    if error.status == 409:
        return not STOPPED.search(error.message) and error.code not in LASTING
    return error.status in BUSY or error.code in YOUNG


def _asked_for(message: str) -> float:
    """The seconds that a message of ARM asks to wait; azcollection does not return the header Retry-After."""
    found = LATER.search(message)
    return int(found.group(1)) * (60.0 if found.group(2).lower() == "minute" else 1.0) if found else 0.0


def _failure(result: Mapping[str, Any], what: str, hide: Callable[[str], str]) -> ArmError:
    """Why a module of azcollection failed. An answer that it does not expect is the arguments of the exception that ends it."""
    said = _said(result)
    text = "\n".join(said)
    refused = REFUSED.search(text)
    if refused:
        code, message = _reason(ast.literal_eval(refused.group(1)))
        return Refusal(what, int(refused.group(2)), hide(code) or "without a reason", hide(message))
    first = hide(said[0]) if said else "no answer"
    if "Failed to import the required Python library" in text:
        return ArmError(f"{first.partition('. ')[0]}. {COLLECTION}")
    unknown = UNKNOWN_OPTIONS.search(first)
    if unknown:  # what else is sent, the module knows
        return ArmError(
            f"azure_credentials has what {MODULE} does not know: {unknown.group(1)}. Use its options, such as tenant, client_id and secret."
        )
    reason = _last_line(first)
    if UNREACHABLE.search(text) or not SIGN_IN.search(text):
        return ArmError(f"Cannot {what}: {reason}. Check the network from the controller to Azure.")
    return ArmError(
        f"Cannot sign in to Azure to {what} ({reason}). Run az login, set AZURE_SUBSCRIPTION_ID, AZURE_TENANT, AZURE_CLIENT_ID and"
        " AZURE_SECRET, or set azure_credentials."
    )


def _said(result: Mapping[str, Any]) -> list[str]:
    """The texts of a failed module, the most important first, without the frames of tracebacks, which name files of all sorts.

    Up to ansible-core 2.18, `msg` says of an exception only that there was one, and `module_stderr` has it. From 2.19 on, `exception` is
    an object with an event, and `msg` may be missing.
    """
    given = [result.get(key) for key in ("msg", "exception", "module_stderr", "module_stdout")]
    texts = [str(getattr(getattr(value, "event", None), "msg", value)).strip() for value in given if value]
    lines = [[line for line in text.splitlines() if line.strip() and not FRAME.match(line)] for text in texts]
    return ["\n".join(some) for some in lines if some]


def _last_line(text: str) -> str:
    """The line that says most: the last one, which ends a traceback, or the one with a code of Entra ID."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    best = [line for line in lines if "AADSTS" in line] or lines or ["no reason is known"]
    return EXCEPTION.sub("", best[-1]).rstrip(".")[:500]


def _reason(body: str) -> tuple[str, str]:
    """The code and the message in the body of an error."""
    try:
        error = json.loads(body)
        error = error.get("error", error)
        return str(error.get("code") or ""), str(error.get("message") or "")
    except (ValueError, AttributeError):
        return "", body.strip()[:200]
