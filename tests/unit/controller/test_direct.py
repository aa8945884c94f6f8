# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The direct path: what is sent, how the host reads it, and how its answer is read."""

import ast
import base64
import copy
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import typing
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from ansible_collections.changetracking.inventory.plugins.action import (
    ct_agent_info,
    ct_file_facts,
    ct_inventory_info,
    ct_package_facts,
    ct_service_facts,
    ct_state_info,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.packed_reader import kinds
from ansible_collections.changetracking.inventory.plugins.plugin_utils._direct import action, call, payload

pytestmark = pytest.mark.no_core

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = ROOT / "plugins"
SENT = sorted([*PLUGINS.glob("module_utils/**/*.py"), *PLUGINS.glob("modules/*.py")])
MODULES = [
    plugin.ActionModule.module
    for plugin in (ct_agent_info, ct_file_facts, ct_inventory_info, ct_package_facts, ct_service_facts, ct_state_info)
]
PARAMS = {"name": ["bash"], "fields": ["SoftwareName"], "version": [], "gpg_keys": False}


def request(**more):
    return {
        "module": "ct_package_facts", "action": "", "params": PARAMS, "check_mode": False, "log": "", "facility": "",
        **more,
    }  # fmt: skip


def whole(module):
    return module.payload().whole()


def package_facts(**more):
    return call.Call(payload.build("ct_package_facts").join(()), request(**more))


def run(sent, data=None, python=sys.executable):
    command = [python, "-I", "-S", "-c", call.BOOT, str(len(sent.data)), sent._marker]
    return subprocess.run(command, input=sent.data if data is None else data, capture_output=True, check=False)


def texts(data):
    while data:
        stream = zlib.decompressobj() if data.startswith(b"x") else lzma.LZMADecompressor()
        yield stream.decompress(data).decode()
        data = stream.unused_data


# --- what is sent


class WithoutWords(ast.NodeTransformer):
    """What strip() does, to a tree."""

    def __init__(self):
        self._in_class = [False]

    def _undocumented(self, node):
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
            node.body[:1] = [] if len(node.body) > 1 else [ast.Pass()]
        self._in_class.append(isinstance(node, ast.ClassDef))
        self.generic_visit(node)
        self._in_class.pop()
        return node

    visit_Module = visit_ClassDef = _undocumented  # noqa: N815

    def visit_FunctionDef(self, node):
        node.returns = None
        return self._undocumented(node)

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_Assign(self, node):
        return None if getattr(node.targets[0], "id", "") in payload.DOCUMENTED else self.generic_visit(node)

    def visit_AnnAssign(self, node):
        self.generic_visit(node)
        if self._in_class[-1]:
            node.annotation = ast.Constant(0)
            return node
        return ast.Pass() if node.value is None else ast.Assign([node.target], node.value)


class WithoutTyping(ast.NodeTransformer):
    """What strip() does to imports."""

    def __init__(self, tree):
        self._used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}

    def visit_ImportFrom(self, node):
        if node.names[0].name == payload.COMPILE_ONCE:
            return None
        if node.module != "typing":
            return node
        names = [name for name in node.names if name.name in self._used]
        return ast.ImportFrom(payload.TYPING, names, 0) if names else ast.Pass()


def stripped_tree(text):
    tree = WithoutWords().visit(ast.parse(text))
    return WithoutTyping(tree).visit(tree)


@pytest.mark.parametrize("path", SENT, ids=lambda path: str(path.relative_to(PLUGINS)))
def test_what_is_left_out_changes_no_code_and_no_line_number(path):
    text = path.read_bytes()
    stripped = payload.strip(text)
    assert ast.dump(ast.parse(stripped)) == ast.dump(stripped_tree(text))
    lines = [
        [node.lineno for node in ast.walk(ast.parse(one)) if isinstance(node, ast.Call)] for one in (text, stripped)
    ]
    assert set(lines[1]) <= set(lines[0])
    assert stripped.count(b"\n") == text.count(b"\n")


