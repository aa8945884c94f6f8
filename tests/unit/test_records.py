# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Items in CT&I's words."""

import json

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti import records
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.kind import File
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.packages.kind import Package
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.services.kind import Service
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.records import change_record
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.text import timestamp
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.diff import compare
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.snapshot import digest

PACKAGE = Package(
    "openssl", "amd64", "3.0.11-1", "Secure Sockets Layer toolkit", "Debian <d@example.org>", 2319360, 1700000000
)
SERVICE = Service(
    "ssh", "OpenBSD", "loaded", "active", "running", "enabled", "multi-user.target", "/lib/systemd/system/ssh.service"
)
FILE = File("/etc/a.conf", "ab" * 32, 1216, "root", "root", 0o4644, 1681426974, None, "file", "", (1, 2, 3, 4, 5))


def test_a_package_row_has_the_configuration_data_columns():
    assert all_kinds()["packages"].row(PACKAGE) == {
        "SoftwareName": "openssl",
        "SoftwareType": "Package",
        "SoftwareDescription": "Secure Sockets Layer toolkit",
        "Publisher": "Debian <d@example.org>",
        "CurrentVersion": "3.0.11-1",
        "Architecture": "amd64",
        "Size": 2319360,
        "InstalledOn": "2023-11-14T22:13:20Z",
    }


def test_a_file_row_keeps_the_setuid_bit_and_tells_that_birth_is_unknown():
    row = all_kinds()["files"].row(FILE)
    assert row["Mode"] == "4644"
    assert row["DateModified"] == "2023-04-13T23:02:54Z"
    assert row["DateCreated"] is None


@pytest.mark.parametrize(
    ("sub_state", "word"),
    [
        ("running", "Running"),
        ("exited", "Stopped"),
        ("dead", "Stopped"),
        ("auto-restart", "Stopped"),
        ("unknown", "Unknown"),
    ],
)
def test_a_service_state_is_in_the_agents_words(sub_state, word):
    assert all_kinds()["services"].row(SERVICE._replace(sub_state=sub_state))["SvcState"] == word


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("enabled", "Enabled"),
        ("enabled-runtime", "Enabled"),
        ("disabled", "Disabled"),
        ("static", "Disabled"),
        ("masked", "Disabled"),
    ],
)
def test_a_startup_type_is_in_the_agents_words(state, word):
    assert all_kinds()["services"].row(SERVICE._replace(unit_file_state=state))["SvcStartupType"] == word


@pytest.mark.parametrize("item", [PACKAGE, SERVICE, FILE])
def test_an_item_survives_the_round_trip_through_json(item):
    kind = {Package: all_kinds()["packages"], Service: all_kinds()["services"], File: all_kinds()["files"]}[type(item)]
    again = kind.item(*json.loads(json.dumps(item)))
    assert kind.row(again) == kind.row(item)
    assert digest(kind, [again]) == digest(kind, [item])


@pytest.mark.parametrize(
    ("kind", "item", "other"),
    [
        ("packages", PACKAGE, PACKAGE._replace(installed_on=1)),
        ("services", SERVICE, SERVICE._replace(active_state="reloading")),
        ("files", FILE, FILE._replace(stamp=None)),
    ],
)
def test_what_is_no_change_does_not_touch_the_digest(kind, item, other):
    assert digest(all_kinds()[kind], [item]) == digest(all_kinds()[kind], [other])


@pytest.mark.parametrize("kind", sorted(all_kinds()))
def test_every_compared_column_of_a_kind_is_one_of_its_columns(kind):
    assert set(all_kinds()[kind].tracked) | set(all_kinds()[kind].uncompared) <= set(all_kinds()[kind].columns)


def test_a_path_that_is_not_utf8_becomes_readable_and_json():
    row = all_kinds()["files"].row(FILE._replace(path="/etc/\udcff.conf"))
    assert row["FileSystemPath"] == "/etc/\\xff.conf"


def test_a_time_beyond_the_calendar_is_not_known():
    assert timestamp(1 << 62) is None


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (-30641760000, "0999-01-01T00:00:00Z"),
        (-62135596800, "0001-01-01T00:00:00Z"),
        (-62167219200, "0000-01-01T00:00:00Z"),
        (-62167219201, "-000001-12-31T23:59:59Z"),
        (253402300799, "9999-12-31T23:59:59Z"),
        (253402300800, "+010000-01-01T00:00:00Z"),
        (1 << 45, "+1116918-05-14T19:20:32Z"),
        (1.9, "1970-01-01T00:00:01Z"),
        (float("nan"), None),
        (1 << 62, None),
        (None, None),
    ],
)
def test_a_time_of_any_year_is_iso_8601(seconds, written):
    assert timestamp(seconds) == written


