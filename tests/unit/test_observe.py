# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run after another over the same state: what is a change, and what only looks like one."""

import os
import sys

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import SourceAbsent, SourceFailed
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds import collectors
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files import budget
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.kind import File
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule, in_scope
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.packages.kind import Package
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.sources import Contained, Sources
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Collection, Known, Part, Source
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule.settings import (
    default as default_settings,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Run as StoredRun
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import run
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.host_run import run_host
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.judge import Scope
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.report import summary
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.run import compare_and_store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.snapshot import collect_only


def package(name, version="1"):
    return Package(name, "amd64", version, "", "", None, None)


def entry(path, checksum="a" * 64):
    return File(path, checksum, 1, "root", "root", 0o644, 1, 1, "file", "")


class Host:
    """A host whose one package database, and whose folders, are what the test says they are."""

    def __init__(self, state):
        self.state = str(state)
        self.packages = []
        self.signature = None
        self.unsure = frozenset()
        self.errors = []
        self.reads = 0
        self.folders = {}
        self.hidden = []
        self.rules = [FileRule("r", "/etc/*")]

    def dpkg(self, known):
        for error in self.errors:
            raise error
        if self.signature and known.signature("dpkg") == self.signature:
            return Part("dpkg", self.signature, None)
        self.reads += 1
        return Part("dpkg", self.signature, self.packages, self.unsure)

    def run(self, keep_items=False, read_only=False):
        with Store(self.state, read_only) as store:
            return compare_and_store(
                all_kinds()["packages"],
                lambda known: Sources([("dpkg", self.dpkg)], known),
                store,
                keep_items=keep_items,
            )

    def scan(self, progress=None):
        with Store(self.state) as store:
            rules = [list(rule.tracking) for rule in self.rules]
            last = store.last_run(all_kinds()["files"])
            before = None if last is None or last.scope == rules else last.scope
            scope = Scope(rules, in_scope, before is not None)
            collection = Folders(self, before)
            return compare_and_store(all_kinds()["files"], lambda known: collection, store, scope, progress=progress)


class Folders(Collection):
    def __init__(self, host, last_rules=None):
        super().__init__()
        self.host = host
        self.rules = [list(rule.tracking) for rule in host.rules]
        self.last_rules = last_rules
        self.unseen = list(host.hidden)

    def __iter__(self):
        for name, items in self.host.folders.items():
            found = [item for item in items if in_scope(self.rules, item)]
            last = None if self.last_rules is None else [item for item in items if in_scope(self.last_rules, item)]
            if (found or last or not items) and not self.out_of_sight(name):
                yield Part(name, None, found, by_last_rules=last)

    def out_of_sight(self, part):
        return any((part + "/").startswith(name + "/") for name in self.unseen)


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path / "state.db")


def told(snapshot):
    return [(change.category, (change.new or change.old)[0]) for change in snapshot.changes]


def test_the_first_run_is_the_baseline(host):
    host.packages = [package("a")]
    first = host.run()
    assert (first.count, first.changes, first.age) == (1, [], None)
    second = host.run()
    assert (second.changes, second.digest) == ([], first.digest)
    assert second.age >= 0


def test_changes_since_the_run_before_are_told_once(host):
    host.packages = [package("a"), package("b"), package("c")]
    host.run()
    host.packages = [package("b", "2"), package("c"), package("d")]
    assert told(host.run()) == [("Removed", "a"), ("Modified", "b"), ("Added", "d")]
    assert told(host.run()) == []


def test_check_mode_tells_the_same_and_keeps_nothing(host):
    host.packages = [package("a")]
    host.run()
    host.packages = []
    assert told(host.run(read_only=True)) == [("Removed", "a")]
    assert told(host.run()) == [("Removed", "a")]


def test_a_run_in_check_mode_without_a_state_is_a_baseline_that_is_not_kept(host):
    host.packages = [package("a")]
    assert host.run(read_only=True).age is None
    assert not os.path.exists(host.state)


def test_a_source_that_fails_removes_nothing_and_adds_nothing_when_it_is_back(host):
    host.packages = [package("a"), package("b")]
    host.run()
    host.errors = [SourceFailed("locked")]
    failed = host.run()
    assert (failed.count, failed.kept, told(failed)) == (2, 2, [])
    assert failed.sources["dpkg"].status == "failed"
    host.errors = []
    host.packages = [package("a"), package("c")]
    assert told(host.run()) == [("Removed", "b"), ("Added", "c")]


