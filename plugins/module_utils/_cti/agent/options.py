# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The options of the agent: agent.json, and flags of the same names, which take precedence."""

import argparse
import json
import os
from typing import TYPE_CHECKING, Any, Container, Dict, NamedTuple, Sequence

from .. import folders
from ..errors import CtiError
from ..kinds.files.budget import REHASH_DAYS
from ..rule.settings import EXTENSION
from ..state.history import KEEP, Retention
from ..text import quoted
from ..wire.address import Address, parse
from ..wire.ama import AMA_USERS, CONFIG, SOCKET
from ..wire.sender import ACKS
from ..wire.tls import Tls

if TYPE_CHECKING:
    from ..azure.identity import Identity

FILE = "/etc/ctagent/agent.json"
MAX_BYTES = 1 << 20
_AZURE = "azure:"
REALTIME = ("auto", "off")
WHO = ("off", "read", "rules")


class OptionError(CtiError):
    """An option is not valid, or an option is missing."""


class AgentOptions(NamedTuple):
    """The options of the agent, with their defaults. HELP describes each."""

    state: str = "/var/lib/ctagent"
    address: str = SOCKET % EXTENSION
    config_address: str = SOCKET % CONFIG
    allow_users: Sequence[str] = AMA_USERS
    acks: str = "auto"
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    chunks: str = "/etc/opt/microsoft/azuremonitoragent/config-cache/configchunks"
    dcr: str = "/etc/ctagent/dcr.json"
    refresh: float = 300
    jitter: float = 30
    item_files: str = ""
    contents: bool = False
    content_paths: Sequence[str] = ()
    upload_contents: bool = False
    upload_hosts: Sequence[str] = ()
    azure_identity: str = "auto"
    azure_client_id: str = ""
    azure_tenant_id: str = ""
    azure_credential_file: str = ""
    azure_authority: str = ""
    azure_ca: str = ""
    azure_proxy: str = ""
    rehash_days: float = REHASH_DAYS
    history_days: float = KEEP.days
    history_mib: float = KEEP.mib
    baseline: str = ""
    realtime: str = "auto"
    who: str = "off"
    who_arguments: bool = False

    @property
    def retention(self) -> Retention:
        return Retention(self.history_days, self.history_mib)

    @property
    def database(self) -> str:
        return self.path("changetracking.db")

    @property
    def tls(self) -> Tls:
        return Tls(self.tls_ca, self.tls_cert, self.tls_key)

    @property
    def azure(self) -> "Identity":
        """Whose tokens the agent uses."""
        from ..azure.identity import Identity  # loaded only if it is used

        given = {field: getattr(self, "azure_" + field) for field in Identity._fields}
        return Identity(**{field: value for field, value in given.items() if value})

    @property
    def to_azure(self) -> bool:
        """Whether records go to Log Analytics."""
        return self.address.startswith(_AZURE)

    @property
    def receiver(self) -> Address:
        return _receiver(self.address)

    def path(self, name: str) -> str:
        """The path of a file in the state directory."""
        return os.path.join(self.state, name)


def _receiver(address: str) -> Address:
    """What records are sent to. Raises ForwardError and AzureError."""
    if not address.startswith(_AZURE):
        return parse(address)
    from ..azure.ingestion import parse_rule  # loaded only if it is used

    endpoint = parse_rule(address).endpoint
    return Address("https", endpoint.host, endpoint.port)


