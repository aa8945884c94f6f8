# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is called Ansible's, and what is drift."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.text import timestamp
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet.attribution import DRIFT, RUN, TASK, Tasks
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet.changes import from_record
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet.effects import NOTHING, effect
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet.runs import FAILED, Task
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet.witness import actor_of
from ansible_collections.changetracking.inventory.tests.helpers.fleets import HOSTILE, VIM, by_module

pytestmark = pytest.mark.no_core

NOON = 1_767_268_800  # the snapshot after; the one before was an hour earlier
BUILTIN = "ansible.builtin."


def task(module="copy", start=-100.0, end=-98.0, host="web01", **more):
    """A task that ran so many seconds before noon."""
    named = more.pop("named", {})
    ended = None if end is None else NOON + end
    name = module if "." in module else BUILTIN + module
    return Task(
        "run-1",
        more.pop("number", 1),
        host,
        "play",
        more.pop("title", module),
        name,
        NOON + start,
        ended,
        named=named,
        **more,
    )


def change(kind, name, category="Modified", fields="", host="web01", **columns):
    times = {key: timestamp(NOON + columns.pop(key)) for key in ("DateModified", "DateCreated") if key in columns}
    column, config = {
        "files": ("FileSystemPath", "Files"),
        "packages": ("SoftwareName", "Software"),
        "services": ("SvcName", "Daemons"),
    }[kind]
    record = {
        "ConfigChangeType": config, column: name, "ChangeCategory": category, "FieldsChanged": fields,
        "TimeGenerated": timestamp(NOON), "LastSnapshotAge": 3600, **times, **columns,
    }  # fmt: skip
    return from_record(host, record)


def said(change, *tasks, **more):
    found = Tasks(tasks, **more).attribute(change)
    return found.level, found.task.title if found.task else None


CONTENT = "FileContentChecksum,Size,DateModified"


def written(path="/etc/app.conf", at=-99, **more):
    return change("files", path, fields=CONTENT, DateModified=at, DateCreated=at, FileType="file", **more)


def created(path="/etc/app.conf", at=-99, **more):
    return change("files", path, "Added", DateModified=at, DateCreated=at, FileType="file", **more)


COPY = {"paths": ["/etc/app.conf"]}


# --- files


def test_a_file_that_a_task_named_and_wrote_at_that_time():
    assert said(written(), task(named=COPY)) == (TASK, "copy")


@pytest.mark.parametrize("at", [-102, -97, -5, 0])
def test_a_file_that_was_written_before_or_after_the_task_that_named_it(at):
    assert said(written(at=at), task(named=COPY)) == (DRIFT, None)


def test_another_file_at_the_time_of_a_task():
    assert said(written("/etc/other.conf"), task(named=COPY)) == (DRIFT, None)


def test_a_file_on_another_host():
    assert said(written(host="web02"), task(named=COPY)) == (DRIFT, None)


LEFT = {"path": "/etc/app.conf", "size": 6, "mode": "0644", "owner": "root", "group": "root"}


@pytest.mark.parametrize("column, value", [("Size", 7), ("Mode", "0666"), ("Owner", "eve"), ("Group", "eve")])
def test_a_file_that_is_not_as_the_task_left_it(column, value):
    columns = {"Size": 6, "Mode": "0644", "Owner": "root", "Group": "root"}
    one = task(named={**COPY, "left": LEFT})
    assert said(written(**columns), one) == (TASK, "copy")
    assert said(written(**{**columns, column: value}), one) == (DRIFT, None)


def test_of_two_tasks_the_one_that_left_the_file_as_it_is():
    tasks = [
        task(title="first", named={**COPY, "left": LEFT}),
        task(title="second", number=2, named={**COPY, "left": {**LEFT, "size": 9}}),
    ]
    assert said(written(Size=6, Mode="0644", Owner="root", Group="root"), *tasks) == (TASK, "first")
    assert said(written(Size=9, Mode="0644", Owner="root", Group="root"), *tasks) == (TASK, "second")
    assert said(written(Size=7, Mode="0644", Owner="root", Group="root"), *tasks) == (DRIFT, None)