def test_the_inventory_of_a_run_whose_source_fails_is_the_one_before_and_counts_what_is_kept(host):
    host.packages = [package("a"), package("b")]
    before = host.run()
    assert "kept" not in summary(before, with_state=True)
    host.errors = [SourceFailed("locked")]
    with Store(host.state) as store:
        failed = compare_and_store(
            all_kinds()["packages"], lambda known: Sources([("dpkg", host.dpkg)], known), store, keep_items=True
        )
    assert (failed.items, failed.digest) == (host.packages, before.digest)
    shown = summary(failed, with_state=True)
    assert (shown["count"], shown["kept"], shown["sources"]["dpkg"]["count"]) == (2, 2, 0)


def test_a_defect_in_one_source_is_its_failure_alone_and_removes_nothing(host):
    host.packages = [package("a")]
    with Store(host.state) as store:
        sound = ("rpm", lambda known: Part("rpm", None, [package("r")]))
        compare_and_store(all_kinds()["packages"], lambda known: Sources([("dpkg", host.dpkg), sound], known), store)
    host.errors = [ZeroDivisionError("by design")]
    with Store(host.state) as store:
        seen = compare_and_store(
            all_kinds()["packages"], lambda known: Sources([("dpkg", host.dpkg), sound], known), store
        )
    assert (seen.count, seen.kept, told(seen)) == (2, 1, [])
    status, _count, message = seen.sources["dpkg"]
    assert status == "failed" and "internal error: ZeroDivisionError: by design (test_observe.py, line " in message
    host.errors, host.packages = [], [package("b")]
    assert told(host.run()) == [("Removed", "a"), ("Added", "b")]


def test_a_defect_in_the_midst_of_a_kind_hides_what_was_not_seen_yet(host):
    class Defective(Folders):
        def __iter__(self):
            yield from Folders(self.host)
            raise MemoryError

    host.folders = {"/etc": [entry("/etc/a")], "/etc/b": [entry("/etc/b/c")]}
    host.scan()
    del host.folders["/etc/b"]
    host.folders["/etc"].append(entry("/etc/d"))
    scope = Scope([list(rule.tracking) for rule in host.rules], in_scope)
    with Store(host.state) as store:
        contained = Contained("files", lambda: Defective(host))
        seen = compare_and_store(all_kinds()["files"], lambda known: contained, store, scope)
    assert told(seen) == [("Added", "/etc/d")]
    assert seen.sources["files"].status == "failed" and "MemoryError" in seen.sources["files"].message
    host.folders["/etc/e"] = [entry("/etc/e/f")]
    assert told(host.scan()) == [("Removed", "/etc/b/c")]  # /etc/e may have been there all the time


@pytest.mark.parametrize("broken", ["packages", "services", "files"])
@pytest.mark.parametrize("with_state", [True, False])
def test_a_defect_in_one_kind_leaves_the_others_alone(tmp_path, monkeypatch, broken, with_state):
    def collector(kind_name, rules, known, *options):
        if kind_name == broken:
            raise AttributeError("no attribute 'blake2b'")
        return Sources([("source", lambda known: Part("source", None, []))], known)

    monkeypatch.setattr(collectors, "_collector", collector)
    warnings = []
    with Store(str(tmp_path / "state.db")) as store:
        kept = store if with_state else None
        result = run_host(list(all_kinds()), default_settings(), "full", kept, warnings.append)["inventory"]
    for name in all_kinds():
        assert {source["status"] for source in result[name]["sources"].values()} == (
            {"failed"} if name == broken else {"ok"}
        )
    assert len(warnings) == 1 and "no attribute 'blake2b'" in warnings[0]


def test_a_source_that_failed_at_the_baseline_gets_its_own_baseline_later(host):
    host.errors = [SourceFailed("locked")]
    host.run()
    host.errors = []
    host.packages = [package("a")]
    assert told(host.run()) == []
    host.packages = []
    assert told(host.run()) == [("Removed", "a")]


def test_a_package_in_the_middle_of_an_upgrade_is_neither_removed_nor_added(host):
    host.packages = [package("a"), package("b")]
    host.run()
    host.packages, host.unsure = [package("b")], frozenset([("a", "amd64")])
    assert told(host.run()) == []
    host.packages, host.unsure = [package("a", "2"), package("b")], frozenset()
    assert told(host.run()) == [("Modified", "a")]


