# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin fleet, by ansible-inventory and in a play."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader

from ansible_collections.changetracking.inventory.plugins.filter.ct_misspelled import ct_misspelled
from ansible_collections.changetracking.inventory.plugins.inventory.fleet import VARIABLES
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet import sqlite
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet.expressions import ALL, names_in
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet.names import usable
from ansible_collections.changetracking.inventory.tests.helpers.fleets import (
    DAY,
    NOON,
    FleetStore,
    file,
    package,
    service,
)

PLUGIN = "changetracking.inventory.fleet"
HOSTILE = "{{ lookup('pipe', 'touch evaluated') }}"
GROUPS = {
    "openssl_old": "ct_packages.openssl is changetracking.inventory.ct_version('3.0.2', '<')",
    "without_chrony": "'chrony' not in ct_packages",
    "ssh_stopped": "ct_services['ssh'] != 'Running'",
    "stale": "ct_is_stale",
    "drifted": "ct_drift > 0",
    "many": "ct_packages | length > 1",
    "of_another_inventory": "role == 'web'",
    "never": "ct_packages.openssl.no.such",
}


def write(folder, name="fleet.yml", **options):
    path = folder / name
    path.write_text(yaml.safe_dump({"plugin": PLUGIN, "store": "fleet.db", **options}))
    return str(path)


