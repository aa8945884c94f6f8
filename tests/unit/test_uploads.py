# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts of changed files on their way to a storage account: kept before their record, uploaded once, and nothing that may not leave."""

import hashlib
import io
import json
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti import host as machine
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent import uploads
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.options import AgentOptions
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.status import Status
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.uploads import Uploads
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure import spool
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.daemon import Log
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import StateError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule.settings import (
    default as default_settings,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import contents, enqueue, run
from ansible_collections.changetracking.inventory.tests.helpers import azure, web

FILES = all_kinds()["files"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return web.make_certificate(tmp_path_factory.mktemp("tls"))


class Host:
    """A tracked folder, an agent's uploads, and the storage account that the rule names."""

    def __init__(self, folder, certificate):
        self.folder = folder
        self.tracked = folder / "tracked"
        self.tracked.mkdir(mode=0o755)
        self.tracked.chmod(0o755)
        self.azure = azure.Azure()
        self.web = web.Web(self.azure, certificate=certificate)
        secret = folder / "secret"
        secret.write_text(azure.SECRET)
        secret.chmod(0o600)
        self.options = AgentOptions(
            state=str(folder), contents=True, upload_contents=True, upload_hosts=[self.web.url[8:]],
            azure_identity="secret", azure_client_id=azure.APPLICATION, azure_tenant_id=azure.TENANT,
            azure_credential_file=str(secret), azure_authority=self.web.url, azure_ca=certificate[0],
        )  # fmt: skip
        self.upload_to(self.web.url)
        self.now = 1000.0
        self.restart()

    def restart(self):
        self.log = io.StringIO()
        self.status = Status(self.options)
        self.uploads = Uploads(self.options, Log(self.log), self.status, lambda: self.now)

    def upload_to(self, *accounts):
        rules = [
            FileRule("r%d" % number, str(self.tracked) + "/*", contents=True, upload=(url + "/", "", ""))
            for number, url in enumerate(accounts)
        ] or [FileRule("r", str(self.tracked) + "/*", contents=True)]
        self.settings = default_settings()._replace(file_rules=rules, kinds=("files",))

    def write(self, name, text="text\n", mode=0o644):
        path = self.tracked / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)

    def run(self, fails=False):
        """The links of the records of a run, by name."""
        try:
            with Store(self.options.database) as store:
                snapshot = run.run_kind(FILES, self.settings, store)
                snapshot, diffs = contents.keep(snapshot, self.settings.file_rules, [], store)
                links = self.uploads.queue(snapshot, self.settings, store, machine.identity())
                records = enqueue.remember(snapshot, store, machine.identity(), diffs, links)
                if fails:
                    raise StateError("as if it was killed")
        except StateError:
            return {}
        return {
            record["FileSystemPath"].rpartition("/")[2]: record.get("FileContentBlobLink")
            for record in records
            if record["ChangeCategory"] != "Removed"
        }

    def upload(self):
        return self.uploads.upload(self.settings)

    def found(self, link):
        """The content behind a link."""
        prefix = self.web.url + "/" + azure.CONTAINER + "/"
        assert link.startswith(prefix)
        blob = self.azure.blobs.get(link[len(prefix) :])
        return blob and blob[0]

    def waiting(self):
        with spool.Spool(str(self.folder / spool.FILE)) as texts:
            return texts.count()

    def state(self):
        return json.loads((self.folder / "status.json").read_text())["Uploads"]


@pytest.fixture
def host(certificate):
    folder = Path(tempfile.mkdtemp(prefix="uploads"))
    folder.chmod(0o755)
    host = Host(folder, certificate)
    yield host
    host.web.close()
    shutil.rmtree(str(folder))
    assert not host.azure.wrong and azure.SECRET not in host.log.getvalue() and "token-" not in host.log.getvalue()


def test_the_link_of_a_change_leads_to_its_very_text(host):
    host.write("a")
    assert host.run() == {} and host.upload() is None and not host.azure.blobs
    host.write("a", "tëxt\r\n\n")
    host.write("b", "")
    links = host.run()
    assert host.found(links["a"]) is None and host.waiting() == 2
    assert host.upload() is None and host.waiting() == 0
    assert (host.found(links["a"]), host.found(links["b"])) == ("tëxt\r\n\n".encode(), b"")
    assert links["a"].endswith(hashlib.sha256("tëxt\r\n\n".encode()).hexdigest())
    assert host.azure.blobs[links["a"].split(azure.CONTAINER + "/")[1]][1]["filepath"].endswith("/tracked/a")
    assert (host.state()["Texts"], host.state()["Waiting"], host.state()["Error"]) == (2, 0, "")
    assert "The contents of 2 files were uploaded, 0 waiting." in host.log.getvalue()


def test_what_is_no_change_of_a_text_has_no_link(host):
    for name in ("a", "b", "gone"):
        host.write(name)
    host.run()
    (host.tracked / "a").chmod(0o600)  # may not leave any more
    (host.tracked / "gone").unlink()
    host.write("secret", "password", 0o600)
    host.write("binary", b"\0\1")
    host.write("large", "x" * 70000)
    (host.tracked / "b").chmod(0o645)
    assert host.run() == dict.fromkeys(("a", "secret", "binary", "large", "b"))
    assert host.upload() is None and not host.web.requests


def test_without_an_account_in_the_rule_nothing_is_asked_or_kept(host):
    host.upload_to()
    host.run()
    host.write("a")
    assert host.run() == {"a": None} and host.upload() is None
    assert not host.web.requests and not host.waiting()


def test_a_run_that_is_not_stored_is_repeated_and_its_text_is_there_once(host):
    host.run()
    host.write("a")
    assert host.run(fails=True) == {} and host.waiting() == 1
    host.upload()  # as one that happened before the kill
    links = host.run()
    assert host.waiting() == 1
    assert host.upload() is None and host.found(links["a"]) == b"text\n"
    assert len(host.azure.blobs) == 1


def test_a_failed_upload_is_repeated_with_growing_pauses_and_named_once(host):
    host.run()
    host.write("a")
    links = host.run()
    host.azure.role = False
    waits = []
    for _time in range(8):
        waits.append(host.upload())
        host.now += waits[-1]
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]
    assert host.log.getvalue().count("the role Storage Blob Data Contributor on") == 1
    assert "The contents of 1 file wait. The next attempt is in 5 s." in host.log.getvalue()
    assert host.state()["Waiting"] == 1 and "the role Storage" in host.state()["Error"]
    asked = len(host.web.requests)
    host.now -= 100
    assert host.upload() == 100 and len(host.web.requests) == asked  # not before it is due
    host.now += 100
    host.azure.role = True
    assert host.upload() is None and host.found(links["a"]) == b"text\n"
    assert host.state()["Error"] == "" and host.waiting() == 0