HELP = {
    "state": ("DIR", "state directory"),
    "address": (
        "ADDRESS",
        "address to send records to: @NAME, /PATH, tcp://HOST:PORT, tls://HOST:PORT, or azure:https://HOST/ID",
    ),
    "config_address": ("ADDRESS", "socket of the Azure Monitor Agent to request the rule from; empty: none"),
    "allow_users": ("NAME", "user who may listen at a Unix socket; may be repeated"),
    "acks": (
        "|".join(ACKS),
        "require: a record is delivered when the receiver acknowledges it; off: when it reads it; auto: off for the Azure Monitor Agent, require for others",
    ),
    "tls_ca": ("FILE", "certificate authorities to trust for tls://, PEM; replaces those of the system"),
    "tls_cert": ("FILE", "client certificate for tls://, PEM"),
    "tls_key": ("FILE", "key of the certificate, if it is in another file"),
    "chunks": ("DIR", "directory of config chunks to read if the config socket does not answer; empty: none"),
    "dcr": ("FILE", "fallback rule file (optional)"),
    "refresh": ("SECONDS", "interval between two checks for a new rule"),
    "jitter": ("SECONDS", "delay the first runs after a start by up to this time, at random"),
    "item_files": ("DIR", "directory for Packages.json, Services.json and File.json; empty: the state directory"),
    "contents": ("", "keep the text of small files whose file item has uploadContent, and add a diff to their changes"),
    "content_paths": ("PATTERN", "also keep the text of matching files that are not world-readable; may be repeated"),
    "upload_contents": (
        "",
        "also upload these texts to the storage account that the rule names, and add the link to their changes",
    ),
    "upload_hosts": (
        "HOST",
        "blob host that the rule may name, with :PORT if that is not 443; may be repeated; default: all of the Azure clouds",
    ),
    "azure_identity": (
        "KIND",
        "whose tokens to use: vm, arc, secret, certificate, or auto for the managed identity of this machine",
    ),
    "azure_client_id": ("ID", "client id of the application, or of a user-assigned identity of this virtual machine"),
    "azure_tenant_id": ("ID", "tenant of the application"),
    "azure_credential_file": ("FILE", "secret of the application, or its certificate and private key as PEM"),
    "azure_authority": ("URL", "where the application gets its tokens; default: that of the public cloud"),
    "azure_ca": ("FILE", "certificate authorities to trust for Azure, PEM; replaces those of the system"),
    "azure_proxy": ("URL", "proxy to Azure as http://HOST:PORT; empty: none, whatever the environment says"),
    "rehash_days": ("DAYS", "read every tracked file again within this time, even if its times are the same; 0: never"),
    "history_days": ("DAYS", "how long to keep the history of changes"),
    "history_mib": (
        "MIB",
        "maximum size of the history, compressed; the user with the most changes loses the oldest of them",
    ),
    "baseline": (
        "FILE",
        "database of Microsoft's agent, whose files are the baseline if there is no state yet; empty: the first run is the baseline",
    ),
    "realtime": (
        "|".join(REALTIME),
        "auto: collect as soon as the kernel, the package manager or systemd announces a change; off: as often as the rule says, no more",
    ),
    "who": (
        "|".join(WHO),
        "read: take who made a change from the kernel's audit messages; rules: also add audit rules for what is tracked",
    ),
    "who_arguments": ("", "keep the arguments of the command that made a change, which may hold secrets"),
}
_FLAGS = {"allow_users": "--allow-user", "content_paths": "--content-path", "upload_hosts": "--upload-host"}
_PATHS = (
    "state",
    "tls_ca",
    "tls_cert",
    "tls_key",
    "chunks",
    "dcr",
    "item_files",
    "azure_credential_file",
    "azure_ca",
    "baseline",
)
_CHOICES = {"acks": ACKS, "realtime": REALTIME, "who": WHO}
_DEFAULTS: Dict[str, Any] = AgentOptions()._asdict()


def add_flags(parser: argparse.ArgumentParser, shown: Container[str] = tuple(HELP)) -> None:
    """Add a flag for each option. `shown`: options that the help lists; the others are accepted as well."""
    parser.add_argument(
        "--config", metavar="FILE", help="JSON file with these options, with _ for -; empty: none (%s)" % FILE
    )
    for name, default in _DEFAULTS.items():
        metavar, text = HELP[name]
        if name not in shown:
            text = argparse.SUPPRESS
        elif isinstance(default, (int, float)) and not isinstance(default, bool):
            text = "%s (%g)" % (text, default)
        flag = _FLAGS.get(name, "--" + name.replace("_", "-"))
        if isinstance(default, bool):
            parser.add_argument(flag, dest=name, action="store_true", default=None, help=text)
        elif isinstance(default, (int, float)):
            parser.add_argument(flag, dest=name, metavar=metavar, type=float, help=text)
        elif isinstance(default, str):
            parser.add_argument(flag, dest=name, metavar=metavar, help=text)
        else:
            parser.add_argument(flag, dest=name, metavar=metavar, action="append", help=text)


