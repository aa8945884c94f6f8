# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixtures of a release come from one booted host: what its manager had loaded, the unit files made for the purpose,
and what `systemctl show` said of every unit right after. What follows from them is in the first tests; in the others, a
manager says what a test wants it to say, and the changes are those that a state database makes of it."""

import gzip
import json
import os
import tarfile
import warnings

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import SourceAbsent, SourceFailed
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.services import (
    dbus,
    managers,
    root_fs,
    systemd,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.services.kind import Service
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Known
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Run, Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.run import compare_and_store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.snapshot import collect_only
from ansible_collections.changetracking.inventory.tests.helpers.buses import Manager, unit

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures", "systemd")
RELEASES = ["bullseye", "bookworm", "trixie"]  # systemd 247, 252, 257
HOST_NAMES = {"bullseye": "svc901", "bookworm": "svc904", "trixie": "svc905"}
FIELDS = ("Description", "LoadState", "ActiveState", "SubState", "UnitFileState", "WantedBy", "FragmentPath")
GONE = "org.freedesktop.DBus.Error.UnknownObject"
DENIED = "org.freedesktop.DBus.Error.AccessDenied"
KIND = all_kinds()["services"]


def fixture(release, name):
    with gzip.open(os.path.join(FIXTURES, release, name)) as file:
        return file.read()


def recorded(release):
    """The manager's list of units, its search path and its version."""
    stream = fixture(release, "private.stream.gz")
    at = stream.index(b"\r\n") + 2
    values = {}
    while len(values) < 3:
        end = at + dbus.message_length(stream[at : at + 16])
        reply = dbus.parse_message(stream[at:end])
        if reply.reply_serial in (1, 2, 3):
            values[reply.reply_serial] = dbus.unmarshal(reply.signature, reply.body, reply.order)[0]
        at = end
    return values[1], values[2], values[3]


@pytest.fixture
def recording(tmp_path):
    """A root with the unit files of a release's host; `running`: and its manager, in `recording.manager`."""

    def make(release, running=True):
        with tarfile.open(os.path.join(FIXTURES, release, "units.tar.gz")) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the archive is ours and holds links that leave it
            archive.extractall(
                str(tmp_path), **({"filter": "fully_trusted"} if hasattr(tarfile, "data_filter") else {})
            )
        write(tmp_path, {"usr/lib/systemd/system/multi-user.target": "[Unit]\n"})
        units, path, version = recorded(release)
        write(tmp_path, {"usr/lib/systemd/libsystemd-shared-{0}.so".format(version.split(".")[0].split(" ")[0]): ""})
        if running:
            os.makedirs(str(tmp_path / "run/systemd/system"), exist_ok=True)
            make.manager = Manager(tmp_path, units, path, version)
        return str(tmp_path)

    return make


def write(root, files):
    """{path: text, or (target of a symlink,)} below a root."""
    for path, content in files.items():
        path = root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content) if isinstance(content, str) else path.symlink_to(content[0])


def by_name(part):
    found = {item.name: item for item in part.items}
    assert [item.name for item in part.items] == sorted(found)
    return found


@pytest.mark.parametrize("release", RELEASES)
def test_every_unit_is_what_systemctl_shows(recording, release):
    part = systemd.collect(Known(), root=recording(release), transient=True)
    shown = json.loads(fixture(release, "shown.json.gz").decode())
    # Of the files of packages, the fixture has none.
    ours = {name + ".service": item for name, item in by_name(part).items() if name.startswith("odd")}
    wanted = ours.pop("odd-tmpl@un-loaded\\x20inst.service")  # systemctl lists no instance that is only wanted
    assert (wanted.load_state, wanted.unit_file_state) == ("loaded", "enabled")
    expected = {name: fields for name, fields in shown.items() if name.startswith("odd")}
    for name, fields in expected.items():
        item = ours[name]
        # Of what wants a unit, systemctl shows what was loaded.
        assert set(fields["WantedBy"].split()) <= set(item.wanted_by.split())
        description = fields["Description"].replace(HOST_NAMES[release], os.uname().nodename)
        values = (description, *(fields[key] for key in FIELDS[1:5]), fields["FragmentPath"])
        assert (item.description, *item[2:6], item.path) == values, name
    assert ours.keys() == expected.keys()
    assert len(ours) > 40 and not part.unsure and not part.message