def test_an_old_file_that_was_put_back_by_hand_with_the_time_of_an_earlier_task():
    assert said(written(at=-90_000), task(named=COPY, start=-90_001, end=-89_999)) == (DRIFT, None)


def test_a_removed_file():
    gone = change("files", "/etc/app.conf", "Removed")
    assert said(gone, task("file", named={**COPY, "state": "absent"})) == (TASK, "file")
    assert said(gone, task("file", named={"paths": ["/etc"], "below": ["/etc"], "state": "absent"})) == (TASK, "file")
    assert said(gone, task("lineinfile", named={**COPY, "state": "absent"})) == (DRIFT, None)  # that is a line
    assert said(gone, task(named=COPY)) == (DRIFT, None)
    assert said(gone, task("command")) == (RUN, "command")


def test_the_content_of_a_file_of_which_a_task_set_the_mode():
    one = task("file", named={**COPY, "state": "file", "asked": {"mode": "0600"}})
    restricted = change("files", "/etc/app.conf", fields="Mode", Mode="0600")
    assert said(restricted, one) == (TASK, "file")
    assert said(restricted, task("file", named={**COPY, "asked": {"mode": "0640"}})) == (DRIFT, None)
    assert said(restricted, task("file", named={**COPY, "asked": {"owner": "root"}})) == (DRIFT, None)
    assert said(written(), one) == (DRIFT, None)
    assert said(created(Mode="0600"), one) == (DRIFT, None)


EDITED = f"{CONTENT},Mode"


def test_a_mode_that_was_set_by_hand_on_a_file_that_a_task_edited():
    edit, restrict = task("lineinfile", named=COPY), task("file", end=-90.0, named={**COPY, "asked": {"mode": "0600"}})
    both = written(Mode="0600")._replace(fields=frozenset(EDITED.split(",")))
    assert said(both, edit) == (DRIFT, None)
    assert said(both, edit, restrict) == (TASK, "lineinfile")
    assert said(both, task("lineinfile", named={**COPY, "asked": {"mode": "0600"}})) == (TASK, "lineinfile")
    # A template that was not asked for a mode leaves the one that it finds.
    assert said(both, task("template", named={**COPY, "left": {**LEFT, "mode": "0600"}})) == (DRIFT, None)
    symbolic = {**COPY, "asked": {"mode": "u=rw,go="}, "left": {**LEFT, "mode": "0600"}}
    assert said(both, task("template", named=symbolic)) == (TASK, "template")


def test_a_file_that_one_task_wrote_and_another_one_restricted():
    new = created(Size=6, Mode="0600", Owner="root", Group="root")
    copy = task(named={**COPY, "asked": {"mode": "0644"}, "left": LEFT})
    restrict = task(
        "file", start=-90.0, end=-89.0, named={**COPY, "asked": {"mode": "0600"}, "left": {**LEFT, "mode": "0600"}}
    )
    assert said(new, copy) == (DRIFT, None)
    assert said(new, copy, restrict) == (TASK, "copy")
    assert said(new._replace(values={**new.values, "Size": 7}), copy, restrict) == (DRIFT, None)


def test_a_setuid_file_is_as_the_task_left_it():
    one = task(named={**COPY, "left": {**LEFT, "mode": "04755"}})
    assert said(written(Mode="4755"), one) == (TASK, "copy")


def test_what_is_in_a_folder_that_a_task_removed_or_restricted():
    folder = {"paths": ["/etc/app"], "below": ["/etc/app"]}
    gone = change("files", "/etc/app/a", "Removed")
    assert said(gone, task("file", named={**folder, "state": "absent"})) == (TASK, "file")
    restrict = task("file", named={**folder, "state": "directory", "asked": {"group": "adm"}})
    assert said(gone, restrict) == (DRIFT, None)
    assert said(change("files", "/etc/app/a", fields="Group", Group="adm"), restrict) == (TASK, "file")
    assert said(change("files", "/etc/app/a", fields="Group", Group="eve"), restrict) == (DRIFT, None)
    assert said(written("/etc/app/a"), restrict) == (DRIFT, None)


