# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Contents of files through the agent as it runs: each link leads to the very text, whatever is killed, throttled or expired."""

import hashlib
import json
import os
import random
import sqlite3
import threading
import time

import pytest

from ansible_collections.changetracking.inventory.tests.helpers import azure, web
from ansible_collections.changetracking.inventory.tests.helpers.program import PATIENCE

CHANGES = int(os.environ.get("CT_UPLOAD_CHANGES", "120"))
LIFE_SECONDS = float(os.environ.get("CT_UPLOAD_LIFE", "4"))  # until a kill, at most
COLUMNS = "FileSystemPath, FileContentChecksum, json_extract(AdditionalColumns, '$.FileContentBlobLink')"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return web.make_certificate(tmp_path_factory.mktemp("tls"))


class Cloud:
    """The storage account and the authority that the agent of a host uses."""

    def __init__(self, host, certificate):
        self.azure = azure.Azure()
        self.web = web.Web(self.azure, certificate=certificate)
        secret = host.folder / "secret"
        secret.write_text(azure.SECRET)
        secret.chmod(0o600)
        self.options = [
            "--contents", "--upload-contents", "--upload-host", self.web.url[8:], "--azure-identity", "secret",
            "--azure-client-id", azure.APPLICATION, "--azure-tenant-id", azure.TENANT, "--azure-credential-file", str(secret),
            "--azure-authority", self.web.url, "--azure-ca", certificate[0],
        ]  # fmt: skip
        self.setting = {"blobEndpoint": self.web.url + "/", "managedIdentity": ""}

    def content(self, link):
        prefix = self.web.url + "/" + azure.CONTAINER + "/"
        assert link.startswith(prefix)
        found = self.azure.blobs.get(link[len(prefix) :])
        return None if found is None else found[0]


@pytest.fixture
def cloud(host, certificate):
    cloud = Cloud(host, certificate)
    track(host, cloud.setting)
    for folder in (host.folder, host.tracked):
        folder.chmod(0o755)  # or not everybody could read what is in it
    host.relay.start()
    yield cloud
    cloud.web.close()
    log = "\n".join(host.log)
    assert not cloud.azure.wrong and azure.SECRET not in log and "token-" not in log


def track(host, setting, **settings):
    item = {"name": "all", "destinationPath": str(host.tracked) + "/*", "uploadContent": True}
    files = {"fileCollectionFrequency": 1, "fileInfo": [item], "uploadSetting": setting}
    settings = dict({"enableSoftware": False, "enableServices": False, "enableUpload": True}, **settings)
    host.relay.put_chunk("one.json", "1", settings=dict(settings, fileSettings=files))


def write(host, name, text, mode=0o644):
    """Write a file with this mode, in one step."""
    new = host.folder / "new"
    new.write_text(text)
    new.chmod(mode)
    os.replace(str(new), str(host.tracked / name))


def changed(host):
    """[(name, checksum, link)] of what arrived."""
    rows = host.arrived().relay.rows("SELECT %s FROM ConfigurationChange ORDER BY Seq" % COLUMNS)
    return [(path.rpartition("/")[2], checksum, link) for path, checksum, link in rows]


def test_the_text_is_there_before_its_record_and_what_may_not_leave_is_not(host, cloud):
    assert host.run("once", *cloud.options)[0] == 0
    write(host, "open", "for everybody\n")
    write(host, "secret", "password\n", 0o600)
    code, log = host.run("once", *cloud.options)
    assert code == 0 and "The contents of 1 file were uploaded, 0 waiting." in log
    assert log.index("were uploaded") < log.index("delivered")
    found = {name: (checksum, link) for name, checksum, link in changed(host)}
    assert found["secret"][1] is None
    content = cloud.content(found["open"][1])
    assert content == b"for everybody\n" and hashlib.sha256(content).hexdigest() == found["open"][0]
    assert len(cloud.azure.blobs) == 1 and not any(
        b"password" in content for content, _described in cloud.azure.blobs.values()
    )
    assert "Contents: 1 file uploaded since the start" in host.run("status")[1]


def test_an_account_that_hangs_or_refuses_holds_no_record_back_and_its_texts_follow(host, cloud):
    release = threading.Event()
    cloud.azure.trouble = lambda request: release.wait(PATIENCE) and None
    host.start(*cloud.options)
    host.expect("baseline of 0 items")
    write(host, "a", "text\n")
    host.expect("files: 1 added")
    start = time.monotonic()
    host.expect("[1-9] record.* delivered, 0 waiting")
    assert time.monotonic() - start < 30
    ((_name, _checksum, link),) = changed(host)
    assert cloud.content(link) is None
    release.set()
    host.expect("The contents of 1 file were uploaded, 0 waiting")
    assert cloud.content(link) == b"text\n"
    cloud.azure.role = False
    write(host, "b", "text\n")
    host.expect("Give the application .* the role Storage Blob Data Contributor on the container changetrackingblob")
    host.expect("1 record was delivered")
    assert "1 waiting" in host.run("status")[1]
    assert host.stop() == 0


