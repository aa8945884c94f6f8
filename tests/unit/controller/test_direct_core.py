# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The private functions of ansible-core that the direct path uses, on the version this runs with."""

from types import SimpleNamespace

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import connection_loader
from ansible.release import __version__ as release
from ansible.template import Templar

from ansible_collections.changetracking.inventory.plugins.plugin_utils._direct import core


class Action(ActionBase):
    def run(self, tmp=None, task_vars=None):
        raise NotImplementedError


def action(environment=(), delegate_to=None, delegate_facts=False):
    task = SimpleNamespace(
        environment=list(environment), delegate_to=delegate_to, delegate_facts=delegate_facts, async_val=0, args={}
    )
    connection = connection_loader.get("ansible.builtin.local", PlayContext(), "/dev/null")
    connection.set_options(direct={"pipelining": False})
    return Action(task, connection, connection._play_context, DataLoader(), Templar(DataLoader(), variables={}), None)


def test_the_interpreter_is_that_of_the_variables():
    assert core.interpreter(action(), {"ansible_python_interpreter": "/usr/bin/python3"}) == "/usr/bin/python3"
    found = {"ansible_python_interpreter": "auto", "ansible_facts": {"discovered_interpreter_python": "/found"}}
    assert core.interpreter(action(), found) == "/found"


@pytest.mark.parametrize("mode", ["auto", "auto_silent"])
def test_an_interpreter_that_is_not_known_is_to_be_discovered(mode):
    assert core.interpreter(action(), {"ansible_python_interpreter": mode}) == core.Undiscovered(mode)
    assert core.interpreter(action(), {}) == core.Undiscovered("auto")


def test_discovery_asks_the_host_no_second_time():
    if not core.FIRST_FOUND_IS_TAKEN:
        pytest.skip("this version looks at the distribution")
    asked = SimpleNamespace()  # has no function to ask a host with
    assert (
        core.discover(asked, "auto_silent", {"inventory_hostname": "h"}, "/usr/bin/python3.11") == "/usr/bin/python3.11"
    )


def test_discovery_asks_the_host():
    assert core.discover(action(), "auto_silent", {"inventory_hostname": "h"}).startswith("/")


def test_the_candidates_are_those_of_the_configuration():
    assert core.candidates({"ansible_interpreter_python_fallback": ["/a", "/b"]}) == ["/a", "/b"]
    assert "/usr/bin/python3" in core.candidates({})


def test_the_first_found_is_taken_from_2_19_on():
    version = tuple(map(int, release.split(".")[:2]))
    assert core.FIRST_FOUND_IS_TAKEN is (version >= (2, 19))


def test_what_was_discovered_is_a_fact_of_the_host_that_was_asked():
    task_vars = {}
    assert core.keep_discovered(action(), "/py", task_vars, task_vars) == {"discovered_interpreter_python": "/py"}
    assert task_vars["ansible_facts"]["discovered_interpreter_python"] == "/py"
    variables, task_vars = {}, {}
    assert core.keep_discovered(action(delegate_to="other"), "/py", variables, task_vars) == {}
    assert variables["ansible_facts"] == {"discovered_interpreter_python": "/py"} and not task_vars
    delegated = action(delegate_to="other", delegate_facts=True)
    assert core.keep_discovered(delegated, "/py", {}, {}) == {"discovered_interpreter_python": "/py"}


@pytest.mark.parametrize("path", ("/bin/true; id #", "/py $(id)", "py", "/py\n", "/{{ x }}", "", "/" + 300 * "a"))
def test_a_path_that_a_shell_could_take_for_more_is_not_kept(path):
    task_vars = {}
    assert core.keep_discovered(action(), path, task_vars, task_vars) == {}
    assert task_vars == {}


def test_the_variables_are_those_of_the_host_that_the_task_runs_on():
    other = {"a": 1}
    task_vars = {"ansible_delegated_vars": {"other": other}}
    assert core.variables_of(action(), task_vars) is task_vars
    assert core.variables_of(action(delegate_to="other"), task_vars) is other


def test_a_connection_has_a_shell_unless_it_is_of_windows_or_of_a_network_device():
    acting = action()
    assert core.has_shell(acting._connection)
    acting._connection._remote_is_local = True
    assert not core.has_shell(acting._connection)
    del acting._connection._remote_is_local
    acting._connection._shell._IS_WINDOWS = True
    assert not core.has_shell(acting._connection)


def test_a_command_looks_for_the_interpreter_itself_without_become():
    acting = action()
    assert core.can_search(acting._connection) is core.FIRST_FOUND_IS_TAKEN
    acting._connection.become = SimpleNamespace()
    assert not core.can_search(acting._connection)


def test_arguments_that_the_module_would_report_are_left_to_it():
    validator = ArgumentSpecValidator({"a": {"type": "int", "aliases": ["b"]}, "c": {"type": "str", "default": "d"}})
    assert core.validated(validator, {"a": "1"}) == {"a": 1, "c": "d"}
    assert core.validated(validator, {"a": "x"}) is None
    assert core.validated(validator, {"a": 1, "b": 2}) is None  # a warning


def test_the_environment():
    assert core.environment(action()) == ({}, "")
    given, prefix = core.environment(action([{"A": "1", "B": "x"}, {"A": "a b"}]))
    assert given == {"A": "a b", "B": "x"} and sorted(prefix.split(" ", 1)) == ["A='a", "b' B=x"]


def test_a_command_gets_its_input_and_the_option_stays_as_it_was():
    acting = action()
    assert core.execute(acting, "tr a-z A-Z; echo to stderr >&2", b"words\xff")[1].strip() == "to stderr"
    assert core.execute(acting, "wc -c", b"x" * 300000)[0].strip() == "300000"
    assert acting._connection.get_option("pipelining") is False


def test_the_note_in_the_log():
    assert core.log_note({}) == ""