def test_files_of_an_archive_have_an_old_time_and_were_created_by_the_task():
    one = task("unarchive", named={"paths": ["/etc/app"], "below": ["/etc/app"]})
    unpacked = {"DateModified": -90_000, "DateCreated": -99, "FileType": "file"}
    assert said(change("files", "/etc/app/a", "Added", **unpacked), one) == (TASK, "unarchive")
    assert said(change("files", "/etc/app/a", "Added", DateModified=-99, DateCreated=-99), one) == (RUN, "unarchive")
    assert said(change("files", "/etc/app/a", "Added", DateModified=-9, DateCreated=-9), one) == (DRIFT, None)
    assert said(change("files", "/etc/other", "Added", **unpacked), one) == (DRIFT, None)


def test_files_of_packages():
    one = task("apt", named={"names": ["nginx"], "installed": {"nginx": "1.2"}})
    unpacked = {"DateModified": -90_000, "DateCreated": -99}
    assert said(change("files", "/etc/nginx.conf", "Added", **unpacked), one) == (TASK, "apt")
    assert said(change("files", "/etc/other.conf", "Added", **unpacked), one) == (RUN, "apt")
    assert said(written("/etc/passwd"), one) == (RUN, "apt")  # by a script of the package, or by hand
    assert said(written("/etc/passwd", at=-5), one) == (DRIFT, None)
    purge = task("apt", named={"names": ["nginx"], "removed": {"nginx-common": "1.2"}})
    assert said(change("files", "/etc/nginx/nginx.conf", "Removed"), purge) == (TASK, "apt")
    assert said(change("files", "/etc/hosts.allow", "Removed"), purge) == (RUN, "apt")
    assert said(change("files", "/etc/golden.conf", "Removed"), task("apt", named={"removed": {"old": "1"}})) == (
        RUN,
        "apt",
    )
    kept = purge._replace(named={**purge.named, "kept": ["nginx-common"]})
    assert said(change("files", "/etc/nginx/nginx.conf", "Removed"), kept) == (RUN, "apt")
    assert said(change("files", "/usr/share/nginx/a", "Removed"), kept) == (TASK, "apt")


def test_files_that_a_module_writes_without_naming_them():
    assert said(written("/etc/passwd"), task("user", named={"names": ["bob"]})) == (TASK, "user")
    assert said(written("/etc/passwd", at=-5), task("user", named={"names": ["bob"]})) == (DRIFT, None)


def test_a_command_names_nothing_unless_it_says_what_it_creates():
    assert said(written(), task("command")) == (RUN, "command")
    assert said(written(at=-5), task("command")) == (DRIFT, None)
    assert said(written(), task("some.collection.module", named=COPY)) == (TASK, "some.collection.module")
    assert said(written(at=-5), task("some.collection.module", named=COPY)) == (DRIFT, None)
    creates = task("command", named=COPY)
    assert said(created(), creates) == (TASK, "command")
    assert said(written(), creates) == (RUN, "command")  # it does not run if the file exists


def test_of_a_task_with_no_log_nothing_is_known_but_its_time():
    assert said(written(), task(no_log=True)) == (RUN, "copy")
    assert said(written(at=-5), task(no_log=True)) == (DRIFT, None)


def test_a_folder_in_which_a_task_wrote():
    folder = {"fields": "DateModified", "FileType": "directory"}
    assert said(change("files", "/etc", DateModified=-99, **folder), task(named=COPY)) == (TASK, "copy")
    assert said(change("files", "/etc", DateModified=-5, **folder), task(named=COPY)) == (DRIFT, None)
    added = change("files", "/etc", "Added", DateModified=-99, DateCreated=-500, FileType="directory")
    assert said(added, task(named=COPY)) == (DRIFT, None)


