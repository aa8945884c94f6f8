# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides whether a module of the collection runs directly on a host, in one call and without a file there, and does it.

Where it cannot run directly, or did not start, Ansible runs it as any module. The variable ct_direct decides, see docs/direct.md.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ansible import constants
from ansible.module_utils.basic import heuristic_log_sanitize
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible.utils.display import Display

from .._bounded import calm
from . import core, payload
from .call import LZMA, Answer, Call, HalfAnswer, Missing, NotStarted

VARIABLE = "ct_direct"
COLLECTION = "changetracking.inventory."
MAX_MESSAGES, MAX_LINES = 300, 5  # characters and lines of what the host printed
# With -vvv, some versions of ansible-core have ssh tell all.
OF_SSH = ("OpenSSH_", "debug1:", "debug2:", "debug3:", "  #")
FLAGS = {"failed": bool, "msg": str}
# Become plugins that hand on standard input as long as they ask for no password, though Ansible never pipelines with them.
WITHOUT_PASSWORD = ("ansible.builtin.su", "su", "community.general.doas", "doas")


class Module(NamedTuple):
    """A module that can run directly."""

    name: str
    options: Mapping[str, Any]  # of AnsibleModule
    returns: Mapping[str, Any]  # type of each key of its result
    fact: str = ""  # the one that it returns
    features: frozenset[str] = frozenset()  # of payload.FEATURES, that not every request needs
    usual: frozenset[str] = frozenset()  # those of them that most requests need
    often: frozenset[str] = frozenset()  # those that many need
    needed: Callable[[Mapping[str, Any]], Iterable[str]] = lambda params: ()  # those that a request needs

    def payload(self) -> payload.Payload:
        return payload.build(self.name, self.features, self.usual)

    def prepare(self) -> None:
        """Pack what many requests need. To be called before Ansible forks: once for all hosts."""
        self.payload().join(self.usual | self.often)


class DirectAction(NormalAction):  # type: ignore[misc]
    """The action of a module. Set `module` in a subclass."""

    module: Module

    def __init_subclass__(cls) -> None:
        cls.module.prepare()

    def run(self, tmp: Any = None, task_vars: Any = None) -> Any:
        result = run(self, self.module, self._task.args, task_vars)
        return super().run(tmp, task_vars) if result is None else result


class _AsModule(Exception):
    """Ansible runs the module. The text says why."""


def run(action: Any, module: Module, arguments: Mapping[str, Any], task_vars: dict[str, Any]) -> dict[str, Any] | None:
    """Run the module directly, and return its result as Ansible would. None: it has to run as a module."""
    variables = core.variables_of(action, task_vars)
    # Any module may return facts, and they take precedence over the inventory.
    if VARIABLE in variables.get("ansible_facts", ()):
        return _failure(
            f"The facts of the host set {VARIABLE}, which only the operator may set. Clear its facts (--flush-cache)."
        )
    setting = str(action._templar.template(variables.get(VARIABLE, "auto")))
    if setting not in ("auto", "never", "require"):
        return _failure(f"The value of {VARIABLE} is {setting!r}. Give auto, never or require.")
    try:
        if setting == "never":
            raise _AsModule(f"{VARIABLE} is never")
        return _Direct(action, module, variables, task_vars).run(arguments)
    except _AsModule as reason:
        if setting == "require":
            return _failure(
                f"{module.name} cannot run directly: {reason}. Correct this, or set {VARIABLE} to auto to run it as a module."
            )
        Display().vvv(f"{module.name} runs as a module: {reason}", host=variables.get("inventory_hostname"))
        return None


def _failure(message: str) -> dict[str, Any]:
    return {"failed": True, "msg": message}