def test_no_comment_no_docstring_and_no_annotation_is_left():
    text = rb'''"""Words."""
import os  # words
from typing import Any, Dict, NamedTuple
def f(a: int = 1, *b: "str", c: Dict[
        str, int], **d: Any) -> List[
            int]:
    """Words
    and more."""
    x: Dict[str,
            int] = {"#": "\"#", r"\\": """#
#"""}
    y: int
    return x  # "words"
# words
class C(NamedTuple):
    """Words."""
    a: int  # words
    b: Dict[str,
            int] = "# no words"
    def g(self):
        if self:  # words
            return """
    # no words
"""
'''
    stripped = rb'''
import os
from ct_typing import NamedTuple
def f(a = 1, *b, c
, **d)  \
:


 x = \
{"#": "\"#", r"\\": """#
#"""}
 pass
 return x

class C(NamedTuple):

 a: 0
 b: 0\
 = "# no words"
 def g(self):
  if self:
   return """
    # no words
"""
'''
    assert payload.strip(text) == stripped
    assert ast.dump(ast.parse(stripped)) == ast.dump(stripped_tree(text))


def test_what_most_requests_need_is_small():
    module = ct_inventory_info.ActionModule.module
    assert len(module.payload().join(module.usual)) < 63 * 1024


def test_the_same_collection_gives_the_same_bytes(tmp_path):
    shutil.copytree(PLUGINS, tmp_path / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    code = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
import payload
for module in ("ct_package_facts", "ct_inventory_info"):
    built = payload.build(module, frozenset(payload.FEATURES), frozenset(["files", "packages"]))
    print(hashlib.sha256(built.join(payload.FEATURES) + built.join(["files"]) + built.whole()).hexdigest())
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code, str(folder / "plugin_utils/_direct")],
            env=dict(os.environ, PYTHONHASHSEED=seed), capture_output=True, check=True,
        ).stdout
        for folder, seed in ((PLUGINS, "1"), (PLUGINS, "2"), (tmp_path / "plugins", "3"))
    }  # fmt: skip
    assert len(outputs) == 1 and len(outputs.pop().split()) == 2


@pytest.mark.parametrize("version", ["3.6", "3.8", "3.13"])
def test_all_that_is_sent_compiles_on_the_hosts_of_each_version(version):
    found = subprocess.run([ROOT / "tests/tools/find-python", version], capture_output=True, text=True, check=False)
    if found.returncode:
        assert not os.environ.get("CI"), "Python %s is not on this machine" % version
        pytest.skip("Python %s is not on this machine" % version)
    every = {}
    for module in MODULES:
        program, *packs = texts(whole(module))
        every["host"] = program
        for pack in packs:
            before, *files = pack.split("\0")
            assert not before
            every.update(file.split("\n", 1) for file in files)
    code = "import json, sys\nfor name, text in json.load(sys.stdin).items(): compile(text, name, 'exec')"
    subprocess.run([found.stdout.strip(), "-c", code], input=json.dumps(every).encode(), check=True)


def test_only_what_a_request_needs_is_sent():
    def names(features):
        _program, *packs = texts(ct_inventory_info.ActionModule.module.payload().join(features))
        return " ".join(file.partition("\n")[0] for pack in packs for file in pack.split("\0"))

    every = names(payload.FEATURES)
    for part, feature in {
        "packages.dpkg ": "packages",
        "services.dbus": "services",
        "files.scan": "files",
        "wire.sender": "forward",
        "rule.recommended": "recommended",
    }.items():
        assert part in every
        assert part in names([feature])
        assert part not in names(set(payload.FEATURES) - {feature})
    assert ".agent." not in every and ".relay." not in every


# --- what the host does with it


def test_a_module_runs_on_the_host():
    sent = package_facts()
    done = run(sent)
    answer = sent.read(done.stdout.decode())
    assert set(answer.result) == {"ansible_facts"} and answer.warnings == [] and answer.interpreter == ""
    assert done.stderr == b""


def test_a_host_without_lzma_is_sent_what_it_can_read():
    sent = package_facts()
    blocked = call.BOOT.replace("import sys;", 'import sys;sys.modules["_lzma"]=None;')
    command = [sys.executable, "-I", "-S", "-c", blocked, str(len(sent.data)), sent._marker]
    with pytest.raises(call.Missing):
        sent.read(subprocess.run(command, input=sent.data, capture_output=True, check=True).stdout.decode())
    sent = call.Call(payload.build("ct_package_facts").whole(), request())
    command[-2:] = [str(len(sent.data)), sent._marker]
    done = subprocess.run(command, input=sent.data, capture_output=True, check=True)
    assert set(sent.read(done.stdout.decode()).result) == {"ansible_facts"}


