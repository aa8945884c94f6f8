# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new kind is a package in `kinds`, its lines in the registry and in the collectors, and documentation.

The kind `mounts` in this folder is added to a copy of the collection, which then knows it everywhere.
"""

import difflib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.tests.helpers.root import need_root
from ansible_collections.changetracking.inventory.tests.helpers.runs import Place

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
KINDS = "plugins/module_utils/_cti/kinds/"
CHOICES = "[packages, services, files]"
# File -> what is replaced in it, and by what.
EDITS = {
    KINDS + "registry.py": [
        (
            "    from .packages.kind import PACKAGES\n",
            "    from .mounts.kind import MOUNTS\n    from .packages.kind import PACKAGES\n",
        ),
        ("(PACKAGES, SERVICES, FILES)", "(PACKAGES, SERVICES, FILES, MOUNTS)"),
    ],
    KINDS + "collectors.py": [
        (
            "    raise LookupError",
            '    if name == "mounts":\n        from .mounts import table\n\n        return table.collect(known)\n    raise LookupError',
        ),
    ],
    "plugins/modules/ct_inventory_info.py": [
        (CHOICES, "[packages, services, files, mounts]"),
        (
            "        description: Checksum of C(File.json).\n        type: str\n",
            "        description: Checksum of C(File.json).\n        type: str\n"
            "      mounts:\n        description: Checksum of C(Mounts.json).\n        type: str\n",
        ),
    ],
    "plugins/modules/ct_inventory_fetch.py": [(CHOICES, "[packages, services, files, mounts]")],
    "plugins/modules/ct_state_info.py": [(CHOICES, "[packages, services, files, mounts]")],
    "plugins/callback/ama_forward.py": [(CHOICES, "[packages, services, files, mounts]")],
}
SETTINGS = {"enableSoftware": False, "enableServices": False, "enableFiles": False, "enableMounts": True}
RULE = {"extensionConfigurations": {"ChangeTracking-Linux": [{"id": "dcr", "extensionSettings": SETTINGS}]}}
PLAY = """
- hosts: h1
  gather_facts: false
  tasks:
    - name: Collect
      changetracking.inventory.ct_inventory_info:
        dcr: {rule}
        state: "{folder}/agent/changetracking.db"
        report: full
      register: ct_inventory
    - name: Read the state
      changetracking.inventory.ct_state_info:
        path: "{folder}/agent/changetracking.db"
        kinds: [mounts]
        report: full
      register: ct_state
    - name: Fetch
      changetracking.inventory.ct_inventory_fetch:
        kinds: [mounts]
        dest: "{folder}/fetched"
      delegate_to: h2
    - name: Keep the results
      ansible.builtin.copy:
        content: "{{{{ results | to_json }}}}"
        dest: "{folder}/results.json"
        mode: "0600"
      vars:
        results:
          inventory: "{{{{ ct_inventory }}}}"
          items: "{{{{ (ct_inventory.packed | changetracking.inventory.ct_unpack).mounts }}}}"
          stored: "{{{{ (ct_state.packed | changetracking.inventory.ct_unpack).mounts }}}}"
          table: "{{{{ ['h1'] | changetracking.inventory.ct_table(hostvars) }}}}"
