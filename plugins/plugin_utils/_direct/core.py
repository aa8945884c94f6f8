# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that the direct path uses of ansible-core's private functions, for 2.16 to 2.21. tests/unit/controller/test_direct_core.py checks
each of them on each version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible import constants
from ansible.executor import interpreter_discovery
from ansible.executor.interpreter_discovery import InterpreterDiscoveryRequiredError
from ansible.executor.module_common import _get_shebang

# Before 2.19, the interpreter depends on the distribution, which takes a second look at the host.
FIRST_FOUND_IS_TAKEN = not hasattr(interpreter_discovery, "_version_fuzzy_match")
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/+-]{1,250}")


class Undiscovered(NamedTuple):
    """The interpreter has to be searched for on the host. `mode`: such as auto_silent."""

    mode: str


def variables_of(action: Any, task_vars: dict[str, Any]) -> dict[str, Any]:
    """The variables of the host that the task runs on."""
    delegate = action._task.delegate_to
    return task_vars["ansible_delegated_vars"][delegate] if delegate else task_vars


def interpreter(action: Any, variables: dict[str, Any]) -> str | Undiscovered:
    """The Python of the host, as it stands in a command."""
    try:
        return str(_get_shebang("/usr/bin/python", variables, action._templar)[1])
    except InterpreterDiscoveryRequiredError as error:
        return Undiscovered(str(error.discovery_mode))


def candidates(variables: dict[str, Any]) -> list[str]:
    """The names that discovery tries, in their order."""
    return list(constants.config.get_config_value("INTERPRETER_PYTHON_FALLBACK", variables=variables))


def discover(action: Any, mode: str, variables: dict[str, Any], found: str | None = None) -> str:
    """Let Ansible discover the interpreter, and warn. With `found`, the first of candidates() that the host has, it asks no host."""
    asked = action if found is None else _Answered(found)
    return str(interpreter_discovery.discover_interpreter(asked, "python", mode, variables))


class _Answered:
    """In place of an action plugin: the host was asked already."""

    def __init__(self, found: str) -> None:
        self._found = found

    def _low_level_execute_command(self, *_command: Any, **_options: Any) -> dict[str, str]:
        return {"stdout": "FOUND\n%s\nENDFOUND\n" % self._found}


def keep_discovered(action: Any, path: str, variables: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, str]:
    """Let later calls of this task use the interpreter. Returns the facts that let later tasks use it.

    The path is the host's word, and stands unquoted in later commands: another than a plain one is not kept.
    """
    if not _PLAIN_PATH.fullmatch(path):
        return {}
    key = "discovered_interpreter_python"
    variables.setdefault("ansible_facts", {})[key] = path
    if action._task.delegate_to and not action._task.delegate_facts:
        return {}
    task_vars.setdefault("ansible_facts", {})[key] = path
    return {key: path}


def has_shell(connection: Any) -> bool:
    """Whether commands run in a shell that is not of Windows, and on the host rather than here, as for a network device."""
    return not (getattr(connection._shell, "_IS_WINDOWS", False) or getattr(connection, "_remote_is_local", False))


def can_search(connection: Any) -> bool:
    """Whether the command itself can look for the interpreter, as Ansible would: by a POSIX shell, and with the search path of the
    user who logged in."""
    return bool(FIRST_FOUND_IS_TAKEN and not connection.become and connection._shell.SHELL_FAMILY == "sh")


def validated(validator: Any, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments with defaults, each of its type; None where the module would report anything about them."""
    result = validator.validate(dict(arguments))
    if result.error_messages or result._warnings or result._deprecations:
        return None
    return {**arguments, **result.validated_parameters}


def environment(action: Any) -> tuple[dict[str, Any], str]:
    """The task's environment, as a mapping and as it stands before a command."""
    given: dict[str, Any] = {}
    prefix = action._compute_environment_string(given)
    return given, str(prefix)


def execute(action: Any, command: str, data: bytes) -> tuple[str, str]:
    """Run a command on the host with `data` as its standard input. Returns its output and its messages."""
    connection = action._connection
    name, before = "pipelining", None
    try:
        before = connection.get_option(name)
        connection.set_option(name, True)  # else the local connection gives a become plugin a terminal, and no data
    except KeyError:
        name = ""
    try:
        result = action._low_level_execute_command(command, sudoable=True, in_data=data)
    finally:
        if name:
            connection.set_option(name, before)
    return result["stdout"], result["stderr"]


def log_note(task_vars: Mapping[str, Any]) -> str:
    """What the lines in the logs of hosts start with; empty before 2.18."""
    name = "TARGET_LOG_INFO"
    known = constants.config.get_configuration_definition(name)
    return str(constants.config.get_config_value(name, variables=task_vars) or "") if known else ""