def test_an_unchanged_signature_saves_the_reading_and_loses_nothing(host):
    host.packages, host.signature = [package("a")], "s"
    first = host.run()
    second = host.run(keep_items=True)
    assert host.reads == 1
    assert (second.items, second.digest, second.count, second.sources["dpkg"].count) == (
        [package("a")],
        first.digest,
        1,
        1,
    )


def test_a_glance_and_a_run_agree_on_the_digest(host):
    host.packages = [package("a"), package("b")]
    seen = collect_only(all_kinds()["packages"], Sources([("dpkg", host.dpkg)], Known()))
    assert (seen.digest, seen.items, seen.count) == (host.run().digest, host.packages, 2)


def test_a_glance_counts_what_is_selected(host):
    host.packages = [package("a"), package("b")]
    collection = Sources([("dpkg", host.dpkg)], Known())
    seen = collect_only(all_kinds()["packages"], collection, lambda part, item: item.name == "b")
    assert (seen.items, seen.count, seen.sources["dpkg"]) == ([package("b")], 1, Source("ok", 2))


def test_an_empty_part_makes_no_difference_to_the_digest(host):
    def digest(**folders):
        host.folders = folders
        return collect_only(all_kinds()["files"], Folders(host), lambda part, item: item.path == "/etc/a").digest

    assert digest(etc=[entry("/etc/a")], srv=[entry("/srv/b")]) == digest(etc=[entry("/etc/a")])


def test_a_folder_that_goes_takes_its_files_along(host):
    host.folders = {"/etc": [entry("/etc/a")], "/etc/b": [entry("/etc/b/c")]}
    host.scan()
    del host.folders["/etc/b"]
    assert told(host.scan()) == [("Removed", "/etc/b/c")]
    assert told(host.scan()) == []


def test_a_folder_that_cannot_be_read_removes_nothing_below_it(host):
    host.folders = {"/etc": [entry("/etc/a")], "/etc/b": [entry("/etc/b/c")], "/etc/b/d": [entry("/etc/b/d/e")]}
    host.scan()
    host.hidden = ["/etc/b"]
    assert told(host.scan()) == []
    host.hidden = []
    host.folders["/etc/b/d"] = [entry("/etc/b/d/e", "b" * 64)]
    assert told(host.scan()) == [("Modified", "/etc/b/d/e")]


def test_a_folder_that_could_not_be_read_at_the_baseline_adds_nothing_later(host):
    host.folders = {"/etc": [entry("/etc/a")], "/etc/b": [entry("/etc/b/c")]}
    host.hidden = ["/etc/b"]
    host.scan()
    host.hidden = []
    assert told(host.scan()) == []


def test_another_rule_is_no_change_of_the_host(host):
    host.folders = {"/etc": [entry("/etc/a")]}
    host.scan()
    host.rules = [FileRule("r", "/srv/*")]
    host.folders["/srv"] = [entry("/srv/b")]
    snapshot = host.scan()
    assert told(snapshot) == []
    assert "1 newly tracked item, 1 no longer tracked, 0 tracked in another way" in snapshot.warnings()[-1]


def test_a_rule_that_stays_still_tells_its_changes_when_another_comes(host):
    host.folders = {"/etc": [entry("/etc/a"), entry("/etc/b")]}
    host.scan()
    host.rules.append(FileRule("s", "/srv/*"))
    host.folders = {"/etc": [entry("/etc/b"), entry("/etc/c")], "/srv": [entry("/srv/d")]}
    assert told(host.scan()) == [("Removed", "/etc/a"), ("Added", "/etc/c")]


