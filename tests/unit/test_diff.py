# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two sightings of one part."""

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.kind import File
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.packages.kind import Package
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.services.kind import Service
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.diff import compare

FILE = File("/etc/a.conf", "ab" * 32, 1216, "root", "root", 0o644, 1681426974, 1681426974, "file", "")
SERVICE = Service(
    "ssh", "OpenBSD", "loaded", "active", "running", "enabled", "multi-user.target", "/lib/systemd/system/ssh.service"
)


def package(name, version, architecture="amd64"):
    return Package(name, architecture, version, "", "", None, None)


def told(kind, old, new, unsure=frozenset()):
    """(category, what it was, what it is, columns) of each change, items by the one field that matters here."""
    field = {"packages": "version", "services": "sub_state", "files": "checksum"}[kind]
    return [
        (change.category, getattr(change.old, field, None), getattr(change.new, field, None), list(change.fields))
        for change in compare(all_kinds()[kind], old, new, unsure)
    ]


def test_an_upgrade_is_one_modification():
    assert told("packages", [package("a", "1")], [package("a", "2")]) == [("Modified", "1", "2", ["CurrentVersion"])]


def test_the_same_name_in_another_architecture_is_another_package():
    old = [package("libc6", "1"), package("libc6", "1", "i386")]
    assert told("packages", old, old[:1]) == [("Removed", "1", None, [])]


def test_a_second_kernel_is_added_and_the_first_one_untouched():
    assert told("packages", [package("kernel", "1")], [package("kernel", "1"), package("kernel", "2")]) == [
        ("Added", None, "2", [])
    ]


def test_a_kernel_that_makes_room_for_a_new_one_is_removed():
    old = [package("kernel", "1"), package("kernel", "2")]
    new = [package("kernel", "2"), package("kernel", "3")]
    assert told("packages", old, new) == [("Removed", "1", None, []), ("Added", None, "3", [])]


def test_the_last_of_two_kernels_stays_unmodified():
    assert told("packages", [package("kernel", "1"), package("kernel", "2")], [package("kernel", "2")]) == [
        ("Removed", "1", None, [])
    ]


def test_what_is_unsure_is_no_change():
    assert told("packages", [package("a", "1")], [], {("a", "amd64")}) == []


def test_a_time_of_installation_alone_is_no_change():
    assert told("packages", [package("a", "1")], [package("a", "1")._replace(installed_on=5)]) == []


def test_a_service_that_stops_is_modified_and_one_that_only_reloads_is_not():
    assert told("services", [SERVICE], [SERVICE._replace(sub_state="dead")]) == [
        ("Modified", "running", "dead", ["SvcState"])
    ]
    assert told("services", [SERVICE], [SERVICE._replace(active_state="reloading")]) == []


def test_a_state_that_is_not_known_differs_from_nothing():
    assert (
        told(
            "services", [SERVICE], [SERVICE._replace(load_state="unknown", active_state="unknown", sub_state="unknown")]
        )
        == []
    )


def test_masking_a_disabled_service_is_a_change():
    old = SERVICE._replace(unit_file_state="disabled")
    assert told("services", [old], [old._replace(unit_file_state="masked")])[0][3] == ["UnitFileState"]


def test_every_difference_of_a_file_is_named():
    new = FILE._replace(checksum="cd" * 32, size=1, owner="a", group="b", mode=0o600, modified=1, created=2)
    assert told("files", [FILE], [new])[0][3] == [
        "FileContentChecksum", "Size", "Owner", "Group", "Mode", "DateModified", "DateCreated",
    ]  # fmt: skip


def test_a_checksum_that_could_not_be_read_or_is_of_another_kind_differs_from_nothing():
    assert told("files", [FILE], [FILE._replace(checksum="")]) == []
    assert told("files", [FILE], [FILE._replace(checksum="ab" * 16)]) == []


def test_a_birth_time_that_is_not_known_differs_from_nothing():
    assert told("files", [FILE], [FILE._replace(created=None)]) == []


packages = st.lists(
    st.builds(package, st.sampled_from("abc"), st.sampled_from("123"), st.sampled_from(["amd64", "i386"])),
    unique=True,
    max_size=12,
)


@given(packages, packages)
def test_applying_the_changes_to_the_old_gives_the_new(old, new):
    result = set(old)
    for change in compare(all_kinds()["packages"], old, new):
        if change.old is not None:
            result.remove(change.old)
        if change.new is not None:
            assert change.new not in result
            result.add(change.new)
    assert result == set(new)
