# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A local user who owns a tracked folder swaps, links, fills and truncates as fast as possible while root scans it.

Whatever the rule: no byte of what only root may read is kept or reported, nothing but a regular file is opened, each run
ends, and the files of others are reported as they are.
"""

import hashlib
import os
import random
import shutil
import signal
import stat
import tempfile
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule.settings import (
    default as default_settings,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import contents, enqueue, run
from ansible_collections.changetracking.inventory.tests.helpers.opens import Opens, exchange
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root

pytestmark = pytest.mark.no_python  # it is about what the kernel does between two calls
RUNS = 20
FILES = all_kinds()["files"]
SECRET = b"password = hunter2\n"
MACHINE = {"Computer": "host", "SourceComputerId": "id", "VMUUID": None}


class Battlefield:
    """Folders that everybody may look into: `home` is the user's, `honest` somebody else's, `secret` root's."""

    def __init__(self, folder):
        self.folder = folder
        self.home, self.honest, self.secret = (folder / name for name in ("home", "honest", "secret"))
        for path in (self.home, self.honest, self.secret):
            path.mkdir()
            path.chmod(0o755)
        self.secret.chmod(0o700)
        self.write(self.secret / "t.conf", SECRET)
        self.write(self.honest / "a.conf", b"honest\n")
        self.write(self.honest / "sub" / "b.conf", b"honest too\n")
        self.rules = []
        self._children = []

    def write(self, path, content=b"mine\n"):
        if not path.parent.exists():
            path.parent.mkdir()
            path.parent.chmod(0o755)
        path.write_bytes(content)
        path.chmod(0o644)
        return path

    def attack(self, *moves):
        """Repeat the moves in another process until the end."""
        child = os.fork()
        if child == 0:
            try:
                while True:
                    for move in moves:
                        move()
                        for _pause in range(random.randrange(400)):
                            pass
            finally:
                os._exit(1)
        self._children.append(child)

    def end(self):
        for child in self._children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        shutil.rmtree(str(self.folder))

    def run(self):
        """One run as the agent makes it; gives its items and its change records."""
        settings = default_settings()._replace(file_rules=self.rules, kinds=("files",))
        with Store(str(self.folder / "state.db")) as store:
            snapshot = run.run_kind(FILES, settings, store, keep_items=True)
            snapshot, diffs = contents.keep(snapshot, self.rules, [], store)
            records = enqueue.remember(snapshot, store, MACHINE, diffs)
        return snapshot.items, records

    def texts(self):
        with Store(str(self.folder / "state.db"), read_only=True) as store:
            return [store.text(path) for path, text in store.texts().items() if text.size is not None]

    def check(self, items, records):
        """What holds after every run."""
        found = {item.path: item for item in items}
        for path, content in ((self.honest / "a.conf", b"honest\n"), (self.honest / "sub" / "b.conf", b"honest too\n")):
            assert found[str(path)].checksum == hashlib.sha256(content).hexdigest()
        assert {"honest\n", "honest too\n"} <= set(self.texts())
        assert not [text for text in self.texts() if "hunter2" in text]
        assert "hunter2" not in repr(records)
        assert not [record for record in records if record["FileSystemPath"].startswith(str(self.honest))]


@pytest.fixture
def field():
    need_root()
    folder = Path(tempfile.mkdtemp(prefix="hostile"))
    folder.chmod(0o755)
    field = Battlefield(folder)
    yield field
    field.end()


@pytest.fixture(params=["follow", "manage", "ignore"])
def links(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["recurse", "flat"])
def recurse(request):
    return request.param


def rules(field, links, recurse, kind="file"):
    return [
        FileRule("honest", str(field.honest), contents=True),
        FileRule("home", str(field.home) + "/*", recurse, links, kind, contents=True),
        FileRule("conf", str(field.home) + "/*.conf", recurse, links, kind, contents=True),
    ]


def test_a_folder_swapped_for_a_link_to_a_secret_gives_nothing_away(field, links, recurse):
    field.write(field.home / "d" / "t.conf")
    (field.home / "l").symlink_to(str(field.secret))
    field.rules = [
        *rules(field, links, recurse),
        FileRule("inner", str(field.home) + "/d/*", True, links, contents=True),
    ]
    field.attack(lambda: exchange(field.home / "d", field.home / "l"))
    for _run in range(RUNS):
        field.check(*field.run())