@pytest.mark.parametrize("release", RELEASES)
def test_every_kind_of_unit_is_among_them(recording, release):
    found = by_name(systemd.collect(Known(), root=recording(release), transient=True))
    states = {item.unit_file_state for item in found.values()}
    assert {"enabled", "disabled", "static", "masked", "masked-runtime", "generated", "transient", "linked"} < states
    assert {"enabled-runtime", "indirect", "bad"} < states
    assert {item.load_state for item in found.values()} >= {"loaded", "masked", "bad-setting", "error"}
    assert found["odd-fail"].active_state == "failed"
    assert "odd-tmpl@one" in found and "odd-tmpl@" not in found


def test_an_alias_is_not_a_second_unit(recording):
    found = by_name(systemd.collect(Known(), root=recording("bookworm")))
    assert "odd-run" in found and "odd-alias" not in found
    assert "odd-unloaded" in found and not {"odd-alias2", "odd-alias3"} & set(found)


def test_templates_are_counted_on_request(recording):
    found = by_name(systemd.collect(Known(), root=recording("bookworm"), templates=True))
    assert found["odd-tmpl@"].description.startswith("Template ")
    assert found["odd-tmpl@"].load_state == "loaded"


def test_a_description_is_kept_whole(recording):
    found = by_name(systemd.collect(Known(), root=recording("trixie")))
    assert found["odd-run"].description == 'Runs = with equals | pipe "quotes"     continued    twice'


@pytest.mark.parametrize("release", RELEASES)
def test_an_image_has_the_same_units_as_the_host_that_runs_from_it(recording, release):
    root = recording(release)
    with Store(os.path.join(root, "state.db")) as store:
        compare_and_store(KIND, lambda known: collection(root, known), store)
    os.rename(os.path.join(root, "run"), os.path.join(root, "was-run"))
    with Store(os.path.join(root, "state.db")) as store:
        image = compare_and_store(KIND, lambda known: collection(root, known), store, keep_items=True)
    os.rename(os.path.join(root, "was-run"), os.path.join(root, "run"))
    with Store(os.path.join(root, "state.db")) as store:
        again = compare_and_store(KIND, lambda known: collection(root, known), store)
    assert image.sources["systemd"].message.startswith("systemd is not running here")
    assert {item[2:5] for item in image.items} == {("unknown",) * 3}
    assert (image.changes, again.changes) == ([], [])


def collection(root, known):
    return managers.Sources([("systemd", lambda known: systemd.collect(known, str(root)))], known)


# --- what is a change, and what is none

RUNS = "[Unit]\nDescription=It runs\n[Service]\nExecStart=/bin/sleep 1000\n"
INSTALLED = RUNS + "[Install]\nWantedBy=multi-user.target\n"
LIB, ETC = "usr/lib/systemd/system/", "etc/systemd/system/"
FILES = {
    LIB + "multi-user.target": "[Unit]\n",
    LIB + "getty.target": "[Unit]\n",
    LIB + "web.service": INSTALLED,
    ETC + "multi-user.target.wants/web.service": ("/usr/lib/systemd/system/web.service",),
    LIB + "helper.service": RUNS,
    LIB + "by-hand.service": INSTALLED,
    LIB + "web@.service": RUNS,
    LIB + "user@.service": RUNS,
    LIB + "getty@.service": RUNS + "[Install]\nWantedBy=getty.target\n",
    ETC + "getty.target.wants/getty@tty1.service": ("/usr/lib/systemd/system/getty@.service",),
}
UP = ("loaded", "active", "running")
PATH = ["/run/systemd/transient", "/etc/systemd/system", "/usr/lib/systemd/system"]