def tree(folder):
    """A folder in which every way of looking at links, types and depths makes a difference."""
    for path in ("t/real.conf", "t/other.conf", "t/gone.conf", "t/sub/deep.conf", "far/target.conf", "far/inside.conf"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    (folder / "t/link.conf").symlink_to(folder / "far/target.conf")
    (folder / "t/far").symlink_to(folder / "far")
    return str(folder) + "/t/*.conf"


RULE = {"links": "follow", "type": "file", "checksum": "sha256", "recurse": True}
RULE_CHANGES = [
    (dict(RULE, **{key: before}), dict(RULE, **{key: after}))
    for key, values in (
        ("links", ("follow", "manage", "ignore")),
        ("type", ("file", "directory", "any")),
        ("checksum", ("sha256", "md5", "none")),
        ("recurse", (True, False)),
    )
    for before in values
    for after in values
    if before != after
]


class Tracker:
    """A folder that is tracked by rules which the test changes."""

    def __init__(self, state, path):
        self.state = str(state)
        self.path = path

    def run(self, *rules):
        tracked = [FileRule("r%d" % number, self.path, **rule) for number, rule in enumerate(rules)]
        with Store(self.state) as store:
            return run.run_kind(all_kinds()["files"], default_settings()._replace(file_rules=tracked), store)

    def end(self):
        """The run after the rule has switched off files."""
        with Store(self.state) as store:
            return run.end_kind(all_kinds()["files"], default_settings()._replace(file_rules=[]), store)


@pytest.mark.parametrize(("before", "after"), RULE_CHANGES)
def test_whatever_changes_in_a_rule_is_no_change_of_the_host(tmp_path, before, after):
    tracker = Tracker(tmp_path / "state.db", tree(tmp_path))
    tracker.run(before)
    assert told(tracker.run(after)) == []
    assert told(tracker.run(after)) == []
    assert told(tracker.run(before)) == []


@pytest.mark.parametrize(("before", "after"), RULE_CHANGES)
def test_what_happens_while_a_rule_changes_is_told_as_the_old_rule_sees_it(tmp_path, before, after):
    same, other = (
        Tracker(tmp_path / "same.db", tree(tmp_path)),
        Tracker(tmp_path / "other.db", str(tmp_path) + "/t/*.conf"),
    )
    same.run(before)
    other.run(before)
    (tmp_path / "t/gone.conf").unlink()
    (tmp_path / "t/new.conf").write_text("new")
    (tmp_path / "t/other.conf").write_text("a text of another length")
    (tmp_path / "far/target.conf").write_text("a target of another length")
    real = {
        told: change
        for change in same.run(before).changes
        for told in [(change.category, (change.new or change.old).path)]
    }
    found = other.run(after).changes
    for change in found:
        assert real[change.category, (change.new or change.old).path] == change
    if "directory" not in (before["type"], after["type"]):  # what both rules track is told
        names = {(change.category, os.path.basename((change.new or change.old).path)) for change in found}
        assert names >= {("Removed", "gone.conf"), ("Added", "new.conf"), ("Modified", "other.conf")}
    assert told(other.run(after)) == []


EVERY = {"path": "/t/*", "links": "follow", "type": "any", "checksum": "sha256", "recurse": True}
NARROWER = {
    "withdrawn": [],
    "another folder": [dict(EVERY, path="/far/*")],
    "not recursive": [dict(EVERY, recurse=False)],
    "by name": [dict(EVERY, path="/t/real*")],
    "folders alone": [dict(EVERY, type="directory")],
    "links themselves": [dict(EVERY, links="manage")],
    "no links": [dict(EVERY, links="ignore")],
    "one that hides the other": [dict(EVERY, links="ignore"), EVERY],
}


@pytest.mark.parametrize("narrower", NARROWER)
def test_what_changed_below_what_a_rule_no_longer_tracks_is_told_once(tmp_path, narrower):
    tree(tmp_path)
    (tmp_path / "far/gone.conf").write_text("")
    same, other = Tracker(tmp_path / "same.db", ""), Tracker(tmp_path / "other.db", "")

    def look(tracker, rules):
        given = [
            FileRule(str(number), **dict(rule, path=str(tmp_path) + rule["path"])) for number, rule in enumerate(rules)
        ]
        with Store(tracker.state) as store:
            return run.run_kind(all_kinds()["files"], default_settings()._replace(file_rules=given), store)

    look(same, [EVERY])
    look(other, [EVERY])
    for folder in ("t", "t/sub", "far"):
        (tmp_path / folder / "new.conf").write_text("new")
    for path in ("t/other.conf", "t/sub/deep.conf", "far/target.conf"):
        (tmp_path / path).write_text("a text of another length")
    (tmp_path / "t/added.conf").symlink_to(tmp_path / "far/inside.conf")
    (tmp_path / "t/gone.conf").unlink()
    (tmp_path / "far/gone.conf").unlink()
    real, found = look(same, [EVERY]), look(other, NARROWER[narrower])
    assert sorted(told(found)) == sorted(told(real)) and len(told(real)) >= 10
    assert all(change in real.changes for change in found.changes)
    assert told(look(other, NARROWER[narrower])) == []


def test_what_did_not_change_below_what_a_rule_no_longer_tracks_is_counted(host):
    host.folders = {"/etc": [entry("/etc/a"), entry("/etc/b"), entry("/etc/c")]}
    host.scan()
    host.rules = []
    host.folders = {"/etc": [entry("/etc/b", "b" * 64), entry("/etc/c"), entry("/etc/d")]}
    snapshot = host.scan()
    assert told(snapshot) == [("Removed", "/etc/a"), ("Modified", "/etc/b"), ("Added", "/etc/d")]
    assert "0 newly tracked items, 1 no longer tracked, 0 tracked in another way" in snapshot.warnings()[-1]
    assert told(host.scan()) == []


def test_rules_that_replace_each_other_or_change_their_order_or_names_change_nothing(tmp_path):
    tracker = Tracker(tmp_path / "state.db", tree(tmp_path))
    narrow, manage = dict(RULE, recurse=False), dict(RULE, links="manage")
    for rules in ([RULE], [narrow], [narrow, RULE], [RULE, narrow], [manage, RULE], [RULE, manage], [], [RULE]):
        assert told(tracker.run(*rules)) == []
    (tmp_path / "t/real.conf").unlink()
    assert told(tracker.run(manage, narrow)) == [("Removed", str(tmp_path / "t/real.conf"))]


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)], ids=["wider", "narrower"])
def test_a_rule_that_adds_or_drops_more_than_one_run_reports_is_no_change_in_any_run(
    tmp_path, monkeypatch, before, after
):
    monkeypatch.setattr(budget, "RUN_CHANGES", 25)
    tree(tmp_path)
    for number in range(12):
        (tmp_path / "t" / str(number)).mkdir()
        for name in range(10):
            (tmp_path / "t" / str(number) / str(name)).write_text("")
    tracker = Tracker(tmp_path / "state.db", str(tmp_path) + "/t/*")
    tracker.run(dict(RULE, recurse=before))
    (tmp_path / "t/gone.conf").unlink()
    seen = [told(tracker.run(dict(RULE, recurse=after))) for _run in range(8)]
    assert seen == [[("Removed", str(tmp_path / "t/gone.conf"))], *[[]] * 7]