@pytest.mark.parametrize("links", ["manage", "ignore"])
def test_a_swapped_folder_shows_no_checksum_of_a_secret_where_links_are_not_followed(field, links):
    field.write(field.home / "d" / "t.conf")
    (field.home / "l").symlink_to(str(field.secret))
    secret = hashlib.sha256(SECRET).hexdigest()
    field.rules = rules(field, links, True)
    field.attack(lambda: exchange(field.home / "d", field.home / "l"))
    for _run in range(RUNS):
        items, records = field.run()
        field.check(items, records)
        assert secret not in {item.checksum for item in items}


def test_a_file_swapped_for_a_link_to_a_secret_gives_nothing_away(field, links):
    field.write(field.home / "t.conf")
    (field.home / "x").symlink_to(str(field.secret / "t.conf"))
    field.write(field.home / "y", b"password = another\n")  # of the secret's length
    field.rules = rules(field, links, True)
    field.attack(
        lambda: exchange(field.home / "t.conf", field.home / "x"), lambda: exchange(field.home / "x", field.home / "y")
    )
    for _run in range(RUNS):
        field.check(*field.run())


@pytest.mark.parametrize("kind", ["file", "any"])
def test_nothing_but_a_regular_file_is_opened(field, links, kind):
    """Devices, pipes and sockets take the place of files, of folders on the way, and of what links lead to."""
    os.mknod(str(field.home / "device"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(str(field.home / "disk"), stat.S_IFBLK | 0o600, os.makedev(7, 250))
    os.mkfifo(str(field.home / "pipe"))
    (field.folder / "dev").mkdir()
    os.mknod(str(field.folder / "dev" / "t.conf"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (field.home / "toward").symlink_to(str(field.folder / "dev"))
    (field.home / "link.conf").symlink_to("d/t.conf")
    for name in ("a.conf", "b.conf", "c.conf", "d/t.conf", "e/f.conf"):
        field.write(field.home / name)
    special = Opens(*(field.home / name for name in ("device", "disk", "pipe")), field.folder / "dev" / "t.conf")
    field.rules = rules(field, links, True, kind)
    field.attack(
        lambda: exchange(field.home / "a.conf", field.home / "device"),
        lambda: exchange(field.home / "b.conf", field.home / "pipe"),
        lambda: exchange(field.home / "c.conf", field.home / "disk"),
        lambda: exchange(field.home / "d", field.home / "toward"),
        lambda: exchange(field.home / "e", field.home / "pipe"),
    )
    try:
        for _run in range(RUNS):
            items, records = field.run()
            field.check(items, records)
            assert special.names() == []
    finally:
        special.close()


def test_files_that_grow_shrink_and_vanish_have_a_checksum_of_their_own_or_none(field, links):
    grows, shrinks, comes = (field.home / name for name in ("grows", "shrinks", "comes"))
    whole = b"x" * 300000

    def move():
        with open(str(grows), "ab") as file:
            file.write(b"x" * 1000)
            if file.tell() > 10000000:
                file.truncate(0)
        shrinks.write_bytes(whole)
        os.truncate(str(shrinks), 10)
        comes.write_bytes(whole)
        comes.unlink()

    field.rules = rules(field, links, True)
    field.attack(move)
    for _run in range(RUNS // 2):
        items, records = field.run()
        field.check(items, records)
        for item in items:
            if item.checksum and item.path.startswith(str(field.home)):
                assert item.checksum == hashlib.sha256(b"x" * item.size).hexdigest()


def test_hard_links_to_a_secret_give_nothing_away(field, links):
    """A user can make one only where the kernel's protected_hardlinks is off."""
    secret = field.write(field.folder / "shadow", SECRET)
    secret.chmod(0o600)
    os.link(str(secret), str(field.home / "mine.conf"))
    field.write(field.home / "t.conf")
    field.rules = rules(field, links, True)
    field.attack(lambda: exchange(field.home / "mine.conf", field.home / "t.conf"))
    for _run in range(RUNS // 2):
        field.check(*field.run())


def test_a_folder_closed_to_others_while_it_is_read_gives_nothing_away_that_was_written_after(field):
    """What is read between two judgements that both say yes, but by a closed folder, would be found here."""
    folder = field.home / "d"
    field.write(folder / "t.conf", b"public\n")

    def move():
        folder.chmod(0o700)
        (folder / "t.conf").write_bytes(SECRET)
        (folder / "t.conf").write_bytes(b"public\n")
        folder.chmod(0o755)

    field.rules = rules(field, "follow", True)
    field.attack(move)
    for _run in range(RUNS):
        field.check(*field.run())
