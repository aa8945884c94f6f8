# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that needs more than it was sent: it has stored nothing, leaves no process and no lock, and the second call returns what the
module returns."""

import ast
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.plugins.action import ct_inventory_info
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.database import SCHEMA
from ansible_collections.changetracking.inventory.plugins.plugin_utils._direct import action, call, payload
from ansible_collections.changetracking.inventory.tests.helpers.child import importing
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root

pytestmark = pytest.mark.no_core

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = ROOT / "plugins"
CTI = PLUGINS / "module_utils/_cti"
HOST = PLUGINS / "plugin_utils/_direct/host.py"
MODULE = ct_inventory_info.ActionModule.module
OF_A_RUN = {"RecordId", "TimeGenerated", "LastSnapshotAge", "collected_at", "state", "place"}
# Runs the module as it is in the collection, with the class that stands in for AnsibleModule. It prints result and warnings.
AS_MODULE = """
import importlib, json, sys
host = {}
exec(open(sys.argv[1]).read(), host)
request = json.load(sys.stdin)
host["stand_in"]()
host["AnsibleModule"].params = request["params"]
module = importlib.import_module("ansible_collections.changetracking.inventory.plugins.modules.ct_inventory_info")
try:
    module.main()
except host["Ended"] as end:
    print(json.dumps([end.args[0], host["AnsibleModule"].warnings]))
"""
# Two CPUs for the process, whatever this machine has: cpus.usable() takes the smaller one.
READERS_WANTED = len(os.sched_getaffinity(0)) > 1


class Host:
    """What runs on this machine in a session of its own, with folders mounted over others, and the state in `folder`."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.mounts = {}
        self.params = {name: option.get("default") for name, option in MODULE.options["argument_spec"].items()}
        self.params.update(kinds=["files"], report="changes", state=str(folder / "state/state.db"))
        self._monkeypatch = monkeypatch
        self._features = dict(payload.FEATURES)
        (folder / "state").mkdir(mode=0o700)
        (folder / "tree").mkdir()
        self.track(str(folder / "tree/*"))

    def track(self, path, **more):
        item = {"name": "tree", "enabled": True, "destinationPath": path, "recurse": True, **more}
        rule = {"enableFiles": True, "fileSettings": {"fileInfo": [item]}}
        self.params["dcr"] = {
            "extensionConfigurations": {"ChangeTracking-Linux": [{"id": "dcr", "extensionSettings": rule}]}
        }

    def _execute(self, command, data, **options):
        if self.mounts:
            need_root("mounting")
            lines = ["mount --bind %s %s" % (source, at) for at, source in self.mounts.items()]
            command = ["unshare", "-m", "sh", "-ec", "\n".join([*lines, 'exec "$@"']), "sh", *command]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **options,
        )
        output, messages = process.communicate(data)
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)  # a reader that goes on
        assert not messages, messages.decode()
        return output

    def call(self, sent):
        request = {
            "module": MODULE.name, "action": "", "params": self.params, "check_mode": False, "log": "", "facility": "",
        }  # fmt: skip
        sent = call.Call(sent, request)
        command = [sys.executable, "-I", "-S", "-c", call.BOOT, str(len(sent.data)), sent._marker]
        return sent.read(self._execute(command, sent.data).decode())

    def first(self, rare=None):
        """The first call; `rare`: what is left out, instead of all that is."""
        features = dict(self._features, rare=self._features["rare"] if rare is None else rare)
        self._monkeypatch.setattr(payload, "FEATURES", features)
        built = payload.Payload(MODULE.name, MODULE.features, MODULE.usual)
        return self.call(built.join(MODULE.needed(self.params)))

    def as_module(self):
        output = self._execute(
            [sys.executable, "-c", AS_MODULE, str(HOST)], json.dumps({"params": self.params}).encode(), env=importing()
        )
        return json.loads(output)

    def stored(self):
        """All that the state has, which nobody has locked."""
        if not os.path.exists(self.params["state"]):
            return []
        db = sqlite3.connect(self.params["state"], timeout=0)
        try:
            db.execute("BEGIN EXCLUSIVE")
            return [line for line in db.iterdump() if line.startswith("INSERT") and 'INTO "state"' not in line]
        finally:
            db.close()

    def check(self, missing):
        """The first call lacks this module alone, and the second one returns what the module does."""
        before = self.stored()
        shutil.copytree(self.folder / "state", self.folder / "copy")
        with pytest.raises(call.Missing) as caught:
            self.first(rare=(missing,))
        assert str(caught.value).endswith("." + missing)
        assert self.stored() == before
        answer = self.call(payload.Payload(MODULE.name, MODULE.features, MODULE.usual).whole())
        shutil.rmtree(self.folder / "state")
        (self.folder / "copy").rename(self.folder / "state")
        result, warnings = self.as_module()
        assert comparable(answer.result) == comparable(result)
        assert answer.warnings == warnings
        assert not result.get("failed")
        return result, warnings