class Host:
    """A root below which systemd runs, and the state of the run before."""

    def __init__(self, root):
        self.root = root
        write(root, FILES)
        (root / "run/systemd/system").mkdir(parents=True)
        self.manager = Manager(root, [unit("web.service", *UP), unit("getty@tty1.service", *UP)], PATH)

    def set(self, name, *states):
        self.manager.units = [entry for entry in self.manager.units if entry[0] != name]
        if states:
            self.manager.units.append(unit(name, *states))

    def run(self, with_manager=True):
        """What a run tells: "Category name fields"."""
        system = self.root / "run/systemd/system"
        system.mkdir(exist_ok=True) if with_manager else system.rmdir()
        with Store(str(self.root / "state.db")) as store:
            snapshot = compare_and_store(KIND, lambda known: collection(self.root, known), store)
        assert snapshot.sources["systemd"].status == "ok"
        return [
            " ".join((change.category, (change.new or change.old).name, ",".join(change.fields))).strip()
            for change in snapshot.changes
        ]

    def names(self, **options):
        return {item.name for item in systemd.collect(Known(), str(self.root), **options).items}


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_what_an_operator_does_is_told(host):
    assert host.run() == []
    host.set("web.service", "loaded", "inactive", "dead")
    assert host.run() == ["Modified web SvcState"]
    (host.root / ETC / "multi-user.target.wants/web.service").unlink()
    assert host.run() == ["Modified web SvcStartupType,SvcRunlevels,UnitFileState"]
    write(host.root, {LIB + "new.service": RUNS})
    assert host.run() == ["Added new"]
    (host.root / LIB / "new.service").unlink()
    assert host.run() == ["Removed new"]
    host.set("by-hand.service", *UP)
    assert host.run() == ["Modified by-hand SvcState"]
    (host.root / ETC / "getty.target.wants/getty@tty1.service").unlink()  # it still runs
    assert host.run() == ["Removed getty@tty1"]


def test_logins_connections_and_transient_units_are_no_services_unless_asked_for(host):
    before = host.names()
    assert host.run() == []
    write(host.root, {"run/systemd/transient/run-u7.service": "[Unit]\nDescription=/bin/x\n"})
    for name in ("user@1000", "user-runtime-dir@1000", "run-u7", "web@4-10.0.0.1:22-10.0.0.2:1", "getty@tty2"):
        host.set(name + ".service", *UP)
    host.set("web.socket", "loaded", "active", "listening")
    host.manager.properties["web.socket", "Triggers"] = ("as", ["web@4-10.0.0.1:22-10.0.0.2:1.service"])
    assert host.run() == [] and host.names() == before
    more = {"user@1000", "user-runtime-dir@1000", "run-u7", "web@4-10.0.0.1:22-10.0.0.2:1", "getty@tty2"}
    assert host.names(transient=True) == before | more


def test_a_transient_unit_that_ends_while_the_units_are_read_is_no_service(host):
    assert host.run() == []
    host.manager.ending = [unit("run-u8.service", *UP)]
    assert host.run() == [] and not host.manager.ending


def test_only_links_and_targets_say_where_a_service_belongs(host):
    write(host.root, {"run/systemd/transient/session-53.scope.wants/helper.service": ("/usr/lib/systemd/system/x",)})
    found = {item.name: item for item in systemd.collect(Known(), str(host.root)).items}
    assert (found["web"].wanted_by, found["helper"].wanted_by) == ("multi-user.target", "")


@pytest.mark.parametrize("trigger", ["helper.socket", "daily.timer", "spool.path"])
def test_the_state_of_a_service_that_an_active_unit_starts_is_not_compared(host, trigger):
    host.set(trigger, "loaded", "active", "waiting")
    host.manager.properties[trigger, "Triggers"] = ("as", ["helper.service"])
    assert host.run() == []
    host.set("helper.service", *UP)
    assert host.run() == []
    host.set("helper.service", "loaded", "inactive", "dead")
    assert host.run() == []
    host.set(trigger, "loaded", "inactive", "dead")  # nothing starts it any more, so someone did
    assert host.run() == []
    host.set("helper.service", *UP)
    assert host.run() == ["Modified helper SvcState"]


def test_a_service_that_is_stopped_with_its_socket_is_told(host):
    host.set("helper.socket", "loaded", "active", "running")
    host.manager.properties["helper.socket", "Triggers"] = ("as", ["helper.service"])
    host.set("helper.service", *UP)
    assert host.run() == []
    host.set("helper.socket", "loaded", "inactive", "dead")
    host.set("helper.service", "loaded", "inactive", "dead")
    assert host.run() == ["Modified helper SvcState"]