def test_a_job_that_nobody_waited_for_proves_nothing():
    assert said(written(at=-5), task(named=COPY, end=None)) == (RUN, "copy")
    assert said(written(at=-105), task(named=COPY, end=None)) == (DRIFT, None)


def test_a_symlink_has_the_times_of_its_target():
    link = {"DateModified": -90_000, "DateCreated": -90_000, "FileType": "file", "LinkTarget": "target.conf"}
    one = task("file", named={**COPY, "state": "link"})
    assert said(change("files", "/etc/app.conf", "Added", **link), one) == (TASK, "file")
    followed = change(
        "files", "/etc/link.conf", fields=CONTENT, DateModified=-99, FileType="file", LinkTarget="app.conf"
    )
    assert said(followed, task(named=COPY)) == (TASK, "copy")
    wanted = "/etc/systemd/system/multi-user.target.wants/nginx.service"
    enable = task("service", named={"names": ["nginx"], "enabled": True})
    assert said(change("files", wanted, "Added", **link), enable) == (TASK, "service")
    assert said(
        change("files", wanted, "Added", **link), enable._replace(named={**enable.named, "names": ["cron"]})
    ) == (DRIFT, None)
    by_hand = change("files", "/etc/app.conf", "Added", **link)
    assert said(by_hand, task("lineinfile", named=COPY)) == (RUN, "lineinfile")  # of what it points to


def test_a_service_that_was_disabled_by_hand_and_restarted_by_a_handler():
    link = "/etc/systemd/system/multi-user.target.wants/nginx.service"
    restart = task("systemd_service", named={"names": ["nginx"], "state": "restarted"})
    disable = task("systemd_service", named={"names": ["nginx"], "enabled": False})
    for category in ("Added", "Removed"):
        assert said(change("files", link, category), restart) == (DRIFT, None)
    assert said(change("files", link, "Removed"), disable) == (TASK, "systemd_service")
    assert said(change("files", link, "Added"), disable) == (DRIFT, None)
    disabled = service("SvcStartupType,UnitFileState", SvcStartupType="Disabled", UnitFileState="disabled")
    assert said(disabled, restart) == (DRIFT, None)
    assert said(disabled, disable) == (TASK, "systemd_service")


def test_the_copy_of_an_account_file_was_written_with_the_file():
    user = task("user", named={"names": ["bob"]})
    copy = change("files", "/etc/passwd-", fields=CONTENT, DateModified=-90_000)
    for at, level in ((-99, TASK), (-5, DRIFT)):
        snapshot = [copy, written("/etc/passwd", at=at)]
        assert [one.level for one in Tasks([user]).attribute_all(snapshot)] == [level, level]
    assert said(copy, user) == (DRIFT, None)


# --- clocks


def test_a_host_whose_clock_is_two_hours_behind():
    ahead = {"start": 7100.0, "end": 7102.0, "named": COPY}
    assert said(written(), task(**ahead)) == (DRIFT, None)
    assert said(written(), task(**ahead, clock=(-7201.0, -7199.0))) == (TASK, "copy")
    assert said(written(at=-90), task(**ahead, clock=(-7201.0, -7199.0))) == (DRIFT, None)


def test_a_host_whose_clock_was_set_back_between_two_snapshots():
    """The seconds between them are not known, and what was written before has a time after the second one."""
    service = change("services", "nginx", fields="SvcState", SvcState="Running", LastSnapshotAge=0)
    start = {"names": ["nginx"], "state": "started"}
    assert said(service, task("systemd", start=-1800, end=-1799, named=start)) == (TASK, "systemd")
    assert said(written(at=-1800, LastSnapshotAge=0), task(start=-1801, end=-1799, named=COPY)) == (TASK, "copy")
    before = {"start": -1801, "end": -1799, "clock": (7199.0, 7201.0), "named": COPY}
    assert said(written(at=5400, LastSnapshotAge=0), task(**before)) == (TASK, "copy")
    assert said(written(at=5100, LastSnapshotAge=0), task(**before)) == (DRIFT, None)
    mode = change("files", "/etc/app.conf", fields="Mode", DateModified=5400, LastSnapshotAge=0)
    assert said(mode, task("file", start=5399, end=5401, named=COPY)) == (DRIFT, None)


