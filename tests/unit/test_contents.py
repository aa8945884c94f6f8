# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which texts are kept, what a change record tells of them, and what is never kept."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils import _cti
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import RowDamaged
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.hashing import is_allowed
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule.settings import (
    default as default_settings,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.outbox import Outbox
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.repair import repair
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import contents, enqueue, run
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root

FILES = all_kinds()["files"]
MACHINE = {"Computer": "host", "SourceComputerId": "id", "VMUUID": None}
LINE = "--- before\n+++ after\n@@ -1 +1 @@\n-%s\n+%s\n"


class Host:
    """A folder that everybody may look into, and that is tracked with the texts of what is in it."""

    def __init__(self, folder):
        self.folder = folder
        self.tracked = folder / "tracked"
        self.tracked.mkdir(mode=0o755)
        self.state = str(folder / "state.db")
        self.rules = [FileRule("r", str(self.tracked) + "/*", contents=True)]
        self.listed = []
        self.meanwhile = lambda: None  # happens between the scan and the reading of texts

    def write(self, name, text="old\n", mode=0o644):
        path = self.tracked / name
        if not path.parent.exists():  # whatever the umask
            path.parent.mkdir()
            path.parent.chmod(0o755)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    def run(self):
        """What a run tells: {name: difference}, for the changes that have one."""
        settings = default_settings()._replace(file_rules=self.rules, kinds=("files",))
        with Store(self.state) as store:
            snapshot = run.run_kind(FILES, settings, store)
            self.meanwhile()
            snapshot, diffs = contents.keep(snapshot, self.rules, self.listed, store)
            self.records = enqueue.remember(snapshot, store, MACHINE, diffs)
            enqueue.queue(snapshot, self.records, settings, store, MACHINE)
        self.notes = snapshot.notes
        return {
            record["FileSystemPath"].rpartition("/")[2]: record["ContentDiff"]
            for record in self.records
            if "ContentDiff" in record
        }

    def kept(self):
        with Store(self.state, read_only=True) as store:
            sizes = {path: text.size for path, text in store.texts().items()}
            return {os.path.basename(path): store.text(path) for path, size in sizes.items() if size is not None}


@pytest.fixture
def host():
    folder = Path(tempfile.mkdtemp(prefix="contents"))
    folder.chmod(0o755)
    yield Host(folder)
    shutil.rmtree(str(folder))


def no(why):
    return "\\ No difference is shown: %s.\n" % why


def test_the_first_run_keeps_texts_and_tells_nothing(host):
    host.write("a", "tëxt\n")
    assert host.run() == {}
    assert (host.records, host.notes) == ([], [])
    assert host.kept() == {"a": "tëxt\n"}


def test_a_modified_file_is_told_line_by_line_wherever_its_record_goes(host):
    host.write("a")
    host.run()
    host.write("a", "new\n")
    assert host.run() == {"a": LINE % ("old", "new")}
    with Outbox(host.state) as outbox:
        queued = [record for batch in outbox.batches() for record in batch.records]
    with Store(host.state, read_only=True) as store:
        remembered = list(store.history())
    assert [record["ContentDiff"] for record in queued if "ContentDiff" in record] == [LINE % ("old", "new")]
    assert [record["ContentDiff"] for record in remembered] == [LINE % ("old", "new")]
    assert host.kept() == {"a": "new\n"}
    assert host.run() == {}


def test_added_and_removed_files_are_told_without_and_a_removed_one_is_forgotten(host):
    host.write("gone")
    host.run()
    (host.tracked / "gone").unlink()
    host.write("new")
    assert host.run() == {}
    assert [record["ChangeCategory"] for record in host.records] == ["Removed", "Added"]
    assert host.kept() == {"new": "old\n"}


def test_a_change_of_anything_but_the_text_is_told_without(host):
    path = host.write("a")
    host.run()
    os.utime(str(path), (1, 1))
    assert host.run() == {}
    assert host.records[0]["FieldsChanged"] == "DateModified"


def test_only_files_whose_rule_says_so_are_kept(host):
    host.rules.append(FileRule("s", str(host.folder / "other") + "/*"))
    host.write("a")
    host.write("../other/b")
    host.run()
    host.write("../other/b", "new\n")
    assert host.run() == {}
    assert len(host.records) == 1
    assert host.kept() == {"a": "old\n"}
    assert host.notes == []


def test_a_file_that_is_no_longer_asked_for_is_forgotten(host):
    host.write("a")
    host.run()
    host.rules = [rule._replace(contents=False) for rule in host.rules]
    host.run()
    assert host.kept() == {}
    assert (host.records, host.notes) == ([], [])


def test_a_file_that_is_no_longer_tracked_is_forgotten(host):
    host.write("a")
    host.write("sub/b")
    host.run()
    host.rules = [FileRule("r", str(host.tracked) + "/*", recurse=False, contents=True)]
    host.run()
    assert host.kept() == {"a": "old\n"}


def test_texts_are_kept_of_what_was_tracked_before_they_were_asked_for(host):
    host.rules = [rule._replace(contents=False) for rule in host.rules]
    host.write("a")
    host.run()
    host.rules = [rule._replace(contents=True) for rule in host.rules]
    assert host.run() == {}
    assert host.records == []
    assert host.kept() == {"a": "old\n"}


# --- who may read it


def test_what_not_everybody_may_read_is_not_kept_and_its_record_says_so(host):
    host.write("secret", mode=0o640)
    host.write("open")
    host.run()
    assert host.kept() == {"open": "old\n"}
    host.write("secret", "new\n", mode=0o640)
    assert host.run() == {"secret": no("the file is " + contents.PRIVATE)}
    assert host.notes == [
        "The texts of 1 of 2 files are kept; left out are 1 not readable by everybody and not listed in content_paths."
    ]


def test_a_file_that_is_closed_to_others_is_forgotten_at_once(host):
    path = host.write("a")
    host.run()
    path.chmod(0o600)
    assert host.run() == {}
    assert host.kept() == {}
    path.chmod(0o644)
    host.write("a", "new\n")
    assert host.run() == {"a": no("no text of before is kept")}
    assert host.kept() == {"a": "new\n"}


def test_a_file_in_a_folder_that_is_closed_to_others_is_private_whatever_its_own_mode(host):
    host.write("sub/a")
    host.run()
    assert host.kept() == {"a": "old\n"}
    (host.tracked / "sub").chmod(0o750)
    host.run()
    assert host.kept() == {}


def test_a_listed_file_is_kept_though_it_is_private(host):
    for name in ("a.conf", "b.key", "sub/c.conf"):
        host.write(name, mode=0o600)
    host.listed = [str(host.tracked) + "/*.conf"]
    host.run()
    assert host.kept() == {"a.conf": "old\n"}
    host.listed = [str(host.tracked) + "/*/*.conf", str(host.tracked) + "/[b]*"]
    host.run()
    assert host.kept() == {"b.key": "old\n", "c.conf": "old\n"}


def test_a_link_from_a_listed_folder_does_not_list_what_it_leads_to(host):
    secret = host.write("../secret", "password\n", mode=0o600)
    (host.tracked / "trap").symlink_to(str(secret))
    (host.tracked / "folder").symlink_to(str(host.folder))
    host.listed = [str(host.tracked) + "/*", str(host.tracked) + "/*/*"]
    host.run()
    assert b"password" not in b"".join(path.read_bytes() for path in host.folder.glob("state*"))
    assert "password\n" not in host.kept().values()


def test_a_file_that_is_closed_to_others_after_the_scan_is_not_kept(host):
    path = host.write("a")
    host.meanwhile = lambda: path.chmod(0o600)
    host.run()
    assert host.kept() == {}


# --- links


def test_the_text_of_a_link_is_its_targets(host):
    target = host.write("../target")
    (host.tracked / "link").symlink_to("../target")
    host.run()
    assert host.kept() == {"link": "old\n"}
    target.write_text("new\n")
    assert host.run() == {"link": LINE % ("old", "new")}


def test_a_rule_that_does_not_follow_links_keeps_no_text_behind_them(host):
    host.write("../target")
    (host.tracked / "link").symlink_to("../target")
    host.rules = [
        FileRule("r", str(host.tracked) + "/*", links="ignore", contents=True),
        FileRule("s", str(host.tracked) + "/*"),
    ]
    host.run()
    assert host.kept() == {}
    assert host.notes == []


# --- races


@pytest.mark.parametrize("what", ["other text", "nothing", "fifo", "link", "folder", "device", "endless"])
def test_what_takes_a_files_place_after_the_scan_is_not_kept(host, what):
    path = host.write("a")
    same = host.write("../same")

    def replace():
        path.unlink()
        if what == "other text":
            host.write("a", "xxx\n")
        elif what == "fifo":
            os.mkfifo(str(path))
        elif what == "link":
            path.symlink_to(str(same))
        elif what == "folder":
            path.mkdir()
        elif what in ("device", "endless"):
            number = os.makedev(1, 3 if what == "device" else 5)  # null and zero, see null(4)
            os.mknod(str(path), 0o020666, number)

    if what in ("device", "endless"):
        need_root()
    host.meanwhile = replace
    host.run()
    assert host.kept() == {}
    assert host.notes == ["The texts of 0 of 1 file are kept; left out are 1 " + contents.MOVING + "."]


def test_after_a_race_the_next_run_keeps_the_text_and_says_that_there_was_none(host):
    host.write("a")
    host.run()
    host.write("a", "one\n")
    host.meanwhile = lambda: host.write("a", "two\n")
    assert host.run() == {"a": no("the file is " + contents.MOVING)}
    host.meanwhile = lambda: None
    assert host.run() == {"a": no("no text of before is kept")}
    host.write("a", "three\n")
    assert host.run() == {"a": LINE % ("two", "three")}


def test_a_run_that_fails_keeps_no_text_and_the_next_one_tells_the_change(host):
    host.write("a")
    host.run()
    host.write("a", "new\n")
    host.meanwhile = lambda: 1 // 0
    with pytest.raises(ZeroDivisionError):
        host.run()
    assert host.kept() == {"a": "old\n"}
    host.meanwhile = lambda: None
    assert host.run() == {"a": LINE % ("old", "new")}


# --- what is no text


@pytest.mark.parametrize("content", [b"a\0b", b"\xff\xfe", "ü".encode("latin-1"), b"\xed\xa0\x80"])
def test_what_is_not_utf8_text_is_not_kept(host, content):
    host.write("a", content)
    host.run()
    assert host.kept() == {}
    assert host.notes == ["The texts of 0 of 1 file are kept; left out are 1 not a UTF-8 text."]
    host.write("a", "text\n")
    assert host.run() == {"a": no("no text of before is kept")}
    host.write("a", content)
    assert host.run() == {"a": no("the file is not a UTF-8 text")}
    assert host.kept() == {}


def test_what_did_not_change_is_not_read_again_be_it_text_or_not(host, monkeypatch):
    host.write("a")
    host.write("b", b"\0")
    host.write("c")
    host.run()
    changed = host.write("c", "new\n")
    opened = []
    reopen = contents.reopen
    monkeypatch.setattr(
        contents, "reopen", lambda path: opened.append(os.readlink("/proc/self/fd/%d" % path)) or reopen(path)
    )
    assert host.run() == {"c": LINE % ("old", "new")}
    assert opened == [str(changed)]


def test_a_rule_without_a_checksum_has_no_texts(host):
    host.rules = [rule._replace(checksum="none") for rule in host.rules]
    host.write("a")
    host.run()
    assert host.kept() == {}
    assert host.notes == ["The texts of 0 of 1 file are kept; left out are 1 without a checksum."]


def test_texts_under_md5_are_kept_as_well(host):
    host.rules = [rule._replace(checksum="md5") for rule in host.rules]
    host.write("a")
    host.run()
    host.write("a", "new\n")
    told = host.run()
    if is_allowed("md5"):
        assert told == {"a": LINE % ("old", "new")}
    else:
        assert "1 without a checksum" in host.notes[-1]


@pytest.mark.parametrize("name", [b"\xff\n\x1b[2J", "ü ä".encode(), b"--- a"])
def test_any_name_will_do(host, name):
    path = os.path.join(os.fsencode(str(host.tracked)), name)
    for text in ("old\n", "new\n"):
        with open(path, "w") as file:
            file.write(text)
        told = host.run()
    assert list(told.values()) == [LINE % ("old", "new")]


# --- how much


def test_a_file_that_is_too_large_is_not_kept(host):
    host.write("fits", "x" * contents.FILE_BYTES)
    host.write("not", "x" * (contents.FILE_BYTES + 1))
    host.run()
    assert list(host.kept()) == ["fits"]
    assert host.notes == ["The texts of 1 of 2 files are kept; left out are 1 larger than a text may be."]
    host.write("fits", "x" * (1 << 20))
    assert host.run() == {"fits": no("the file is larger than a text may be")}
    assert host.kept() == {}


def test_the_limits_of_a_rule_are_honoured_and_0_is_none(host):
    for number in range(4):
        host.write(str(number), "x" * 2000)
    host.write("large", "x" * 2001)
    host.rules = [rule._replace(max_file=2000, max_all=6000) for rule in host.rules]
    host.run()
    assert sorted(host.kept()) == ["0", "1", "2"]
    left = "left out are 1 beyond what is kept in all or of one owner, 1 larger than a text may be."
    assert host.notes == ["The texts of 3 of 5 files are kept; " + left]
    host.write("3", "y" * 2000)
    assert host.run() == {"3": no("the file is beyond what is kept in all or of one owner")}
    host.rules = [rule._replace(max_all=4000) for rule in host.rules]
    host.run()
    assert sorted(host.kept()) == ["0", "1"]
    host.rules = [rule._replace(max_file=0, max_all=0) for rule in host.rules]
    host.run()
    assert len(host.kept()) == 5


def test_a_rules_limit_counts_the_very_bytes(host):
    for name in "abcd":
        host.write(name, "123\n")
    host.rules = [rule._replace(max_all=12) for rule in host.rules]
    host.run()
    assert sorted(host.kept()) == ["a", "b", "c"]


def test_the_state_never_holds_more_than_was_set_aside(host, monkeypatch):
    monkeypatch.setattr(contents, "ALL_BYTES", 10 * contents.LEAST_BYTES)
    for number in range(30):
        host.write("%02d" % number, "x")
    host.run()
    assert sorted(host.kept()) == ["%02d" % number for number in range(10)]
    assert host.notes == [
        "The texts of 10 of 30 files are kept; left out are 20 beyond what is kept in all or of one owner."
    ]
    for number in range(5):
        (host.tracked / ("%02d" % number)).unlink()
    host.write("29", "y")
    host.run()
    assert sorted(host.kept()) == ["%02d" % number for number in range(5, 15)]


def test_what_is_kept_has_its_room_before_what_is_new(host, monkeypatch):
    monkeypatch.setattr(contents, "ALL_BYTES", 2 * contents.LEAST_BYTES)
    host.write("m")
    host.write("n")
    host.run()
    host.write("a")
    host.write("n", "new\n")
    assert host.run() == {"n": LINE % ("old", "new")}
    assert sorted(host.kept()) == ["m", "n"]


def test_the_differences_of_one_run_are_bounded_in_all(host, monkeypatch):
    monkeypatch.setattr(contents, "DIFFS_BYTES", 40)
    for name in "abc":
        host.write(name)
    host.run()
    for name in "abc":
        host.write(name, "new\n")
    full = no("this run shows no more differences of the same owner")
    assert host.run() == {"a": LINE % ("old", "new"), "b": full, "c": full}
    assert host.kept() == {"a": "new\n", "b": "new\n", "c": "new\n"}


def give(path, uid):
    """Make a user the owner of a path and of all below it."""
    need_root()
    subprocess.run(["chown", "-R", str(uid), str(path)], check=True)


@pytest.mark.parametrize("honest", [0, 1002], ids=["root", "another user"])
@pytest.mark.parametrize("limit", ["of all", "of the rule"])
def test_texts_of_one_user_leave_room_for_those_of_others(host, monkeypatch, honest, limit):
    if limit == "of all":
        monkeypatch.setattr(contents, "ALL_BYTES", 20 * contents.LEAST_BYTES)
    else:
        host.rules = [rule._replace(max_all=20 * len("old\n")) for rule in host.rules]
    for number in range(40):
        host.write("a/%02d" % number)
    give(host.tracked / "a", 1001)
    host.run()
    assert len(host.kept()) == 10
    host.write("z/honest")
    give(host.tracked / "z", honest)
    host.run()
    assert len(host.kept()) == 11
    for number in range(40):
        host.write("a/%02d" % number, "new\n")
    host.write("z/honest", "new\n")
    told = host.run()
    assert told["honest"] == LINE % ("old", "new") and sum("-old" in diff for diff in told.values()) == 11
    assert len(host.kept()) == 11


def test_links_to_files_of_others_are_on_the_account_of_who_owns_the_folder(host, monkeypatch):
    monkeypatch.setattr(contents, "ALL_BYTES", 20 * contents.LEAST_BYTES)
    target = host.write("z/honest")
    (host.tracked / "a").mkdir()
    (host.tracked / "a").chmod(0o755)
    for number in range(40):
        (host.tracked / "a" / ("%02d" % number)).symlink_to(str(target))
    give(host.tracked / "a", 1001)
    host.run()
    assert len(host.kept()) == 11 and "honest" in host.kept()


def test_texts_behind_links_to_folders_of_others_are_on_the_account_of_who_owns_the_folder(host, monkeypatch):
    monkeypatch.setattr(contents, "ALL_BYTES", 20 * contents.LEAST_BYTES)
    host.write("../there/top")
    for number in range(40):
        host.write("../there/sub/%02d" % number)
    host.write("a/own")
    (host.tracked / "a" / "l").symlink_to("../../there")
    give(host.tracked / "a", 1001)
    host.write("z/honest")
    host.run()
    assert len(host.kept()) == 11 and "honest" in host.kept()


def test_differences_of_one_user_leave_room_for_those_of_others(host, monkeypatch):
    monkeypatch.setattr(contents, "DIFFS_BYTES", 400)
    for number in range(40):
        host.write("a/%02d" % number)
    host.write("z/honest")
    give(host.tracked / "a", 1001)
    host.run()
    for number in range(40):
        host.write("a/%02d" % number, "new\n")
    host.write("z/honest", "new\n")
    told = host.run()
    assert told["honest"] == LINE % ("old", "new")
    assert sum("-old" in diff for diff in told.values()) == 1 + -(-200 // len(LINE % ("old", "new")))


def test_a_text_that_was_damaged_in_the_state_is_set_aside_and_told(host):
    host.write("a")
    host.run()
    db = sqlite3.connect(host.state)
    db.execute("UPDATE content SET text = x'00'")
    db.commit()
    db.close()
    host.write("a", "new\n")
    with pytest.raises(RowDamaged):
        host.run()
    (note,) = repair(host.state)
    assert "The kept texts of 1 file are damaged" in note
    assert host.run() == {"a": no("no text of before is kept")}
    host.write("a", "newer\n")
    assert host.run() == {"a": LINE % ("new", "newer")}


def test_memory_does_not_follow_the_size_of_all_texts(host):
    for number in range(1000):
        host.write("%04d" % number, os.urandom(8000).hex())
    program = (
        "import resource, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from _cti.rule.settings import default\n"
        "from _cti.kinds.files.kind import FILES\n"
        "from _cti.tracking import contents, run\n"
        "from _cti.kinds.files.scope import FileRule\n"
        "from _cti.state.store import Store\n"
        "rules = [FileRule('r', sys.argv[2] + '/*', contents=True)]\n"
        "settings = default()._replace(file_rules=rules)\n"
        "with Store(sys.argv[3]) as store:\n"
        "    snapshot = run.run_kind(FILES, settings, store)\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    contents.keep(snapshot, rules, [], store)\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    library = os.path.dirname(os.path.dirname(_cti.__file__))
    command = [sys.executable, "-c", program, library, str(host.tracked), host.state]
    grown = int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)  # KiB
    assert grown < 8 << 10
    assert sum(map(len, host.kept().values())) == 1000 * 16000