class _Direct:
    def __init__(self, action: Any, module: Module, variables: dict[str, Any], task_vars: dict[str, Any]) -> None:
        self._action = action
        self._module = module
        self._variables = variables
        self._task_vars = task_vars
        self._interpreter = ""  # of the host, once it is known
        self._discovery = ""  # the mode, if it was discovered in this task
        self._messages = ""  # what the last call printed to stderr

    def run(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Raises _AsModule: nothing ran on the host."""
        self._check_task()
        self._check_connection()
        prefix = self._environment()
        params = self._params(arguments)
        request = self._request(params)
        try:
            try:
                answer = self._call(self._module.payload().join(self._module.needed(params)), request, prefix)
            except Missing as missing:
                self._tell(f"again, with all of its code: the host lacks {calm(str(missing))}")
                if str(missing) != LZMA:
                    request["log"] = ""  # written by the first call
                answer = self._call(self._module.payload().whole(), request, prefix)
            result = self._result(answer)
        except Missing:
            return _failure(
                f"{self._module.name} cannot run directly: the host says that it lacks a part of what was sent. Set {VARIABLE} to never."
            )
        except HalfAnswer as error:
            return _failure(
                f"{self._module.name} ran on the host, but its answer did not arrive: {error}. Run the task again. {self._messages}".rstrip()
            )
        facts = self._discovered(answer)
        if facts:
            result.setdefault("ansible_facts", {}).update(facts)
        return dict(result, invocation={"module_args": params})

    def _tell(self, how: str) -> None:
        Display().vvv(f"{self._module.name} runs {how}", host=self._variables.get("inventory_hostname"))

    def _call(self, payload: bytes, request: dict[str, Any], prefix: str) -> Answer:
        """Run the module once. Raises _AsModule, HalfAnswer and Missing."""
        try:
            call = Call(payload, request)
        except TypeError:
            raise _AsModule("its options have values that are no JSON") from None
        command = self._command(call, prefix)
        self._tell(f"directly: {len(call.data)} bytes on standard input, no file on the host")
        output, messages = core.execute(self._action, command, call.data)
        lines = [text for text in messages.splitlines() if text.strip() and not text.startswith(OF_SSH)]
        self._messages = calm("\n".join(lines[-MAX_LINES:]))[-MAX_MESSAGES:]
        try:
            return call.read(output)
        except NotStarted:
            raise _AsModule(f"it did not start on the host ({self._messages or 'without a message'})") from None

    def _command(self, call: Call, prefix: str) -> str:
        if not self._interpreter:
            found = core.interpreter(self._action, self._variables)
            if isinstance(found, core.Undiscovered):
                self._discovery = found.mode
                if core.can_search(self._action._connection):
                    return call.searching_command(core.candidates(self._variables), prefix)
                found = core.discover(self._action, found.mode, self._variables)
            self._interpreter = found
        return call.command(self._interpreter, prefix)

    def _discovered(self, answer: Answer) -> dict[str, str]:
        """The facts about the interpreter, if it was discovered in this task."""
        if not self._discovery:
            return {}
        if not self._interpreter:
            self._interpreter = core.discover(self._action, self._discovery, self._variables, answer.interpreter)
        return core.keep_discovered(self._action, self._interpreter, self._variables, self._task_vars)

    def _environment(self) -> str:
        """The task's environment, as it stands before a command."""
        environment, prefix = core.environment(self._action)
        if any(name.startswith("PYTHON") for name in environment):
            raise _AsModule("the environment of the task has settings of Python, which runs isolated")
        return prefix

    def _check_task(self) -> None:
        if self._action._task.async_val:
            raise _AsModule("the task is asynchronous")
        if constants.DEFAULT_KEEP_REMOTE_FILES:
            raise _AsModule("Ansible is to keep its files on the host (ANSIBLE_KEEP_REMOTE_FILES)")
        if constants.config.get_config_value("PYTHON_MODULE_RLIMIT_NOFILE", variables=self._task_vars):
            raise _AsModule("modules are to have another limit of open files (PYTHON_MODULE_RLIMIT_NOFILE)")

    def _check_connection(self) -> None:
        connection = self._action._connection
        if not connection.has_pipelining or not core.has_shell(connection):
            raise _AsModule(f"the connection {connection.transport} hands on no standard input")
        become = connection.become
        if become is None:
            return
        if become.name in WITHOUT_PASSWORD:
            if become.get_option("become_pass"):
                raise _AsModule(f"{become.name} asks for a password, for which it needs a terminal")
        elif not getattr(become, "pipelining", True) or become.require_tty:
            raise _AsModule(f"{become.name} hands on no standard input")

    def _params(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters as the module would have them, but for paths, which the host expands."""
        options = dict(self._module.options)
        options.pop("supports_check_mode")
        spec = _with_paths_as_text(options.pop("argument_spec"))
        params = core.validated(ArgumentSpecValidator(spec, **options), arguments)
        if params is None:
            raise _AsModule("its options are not valid, which the module reports")
        return params

    def _request(self, params: dict[str, Any]) -> dict[str, Any]:
        task, task_vars = self._action._task, self._task_vars
        quiet = task.no_log or constants.config.get_config_value("DEFAULT_NO_TARGET_SYSLOG", variables=task_vars)
        return {
            "module": self._module.name,
            "action": COLLECTION + self._module.name,
            "params": params,
            "check_mode": bool(task.check_mode),
            "log": "" if quiet else _log_line(params, task_vars),
            "facility": str(task_vars.get("ansible_syslog_facility", constants.DEFAULT_SYSLOG_FACILITY)),
        }

    def _result(self, answer: Answer) -> dict[str, Any]:
        """The result, if its keys are those that the module returns. Raises HalfAnswer."""
        types = {**FLAGS, **self._module.returns}
        result = answer.result
        for name, value in result.items():
            if name not in types or not isinstance(value, types[name]):
                raise HalfAnswer(f"it has a value that {self._module.name} does not return")
        if "ansible_facts" in result and list(result["ansible_facts"]) != [self._module.fact]:
            raise HalfAnswer(f"it has facts that {self._module.name} does not return")
        if "msg" in result:
            result["msg"] = calm(result["msg"])
        if answer.warnings:
            result["warnings"] = [calm(text) for text in answer.warnings]
        return result


def _with_paths_as_text(spec: Mapping[str, Any]) -> dict[str, Any]:
    """An argument_spec whose paths are not expanded here."""
    found = copy.deepcopy(dict(spec))
    for option in found.values():
        if option["type"] == "path":
            option["type"] = "str"
        if "options" in option:
            option["options"] = _with_paths_as_text(option["options"])
    return found


def _log_line(params: Mapping[str, Any], task_vars: Mapping[str, Any]) -> str:
    """What every module writes to the system's log of its host."""
    values = (
        f"{name}={heuristic_log_sanitize(value if isinstance(value, str) else str(value))}"
        for name, value in params.items()
    )
    note = core.log_note(task_vars)
    return " ".join([*([note] if note else []), "Invoked with", *values])