def test_a_file_that_is_dated_beyond_the_year_9999_has_changed(tmp_path):
    old = File("/a", "", 1, "root", "root", 0o644, 253402300799, None, "file", "")
    changes = compare(all_kinds()["files"], [old], [old._replace(modified=253402300800)])
    assert [list(change.fields) for change in changes] == [["DateModified"]]


def test_a_modified_package_record_has_current_and_previous_version():
    record = change_record(
        all_kinds()["packages"], "Modified", PACKAGE, PACKAGE._replace(version="3.0.12-1"), ["CurrentVersion"]
    )
    assert record == {
        "ConfigChangeType": "Software",
        "ChangeCategory": "Modified",
        "FieldsChanged": "CurrentVersion",
        "SoftwareName": "openssl",
        "SoftwareType": "Package",
        "SoftwareDescription": "Secure Sockets Layer toolkit",
        "Publisher": "Debian <d@example.org>",
        "Architecture": "amd64",
        "Size": 2319360,
        "Current": "3.0.12-1",
        "Previous": "3.0.11-1",
    }


def test_an_added_daemon_record_is_the_one_seen_in_the_field():
    test = Service(
        "test", "", "loaded", "active", "running", "enabled", "multi-user.target", "/etc/systemd/system/test.service"
    )
    record = change_record(all_kinds()["services"], "Added", None, test, [])
    assert record["ConfigChangeType"] == "Daemons"
    assert record["ChangeCategory"] == "Added"
    assert {key: record[key] for key in record if key.startswith("Svc")} == {
        "SvcName": "test",
        "SvcDescription": "",
        "SvcState": "Running",
        "SvcStartupType": "Enabled",
        "SvcRunlevels": "multi-user.target",
        "SvcController": "systemd",
        "SvcPath": "/etc/systemd/system/test.service",
    }


def test_a_removed_file_record_has_only_previous_values():
    record = change_record(all_kinds()["files"], "Removed", FILE, None, [])
    assert record["FileSystemPath"] == "/etc/a.conf"
    assert record["PreviousFileContentChecksum"] == "ab" * 32
    assert "FileContentChecksum" not in record


def test_an_inventory_record_is_the_row_with_its_type():
    package = Package("bash", "amd64", "5.2", "shell", "me", 1, 0)
    kind = all_kinds()["packages"]
    record = records.data_record(kind, kind.make_row(package))
    assert record["ConfigDataType"] == "Software"
    assert {key: record[key] for key in kind.columns} == kind.make_row(package)
    assert set(record) <= set(records.data_columns())


def test_no_two_records_have_one_id():
    ids = [row[records.RECORD_ID] for _batch in range(3) for row in records.identified([{}, {}])]
    assert len(set(ids)) == 6


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        ({"ChangedBy": "alice", "ChangedByProcess": "/usr/bin/vim"}, "by alice (vim)"),
        (
            {"ChangedBy": "alice", "ChangedByProcess": "/usr/bin/python3.11", "ChangedByModule": "copy"},
            "by alice, Ansible's copy",
        ),
        ({"ChangedBy": "1001"}, "by 1001"),
        ({"ChangedByProcess": "/usr/sbin/cron"}, "by cron"),
        ({"ChangedByModule": "apt"}, "by Ansible's apt"),
        (
            {"ChangedBy": "alice", "ChangedByProcess": "/usr/bin/vim", "ChangedByCount": 3},
            "by alice (vim), the last of 3",
        ),
        ({"ChangedByUid": 0, "ChangedAt": "2026-01-01T00:00:00.000Z", "ChangedByCount": 2}, ""),
    ],
)
def test_the_line_of_a_change_ends_with_who_made_it(columns, shown):
    record = {
        "ConfigChangeType": "Files",
        "ChangeCategory": "Modified",
        "FileSystemPath": "/etc/f",
        "FieldsChanged": "Mode",
    }
    line = "Modified  Files  /etc/f  Mode"
    assert records.change_line(dict(record, **columns)) == (line + "  " + shown if shown else line)