def test_clocks_that_may_be_equal_are_taken_as_equal():
    assert said(written(at=-97), task(named=COPY, clock=(-2.0, 2.0))) == (DRIFT, None)


# --- packages


def package(name="openssl", category="Modified", current="3.0.2", **more):
    return change(
        "packages", name, category, "CurrentVersion", Current=None if category == "Removed" else current, **more
    )


def test_packages_that_a_result_names_with_their_version():
    one = task(
        "apt", named={"names": ["nginx"], "installed": {"nginx": "1.2", "openssl": "3.0.2"}, "removed": {"old": "1"}}
    )
    assert said(package(), one) == (TASK, "apt")
    assert said(package(current="3.0.3"), one) == (DRIFT, None)  # upgraded by hand since
    assert said(package("other"), one) == (DRIFT, None)
    assert said(package("old", "Removed"), one) == (TASK, "apt")
    assert said(package("nginx", "Removed"), one) == (DRIFT, None)


def test_packages_of_which_only_the_arguments_are_known():
    one = task(
        "community.general.zypper", named={"names": ["openssl", "nginx=1.2*"], "state": "present"}, title="zypper"
    )
    assert said(package(), one) == (TASK, "zypper")
    assert said(package("nginx", current="1.2.3"), one) == (TASK, "zypper")
    assert said(package("nginx", current="1.3"), one) == (RUN, "zypper")
    assert said(package("dependency", "Added"), one) == (RUN, "zypper")
    assert said(package("openssl", "Removed"), one) == (RUN, "zypper")
    assert said(package(), one._replace(outcome=FAILED)) == (RUN, "zypper")


def test_the_time_of_installation_tells_a_command_from_a_hand():
    one = task("command")
    installed = package()._replace(installed=NOON - 99)
    assert said(installed, one) == (RUN, "command")
    assert said(installed._replace(installed=NOON - 5), one) == (DRIFT, None)
    assert said(installed, task("copy", named=COPY)) == (DRIFT, None)  # no package comes of that


# --- services


def service(fields, category="Modified", name="nginx", **columns):
    return change("services", name, category, fields, **columns)


def test_services_are_as_the_task_asked():
    start = task("systemd_service", named={"names": ["nginx.service"], "state": "started"})
    assert said(service("SvcState", SvcState="Running"), start) == (TASK, "systemd_service")
    assert said(service("SvcState", SvcState="Stopped"), start) == (DRIFT, None)
    assert said(service("SvcState", name="cron", SvcState="Running"), start) == (DRIFT, None)


def test_what_a_task_found_in_a_service_it_did_not_change():
    def asked(was, **arguments):
        return task("systemd_service", named={"names": ["nginx"], "was": was, **arguments})

    running = service("SvcState", SvcState="Running")
    for state, was, level in (
        ("started", "inactive", TASK),
        ("started", "active", DRIFT),
        ("started", "activating", DRIFT),
        ("restarted", "active", DRIFT),
        ("restarted", "activating", TASK),  # it failed all the time
    ):
        assert said(running, asked({"active": was}, state=state))[0] == level
    stopped = service("SvcState", SvcState="Stopped")
    for was, level in (("active", TASK), ("inactive", DRIFT), ("failed", DRIFT)):
        assert said(stopped, asked({"active": was}, state="stopped"))[0] == level
    enabled = service("SvcStartupType,UnitFileState", SvcStartupType="Enabled", UnitFileState="enabled")
    assert said(enabled, asked({"unit_file": "disabled"}, enabled=True))[0] == TASK
    assert said(enabled, asked({"unit_file": "enabled"}, enabled=True, state="started"))[0] == DRIFT
    assert said(enabled, asked({"unit_file": "disabled"}, masked=False, state="started"))[0] == DRIFT
    assert said(enabled, asked({"unit_file": "masked"}, masked=False))[0] == TASK


