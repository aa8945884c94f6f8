# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package manager is one module and one entry."""

import os
import sys
from types import SimpleNamespace

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.packages import (
    absence,
    databases,
    rpm,
    versions,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.packages.kind import PACKAGES, Package
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Known, Part
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import bounded, report
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.run import compare_and_store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.snapshot import collect_only


def collect(known, root="/", gpg_keys=False):
    """The packages of a manager whose database is a line for each, with its name and version."""
    with open(root + "/var/lib/third/installed") as file:
        words = [line.split() for line in file]
    return Part("third", None, sorted(Package(name, "all", version, "", "", None, None) for name, version in words))


def compare(version, other):
    """Versions are numbers."""
    return int(version) - int(other)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root with the database of a third package manager, which is known, and of no other."""
    monkeypatch.setattr(absence, "_PAUSE", 0)
    module = SimpleNamespace(collect=collect, compare=compare)
    third = databases.PackageManager("third", ("var/lib/third",), ("installed",), lambda: module)
    monkeypatch.setattr(databases, "MANAGERS", (*databases.MANAGERS, third))
    (tmp_path / "var/lib/third").mkdir(parents=True)
    (tmp_path / "var/lib/third/installed").write_text("one 9\ntwo 10\n")
    return tmp_path


def run(root):
    with Store(str(root / "state.db")) as store:
        return compare_and_store(PACKAGES, lambda known: databases.collect(known, root=str(root)), store)


def test_a_third_package_manager_is_collected_compared_and_reported(root):
    assert {name: source.status for name, source in run(root).sources.items()} == {
        "dpkg": "absent",
        "rpm": "absent",
        "third": "ok",
    }
    installed = root / "var/lib/third/installed"
    installed.write_text("one 9\ntwo 11\nthree 1\n")
    seen = run(root)
    assert [(change.category, (change.new or change.old).name, change.fields) for change in seen.changes] == [
        ("Added", "three", ()),
        ("Modified", "two", ["CurrentVersion"]),
    ]
    installed.unlink()
    seen = run(root)  # a database of which the folder is left is not gone
    assert seen.changes == [] and seen.sources["third"].status == "failed"


def test_versions_are_compared_as_their_package_manager_does(root):
    assert databases.compare("third", "9", "10") < 0 == databases.compare("third", "1", "01")
    assert databases.compare("dpkg", "1.0~rc1", "1.0") < 0 < databases.compare("rpm", "0:1.0-1", "0:0.9-2")
    newer = versions.parse_condition("> 9")
    met = [
        text
        for text in ("8", "9", "10")
        if versions.satisfies(text, newer, lambda a, b: databases.compare("third", a, b))
    ]
    assert met == ["10"]


def test_the_names_of_its_source_are_known(root):
    assert databases.source_names() == ("dpkg", "rpm", "third")


def test_the_modules_look_where_their_entries_say():
    entries = {manager.name: manager for manager in databases.MANAGERS}
    assert entries["rpm"].folders == rpm.FOLDERS and entries["rpm"].remains[0] == "rpmdb.sqlite"
    assert entries["rpm"].files == rpm.FILES


def test_the_module_of_a_database_that_is_not_there_is_not_loaded(tmp_path, monkeypatch):
    for manager in databases.MANAGERS:
        monkeypatch.delitem(sys.modules, manager.load().__name__)
    for name in ("dpkg", "rpm"):
        monkeypatch.delattr(sys.modules[databases.__package__], name)
    sources = databases.collect(Known(), root=str(tmp_path))
    assert list(sources) == [] and {source.status for source in sources.sources.values()} == {"absent"}
    assert not {
        name for name in sys.modules if name.startswith(databases.__package__) and name.endswith(("dpkg", "rpm"))
    }


def installed(root, source=b""):
    base = root / "var/lib/dpkg"
    base.mkdir(exist_ok=True)
    (base / "info").mkdir(exist_ok=True)
    (base / "status").write_bytes(
        b"Package: one\nStatus: install ok installed\nMaintainer: M\nArchitecture: amd64\n%sVersion: 1-1+b1\nDescription: d\n\n"
        % source
    )
    for path in (base / "status", base / "info"):
        os.utime(str(path), (1000000000, 1000000000))


def test_a_state_of_before_the_source_packages_gets_them_and_nothing_is_reported(root):
    installed(root, b"Source: uno (1-1)\n")
    seen = run(root)
    path = str(root / "state.db")
    with Store(path) as store:
        part = store.known(PACKAGES).parts["dpkg"]
        older = [item[:7] for item in store.items(PACKAGES, "dpkg")]
        store.put(PACKAGES, "dpkg", part.signature.replace(" 2 ", " ", 1), part.digest, older)
        store.finish(PACKAGES, store.last_run(PACKAGES), store.last_sources(PACKAGES))
    with Store(path) as store:
        assert [item.source for item in store.items(PACKAGES, "dpkg")] == [""]
    again = run(root)
    assert (again.changes, again.digest) == ([], seen.digest)
    with Store(path) as store:
        assert [item.source for item in store.items(PACKAGES, "dpkg")] == ["uno (1-1)"]


def test_another_source_package_alone_is_no_change(root):
    installed(root)
    seen = run(root)
    installed(root, b"Source: uno\n")
    again = run(root)
    assert (again.changes, again.digest) == ([], seen.digest)


def test_a_source_package_is_returned_where_it_is_asked_for_and_nowhere_else(root):
    installed(root, b"Source: uno (1-1)\n")
    snapshot = collect_only(PACKAGES, databases.collect(Known(), root=str(root)))
    (_two, _nine, row) = sorted(report.rows(snapshot), key=lambda row: row["Publisher"])
    assert row["Publisher"] == "M" and tuple(row) == PACKAGES.columns and "Source" not in row
    assert report.rows(snapshot, ["SoftwareName", "Source"]) == [
        {"SoftwareName": "one", "Source": ""},
        {"SoftwareName": "one", "Source": "uno (1-1)"},
        {"SoftwareName": "two", "Source": ""},
    ]
    assert "Source" not in PACKAGES.item_form(snapshot.items[1])
    full = bounded.of_snapshot(snapshot, full=True)
    assert [full.row(item)["Source"] for item in full.all] == ["", "uno (1-1)", ""]