def load(arguments: argparse.Namespace) -> AgentOptions:
    """The options of the file, overridden by the flags. Raises OptionError and RetentionError."""
    configured = {} if arguments.config == "" else _read(arguments.config or FILE, must_exist=bool(arguments.config))
    flags = {name: value for name, value in vars(arguments).items() if name in _DEFAULTS and value is not None}
    for name, value in [*configured.items(), *flags.items()]:
        _check(name, value)
    for name in _PATHS:
        path = configured.get(name, "")
        if path and not path.startswith(
            "/"
        ):  # the current directory of a service is not the one that the operator means
            raise OptionError(
                "The option %s is '%s'. Give an absolute path, which starts with /." % (name, quoted(path))
            )
    options = AgentOptions(**dict(configured, **flags))
    if not options.state:
        raise OptionError("The option state is empty. Give the path of a directory.")
    Retention.checked(options.history_days, options.history_mib)
    for name, address, read in (
        ("address", options.address, _receiver),
        ("config_address", options.config_address, parse),
    ):
        try:
            if address:
                read(address)
        except CtiError as error:
            raise OptionError("The option %s is invalid: %s." % (name, str(error).rstrip("."))) from error
    if options.to_azure:
        _check_azure(options)
    if options.upload_contents:
        _check_uploads(options)
    if options.who_arguments and options.who == "off":
        raise OptionError(
            "The option who_arguments needs the option who, which adds who made a change. Set who to read or rules, or who_arguments to false."
        )
    return options._replace(state=os.path.abspath(options.state))


def _check_uploads(options: AgentOptions) -> None:
    if not options.contents:
        raise OptionError(
            "The option upload_contents needs the option contents, which keeps the texts. Set both, or none."
        )
    _check_azure(options)


def _check_azure(options: AgentOptions) -> None:
    try:
        options.azure.check()
    except CtiError as error:
        raise OptionError("The options for Azure do not fit. %s" % error) from error


def _read(path: str, must_exist: bool) -> Dict[str, Any]:
    try:
        with open(path, "rb") as file:
            values = json.loads(file.read(MAX_BYTES).decode("utf-8"))
    except FileNotFoundError:
        if not must_exist:
            return {}
        raise OptionError(
            "Cannot read the configuration '%s': no such file. Give the path of an agent.json." % path
        ) from None
    except OSError as error:
        raise OptionError(
            "Cannot read the configuration '%s' (%s). %s"
            % (path, error.strerror, folders.remedy(error, path, "Correct its permissions."))
        ) from error
    except (ValueError, RecursionError) as error:
        raise OptionError("The configuration '%s' is not JSON (%s). Correct the file." % (path, error)) from error
    if not isinstance(values, dict):
        raise OptionError("The configuration '%s' is not a JSON object. Write the options as {\"NAME\": VALUE}." % path)
    unknown = sorted(set(values) - set(_DEFAULTS))
    if unknown:
        raise OptionError(
            "The configuration '%s' has the unknown option '%s'. Known options: %s."
            % (path, quoted(unknown[0]), ", ".join(_DEFAULTS))
        )
    return values


def _check(name: str, value: Any) -> None:
    default = _DEFAULTS[name]
    if isinstance(default, (list, tuple)):
        good = isinstance(value, (list, tuple)) and all(isinstance(element, str) for element in value)
        form = "a list of strings"
    elif isinstance(default, bool):
        good, form = isinstance(value, bool), "true or false"
    elif isinstance(default, str):
        good, form = isinstance(value, str), "a string"
    else:
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1e9
        units = {
            "history_days": "a number of days",
            "rehash_days": "a number of days",
            "history_mib": "a number of MiB",
        }
        form = units.get(name, "a number of seconds")
    if name == "refresh" and good:
        good, form = value >= 1, "a number of seconds, at least 1"
    if name in _CHOICES and value not in _CHOICES[name]:
        good, form = False, "one of " + ", ".join(_CHOICES[name])
    if not good:
        raise OptionError("The option %s is %s. Give %s." % (name, json.dumps(value)[:80], form))