def comparable(value):
    if isinstance(value, dict):
        return {key: comparable(inner) for key, inner in value.items() if key not in OF_A_RUN}
    return [comparable(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture
def host(tmp_path, monkeypatch):
    return Host(tmp_path, monkeypatch)


def many_files(folder, count=2500, each=50):
    for number in range(count):
        path = folder / ("d%02d" % (number // each)) / ("f%d" % (number % each))
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(number))


def large_folder(folder):
    folder.mkdir()
    for number in range(32769):
        os.mknod(folder / ("n%d" % number))


# --- each module that is left out at first


def needs_cpus(host):
    many_files(host.folder / "tree")
    return "files"


def needs_slices(host):
    large_folder(host.folder / "tree/large")
    return "files"


def needs_deb822(host):
    dpkg = host.folder / "dpkg"
    dpkg.mkdir()
    (dpkg / "status").write_text(
        "package: odd\nstatus: install ok installed\nversion: 1\narchitecture: all\ndescription: odd\n\n"
    )
    host.mounts["/var/lib/dpkg"] = dpkg
    host.params["kinds"] = ["packages"]
    return "packages"


def needs_rpm_query(host):
    rpm = host.folder / "rpm"
    rpm.mkdir()
    (rpm / "Packages").write_text("Berkeley")
    host.mounts["/var/lib"] = host.folder
    host.params["kinds"] = ["packages"]
    return "packages"


def after_a_run(host, statement):
    """A run has made the state, which the statement then alters."""
    (host.folder / "tree/a").write_text("a")
    host.as_module()
    db = sqlite3.connect(host.params["state"])
    db.execute(statement)
    db.commit()
    db.close()
    return "files"


def needs_repair(host):
    return after_a_run(host, "UPDATE run SET scope = 'damaged'")


def needs_clone(host):
    return after_a_run(host, "UPDATE state SET computer = 'another', vm = 'another'")


def needs_numbering(host):
    (host.folder / "tree/a").write_text("a")
    db = sqlite3.connect(host.params["state"])
    for script in SCHEMA[:2]:
        db.executescript(script)
    db.close()
    os.chmod(host.params["state"], 0o600)
    return "files"


def needs_rules_changed(host):
    (host.folder / "tree/a").write_text("a")
    host.as_module()
    host.track(str(host.folder / "tree/b*"))
    return "files"


NEEDS = {
    "kinds.files.cpus": needs_cpus,
    "kinds.files.readers": needs_cpus,
    "kinds.files.sliced": needs_slices,
    "kinds.packages.deb822": needs_deb822,
    "kinds.packages.rpm_query": needs_rpm_query,
    "state.clone": needs_clone,
    "state.numbering": needs_numbering,
    "state.repair": needs_repair,
    "tracking.rules_changed": needs_rules_changed,
}
# Compares two versions; reads the state of another user.
NEVER = {"kinds.packages.versions", "untrusted_sqlite"}


def test_each_module_that_is_left_out_is_tested():
    rare = {name[len(payload.LIBRARY) :] for name in payload.FEATURES["rare"]}
    assert rare == set(NEEDS) | NEVER and not NEVER & set(NEEDS)


@pytest.mark.parametrize("name", sorted({name for names in payload.FEATURES.values() for name in names}))
def test_what_is_left_out_exists(name):
    assert payload._path(name)


@pytest.mark.parametrize("name", NEEDS)
def test_a_second_call_returns_what_the_module_does(host, name):
    kind = NEEDS[name](host)
    result, warnings = host.check(payload.LIBRARY + name)
    if name == "state.clone":
        assert "was created by another machine" in warnings[0]
    if name == "state.repair":
        assert "damaged" in " ".join(warnings)
    assert result["inventory"][kind]["count"] >= (1 if kind == "files" and name != "tracking.rules_changed" else 0)


def test_the_rule_of_the_last_run_needs_more_where_there_is_none_now(host):
    (host.folder / "tree/a").write_text("a")
    host.as_module()
    host.params["dcr"] = None
    result, _warnings = host.check(payload.LIBRARY + "kinds.files.pathspec")
    assert result["changes"] == []


def test_an_inventory_reads_no_state_of_another_user():
    text = payload._source("modules.ct_inventory_info").text.decode()
    assert re.findall("owner=|leave_no_files", text) == []


def test_an_inventory_compares_no_versions():
    built = payload.Payload(MODULE.name, MODULE.features, MODULE.usual)
    names = built._base.union(
        *(payload._closure([gate], set()) for gates in payload.FEATURES.values() for gate in gates)
    )
    importing_versions = {
        name for name in names if b"versions import" in payload._source(name).text
    }  # in compare(), which only databases.compare() calls
    assert {name.rpartition(".")[2] for name in importing_versions} == {"dpkg", "rpm"}
    callers = [name for name in names if b"databases.compare(" in payload._source(name).text]
    assert callers == []


# --- what makes it so


@pytest.fixture
def lacking(host, monkeypatch):
    """Has the first call need a module that does not exist, right after a line of a file of the library."""
    read = payload._read

    def lack(name, line, statement="from {dots} import nowhere"):
        path = str(CTI / name)

        def changed(asked):
            text = read(asked)
            if os.path.realpath(asked) != path:
                return text
            found = [one for one in text.decode().splitlines(True) if one.strip() == line]
            assert len(found) == 1, line
            indent = found[0][: len(found[0]) - len(found[0].lstrip())]
            more = statement.format(dots="..").replace("\n", "\n" + indent)
            return text.replace(found[0].encode(), (found[0] + indent + more + "\n").encode())

        monkeypatch.setattr(payload, "_read", changed)
        payload._source.cache_clear()

    yield lack
    payload._source.cache_clear()


def second_run(host):
    """A state, and a change that a run finds."""
    (host.folder / "tree/a").write_text("a")
    host.as_module()
    (host.folder / "tree/b").write_text("b")


def test_nothing_is_stored_where_more_is_needed_in_the_middle_of_the_transaction(host, lacking):
    second_run(host)
    before = host.stored()
    lacking("state/store.py", "stage.copy(db)")
    with pytest.raises(call.Missing):
        host.first()
    assert host.stored() == before
    result, _warnings = host.as_module()
    assert len(result["changes"]) == 1


def test_what_needs_more_after_it_has_stored_fails_and_is_not_run_again(host, lacking):
    second_run(host)
    lacking("state/pages.py", "path = os.path.abspath(store.path)")
    result = host.first().result
    assert result == {
        "failed": True,
        "msg": "The module stored its result, and then needed nowhere, which was not sent. Report it: this is a defect of the collection.",
    }


def test_what_hides_that_more_is_needed_is_found_out(host, lacking):
    second_run(host)
    before = host.stored()
    hiding = "try:\n    from {dots} import nowhere\nexcept BaseException:\n    from {dots}errors import CtiError\n    raise CtiError('hidden')"
    lacking(
        "tracking/judge.py", '"""Judge a part that was collected; `old`: the items that the store has of it."""', hiding
    )
    with pytest.raises(call.Missing):
        host.first()
    assert host.stored() == before


@pytest.mark.skipif(not READERS_WANTED, reason="readers need a second CPU")
@pytest.mark.parametrize(
    "name, line, condition",
    [
        ("kinds/files/scan.py", "self._seen.add(part.name)", "self._readers is not None"),
        ("tracking/run.py", "observed.add(part)", "observed.count > 2200"),
    ],
)
def test_no_process_is_left_where_more_is_needed_while_readers_run(host, lacking, name, line, condition):
    many_files(host.folder / "tree")
    dots = "..." if name.startswith("kinds") else ".."
    lacking(name, line, "if %s: from %s import nowhere" % (condition, dots))
    with pytest.raises(call.Missing):
        host.first(rare=())
    assert host.stored() == []


SENT = sorted(
    path
    for path in (*PLUGINS.glob("module_utils/**/*.py"), *PLUGINS.glob("modules/*.py"))
    if not {"agent", "relay"} & set(path.parts)
)


@pytest.mark.parametrize("path", SENT, ids=lambda path: str(path.relative_to(PLUGINS)))
def test_no_code_of_a_module_swallows_what_says_that_more_is_needed(path):
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ExceptHandler) and (node.type is None or "BaseException" in ast.dump(node.type)):
            assert any(isinstance(inner, ast.Raise) for inner in ast.walk(node)), node.lineno
        for statement in getattr(node, "finalbody", ()):
            leaves = [one for one in ast.walk(statement) if isinstance(one, (ast.Return, ast.Break, ast.Continue))]
            assert not leaves, statement.lineno


def test_the_second_call_writes_no_second_line_to_the_log(monkeypatch):
    asked = []

    def answer(missing):
        def called(_self, _payload, request, _prefix):
            asked.append(request["log"])
            if len(asked) == 1:
                raise call.Missing(missing)
            return call.Answer({}, [], "")

        return called

    direct = action._Direct(None, MODULE, {}, {})
    params = {"kinds": ["files"], "forward": None, "dcr": None, "report": "summary", "since": None}
    for name in ("_check_task", "_check_connection", "_environment", "_params"):
        monkeypatch.setattr(direct, name, lambda *_arguments: params)
    monkeypatch.setattr(direct, "_request", lambda _params: {"log": "Invoked"})
    for missing, second in (("state.repair", ""), (call.LZMA, "Invoked")):
        del asked[:]
        monkeypatch.setattr(action._Direct, "_call", answer(missing))
        direct.run({})
        assert asked == ["Invoked", second]