def test_a_service_that_was_stopped_by_hand_after_its_package_was_upgraded():
    upgrade = task("apt", named={"installed": {"nginx": "1.3"}})
    unit = "/usr/lib/systemd/system/nginx.service"
    assert said(service("SvcState", SvcState="Stopped", SvcPath=unit), upgrade) == (RUN, "apt")
    assert said(service("SvcPath", SvcPath=unit, SvcPreviousPath="/lib" + unit[8:]), upgrade) == (TASK, "apt")


def test_a_change_of_a_service_of_which_ansible_made_a_part_is_drift():
    enable = task("service", named={"names": ["nginx"], "enabled": True})
    both = service(
        "SvcState,SvcStartupType,UnitFileState", SvcState="Running", SvcStartupType="Enabled", UnitFileState="enabled"
    )
    assert said(both, enable) == (DRIFT, None)
    start = task("systemd", named={"names": ["nginx"], "state": "started"}, number=2, end=-97.0)
    assert said(both, enable, start) == (TASK, "systemd")


def test_a_service_that_was_enabled_by_hand_while_a_task_wrote_its_unit_file():
    unit = "/etc/systemd/system/nginx.service"
    copied = task(named={"paths": [unit]})
    assert said(service("SvcDescription", SvcPath=unit), copied) == (TASK, "copy")
    fields = "SvcDescription,SvcStartupType,SvcRunlevels,UnitFileState"
    assert said(service(fields, SvcPath=unit, SvcStartupType="Enabled"), copied) == (DRIFT, None)
    wanted = {"paths": ["/etc/systemd/system/multi-user.target.wants/nginx.service"], "state": "link"}
    assert said(service(fields, SvcPath=unit), copied, task("file", named=wanted, end=-97.0)) == (TASK, "file")


def test_a_drop_in_or_a_line_enables_nothing():
    fields = service("SvcStartupType,UnitFileState", SvcStartupType="Disabled", UnitFileState="disabled")
    drop_in = {"paths": ["/etc/systemd/system/nginx.service.d/a.conf"], "state": "absent"}
    assert said(fields, task("file", named=drop_in)) == (DRIFT, None)
    line = {"paths": ["/etc/systemd/system/nginx.service"], "state": "absent"}
    assert said(fields, task("lineinfile", named=line)) == (DRIFT, None)
    assert said(service("", "Removed", SvcPath=line["paths"][0]), task("lineinfile", named=line)) == (DRIFT, None)


def test_a_unit_file_that_was_changed_by_hand_after_a_task():
    unit = "/etc/systemd/system/nginx.service"
    for at, level in ((-99, TASK), (-5, DRIFT)):
        tasks = Tasks([task(named={"paths": [unit]})])
        changes = [service("SvcDescription", SvcPath=unit), written(unit, at=at)]
        assert [found.level for found in tasks.attribute_all(changes)] == [level, level]


def test_services_that_come_with_a_unit_file_or_a_package():
    added = service("", "Added", SvcPath="/etc/systemd/system/nginx.service")
    assert said(added, task(named={"paths": ["/etc/systemd/system/nginx.service"]})) == (TASK, "copy")
    assert said(added, task("apt", named={"installed": {"nginx": "1.2"}})) == (
        DRIFT,
        None,
    )  # packages put theirs elsewhere
    vendor = service("", "Added", SvcPath="/usr/lib/systemd/system/nginx.service")
    assert said(vendor, task("apt", named={"installed": {"nginx-core": "1.2"}})) == (TASK, "apt")
    assert said(vendor, task("apt", named={"installed": {"cron": "3.0"}})) == (RUN, "apt")
    assert said(vendor, task("apt", named={"removed": {"nginx": "1.2"}})) == (DRIFT, None)