@pytest.mark.parametrize("damage", ["short", "changed", "empty"])
def test_the_host_runs_nothing_that_was_damaged_on_its_way(damage):
    sent = package_facts()
    data = {"short": sent.data[:-1], "changed": sent.data[:-9] + b"x" + sent.data[-8:], "empty": b""}[damage]
    done = run(sent, data)
    assert done.stdout == b""
    with pytest.raises(call.NotStarted):
        sent.read(done.stdout.decode())


def test_an_error_in_the_module_is_a_failure_that_names_the_line():
    sent = package_facts(params={})
    result = sent.read(run(sent).stdout.decode()).result
    assert result["failed"]
    assert re.fullmatch(
        r"The module ct_package_facts ended with an internal error: KeyError: 'version' \(/proc/direct/ct_package_facts.py, line \d+\)\.",
        result["msg"],
    )
    line = int(re.search(r"line (\d+)", result["msg"])[1])
    assert '["version"]' in (PLUGINS / "modules/ct_package_facts.py").read_text().splitlines()[line - 1]


def test_a_host_that_needs_more_says_so_and_stores_nothing(tmp_path):
    module = ct_inventory_info.ActionModule.module
    defaults = {name: option.get("default") for name, option in module.options["argument_spec"].items()}
    state = tmp_path / "state.db"
    rule = {
        "extensionConfigurations": {
            "ChangeTracking-Linux": [{"id": "dcr", "extensionSettings": {"enableFiles": False}}]
        }
    }
    params = {**defaults, "kinds": ["packages"], "state": str(state), "dcr": rule}
    asked = request(module=module.name, params=params)
    for features in ((), ["packages"], ["rule"]):
        sent = call.Call(module.payload().join(features), asked)
        with pytest.raises(call.Missing):
            sent.read(run(sent).stdout.decode())
    sent = call.Call(module.payload().join(["packages", "rule"]), asked)
    assert sent.read(run(sent).stdout.decode()).result["inventory"]["packages"]["baseline"]


def test_the_recommended_rule_is_sent_where_it_is_asked_for():
    module = ct_inventory_info.ActionModule.module
    defaults = {name: option.get("default") for name, option in module.options["argument_spec"].items()}
    params = {**defaults, "kinds": ["packages"], "dcr": "recommended", "report": "full", "source_packages": True}
    needed = set(module.needed(params))
    assert needed == {"packages", "rule", "recommended", "full"}
    asked = request(module=module.name, params=params)
    sent = call.Call(module.payload().join(needed - {"recommended"}), asked)
    with pytest.raises(call.Missing):
        sent.read(run(sent).stdout.decode())
    sent = call.Call(module.payload().join(needed), asked)
    answer = sent.read(run(sent).stdout.decode())
    assert answer.warnings == []
    (rows,) = [list(rows) for kind, rows in kinds(answer.result["packed"]) if kind == "packages"]
    assert rows and all("Source" in row for row in rows)


def test_the_keys_that_are_documented_are_those_that_are_believed():
    for module in MODULES:
        text = (PLUGINS / ("modules/%s.py" % module.name)).read_text()
        returned = yaml.safe_load(re.search(r'RETURN = r"""\n(.*?)"""', text, re.DOTALL)[1])
        assert set(returned) == set(module.returns), module.name


def test_the_program_of_the_host_is_read_alike_by_every_shell():
    assert not set(call.BOOT) & set("'\\!\n`$")


