# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What the agent is told: agent.json, and flags of the same names that override it."""

import argparse
import json
import os
from typing import Any, Dict, NamedTuple, Sequence

from ..errors import CtiError
from ..kinds.files.budget import REHASH_DAYS
from ..rule.settings import EXTENSION
from ..state.history import KEEP, Retention
from ..text import quoted
from ..wire.address import AMA_USERS, CONFIG, SOCKET, Address, parse
from ..wire.sender import ACKS
from ..wire.tls import Tls

FILE = "/etc/ctagent/agent.json"
MAX_BYTES = 1 << 20


class OptionError(CtiError):
    """The agent was told what it cannot do."""


class AgentOptions(NamedTuple):
    """Seconds are seconds; `help` below says what each is."""

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
    rehash_days: float = REHASH_DAYS
    history_days: float = KEEP.days
    history_mib: float = KEEP.mib

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
    def receiver(self) -> Address:
        return parse(self.address)

    def path(self, name: str) -> str:
        """A file in the state folder."""
        return os.path.join(self.state, name)


HELP = {
    "state": ("DIR", "folder for all it keeps"),
    "address": ("ADDRESS", "where records go: @name, /path, tcp://host:port or tls://host:port"),
    "config_address": ("ADDRESS", "the agent's socket that is asked for the rule; empty: none"),
    "allow_users": ("NAME", "who may listen at a unix socket; may be repeated"),
    "acks": (
        "|".join(ACKS),
        "whether records count as delivered only once acknowledged; auto: by every receiver but the Azure Monitor Agent",
    ),
    "tls_ca": ("FILE", "authorities for a tls receiver, PEM; replaces those of the system"),
    "tls_cert": ("FILE", "certificate of our own, PEM"),
    "tls_key": ("FILE", "its key, where that is another file"),
    "chunks": ("DIR", "folder of the agent's config chunks, for when it does not answer; empty: none"),
    "dcr": ("FILE", "rule for where there is neither; need not exist"),
    "refresh": ("SECONDS", "between two looks for the rule"),
    "jitter": ("SECONDS", "over which the first runs after a start are spread"),
    "item_files": ("DIR", "folder of Packages.json, Services.json and File.json; empty: the state's"),
    "contents": ("", "keep the texts of small files whose rule says uploadContent, and tell the lines that differ"),
    "content_paths": ("PATTERN", "such a file may be kept though not everybody may read it; may be repeated"),
    "rehash_days": ("DAYS", "within which every tracked file is read again, even if its times are the same; 0: never"),
    "history_days": ("DAYS", "how long changes are kept for whoever asks for the history"),
    "history_mib": ("MIB", "how much of them is kept, compressed; the oldest go first"),
}
_FLAGS = {"allow_users": "--allow-user", "content_paths": "--content-path"}
_PATHS = ("state", "tls_ca", "tls_cert", "tls_key", "chunks", "dcr", "item_files")
_DEFAULTS: Dict[str, Any] = AgentOptions()._asdict()


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="the same options as JSON, with _ for - (%s)" % FILE)
    for name, default in _DEFAULTS.items():
        metavar, text = HELP[name]
        flag = _FLAGS.get(name, "--" + name.replace("_", "-"))
        if isinstance(default, bool):
            parser.add_argument(flag, dest=name, action="store_true", default=None, help=text)
        elif isinstance(default, (int, float)):
            parser.add_argument(flag, dest=name, metavar=metavar, type=float, help="%s (%g)" % (text, default))
        elif isinstance(default, str):
            parser.add_argument(flag, dest=name, metavar=metavar, help=text)
        else:
            parser.add_argument(flag, dest=name, metavar=metavar, action="append", help=text)


def load(arguments: argparse.Namespace) -> AgentOptions:
    """The file's options with the flags' over them. Raises OptionError and ForwardError."""
    configured = _read(arguments.config or FILE, must_exist=bool(arguments.config))
    flags = {name: value for name, value in vars(arguments).items() if name in _DEFAULTS and value is not None}
    for name, value in [*configured.items(), *flags.items()]:
        _check(name, value)
    for name in _PATHS:
        path = configured.get(name, "")
        if path and not path.startswith("/"):  # a service's current folder is not the one that was meant
            raise OptionError(
                "The option %s is '%s'. Give an absolute path, which starts with /." % (name, quoted(path))
            )
    options = AgentOptions(**dict(configured, **flags))
    if not options.state:
        raise OptionError("The option state is empty. Give the path of a directory.")
    Retention.checked(options.history_days, options.history_mib)
    for address in (options.address, options.config_address):
        if address:
            parse(address)
    return options._replace(state=os.path.abspath(options.state))


def _read(path: str, must_exist: bool) -> Dict[str, Any]:
    try:
        with open(path, "rb") as file:
            values = json.loads(file.read(MAX_BYTES).decode("utf-8"))
    except FileNotFoundError:
        if not must_exist:
            return {}
        raise OptionError("There is no %s; give the path of the agent's configuration." % path) from None
    except OSError as error:
        raise OptionError("%s cannot be read (%s); correct its permissions." % (path, error.strerror)) from error
    except (ValueError, RecursionError) as error:
        raise OptionError("%s is not JSON (%s); correct it." % (path, error)) from error
    if not isinstance(values, dict):
        raise OptionError("%s is not a JSON object; correct it." % path)
    unknown = sorted(set(values) - set(_DEFAULTS))
    if unknown:
        raise OptionError("%s: there is no option %s; known are %s." % (path, unknown[0], ", ".join(_DEFAULTS)))
    return values


def _check(name: str, value: Any) -> None:
    default = _DEFAULTS[name]
    if isinstance(default, (list, tuple)):
        good = isinstance(value, (list, tuple)) and all(isinstance(element, str) for element in value)
        form = "a list of texts"
    elif isinstance(default, bool):
        good, form = isinstance(value, bool), "true or false"
    elif isinstance(default, str):
        good, form = isinstance(value, str), "a text"
    else:
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1e9
        units = {
            "history_days": "a number of days",
            "rehash_days": "a number of days",
            "history_mib": "a number of MiB",
        }
        form = units.get(name, "a number of seconds")
    if name == "refresh" and good:
        good, form = value >= 1, "a number of seconds, at the least 1"
    if name == "acks" and value not in ACKS:
        good, form = False, "one of " + ", ".join(ACKS)
    if not good:
        raise OptionError("The option %s is %s; it must be %s." % (name, json.dumps(value)[:80], form))