def test_what_the_account_says_about_waiting_is_honoured(host):
    host.run()
    host.write("a")
    host.run()
    host.azure.trouble = lambda request: (
        azure.failed(503, "ServerBusy", Retry_After=77) if request.method == "PUT" else None
    )
    assert host.upload() == 77


def test_a_text_that_is_refused_holds_up_no_other(host):
    host.run()
    for name in "abc":
        host.write(name)
        time.sleep(0.01)
    links = host.run()
    host.azure.trouble = lambda request: azure.failed(400, "InvalidInput") if "-b-" in request.target else None
    assert host.upload() == 5
    assert [host.found(links[name]) for name in "abc"] == [b"text\n", None, b"text\n"] and host.waiting() == 1


def test_an_account_that_is_busy_is_asked_once_and_another_one_goes_on(host, certificate):
    other = azure.Azure()
    with web.Web(other, certificate=certificate) as theirs:
        host.options = host.options._replace(upload_hosts=[host.web.url[8:], theirs.url[8:]])
        host.restart()
        host.run()
        host.write("a")
        host.run()
        host.upload_to(theirs.url)
        host.write("b")
        host.write("c")
        links = host.run()
        host.upload_to(host.web.url, theirs.url)
        host.azure.trouble = lambda request: azure.failed(429, "TooMany") if request.method == "PUT" else None
        other.tokens = host.azure.tokens
        assert host.upload() == 5
        assert len([request for request in host.web.requests if request.method == "PUT"]) == 1
        assert len(other.blobs) == 2 and all(links[name].startswith(theirs.url) for name in "bc")