def test_a_named_tuple_of_the_host_is_like_that_of_typing():
    program = {}
    exec((PLUGINS / "plugin_utils/_direct/host.py").read_text(), program)
    source = """
class Item(NamedTuple):
    name: str
    size: Optional[Dict[str, int]] = None
    more: Sequence[str] = ()

    @property
    def short(self):
        return self.name[:1]

    def twice(self):
        return self._replace(name=self.name * 2)

class Change(NamedTuple):
    new: int
    cls: int
    self: int = 3
    tuple: int = 4

class Counts(Dict[str, int]):
    def __missing__(self, key):
        return "missing " + key
"""
    ours = {name: getattr(program["Typing"](), name) for name in ("NamedTuple", "Optional", "Dict", "Sequence")}
    theirs = dict(vars(typing))
    exec(source, ours)
    exec(source, theirs)
    counts = ours["Counts"]()
    assert counts["a"] == "missing a" and isinstance(counts, dict)
    assert ours["Change"](1, 2) == theirs["Change"](1, 2) == (1, 2, 3, 4)
    ours, theirs = ours["Item"], theirs["Item"]
    for arguments in (("a",), ("ab", 1), ("ab", 1, [2])):
        mine, other = ours(*arguments), theirs(*arguments)
        assert mine == other and hash(mine[:2]) == hash(other[:2]) and mine._asdict() == other._asdict()
        assert (mine.name, mine.size, mine.more, mine.short) == (other.name, other.size, other.more, other.short)
        assert mine.twice() == other.twice() and mine.twice().__class__ is ours and isinstance(mine, tuple)
    assert ours(size=1, name="a") == ("a", 1, ()) == ours._make(["a", 1, ()])
    assert ours._fields == theirs._fields and repr(ours("a")).startswith("Item(") and copy.copy(ours("a")) == ours("a")
    for wrong in (
        ours,
        lambda: ours(1, 2, 3, 4),
        lambda: ours(other=1),
        lambda: ours(1).other,
        lambda: ours._make(1),
    ):
        with pytest.raises((TypeError, AttributeError)):
            wrong()
    with pytest.raises(ValueError, match="other"):
        ours("a")._replace(other=1)
    with pytest.raises(AttributeError):
        ours("a").name = 1


# --- what the answer is read as


def answer_of(sent, content):
    packed = base64.b64encode(zlib.compress(content if isinstance(content, bytes) else json.dumps(content).encode()))
    return "%s started\n%s ended %s %s\n" % (sent._marker, sent._marker, packed.decode(), sent._marker)


def test_an_answer_is_found_among_other_output():
    sent = package_facts()
    output = "Welcome {}\n" + answer_of(sent, {"result": {}, "warnings": ["a", 1], "interpreter": "/py"}) + "logout"
    assert sent.read(output) == call.Answer({}, ["a"], "/py")


@pytest.mark.parametrize(
    "content",
    [
        b"no JSON", b"[]", b"{}", b'"text"', b"[" * 100000, b"\xff", {"result": [], "warnings": [], "interpreter": ""},
        {"result": {}, "warnings": {}, "interpreter": ""}, {"result": {}, "warnings": []},
        {"result": {}, "warnings": [], "interpreter": 1}, b'{"a":' + b"1" * 5000 + b"}",
        b'{"result": {"a": ' + b"[" * 60 + b"]" * 60 + b'}, "warnings": [], "interpreter": ""}',
    ],
    ids=range(12),
)  # fmt: skip
def test_what_is_no_answer_is_invalid(content):
    sent = package_facts()
    with pytest.raises(call.HalfAnswer, match="it is invalid"):
        sent.read(answer_of(sent, content))


def test_a_hundred_warnings_are_taken():
    sent = package_facts()
    answer = {"result": {}, "warnings": [str(number) for number in range(1000)], "interpreter": ""}
    assert len(sent.read(answer_of(sent, answer)).warnings) == 100


def test_half_an_answer_is_none():
    sent = package_facts()
    output = answer_of(sent, {"result": {}, "warnings": [], "interpreter": ""})
    for end in range(len(sent._marker + " started"), len(output) - 1):
        with pytest.raises(call.HalfAnswer, match="it has no end"):
            sent.read(output[:end])


def test_a_bomb_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(call, "MAX_BYTES", 1 << 20)
    sent = package_facts()
    with pytest.raises(call.HalfAnswer, match="it is invalid"):
        sent.read(answer_of(sent, b" " * (1 << 21) + b"{}"))


# --- who decides


def test_a_host_does_not_choose_the_way():
    variables = {"ansible_facts": {"ct_direct": "never"}, "ct_direct": "require"}
    acting = SimpleNamespace(_task=SimpleNamespace(delegate_to=None))
    result = action.run(acting, MODULES[0], {}, variables)
    assert result["failed"] and "The facts of the host set ct_direct" in result["msg"]
