# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The agent's command line."""

import argparse
import json
import os
import sys
from typing import Iterable, List, Optional

from ..daemon import VERSION, Log, print_error
from ..errors import CtiError, StateError, StateTooNew
from ..kinds.kind import Row
from ..kinds.registry import all_kinds
from ..records import change_line
from ..state.store import Store
from ..text import line
from . import options as agent_options
from . import status
from .options import AgentOptions

CHANGES = "changes"  # can be shown, as the kinds can
_ELSEWHERE = "the agent uses another state directory, which you can give with --state"


def main(arguments: Optional[List[str]] = None) -> int:
    """Run a command. Returns the exit status: 0 success, 1 failure, 2 wrong usage."""
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if "command" not in parsed:
        parser.error("give a command: run, once, check, status, show, watch or doctor")
    code = 2
    try:
        options = agent_options.load(parsed)
        code = 1
        code = parsed.command(options, parsed)
    except CtiError as error:
        print_error("agent", error)
    return int(code)


def _run(options: AgentOptions, _parsed: argparse.Namespace) -> int:
    from .agent import Agent

    code = Agent(options, Log()).run()
    sys.stderr.flush()
    os._exit(code)  # does not wait for the thread of a run, whose results are discarded


def _once(options: AgentOptions, _parsed: argparse.Namespace) -> int:
    from .agent import Agent

    return Agent(options, Log()).once()


def _check(options: AgentOptions, parsed: argparse.Namespace) -> int:
    """Report success: main() has validated the options. With --state, raises StateTooNew. Any other error of a state is left to
    the service, because another program does not cure it."""
    if parsed.state is not None:
        try:
            with Store(options.database, read_only=True, owner=_owner(options), leave_no_files=True):
                pass
        except StateTooNew:
            raise
        except StateError:
            pass
    _print(["The configuration is valid; the state directory is %s." % options.state])
    return 0


def _status(options: AgentOptions, parsed: argparse.Namespace) -> int:
    state = status.read(options, _owner(options))
    _print([json.dumps(state)] if parsed.json else status.lines(state))
    kinds = state.get("Kinds", {}).values()
    failed = state.get("Delivery", {}).get("Error") or state["Outbox"].get("Error")
    failed = failed or state["Unwritable"] or any(kind.get("Failed") or kind.get("Error") for kind in kinds)
    has_rule = (state.get("Rule") or {}).get("Origin")
    return 0 if state["Running"] and has_rule and not failed else 1


def _show(options: AgentOptions, parsed: argparse.Namespace) -> int:
    from ..tracking.last_known import require

    require(options.database, _ELSEWHERE)
    with Store(options.database, read_only=True, owner=_owner(options), leave_no_files=True) as store:
        if parsed.what == CHANGES:
            rows: Iterable[Row] = store.history()
            shown: Iterable[str] = map(change_line, rows)
        else:
            kind = all_kinds()[parsed.what]
            rows = (kind.row(item) for item in store.all_items(kind))
            shown = ("  ".join(str(row[column]) for column in kind.shown) for row in rows)
        if parsed.json:
            _print(map(json.dumps, rows))
        else:
            _print(_or(shown, "No %s are recorded." % parsed.what))
    return 0


def _watch(options: AgentOptions, parsed: argparse.Namespace) -> int:
    from ..tracking.last_known import require
    from .watch import watch  # loaded only if it is used

    require(options.database, _ELSEWHERE)
    watch(options, _owner(options), parsed.json)
    return 0


def _or(lines: Iterable[str], otherwise: str) -> Iterable[str]:
    """The lines, or `otherwise` if there are none."""
    empty = True
    for text in lines:
        empty = False
        yield text
    if empty:
        yield otherwise


def _doctor(options: AgentOptions, parsed: argparse.Namespace) -> int:
    from . import doctor

    links = doctor.examine(options, _owner(options))
    found = doctor.as_data(links)
    _print([json.dumps(found)] if parsed.json else doctor.lines(links))
    return 0 if found["Ok"] else 1


def _owner(options: AgentOptions) -> Optional[int]:
    """The uid of the owner of the state directory, who may own the files in it: root reads the state of the agent's user."""
    try:
        return os.stat(options.state).st_uid
    except OSError:
        return None


def _print(lines: Iterable[str]) -> None:
    try:
        for text in lines:
            sys.stdout.write(line(text) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # avoids an error message of the interpreter at exit


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agent",
        description="Track packages, services and files as a data collection rule says, and deliver inventory and changes.",
    )
    parser.add_argument("--version", action="version", version="agent %s" % VERSION)
    commands = parser.add_subparsers(metavar="COMMAND")
    for command, text in (
        (_run, "run the agent until SIGTERM; SIGHUP checks for a new rule"),
        (_once, "collect everything that the rule enables once, deliver it, and exit"),
        (_check, "validate the configuration and exit; with --state, also check that this version can read that state"),
        (_status, "show the status; exit status 1 if something is wrong"),
        (_show, "show the recorded packages, services, files or changes"),
        (_watch, "show changes as they are recorded, until Ctrl-C; exit status 1 if no agent runs any more"),
        (_doctor, "check everything from the rule to the delivery and show remedies; exit status 1 if a check fails"),
    ):
        sub = commands.add_parser(command.__name__.lstrip("_"), help=text)
        sub.set_defaults(command=command)
        if command in (_status, _show, _watch):
            agent_options.add_flags(sub, shown=["state"])  # they read what the agent has stored
        else:
            agent_options.add_flags(sub)
        if command is _show:
            sub.add_argument("what", choices=[*all_kinds(), CHANGES])
        if command in (_status, _show, _watch, _doctor):
            help_json = "print JSON; show and watch print one item or change per line"
            sub.add_argument("--json", action="store_true", help=help_json)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