def test_texts_for_an_account_that_the_rule_no_longer_names_are_not_sent_and_that_is_said(host):
    host.run()
    host.write("a")
    host.run()
    host.upload_to("https://other.blob.core.windows.net")
    host.options = host.options._replace(upload_hosts=[])
    host.restart()
    assert host.upload() is None and not host.web.requests
    assert "The contents of 1 file are not uploaded: the rule no longer has them uploaded" in host.log.getvalue()


def test_the_text_of_a_file_that_the_rule_withdraws_is_not_sent_and_the_others_are(host):
    host.run()
    host.write("a")
    host.write("b")
    links = host.run()
    (rule,) = host.settings.file_rules
    host.settings = host.settings._replace(
        file_rules=[
            rule._replace(name="a", path=str(host.tracked / "a")),
            rule._replace(path=str(host.tracked / "b"), contents=False),
        ]
    )
    assert host.upload() is None and host.waiting() == 0
    assert host.found(links["a"]) == b"text\n" and len(host.azure.blobs) == 1
    assert "The contents of 1 file are not uploaded: the rule no longer has them uploaded" in host.log.getvalue()


def test_another_identity_for_the_same_account_uploads_what_waits(host):
    host.run()
    host.write("a")
    links = host.run()
    (rule,) = host.settings.file_rules
    host.settings = host.settings._replace(file_rules=[rule._replace(upload=(*rule.upload[:2], "another"))])
    assert host.upload() is None and host.found(links["a"]) == b"text\n"


def test_a_text_that_a_newer_rule_queues_during_an_upload_is_not_judged_by_the_older_one(host):
    host.run()
    host.write("a")
    host.run()
    old = host.settings
    (rule,) = old.file_rules
    made = {}

    def queue_another(request):
        if request.method == "PUT" and not made:
            (host.folder / "new").mkdir(mode=0o755)
            (host.folder / "new").chmod(0o755)
            host.settings = old._replace(
                file_rules=[rule, rule._replace(name="n", path=str(host.folder / "new") + "/*")]
            )
            host.run()
            host.write("../new/n")
            made.update(host.run())

    host.azure.trouble = queue_another
    assert host.uploads.upload(old) == 5 and host.waiting() == 1
    host.now += 5
    assert host.upload() is None and host.found(made["n"]) == b"text\n"


def test_a_rule_that_names_a_strange_host_gets_nothing_and_is_named(host):
    host.upload_to("https://evil.example.org")
    host.run()
    host.write("a")
    assert host.run() == {"a": None}
    assert host.upload() is None and host.waiting() == 0
    assert "names the blob host 'evil.example.org', which is not in upload_hosts" in host.state()["Error"]
    assert host.log.getvalue().count("evil.example.org") == 1


def test_without_a_rule_the_texts_wait(host):
    host.run()
    host.write("a")
    links = host.run()
    assert host.uploads.upload(None) is None and host.waiting() == 1
    host.restart()
    assert host.upload() is None and host.found(links["a"]) == b"text\n"


def test_a_clone_sends_nothing_under_the_name_of_its_image(host, monkeypatch):
    host.run()
    host.write("a")
    host.run()
    monkeypatch.setattr(machine, "identity", lambda: {"Computer": "clone", "SourceComputerId": "other", "VMUUID": None})
    assert host.upload() is None and not host.azure.blobs
    assert "or they are another machine's" in host.log.getvalue()


def test_a_text_that_was_damaged_on_the_disk_is_not_sent(host):
    host.run()
    for name in "ab":
        host.write(name)
    links = host.run()
    with sqlite3.connect(str(host.folder / spool.FILE)) as database:
        (first, _second) = database.execute("SELECT text FROM waiting ORDER BY id").fetchall()
        database.execute("UPDATE waiting SET text = ? WHERE id = 1", (first[0][:-3],))
    assert host.upload() is None
    assert next(iter(host.azure.blobs.values()))[0] == b"text\n" and len(host.azure.blobs) == 1
    assert "is damaged" in host.log.getvalue() and set(links) == {"a", "b"}