def test_the_state_of_a_service_that_the_message_bus_starts_is_not_compared(host):
    write(
        host.root,
        {
            ETC + "dbus-org.example.service": ("/usr/lib/systemd/system/helper.service",),
            "usr/share/dbus-1/system-services/org.example.service": "[D-BUS Service]\nName=org.example\nExec=/bin/false\n"
            "SystemdService=dbus-org.example.service\n",
            "usr/share/dbus-1/system-services/org.other.service": "[D-BUS Service]\nName=org.other\n"
            "SystemdService=dbus-org.other.service\n",
        },
    )
    assert host.run() == []
    host.set("helper.service", *UP)
    assert host.run() == []


def test_an_enabled_service_that_a_socket_starts_is_told_when_it_is_stopped_but_not_when_it_ends_of_itself(host):
    host.set("web.socket", "loaded", "active", "listening")
    host.manager.properties["web.socket", "Triggers"] = ("as", ["web.service"])
    assert host.run() == []
    host.set("web.service", "loaded", "inactive", "dead")
    host.manager.properties["web.service", "ExecMainExitTimestampMonotonic"] = ("t", 1000)
    host.manager.properties["web.service", "ActiveExitTimestampMonotonic"] = ("t", 1001)
    assert host.run() == []
    host.set("web.service", *UP)
    assert host.run() == []
    host.set("web.service", "loaded", "inactive", "dead")
    host.manager.properties["web.service", "ExecMainExitTimestampMonotonic"] = ("t", 2002)
    host.manager.properties["web.service", "ActiveExitTimestampMonotonic"] = ("t", 2001)
    assert host.run() == ["Modified web SvcState"]
    host.set("web.service", *UP)
    assert host.run() == ["Modified web SvcState"]


def test_a_service_that_reads_its_configuration_again_is_running(host):
    assert host.run() == []
    host.set("web.service", "loaded", "reloading", "reload")
    assert host.run() == []


def test_whether_systemd_has_a_unit_loaded_makes_no_difference(host):
    write(
        host.root, {ETC + "masked.service": ("/dev/null",), ETC + "masked.service.d/x.conf": "[Unit]\nDescription=M\n"}
    )
    assert host.run() == []
    host.set("helper.service", "loaded", "inactive", "dead", "as it was before it was edited")
    host.set("masked.service", "masked", "inactive", "dead", "M")
    host.set("nowhere.service", "not-found", "inactive", "dead")
    host.set("web@loaded.service", "loaded", "inactive", "dead")
    assert host.run() == []


def test_an_instance_that_is_started_by_hand_comes_and_goes(host):
    assert host.run() == []
    host.set("web@1.service", "loaded", "activating", "start")
    assert host.run() == []
    host.set("web@1.service", *UP)
    assert host.run() == ["Added web@1"]
    host.set("web@1.service", "loaded", "deactivating", "stop-sigterm")
    assert host.run() == []
    host.set("web@1.service")
    assert host.run() == ["Removed web@1"]


def test_runs_with_and_without_a_manager_differ_in_nothing(host):
    host.set("web@1.service", *UP)
    host.set("deleted.service", "not-found", "active", "running")
    assert [host.run(), host.run(False), host.run(), host.run(False)] == [[], [], [], []]
    host.set("web@1.service")
    assert host.run() == ["Removed web@1"]


def test_a_manager_after_a_baseline_without_one_invents_nothing(host):
    host.set("web@1.service", *UP)
    host.set("web.service")
    assert [host.run(False), host.run()] == [[], []]
    host.set("web@1.service")
    assert host.run() == ["Removed web@1"]


def test_what_is_changed_while_there_is_no_manager_is_told(host):
    assert host.run() == []
    (host.root / ETC / "multi-user.target.wants/web.service").unlink()
    (host.root / LIB / "helper.service").unlink()
    told = ["Removed helper", "Modified web SvcStartupType,SvcRunlevels,UnitFileState"]
    assert host.run(False) == told