def test_more_changes_than_one_run_reports_are_told_apart_from_what_a_rule_adds_at_the_same_time(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "RUN_CHANGES", 25)
    for number in range(40):
        (tmp_path / "t" / "d").mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / str(number)).write_text("")
        (tmp_path / "t" / "d" / str(number)).write_text("")
    tracker = Tracker(tmp_path / "state.db", str(tmp_path) + "/t/*")
    tracker.run(dict(RULE, recurse=False))
    for number in range(40):
        (tmp_path / "t" / str(number)).write_text("x")
    seen = [told(tracker.run(dict(RULE, recurse=False), RULE)) for _run in range(4)]
    assert [len(changes) for changes in seen] == [40, 0, 0, 0]


def test_a_kind_that_is_switched_off_is_compared_until_all_its_changes_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "RUN_CHANGES", 25)
    tracker = Tracker(tmp_path / "state.db", str(tmp_path) + "/t/*")
    assert tracker.end() is None
    for folder in "abcd":
        (tmp_path / "t" / folder).mkdir(parents=True)
    tracker.run(RULE)
    for number in range(80):
        (tmp_path / "t" / "abcd"[number % 4] / str(number)).write_text("")
    runs = [tracker.end() for _run in range(2)]
    assert [any("for the last time" in note for note in run.notes) for run in runs] == [False, True]
    seen = [told(run) for run in runs]
    assert len(seen[0]) < 80 and len(set(seen[0] + seen[1])) == len(seen[0] + seen[1]) == 80
    assert tracker.end() is None
    (tmp_path / "t" / "a" / "later").write_text("")
    assert tracker.end() is None
    assert told(tracker.run(RULE)) == [("Added", str(tmp_path / "t" / "a" / "later"))]


@pytest.mark.parametrize(
    "rule", [["r", "/etc/*/*.conf"], ["r", "etc"], ["r", "/etc/.*(", True, "follow", "file", "sha256"]]
)
def test_a_file_item_that_this_version_refuses_does_not_keep_a_kind_from_being_switched_off(
    tmp_path, monkeypatch, rule
):
    tracker = Tracker(tmp_path / "state.db", str(tmp_path) + "/t/*")
    tracker.run(RULE)
    monkeypatch.setattr(Store, "last_run", lambda _store, _kind: StoredRun(1, [rule], []))
    assert tracker.end() is None