def test_a_service_of_a_package_that_was_installed_by_hand_meanwhile():
    one = task("apt", named={"installed": {"nginx": "1.2"}})
    vendor = service("", "Added", SvcPath="/usr/lib/systemd/system/nginx.service")
    by_task, by_hand = package("nginx", "Added", "1.2"), package("nginx", "Added", "1.3")
    assert [found.level for found in Tasks([one]).attribute_all([vendor, by_task])] == [TASK, TASK]
    assert [found.level for found in Tasks([one]).attribute_all([vendor, by_hand])] == [DRIFT, DRIFT]


def test_a_service_is_whose_its_unit_file_is():
    path = "/etc/systemd/system/nginx.service"
    added = service("", "Added", SvcPath=path)
    for at, level in ((-99, TASK), (-5, DRIFT)):
        file = change("files", path, "Added", DateModified=at, DateCreated=at)
        tasks = Tasks([task(named={"paths": [path]}), task("command", number=2)])
        assert [found.level for found in tasks.attribute_all([added, file])] == [level, level]


def test_no_module_of_the_collection_changes_what_is_tracked():
    modules = [path.stem for path in (Path(__file__).parents[3] / "plugins/modules").glob("ct_*.py")]
    assert len(modules) > 10
    assert [name for name in modules if effect(f"changetracking.inventory.{name}") != NOTHING] == []


# --- whatever is recorded


TASKS = st.builds(
    task,
    module=st.sampled_from(["copy", "file", "apt", "command", "systemd", "user", "unarchive", "setup", "x.y.z"]),
    start=st.floats(-9000, 0),
    end=st.one_of(st.none(), st.floats(0, 100)),
    named=st.dictionaries(
        st.sampled_from(
            [
                "paths",
                "below",
                "names",
                "installed",
                "removed",
                "kept",
                "state",
                "enabled",
                "left",
                "asked",
                "was",
                "cut",
            ]
        ),
        st.one_of(st.none(), st.booleans(), st.text(), st.lists(st.text()), st.dictionaries(st.text(), st.text())),
    ),
    no_log=st.booleans(),
)
CHANGES = st.one_of(
    st.builds(written, at=st.integers(-9000, 0)),
    st.builds(package, category=st.sampled_from(["Added", "Removed", "Modified"])),
    st.builds(service, st.sampled_from(["SvcState", "SvcPath", ""]), SvcState=st.sampled_from(["Running", "Stopped"])),
)


@given(CHANGES, st.lists(TASKS, max_size=8))
def test_any_records_give_an_answer_that_more_tasks_never_turn_into_less(change, tasks):
    found = Tasks(tasks).attribute(change)
    assert (found.level == DRIFT) == (found.task is None)
    if found.task is not None:
        assert effect(found.task.module) != NOTHING
    assert Tasks([one for one in tasks if one.host != "web01"]).attribute(change).level == DRIFT
    assert Tasks(tasks[::-1]).attribute(change).level == found.level  # their order says nothing


def test_a_million_pairs_take_no_time():
    many = Tasks(
        task(start=-100.0 * number, end=-100.0 * number + 2, number=number, named=COPY) for number in range(1000)
    )
    started = time.process_time()
    found = [
        many.attribute(written(at=-99)._replace(until=NOON - n, since=NOON - n - 900)).level
        for n in range(0, 90_000, 90)
    ]
    assert time.process_time() - started < 5
    assert found.count(TASK) > 0


@given(st.integers(-3500, -1), st.floats(-3500, -1), st.floats(0, 60))
def test_a_file_is_only_named_if_it_was_written_while_the_task_ran(at, start, length):
    level, _title = said(written(at=at), task(named=COPY, start=start, end=start + length))
    assert (level == TASK) == (start < at + 1 and at <= start + length)


# --- what the host says of the actor


WROTE = {"named": {"paths": ["/etc/motd"]}}