def test_the_state_of_an_earlier_version_is_taken_over_in_silence(host):
    old = [
        Service("getty@tty1", "It runs", *UP, "enabled", "", "/usr/lib/systemd/system/getty@.service"),
        Service("run-u3", "x", *UP, "transient", "", "/run/systemd/transient/run-u3.service"),
        Service("user@0", "It runs", *UP, "static", "session-5.scope", "/usr/lib/systemd/system/user@.service"),
        Service("web", "It runs", *UP, "enabled", "", "/usr/lib/systemd/system/web.service"),
        Service("by-hand", "It runs", *UP, "disabled", "", "/usr/lib/systemd/system/by-hand.service"),
    ]
    with Store(str(host.root / "state.db")) as store:
        store.put(KIND, "systemd", None, "", [item[:8] for item in old])
        store.finish(KIND, Run(1, [], []), {})
    assert host.run() == ["Modified by-hand SvcState", "Added helper"]
    assert host.run() == []


# --- what goes wrong


def test_a_trigger_that_vanishes_meanwhile_is_passed_over(host):
    host.set("web.socket", "loaded", "active", "listening")
    host.manager.properties["web.socket", "Triggers"] = GONE
    assert host.run() == []


def test_a_refused_question_is_a_failure(host):
    host.set("web.socket", "loaded", "active", "listening")
    host.manager.properties["web.socket", "Triggers"] = DENIED
    with pytest.raises(SourceFailed, match="AccessDenied"):
        systemd.collect(Known(), str(host.root))


def test_a_dropped_connection_is_tried_again(host):
    host.manager.drop = 3
    assert host.names()


def test_a_manager_that_keeps_dropping_connections_is_a_failure(host):
    host.manager.drop = 100
    with pytest.raises(SourceFailed, match="Check `systemctl is-system-running`"):
        systemd.collect(Known(), str(host.root))


@pytest.mark.parametrize("garbage", [b"\0" * 32, b"l\2\0\1" + b"\xff" * 28, b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_manager_that_talks_nonsense_is_a_failure(host, garbage):
    host.manager.garbage = garbage
    with pytest.raises(SourceFailed):
        systemd.collect(Known(), str(host.root))


def test_a_failure_keeps_what_was_known(host):
    host.run()
    host.manager.garbage = b"\0" * 32
    with Store(str(host.root / "state.db")) as store:
        snapshot = compare_and_store(KIND, lambda known: collection(host.root, known), store)
    assert (snapshot.changes, snapshot.sources["systemd"].status) == ([], "failed")
    host.manager.garbage = None
    assert host.run() == []


def test_no_socket_is_a_failure_not_an_empty_host(tmp_path):
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    with pytest.raises(SourceFailed):
        systemd.collect(Known(), root=str(tmp_path))


def test_a_host_without_unit_files_has_no_such_source(tmp_path):
    with pytest.raises(SourceAbsent):
        systemd.collect(Known(), root=str(tmp_path))


def test_units_that_are_too_large_are_named_and_kept_as_they_were(host, monkeypatch):
    assert host.run() == []
    (host.root / LIB / "helper.service").write_text(RUNS + "#" * (1 << 20))
    part = systemd.collect(Known(), str(host.root))
    assert part.message == "1 of 4 units were not read, since they have more than 1024 KiB of text: helper."
    assert host.run() == []
    monkeypatch.setattr(root_fs, "_LARGEST_SUM", 10)
    part = systemd.collect(Known(), str(host.root))
    assert "4 of 4 units were not read, since all unit files together" in part.message.replace("3 of 4", "4 of 4")
    assert host.run() == []
    (host.root / LIB / "helper.service").write_text(RUNS)
    monkeypatch.undo()
    assert host.run() == []


def test_a_unit_of_many_drop_ins_is_too_large_too(host):
    half = "[Unit]\n" + "#" * (600 << 10)
    write(host.root, {ETC + "helper.service.d/%d.conf" % n: half for n in range(2)})
    assert systemd.collect(Known(), str(host.root)).unsure == {("helper",)}


def test_a_glance_and_a_run_have_the_same_digest(host):
    with Store(str(host.root / "state.db")) as store:
        assert (
            compare_and_store(KIND, lambda known: collection(host.root, known), store).digest
            == collect_only(KIND, collection(host.root, Known())).digest
        )