def test_under_an_old_rule_that_this_version_refuses_nothing_is_told(tmp_path, monkeypatch):
    tracker = Tracker(tmp_path / "state.db", tree(tmp_path))
    tracker.run(RULE)
    (tmp_path / "t/real.conf").unlink()
    (tmp_path / "t/new.conf").write_text("new")
    (tmp_path / "t/other.conf").write_text("a text of another length")
    refused = StoredRun(1, [["r", "/etc/.*(", True, "follow", "file", "sha256"]], [])
    with monkeypatch.context() as patch:
        patch.setattr(Store, "last_run", lambda _store, _kind: refused)
        seen = tracker.run(RULE)
    assert told(seen) == []
    assert "1 newly tracked item, 1 no longer tracked, 1 tracked in another way" in seen.notes[-1]
    assert told(tracker.run(RULE)) == []


# --- unsure, and gone


def test_what_was_unsure_at_the_baseline_is_not_added_later(host):
    host.packages, host.unsure = [package("a")], frozenset([("u", "amd64"), ("v", "amd64"), ("gone", "amd64")])
    host.run()
    host.unsure = frozenset([("v", "amd64")])
    host.packages = [package("a"), package("n"), package("u", "2")]
    assert told(host.run()) == [("Added", "n")]
    host.packages, host.unsure = [package("a"), package("n"), package("u", "2"), package("v")], frozenset()
    assert told(host.run()) == []
    host.packages = [package("gone"), package("u", "3"), package("v")]
    assert told(host.run()) == [("Removed", "a"), ("Added", "gone"), ("Removed", "n"), ("Modified", "u")]


def test_what_was_unsure_stays_known_to_have_been_there_while_its_source_fails(host):
    host.unsure = frozenset([("u", "amd64")])
    host.run()
    host.errors = [SourceFailed("locked")]
    host.run()
    host.errors, host.unsure, host.packages = [], frozenset(), [package("u"), package("u", "2")]
    assert told(host.run()) == []


def test_a_package_that_is_unsure_by_its_name_alone_is_so_for_every_architecture(host):
    host.packages = [package("a"), package("b")]
    host.run()
    host.packages, host.unsure = [package("b")], frozenset([("a",), ("c",)])
    assert told(host.run()) == []
    host.packages, host.unsure = [package("a", "2"), package("b"), package("c")], frozenset()
    assert told(host.run()) == [("Modified", "a"), ("Added", "c")]


def test_what_is_unsure_when_it_comes_is_added_once_it_is_sure(host):
    host.packages = [package("a")]
    host.run()
    host.unsure = frozenset([("new", "amd64")])
    assert told(host.run()) == []
    host.packages, host.unsure = [package("a"), package("new")], frozenset()
    assert told(host.run()) == [("Added", "new")]


def test_a_source_that_is_gone_for_good_takes_its_items_along_once(host):
    host.packages = [package("a"), package("b")]
    host.run()
    host.errors = [SourceAbsent("gone")]
    seen = host.run()
    assert told(seen) == [("Removed", "a"), ("Removed", "b")]
    with Store(host.state) as store:
        assert list(store.all_items(all_kinds()["packages"])) == []
    assert told(host.run()) == []
    host.errors, host.packages = [], [package("c")]
    assert told(host.run()) == [("Added", "c")]


def test_a_package_seen_with_both_versions_amid_an_upgrade_is_one_change_once_it_is_done(host):
    host.packages = [package("openssl", "1")]
    host.run()
    host.packages = [package("openssl", "1"), package("openssl", "2")]
    host.unsure = frozenset([("openssl", "amd64")])
    assert told(host.run()) == []
    host.packages, host.unsure = [package("openssl", "2")], frozenset()
    snapshot = host.run()
    assert [(change.category, change.old.version, change.new.version) for change in snapshot.changes] == [
        ("Modified", "1", "2")
    ]


def test_a_long_scan_tells_how_many_items_it_has_seen_and_a_short_one_does_not(host, monkeypatch):
    host.folders = {"/etc/a": [entry("/etc/a/1"), entry("/etc/a/2")], "/etc/b": [entry("/etc/b/1")], "/etc/c": []}
    told = []
    host.scan(told.append)
    assert told == []
    monkeypatch.setattr(sys.modules[compare_and_store.__module__], "PROGRESS_SECONDS", 0)
    host.scan(told.append)
    assert told == [0, 2, 3]