def test_each_link_leads_to_the_very_text_through_kills_expired_tokens_and_throttling(host, cloud):
    seed = random.randrange(1 << 32)
    print("seed %d" % seed)
    dice = random.Random(seed)
    cloud.azure.token_seconds = 2

    def trouble(request):
        chance = dice.random()
        if request.target.endswith("/token"):
            return web.answer(503) if chance < 0.1 else None
        if chance < 0.08:
            return (
                azure.failed(429, "TooManyRequests", Retry_After=1) if chance < 0.04 else azure.failed(500, "Internal")
            )
        if chance < 0.10:
            return azure.Azure.GONE
        if chance < 0.12:
            cloud.azure.tokens.clear()
        if chance < 0.16 and request.method == "PUT":
            cloud.azure.trouble = lambda _request: None
            cloud.azure(request)  # stored, but the answer is lost
            cloud.azure.trouble = trouble
            return azure.Azure.GONE
        return None

    assert host.run("once", *cloud.options)[0] == 0
    cloud.azure.trouble = trouble
    made = {}
    kills = 0
    while len(made) < CHANGES:
        host.start(*cloud.options)
        for _file in range(dice.randrange(CHANGES // 6)):
            name = "f%d" % len(made)
            made[name] = "%s %d\n" % (name, dice.randrange(1000)) * dice.randrange(1, 60)
            write(host, name, made[name], 0o600 if len(made) % 10 == 0 else 0o644)
        time.sleep(dice.random() * LIFE_SECONDS)
        host.kill()
        kills += 1
    waited = len(made) - len(made) // 10 - len(cloud.azure.blobs)
    cloud.azure.trouble = lambda request: None
    code, log = host.run("once", *cloud.options)
    assert code == 0, log
    records = changed(host)
    assert sorted(name for name, _checksum, _link in records) == sorted(made)
    linked = [record for record in records if record[2]]
    wrong = [
        name for name, checksum, link in linked
        if cloud.content(link) != made[name].encode() or hashlib.sha256(cloud.content(link)).hexdigest() != checksum
    ]  # fmt: skip
    tokens = sum(request.target.endswith("/token") for request in cloud.web.requests)
    private = [name for number, name in enumerate(made, 1) if number % 10 == 0]
    print(
        "changes %d, links %d, blobs %d, wrong %d; kills %d, requests %d, tokens %d, uploaded after the troubles %d"
        % (
            len(records),
            len(linked),
            len(cloud.azure.blobs),
            len(wrong),
            kills,
            len(cloud.web.requests),
            tokens,
            waited,
        )
    )
    assert not wrong and {name for name, _checksum, link in records if not link} == set(private)
    assert len(linked) == len(cloud.azure.blobs)


def test_switched_off_nothing_is_uploaded_and_what_waited_is_discarded_and_named(host, cloud):
    off = [option for option in cloud.options if option != "--upload-contents"]
    assert host.run("once", *cloud.options)[0] == 0
    cloud.azure.role = False
    write(host, "a", "text\n")
    assert "The contents of 1 file wait." in host.run("once", *cloud.options)[1]
    cloud.azure.role = True
    asked = len(cloud.web.requests)
    write(host, "b", "text\n")
    assert "that waited for their upload are discarded: upload_contents is off." in host.run("once", *off)[1]
    assert len(cloud.web.requests) == asked and changed(host)[-1][2] is None
    assert host.relay.stop() == 0  # which would have the rule of before for a moment
    track(host, cloud.setting, enableUpload=False)
    host.relay.start()
    write(host, "c", "text\n")
    assert host.run("once", *cloud.options)[0] == 0
    assert len(cloud.web.requests) == asked and not cloud.azure.blobs


def test_a_clone_with_the_same_machine_id_does_not_upload_what_waited(host, cloud):
    """As with a disk that is copied to another virtual machine: its VMUUID alone differs."""
    assert host.run("once", *cloud.options)[0] == 0
    cloud.azure.role = False
    write(host, "a", "text\n")
    assert "The contents of 1 file wait." in host.run("once", *cloud.options)[1]
    cloud.azure.role = True
    with sqlite3.connect(str(host.state / "changetracking.db")) as db:
        db.execute("UPDATE state SET computer = 'another machine'")
    db.close()
    code, log = host.run("once", *cloud.options)
    assert code == 0 and "1 file that waited for their upload are discarded: another machine queued them." in log
    assert not cloud.azure.blobs


def link_of(report, name):
    return next(link for link in report["Links"] if link["Name"] == name)


def test_the_doctor_names_what_is_missing_and_stores_nothing(host, cloud):
    def examine(*options):
        return json.loads(host.run("doctor", "--json", *cloud.options, *options)[1])

    host.start(*cloud.options)
    host.expect("baseline of 0 items")
    report = examine()
    assert link_of(report, "identity")["Message"] == "There is a token for the application %s." % azure.APPLICATION
    assert link_of(report, "container")["Status"] == "ok" and report["Ok"]
    cloud.azure.role = False
    assert examine()["Broken"] == "container" and "the role Storage Blob Data" in examine()["Remedy"]
    cloud.azure.role, cloud.azure.container = True, False
    assert "Create the container changetrackingblob" in examine()["Remedy"]
    cloud.azure.container = True
    report = examine("--azure-client-id", "other")
    assert report["Broken"] == "identity" and "AADSTS7000215" in report["Remedy"]
    track(host, {"blobEndpoint": "https://evil.example.org/"})
    host.expect("Using the rule")
    report = examine()
    assert report["Broken"] == "account" and "'evil.example.org', which is not in upload_hosts" in report["Remedy"]
    track(host, cloud.setting, enableUpload=False)
    host.expect("Using the rule")
    assert "no file item of the rule" in link_of(examine(), "account")["Message"]
    assert not cloud.azure.blobs and azure.SECRET not in json.dumps(report)


@pytest.mark.parametrize(
    "options, words",
    [
        (["--upload-contents"], "upload_contents needs the option contents"),
        (["--contents", "--upload-contents", "--azure-identity", "x"], "azure_identity is 'x'. Give one of auto, vm, arc, secret"),
        (["--contents", "--upload-contents", "--azure-identity", "secret"], "azure_identity is secret, but azure_client_id is empty"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused_in_one_line(host, options, words):
    code, log = host.run("check", *options)
    assert code == 2 and words in log and len(log.splitlines()) == 1
