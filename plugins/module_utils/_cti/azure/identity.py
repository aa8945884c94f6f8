# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Tokens of Microsoft Entra ID: for the managed identity of a virtual machine or of an Arc machine, or for an application with a
secret or a certificate in a file.

Sources: "How to use managed identities on an Azure VM to acquire an access token", "Authenticate against Azure resources with
Azure Arc-enabled servers", and "OAuth 2.0 client credentials flow" on learn.microsoft.com.
"""

import os
import random
import re
import threading
import time
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple
from urllib.parse import quote, quote_plus

from ..text import quoted
from . import credentials, https
from .errors import AzureError
from .https import Client, Endpoint, Response

STORAGE = "https://storage.azure.com"
MONITOR = "https://monitor.azure.com"

AUTO, VM, ARC, SECRET, CERTIFICATE = "auto", "vm", "arc", "secret", "certificate"
KINDS = (AUTO, VM, ARC, SECRET, CERTIFICATE)
AUTHORITY = "https://login.microsoftonline.com"  # of the public cloud

IMDS = Endpoint("http", "169.254.169.254", 80)
HIMDS = Endpoint("http", "localhost", 40342)  # of the Azure Connected Machine agent
ARC_AGENT = "/opt/azcmagent/bin/himds"  # is there where that agent is installed

EARLY_SECONDS = 300.0  # before its end, a token is not used any more
PATIENCE = 90.0  # seconds to repeat a request for: IMDS may answer 410 for 70 s while it is updated
METADATA_SECONDS = 10.0  # for one request to a metadata service, which is on this host
_RETRY = (404, 410, 429, 500, 502, 503, 504)
_TOKEN = re.compile(r"[\x21-\x7e]{1,32768}")
_CLOCK_BOOTTIME = 7  # of clock_gettime(2): cannot be set, and advances while the machine is suspended
_TOLERATED_SECONDS = 60.0  # that a clock may be off

_NO_IDENTITY = "Assign a managed identity to this machine, or give the identity of an application (azure_identity)."

_NO_VM = "Only virtual machines of Azure have this service. On another host, give the identity of an application (azure_identity)."


class Identity(NamedTuple):
    """Whose tokens to get. The fields are the options azure_* of the programs."""

    identity: str = AUTO  # auto: arc where the Azure Connected Machine agent is installed, otherwise vm
    client_id: str = ""  # of an application, or of a user-assigned identity, which may also be given by its resource id
    tenant_id: str = ""  # of an application
    credential_file: str = ""  # of an application: its secret, or its certificate with the private key as PEM
    authority: str = AUTHORITY  # who gives an application its tokens
    ca: str = ""  # PEM file of the authorities to trust, for a private cloud
    proxy: str = ""  # http://HOST:PORT, for everything but the metadata services

    def kind(self) -> str:
        """One of KINDS but auto."""
        if self.identity != AUTO:
            return self.identity
        return ARC if os.path.exists(ARC_AGENT) else VM

    def check(self) -> None:
        """Raise AzureError where the fields do not fit together."""
        if self.identity not in KINDS:
            raise AzureError("azure_identity is '%s'. Give one of %s." % (quoted(self.identity), ", ".join(KINDS)))
        if self.identity in (SECRET, CERTIFICATE):
            for name in ("client_id", "tenant_id", "credential_file"):
                if not getattr(self, name):
                    raise AzureError("azure_identity is %s, but azure_%s is empty. Give it." % (self.identity, name))
            if not re.fullmatch(r"[A-Za-z0-9.-]{1,253}", self.tenant_id):
                raise AzureError("azure_tenant_id is '%s'. Give the id of a tenant." % quoted(self.tenant_id))
            https.parse(self.authority)
        elif self.credential_file or self.tenant_id:
            raise AzureError(
                "azure_credential_file and azure_tenant_id are for azure_identity secret and certificate. Give one of these two, or remove"
                " the options."
            )
        if self.identity == ARC and self.client_id:
            raise AzureError("An Arc machine has its system-assigned identity alone. Remove azure_client_id.")
        if self.proxy:
            https.parse(self.proxy, ("http",))


def clock() -> float:
    return time.clock_gettime(_CLOCK_BOOTTIME)


class _Token(NamedTuple):
    text: str
    until: float  # by clock()

    def __repr__(self) -> str:
        return "_Token(until %d)" % self.until


class Tokens:
    """Gets tokens, and keeps each until shortly before its end. May be used by several threads. Raises AzureError.

    `patience`: seconds for which a service that is busy is asked again within one call. `seconds`: for one request to a metadata service.
    """

    def __init__(
        self,
        identity: Identity,
        patience: float = PATIENCE,
        seconds: float = METADATA_SECONDS,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = clock,
    ) -> None:
        identity.check()
        self.identity = identity
        self._patience = patience
        self._seconds = seconds
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: Dict[str, _Token] = {}

    def token(self, resource: str) -> str:
        """An access token for a resource, such as STORAGE. It is visible ASCII, so it fits into a header."""
        with self._lock:
            known = self._tokens.get(resource)
            if known is None or self._clock() >= known.until:
                known = self._tokens[resource] = self._ask(resource)
            return known.text

    def forget(self, resource: str) -> None:
        """Ask for a new token next time: the resource has refused this one."""
        with self._lock:
            self._tokens.pop(resource, None)

    def describe(self) -> str:
        """Whose tokens these are, for a message."""
        identity = self.identity
        kind = identity.kind()
        if kind in (SECRET, CERTIFICATE):
            return "the application %s" % quoted(identity.client_id)
        name = "the identity %s" % quoted(identity.client_id) if identity.client_id else "the system-assigned identity"
        return "%s of this %s" % (name, "Arc machine" if kind == ARC else "virtual machine")

    def _ask(self, resource: str) -> _Token:
        before = self._clock()
        kind = self.identity.kind()
        if kind == VM:
            response = self._patiently(lambda: self._ask_vm(resource))
        elif kind == ARC:
            response = self._patiently(lambda: self._ask_arc(resource))
        else:
            response = self._patiently(lambda: self._ask_authority(resource, kind))
        return _read_token(response, before)

    def _patiently(self, ask: Callable[[], Response]) -> Response:
        """The answer to a request that is repeated while the service is busy."""
        end = self._clock() + self._patience
        delay = 1.0
        while True:
            response = ask()
            if response.status not in _RETRY:
                return response
            wait = max(delay * random.uniform(0.8, 1.2), response.retry_after or 0.0)
            if self._clock() + wait >= end:
                return response
            self._sleep(wait)
            delay = min(delay * 2, 10.0)

    # --- managed identities

    def _ask_vm(self, resource: str) -> Response:
        values = {"api-version": "2018-02-01", "resource": resource}
        if self.identity.client_id:
            values["msi_res_id" if self.identity.client_id.startswith("/") else "client_id"] = self.identity.client_id
        with Client(IMDS, seconds=self._seconds, remedy=_NO_VM) as client:
            target = "/metadata/identity/oauth2/token" + https.query(values)
            return client.request("GET", target, {"Metadata": "true"})

    def _ask_arc(self, resource: str) -> Response:
        if self.identity.client_id:
            raise AzureError(
                "The rule names the identity %s, but an Arc machine has its system-assigned identity alone. Leave managedIdentity"
                " empty in the rule." % quoted(self.identity.client_id)
            )
        credentials.check_himds(HIMDS.port)
        values = {"api-version": "2020-06-01", "resource": resource}
        target = "/metadata/identity/oauth2/token" + https.query(values)
        with Client(HIMDS, seconds=self._seconds, check=credentials.check_peer) as client:
            challenge = client.request("GET", target, {"Metadata": "true"})
            if challenge.status != 401:
                return challenge
            key = credentials.arc_key(challenge.headers.get("www-authenticate", ""))
            answer = client.request("GET", target, {"Metadata": "true", "Authorization": "Basic " + key})
            return _without(key, answer)

    # --- applications

    def _ask_authority(self, resource: str, kind: str) -> Response:
        identity = self.identity
        target = "/%s/oauth2/v2.0/token" % identity.tenant_id
        fields = {
            "client_id": identity.client_id,
            "scope": resource.rstrip("/") + "/.default",
            "grant_type": "client_credentials",
        }
        authority = https.parse(identity.authority)
        with Client(authority, identity.ca, identity.proxy) as client:
            if kind == SECRET:
                fields["client_secret"] = secret = credentials.secret(identity.credential_file)
                return _without(secret, _post(client, target, fields))
            response = _post(client, target, dict(fields, **self._assertion(target, time.time())))
            # An assertion is valid by the clock of the authority.
            now = https.http_date(response.headers.get("date", ""))
            if response.status in (400, 401) and now is not None and abs(now - time.time()) > _TOLERATED_SECONDS:
                response = _post(client, target, dict(fields, **self._assertion(target, now)))
            return response

    def _assertion(self, target: str, now: float) -> Dict[str, str]:
        identity = self.identity
        audience = "%s%s" % (https.parse(identity.authority), target)
        return {
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": credentials.assertion(identity.credential_file, identity.client_id, audience, now),
        }


def _post(client: Client, target: str, fields: Mapping[str, str]) -> Response:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    return client.request("POST", target, headers, https.query(fields)[1:].encode("ascii"))


def _without(secret: str, response: Response) -> Response:
    """An answer without what was sent, which a message about it may quote."""
    headers, body = dict(response.headers), response.body
    for form in (secret, quote(secret, safe=""), quote_plus(secret)):
        headers = {name: value.replace(form, "...") for name, value in headers.items()}
        body = body.replace(form.encode("utf-8"), b"...")
    return response._replace(headers=headers, body=body)


def _read_token(response: Response, asked_at: float) -> _Token:
    """The token in an answer. `asked_at`: by clock(). Raises AzureError."""
    if response.status != 200:
        raise AzureError(*_refusal(response))
    found = https.json_object(response.body)
    text = found.get("access_token")
    if not isinstance(text, str) or not _TOKEN.fullmatch(text):
        raise AzureError("The answer to the request for a token has no token. Check who answers there.", 200)
    lifetime = _lifetime(found, response)
    return _Token(text, asked_at + lifetime - min(EARLY_SECONDS, lifetime / 2))


def _lifetime(found: Mapping[str, Any], response: Response) -> float:
    """Seconds for which a token is valid. The clock of this host may be off by days, so it is asked last."""
    seconds = _number(found.get("expires_in"))
    if seconds is None:
        end = _number(found.get("expires_on"))
        now = https.http_date(response.headers.get("date", ""))
        seconds = None if end is None else end - (time.time() if now is None else now)
    return max(0.0, min(86400.0, seconds or 0.0))


def _number(value: Any) -> Optional[float]:
    """IMDS has numbers as text."""
    text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    return float(text) if re.fullmatch("[0-9]{1,15}", text) else None


def _refusal(response: Response) -> Tuple[str, int, Optional[float]]:
    """Why there is no token, and what to do."""
    said = https.describe(response)
    lower = said.lower()
    if "multiple user assigned" in lower:
        remedy = "This machine has several identities. Give the client id of the one to use as azure_client_id, or in the rule."
    elif response.status == 400 and "identity not found" in lower:
        remedy = _NO_IDENTITY
    elif "aadsts700024:" in lower:
        remedy = "Set the clock of this host."
    elif "aadsts" in lower:
        remedy = "Check azure_client_id, azure_tenant_id and azure_credential_file; a secret or certificate may have expired."
    elif response.status in _RETRY:
        remedy = "The service is busy or not ready. The request is repeated automatically."
        if response.status == 404:
            remedy = _NO_IDENTITY
    else:
        remedy = _NO_IDENTITY
    return "No token (the answer is %s). %s" % (said, remedy), response.status, response.retry_after