"""


@pytest.fixture(scope="module")
def collections(tmp_path_factory):
    """A folder with a copy of the collection to which the kind is added."""
    collections = tmp_path_factory.mktemp("collections")
    copy = collections / "ansible_collections/changetracking/inventory"
    shutil.copytree(ROOT / "plugins", copy / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "meta", copy / "meta")
    shutil.copy(ROOT / "galaxy.yml", copy)
    shutil.copytree(HERE / "mounts", copy / KINDS / "mounts", ignore=shutil.ignore_patterns("__pycache__"))
    for name, edits in EDITS.items():
        text = (copy / name).read_text(encoding="utf-8")
        for old, new in edits:
            assert old in text, f"{name} has no {old!r}"
            text = text.replace(old, new)
        (copy / name).write_text(text, encoding="utf-8")
    return collections


@pytest.fixture
def place(collections, tmp_path):
    copy = collections / "ansible_collections/changetracking/inventory"
    for name in ("agent", "relay"):
        builder = copy / "plugins/plugin_utils/_zipapp.py"
        subprocess.run([sys.executable, builder, name, tmp_path / (name + ".pyz")], check=True)
    place = Place(tmp_path / "relay.pyz", tmp_path)
    yield place
    place.close()


@pytest.fixture
def mount(tmp_path):
    """Mounts a small file system at a folder. Needs root."""
    need_root("mounting a file system")
    folder = tmp_path / "mounted here"
    folder.mkdir()
    yield lambda: subprocess.check_call(["mount", "-t", "tmpfs", "-o", "size=64k", "ours", str(folder)])
    subprocess.call(["umount", str(folder)])


def run(place, collections):
    """The results of a run on the copy, in which all that happens to this machine is kept apart by path."""
    run = place.play(PLAY.format(folder=place.folder, rule=json.dumps(RULE)), ANSIBLE_COLLECTIONS_PATH=collections)
    assert run.status == 0, run.output
    return json.loads((place.folder / "results.json").read_text())


def test_a_new_kind_is_known_everywhere(place, collections, mount):
    place.relay.start()
    (place.folder / "agent").mkdir()
    baseline = run(place, collections)
    assert baseline["inventory"]["inventory"]["mounts"]["baseline"] is True

    mount()
    path = str(place.folder / "mounted here")
    item = {"MountPath": path, "MountDevice": "ours", "MountType": "tmpfs"}
    seen = run(place, collections)

    # the rule, the module's result, and the items in it
    assert list(seen["inventory"]["inventory"]) == ["mounts"]
    summary = seen["inventory"]["inventory"]["mounts"]
    assert summary["sources"] == {"proc": {"status": "ok", "count": summary["count"]}} and summary["added"] >= 1
    (found,) = [row for row in seen["items"] if row["MountPath"] == path]
    assert item.items() <= found.items()
    # the state
    assert found in seen["stored"]
    # the changes
    (change,) = [row for row in seen["inventory"]["changes"] if row["MountPath"] == path]
    assert (change["ConfigChangeType"], change["ChangeCategory"], change["MountType"]) == ("Mounts", "Added", "tmpfs")
    # the table
    header, row, *changes = seen["table"]
    assert header.split() == ["HOST", "PACKAGES", "SERVICES", "FILES", "MOUNTS", "CHANGES", "PROBLEMS"]
    assert row.split()[:5] == ["h1", "-", "-", "-", str(summary["count"])]
    assert any(line.endswith(f"Added  Mounts  {path}") for line in changes), changes
    # the file of a fetch
    assert path in [row["MountPath"] for row in json.loads((place.folder / "fetched/h2/Mounts.json").read_text())]
    # the records at a relay
    columns = "Computer, MountDevice, MountType FROM"
    where = f"WHERE MountPath = '{path}'"
    query = f"SELECT DISTINCT {columns} ConfigurationChange {where} AND ConfigChangeType = 'Mounts'"
    assert place.arrived(query) == [("h1", "ours", "tmpfs")]
    query = f"SELECT DISTINCT {columns} ConfigurationData {where} AND ConfigDataType = 'Mounts' AND Computer = 'h1'"
    assert place.arrived(query) == [("h1", "ours", "tmpfs")]
    # the agent
    agent = [sys.executable, place.folder / "agent.pyz", "show", "mounts", "--state", place.folder / "agent"]
    shown = subprocess.run(agent, stdout=subprocess.PIPE, check=True, universal_newlines=True).stdout
    assert f"{path}  tmpfs  ours" in shown.splitlines()


def test_a_new_kind_is_a_package_its_lines_and_documentation(collections):
    copy = collections / "ansible_collections/changetracking/inventory"
    before, after = _texts(ROOT / "plugins"), _texts(copy / "plugins")
    assert sorted(after.keys() - before.keys()) == [
        KINDS[len("plugins/") :] + "mounts/" + name for name in ("__init__.py", "kind.py", "table.py")
    ]
    assert before.keys() <= after.keys()
    changed = {name: _changed_lines(before[name], after[name]) for name in before if before[name] != after[name]}
    assert {"plugins/" + name for name in changed} == set(EDITS)
    code = {Path(name).name: lines for name, lines in changed.items() if "module_utils" in name}
    assert code == {
        "registry.py": [
            "    from .mounts.kind import MOUNTS",
            "    return {kind.name: kind for kind in (PACKAGES, SERVICES, FILES, MOUNTS)}",
        ],
        "collectors.py": [
            '    if name == "mounts":',
            "        from .mounts import table",
            "",
            "        return table.collect(known)",
        ],
    }
    for name, lines in changed.items():
        if "module_utils" not in name:  # all of it stands in the documentation
            documentation = after[name].partition('DOCUMENTATION = r"""')[2].partition('"""')[0].splitlines()
            assert set(lines) <= set(documentation), name


def _texts(folder):
    """Path below the folder -> text, of all Python files."""
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in folder.rglob("*.py")}


def _changed_lines(before, after):
    """The lines that are new in `after`, or there in another form."""
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line[2:] for line in lines if line.startswith("+ ")]