def witnessed(module="template", columns=None, **more):
    """Level, witness and reason of a change of a file that a task wrote."""
    made = change("files", "/etc/motd", fields="FileContentChecksum", DateModified=-99, **(columns or {}))
    found = Tasks([task(module, **{**WROTE, **more})]).attribute(made)
    return found.level, found.witness, found.reason


@pytest.mark.parametrize(
    ("module", "seen"),
    [("template", "copy"), ("copy", "copy"), ("lineinfile", "lineinfile"), ("community.general.ini_file", "ini_file")],
)
def test_a_host_that_names_the_module_of_the_task_confirms_it(module, seen):
    level, witness, reason = witnessed(module, by_module(seen))
    assert (level, witness) == (TASK, "confirmed")
    assert reason.endswith("confirmed by the host: alice, Ansible's %s" % seen)


def test_a_host_that_names_another_program_for_a_file_that_the_module_writes_itself_makes_it_drift():
    level, witness, reason = witnessed(columns=VIM)
    assert (level, witness) == (DRIFT, "differs")
    assert reason == "a task wrote it, but the host names no module of Ansible: bob (vim)"


def test_a_host_that_names_another_module_leaves_the_task_a_possible_one():
    level, witness, reason = witnessed(columns=by_module("lineinfile"))
    assert (level, witness) == (RUN, "differs")
    assert reason == "a task may have made it, but the host names another module: alice, Ansible's lineinfile"


@pytest.mark.parametrize(
    ("module", "columns"),
    [
        ("template", dict(VIM, ChangedByProcess="/usr/libexec/platform-python3.6")),  # pipelining: no module is seen
        ("ansible.posix.mount", dict(VIM, ChangedByProcess="/usr/bin/tool")),
        ("some.other.thing", by_module("copy")),  # its action plugin may run any module
        ("template", by_module("async_wrapper")),
        ("template", {"ChangedBy": "bob"}),
    ],
)
def test_what_neither_confirms_nor_contradicts_is_only_named(module, columns):
    plain, (level, witness, reason) = witnessed(module), witnessed(module, columns)
    assert (level, witness) == (plain[0], "named") and reason.startswith(plain[2] + ";")


def test_the_last_of_several_actors_confirms_nothing():
    level, witness, reason = witnessed(columns=by_module("copy", ChangedByCount=2))
    assert (level, witness) == (TASK, "named") and reason.endswith("alice, Ansible's copy, the last of 2")


def test_a_host_never_makes_a_change_ansibles():
    made = change("files", "/etc/motd", fields="FileContentChecksum", DateModified=-99, **by_module("copy"))
    found = Tasks([]).attribute(made)
    assert (found.level, found.task, found.witness) == (DRIFT, None, "named")
    assert found.reason == "no task made it; the host names a module of Ansible: alice, Ansible's copy"


def test_without_an_actor_nothing_is_said():
    assert witnessed()[1:] == ("", "it named this path and wrote it at that time")
    assert witnessed(columns={"ChangedByUid": 0, "ChangedAt": "x"})[1] == ""


def test_hostile_actors_are_bounded_text():
    level, witness, reason = witnessed(columns=HOSTILE)
    assert (level, witness) == (RUN, "differs") and len(reason) < 400 and reason.isprintable()
    actor = actor_of({**HOSTILE, "ChangedByModule": ["copy"]})
    assert set(actor) == {"login", "process", "command", "at"}
    assert all(len(text) < 400 and text.isprintable() for text in actor.values())
    assert actor_of(dict.fromkeys(HOSTILE, b"bytes")) is None


def test_a_service_whose_unit_file_somebody_else_wrote_is_drift():
    unit = "/etc/systemd/system/app.service"
    service = change("services", "app", "Added", SvcPath=unit)
    of_unit = change("files", unit, "Added", DateModified=-99, DateCreated=-99, **VIM)
    tasks = Tasks([task("copy", named={"paths": [unit]})])
    levels = [found.level for found in tasks.attribute_all([service, of_unit])]
    assert levels == [DRIFT, DRIFT]