def run(folder, program, *arguments):
    return subprocess.run(
        [str(Path(sys.executable).parent / program), *arguments],
        cwd=folder, env=dict(os.environ, ANSIBLE_LOCALHOST_WARNING="0", COLUMNS="10000"), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip


def plain(value):
    """The value without the mark of ansible-inventory for text that is not evaluated."""
    if isinstance(value, dict):
        return (
            value["__ansible_unsafe"]
            if set(value) == {"__ansible_unsafe"}
            else {key: plain(one) for key, one in value.items()}
        )
    return list(map(plain, value)) if isinstance(value, list) else value


def listed(folder, *sources):
    """({group: hosts}, {host: variables}, standard error) of ansible-inventory."""
    ended = run(folder, "ansible-inventory", "--list", *(word for source in sources for word in ("-i", source)))
    assert ended.returncode == 0, ended.stderr
    data = json.loads(ended.stdout)
    groups = {name: about.get("hosts", []) for name, about in data.items() if name not in ("_meta", "all", "ungrouped")}
    return groups, plain(data["_meta"]["hostvars"]), " ".join(ended.stderr.split())


@pytest.fixture
def store(tmp_path):
    return FleetStore(str(tmp_path / "fleet.db"))


@pytest.fixture
def fleet(store):
    """Three hosts that differ."""
    shared = [package(f"shared{number}") for number in range(30)]
    store.host("web01", *shared, package("openssl", "3.0.11-1"), package("chrony"), service("ssh"), file("/etc/a", "a"))
    store.host("web02", *shared, package("openssl", "3.0.1-1"), service("ssh", running=False), file("/etc/a", "b"))
    store.host("db01", package("openssl", "3.0.11-1"), package(HOSTILE, HOSTILE), service(HOSTILE))
    store.failed("db01", f"unreachable: {HOSTILE}")
    store.task("web01", "copy", NOON - 31 * DAY, {"paths": ["/etc/z"]})  # since then, runs are recorded
    store.task("web01", "copy", NOON, {"paths": ["/etc/a"]})
    store.change("web02", file("/etc/a", "a"), file("/etc/a", "b", modified=NOON - 60), at=NOON)
    store.change("web02", file("/etc/old", "a"), file("/etc/old", "b"), at=NOON - 30 * DAY)
    store.execute("UPDATE hosts SET last_seen = '2026-01-01T12:00:00Z' WHERE name = 'web02'")
    return store


def test_an_expression_that_fails_for_every_host_is_a_warning(fleet, tmp_path):
    expressions = {
        "text": "ct_status ==",
        "name": "ct_package.openssl == '1.0'",
        "test": "ct_packages.openssl is changetracking.inventory.ct_version('3', 'older')",
        "some": "ct_packages.chrony == '1.0'",
        "none": "ct_status == 'OK'",
    }
    keyed = [{"prefix": "a", "key": "ct_packages.opensssl"}, {"prefix": "b", "key": "ct_failure[:0]"}]
    groups, _variables, errors = listed(tmp_path, write(tmp_path, groups=expressions, keyed_groups=keyed))
    assert set(groups) == {"some"}
    assert errors.count("An expression fails for every host and is skipped. Could not ") == 4
    for name in ("group text", "group name", "group test", "ct_packages.opensssl entry"):
        assert name in errors


def test_an_unknown_option_is_a_warning(fleet, tmp_path):
    assert (
        "The option 'group' is unknown and ignored. Did you mean groups?"
        in listed(tmp_path, write(tmp_path, group={"a": "true"}))[2]
    )
    assert (
        "The option 'x' is unknown and ignored. The options are compose," in listed(tmp_path, write(tmp_path, x=1))[2]
    )


def test_hosts_have_a_few_variables_and_are_in_the_groups_of_their_expressions(fleet, tmp_path):
    (tmp_path / "hosts").write_text("web01 role=web ct_packages=overridden\nweb02\n")
    source = write(
        tmp_path, groups=GROUPS, drift_since="2025-12-31", compose={"openssl": "ct_packages.openssl", "with_role": "openssl ~ role"},
        keyed_groups=[{"prefix": "content", "key": "ct_files['/etc/a'][:2]"}, {"prefix": "status", "key": "ct_status"}],
    )  # fmt: skip
    groups, variables, errors = listed(tmp_path, "hosts", source)
    assert {name: sorted(hosts) for name, hosts in groups.items()} == {
        "openssl_old": ["web02"],
        "without_chrony": ["db01", "web02"],
        "ssh_stopped": ["web02"],
        "stale": ["web02"],
        "drifted": ["web02"],
        "many": ["db01", "web01", "web02"],
        "of_another_inventory": ["web01"],
        "content_aa": ["web01"],
        "content_bb": ["web02"],
        "status_failed": ["db01"],
        "status_ok": ["web01"],
        "status_stale": ["web02"],
    }
    assert variables["web02"] == {
        "ct_status": "stale",
        "ct_is_stale": True,
        "ct_last_seen": "2026-01-01T12:00:00Z",
        "ct_failure": "",
        "ct_via": "playbook",
        "openssl": "3.0.1-1",
    }
    assert variables["web01"]["with_role"] == "3.0.11-1web" and variables["web01"]["ct_packages"] == "overridden"
    assert variables["db01"]["ct_failure"] == f"unreachable: {HOSTILE}"
    assert (
        errors.count("WARNING") == 1
        and "An expression fails for every host and is skipped. Could not add host web02 to group never" in errors
    )


def test_packages_services_files_and_drift_are_variables_where_they_are_asked_for(fleet, tmp_path):
    source = write(
        tmp_path, packages=["openssl", "shared1?"], services=["*"], files=["/etc/a"], drift=True, drift_since="2025-01-01",
        groups={"odd": "ct_packages.shared2 is defined"},
    )  # fmt: skip
    groups, variables, _errors = listed(tmp_path, source)
    assert variables["web02"]["ct_packages"] == {
        "openssl": "3.0.1-1",
        **{f"shared1{number}": "1.0" for number in range(10)},
    }
    assert variables["web02"]["ct_services"] == {"ssh": "Stopped"}
    assert variables["web02"]["ct_files"] == {"/etc/a": "b" * 64}
    assert (variables["web01"]["ct_drift"], variables["web02"]["ct_drift"]) == (0, 2)
    assert groups == {"odd": ["web01", "web02"]}


def test_what_changed_since_the_inventory_of_an_agent_counts(store, tmp_path):
    """The inventories of both hosts are of NOON."""
    store.via = "relay"
    gone, two = file("/etc/gone"), [package("linux", version) for version in ("6.1", "6.2")]
    for name in ("web01", "web02"):
        store.host(name, package("openssl"), package("nmap"), *two, service("ssh"), file("/etc/a"), gone)
    store.change("web01", file("/etc/a", "c"), file("/etc/a"), NOON)  # in the inventory
    store.change("web01", file("/etc/a"), file("/etc/a", "b"), NOON + 60)
    store.change("web01", gone, None, NOON + 60)
    store.change("web01", None, file("/etc/new"), NOON + 60)
    store.change("web01", package("openssl"), package("openssl", "1.1"), NOON + 60)
    store.change("web01", package("nmap"), None, NOON + 60)
    store.change("web01", two[1], None, NOON + 60)
    store.change("web01", service("ssh"), service("ssh", running=False), NOON + 60)
    source = write(tmp_path, via=["relay"], packages=["*"], services=["s*"], files=["/etc/a", "/etc/new", "/etc/gone"])
    variables = listed(tmp_path, source)[1]
    kinds = ("ct_packages", "ct_services", "ct_files")
    assert [variables["web01"][kind] for kind in kinds] == [
        {"openssl": "1.1", "linux": "6.1"}, {"ssh": "Stopped"}, {"/etc/a": "b" * 64, "/etc/new": "a" * 64},
    ]  # fmt: skip
    assert [variables["web02"][kind] for kind in kinds] == [
        {"openssl": "1.0", "nmap": "1.0", "linux": "6.2"}, {"ssh": "Running"}, {"/etc/a": "a" * 64, "/etc/gone": "a" * 64},
    ]  # fmt: skip


def test_no_value_of_a_host_is_evaluated(fleet, tmp_path):
    """Neither while the inventory is read nor in a play, whatever expressions make of it."""
    source = write(
        tmp_path, packages=["*"], services=["*"],
        compose={
            "name": "ct_packages | list | last", "joined": "ct_packages.values() | join('')", "state": "ct_services",
            "mixed": "'x' ~ ct_failure", "found": "ct_packages | dict2items | map(attribute='key') | list",
        },
        keyed_groups=[{"prefix": "f", "key": "ct_failure"}], groups={"hit": "'pipe' in ct_failure"},
    )  # fmt: skip
    names = "ct_failure, ct_packages, ct_services, name, joined, state, mixed, found"
    play = {
        "hosts": "db01",
        "gather_facts": False,
        "connection": "local",
        "tasks": [{"ansible.builtin.copy": {"dest": f"{tmp_path}/out", "content": "{{ [%s] | string }}" % names}}],
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    ended = run(
        tmp_path, "ansible-playbook", "-i", source, "-e", f"ansible_python_interpreter={sys.executable}", "play.yml"
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (tmp_path / "out").read_text().count("touch evaluated") >= 8
    assert not (tmp_path / "evaluated").exists()


def test_hosts_of_a_relay_are_read_where_they_are_asked_for_and_take_no_name_of_others(store, tmp_path):
    names = ("sender", "localhost", "all", "web*", "a:b", HOSTILE, "same", "same")
    store.host("same")
    store.host("hosts,of the playbook")
    for number, name in enumerate(names):
        store.execute(
            "INSERT INTO hosts (host, via, name, source, machine, first_seen, last_seen)"
            f" SELECT 1000 + {number}, 'relay', ?, 'id {number}', machine, first_seen, last_seen FROM hosts WHERE name = 'same' LIMIT 1",
            name,
        )
    assert set(listed(tmp_path, write(tmp_path))[1]) == {"same"}
    _groups, variables, errors = listed(tmp_path, write(tmp_path, via=["relay", "playbook"]))
    assert {name: about["ct_via"] for name, about in variables.items()} == {"same": "playbook", "sender": "relay"}
    assert "6 hosts of the fleet store skipped" in errors


@pytest.mark.parametrize(
    ("name", "via", "expected"),
    [
        ("web-01.example.org", "playbook", True),
        ("localhost", "playbook", True),
        ("localhost", "relay", False),
        ("fe80::1", "playbook", True),
        ("web:db", "playbook", False),
        ("~web", "playbook", False),
        ("-l", "playbook", False),
        ("web\n", "playbook", False),
        ("", "playbook", False),
        ("a" * 256, "playbook", False),
    ],
)
def test_a_name_that_ansible_reads_as_a_pattern_is_not_usable(name, via, expected):
    assert usable(name, via) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ct_packages.openssl is x('1', '<') or ct_packages['lib c'] == '2'", {"openssl", "lib c"}),
        ("ct_packages.get('a', '') + ct_packages.get( \"b\" )", {"a", "b"}),
        ("'a' in ct_packages and \"b\" not in ct_packages", {"a", "b"}),
        ("'a' in ct_packages.b", {ALL}),
        ("ct_packages | length", {ALL}),
        ("ct_packages.items()", {ALL}),
        ("ct_packages[name]", {ALL}),
        ("ct_packages['a*']", {ALL}),
        ("my_ct_packages.a or ct_packages_2.b", set()),
    ],
)
def test_the_names_that_an_expression_uses_are_read_off_its_text(text, expected):
    assert names_in("ct_packages", text) == expected


def test_the_variables_are_not_taken_for_misspelled_options_of_the_playbook():
    options = yaml.safe_load((Path(__file__).parents[3] / "playbooks/vars/variables.yml").read_text())["ct_variables"]
    names = [*VARIABLES, "ct_packages", "ct_services", "ct_files", "ct_drift"]
    assert ct_misspelled(names, options) == []


# --- a store that cannot be used: one sentence


def error(path):
    plugin = inventory_loader.get(PLUGIN)
    with pytest.raises(AnsibleError) as caught:
        plugin.parse(InventoryData(), DataLoader(), path)
    return str(caught.value)


def refusal(path):
    text = error(path)
    assert "\n" not in text and text.endswith("."), text
    return text


def test_a_store_that_cannot_be_used_is_one_sentence(fleet, tmp_path, monkeypatch):
    (tmp_path / "empty.db").write_bytes(b"")
    (tmp_path / "corrupt.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    sqlite3.connect(tmp_path / "relay_0_1.db").execute("CREATE TABLE ConfigurationData (Computer TEXT)")
    assert "There is no fleet store" in refusal(write(tmp_path, store="missing.db"))
    assert "is empty. Run the playbook" in refusal(write(tmp_path, store="empty.db"))
    assert "is empty. Run the playbook" in refusal(write(tmp_path, store="relay_0_1.db"))
    assert "is corrupt" in refusal(write(tmp_path, store="corrupt.db"))
    assert "stale_after" in refusal(write(tmp_path, stale_after="soon"))

    monkeypatch.setattr(sqlite, "LOCK_SECONDS", 0.1)
    fleet.close()
    db = sqlite3.connect(tmp_path / "fleet.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("BEGIN EXCLUSIVE")
    assert "is in use by another process" in refusal(write(tmp_path))
    db.execute("UPDATE meta SET value = 99 WHERE name = 'version'")
    db.execute("COMMIT")
    assert "was written by a newer version" in refusal(write(tmp_path))
    db.execute("UPDATE meta SET value = 0 WHERE name = 'version'")
    db.execute("DROP TABLE inventories")
    assert "cannot be used (no such table: inventories)" in refusal(write(tmp_path))


@pytest.mark.parametrize("column", ["name", "via", "last_seen", "failure"])
def test_a_value_that_is_no_text_is_one_sentence(fleet, tmp_path, column):
    fleet.execute(f"UPDATE hosts SET {column} = ? WHERE name = 'db01'", b"\xff")
    assert f"has a value of the wrong type in hosts.{column}. Correct or delete that row" in refusal(write(tmp_path))


def test_a_wrong_mark_is_a_warning_and_the_others_count(fleet, tmp_path):
    for number, what in ((1, "x"), (2, json.dumps({"item": "/etc/a"}))):
        sql = "INSERT INTO marks (mark, word, what, made_at) VALUES (?, 'ignore', ?, '')"
        fleet.execute(sql, number, what)
    _groups, variables, errors = listed(tmp_path, write(tmp_path, drift=True, drift_since="2025-01-01"))
    assert "not JSON of an object: 'x'. Delete mark 1 of the table marks" in errors
    assert [variables["web02"]["ct_drift"]] == [1]


def test_a_number_is_read_as_the_text_that_sqlite_makes_of_it(fleet, tmp_path):
    fleet.execute("UPDATE hosts SET name = 7 WHERE name = 'db01'")
    assert set(listed(tmp_path, write(tmp_path))[1]) == {"7", "web01", "web02"}


def test_an_endless_view_instead_of_a_table_is_one_sentence(fleet, tmp_path):
    fleet.close()
    endless = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n, n FROM r"
    db = sqlite3.connect(tmp_path / "fleet.db")
    db.executescript(f"DROP TABLE hosts; CREATE VIEW hosts (host, name) AS {endless}")
    db.close()
    assert "has a view 'hosts' that this collection does not make" in refusal(write(tmp_path))


def test_a_store_may_be_given_as_the_relay_takes_it(fleet, tmp_path):
    assert set(listed(tmp_path, write(tmp_path, store="sqlite:fleet.db"))[1]) == {"db01", "web01", "web02"}


@pytest.mark.parametrize("store", ["host=h password=secret", "postgresql+psycopg://me:secret@h/db"])
def test_a_database_in_another_form_is_one_sentence_without_its_password(tmp_path, store):
    text = refusal(write(tmp_path, store=store))
    assert "The URL of the fleet store 'postgresql' is invalid" in text and "secret" not in text


def test_a_store_without_hosts_is_a_warning(store, tmp_path):
    groups, variables, errors = listed(tmp_path, write(tmp_path, groups=GROUPS))
    assert (groups, variables) == ({}, {})
    assert "has no hosts of playbook yet" in errors


def test_an_expression_that_fails_is_an_error_where_strict_says_so(fleet, tmp_path):
    path = write(tmp_path, strict=True, groups={"never": GROUPS["never"]})
    assert "Could not add host db01 to group never" in error(path)


def test_marks_are_read_from_the_folder_of_the_inventory_file(fleet, tmp_path):
    (tmp_path / "marks.yml").write_text(yaml.safe_dump([{"ignore": {"item": "/etc/a"}}]))
    (tmp_path / "elsewhere").mkdir()
    source = write(tmp_path, drift=True, drift_since="2025-12-31", marks="marks.yml")
    _groups, variables, _errors = listed(tmp_path / "elsewhere", source)
    assert variables["web02"]["ct_drift"] == 0