def test_no_error_of_an_upload_costs_a_text(host, monkeypatch):
    host.run()
    host.write("a")
    link = host.run()["a"]

    def put(*_arguments):
        raise ValueError("year 10000 is out of range")

    monkeypatch.setattr(uploads.Blobs, "put", put)
    with pytest.raises(ValueError, match="year 10000"):
        host.upload()
    monkeypatch.undo()
    host.restart()
    assert host.upload() is None and host.found(link) == b"text\n"


def test_a_corrupt_spool_is_moved_aside_and_named_and_the_next_text_is_uploaded(host):
    host.run()
    (host.folder / spool.FILE).write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    host.write("a")
    links = host.run()
    assert host.upload() is None and host.found(links["a"]) == b"text\n"
    assert "is corrupt" in host.log.getvalue() and (host.folder / (spool.FILE + ".damaged")).exists()


def test_a_spool_that_cannot_be_used_holds_no_record_back_and_is_named(host):
    host.run()
    (host.folder / spool.FILE).mkdir()
    host.write("a")
    assert host.run() == {"a": None}
    assert "and their records have no link. Cannot open" in host.log.getvalue()
    assert host.upload() is None and "Cannot open" in host.state()["Error"]


def test_what_waits_is_bounded_and_one_user_leaves_room_for_the_others(host, monkeypatch):
    monkeypatch.setattr(spool, "MAX_BYTES", 8192)
    host.run()
    for number in range(10):
        host.write("f%d" % number)
    links = host.run()
    assert sum(link is not None for link in links.values()) == 8 == host.waiting()
    assert "The contents of 2 files are not uploaded, and their records have no link" in host.log.getvalue()
    texts = [spool.Waiting(str(n), str(n), "", "", "", "", b"", "", "user", 10, b"") for n in range(20)]
    with spool.Spool(str(host.folder / "other.db")) as other:
        accepted, refused = other.add(texts)
        theirs = len(accepted)
        assert theirs + refused == 20 and theirs <= 4
        more = [text._replace(link="x%d" % n, owner="other") for n, text in enumerate(texts)]
        assert 1 <= len(other.add(more)[0]) <= 4
        assert len(other.add([text._replace(link="y%d" % n, owner="") for n, text in enumerate(texts)])[0]) == 8


def test_records_wait_for_their_texts_no_longer_than_that(host, monkeypatch):
    monkeypatch.setattr(uploads, "HOLD_SECONDS", 0.3)
    start = time.monotonic()
    host.uploads.wait()
    assert time.monotonic() - start < 0.2
    host.run()
    host.write("a")
    host.run()
    release = threading.Event()
    host.azure.trouble = lambda request: release.wait(10) and None
    thread = threading.Thread(target=host.upload)
    thread.start()
    start = time.monotonic()
    host.uploads.wait()
    assert 0.2 < time.monotonic() - start < 5 and thread.is_alive()
    release.set()
    thread.join(10)
    start = time.monotonic()
    host.uploads.wait()
    assert time.monotonic() - start < 0.2


def test_it_stops_between_two_texts(host):
    host.run()
    for number in range(5):
        host.write("f%d" % number)
    host.run()
    host.azure.trouble = lambda request: host.uploads.stop() if request.method == "PUT" else None
    host.upload()
    assert host.waiting() == 4 and len(host.azure.blobs) == 1


def test_what_is_discarded_leaves_nothing_on_the_disk(host):
    host.run()
    (host.folder / spool.FILE).write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    host.write("a")
    host.run()
    (host.folder / (spool.FILE + "-journal")).write_bytes(b"")
    assert spool.discard(str(host.folder), "upload_contents is off") == [
        "The contents of 1 file that waited for their upload are discarded: upload_contents is off."
    ]
    assert not [name for name in os.listdir(str(host.folder)) if name.startswith(spool.FILE)]
    assert spool.discard(str(host.folder), "upload_contents is off") == []


def test_only_its_owner_can_read_the_spool(host):
    host.run()
    host.write("a")
    host.run()
    assert os.stat(str(host.folder / spool.FILE)).st_mode & 0o077 == 0
