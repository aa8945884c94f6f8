# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixtures of a release come from one booted host: what its manager sent to root on its own socket and to a user on
the system bus, the unit files made for the purpose, and what `systemctl show` said of every unit right after."""

import gzip
import json
import os
import socket
import struct
import tarfile
import threading
import warnings

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.collect import dbus, systemd
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import SourceAbsent, SourceFailed
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Known

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures", "systemd")
RELEASES = ["bullseye", "bookworm", "trixie"]  # systemd 247, 252, 257
HOST_NAMES = {"bullseye": "svc901", "bookworm": "svc904", "trixie": "svc905"}
FIELDS = ("Description", "LoadState", "ActiveState", "SubState", "UnitFileState", "WantedBy", "FragmentPath")
NOWHERE = "org.freedesktop.DBus.Error.UnknownObject"
DENIED = "org.freedesktop.DBus.Error.AccessDenied"


def fixture(release, name):
    with gzip.open(os.path.join(FIXTURES, release, name)) as file:
        return file.read()


def messages(stream):
    at = stream.index(b"\r\n") + 2
    while at < len(stream):
        end = at + dbus.message_length(stream[at : at + 16])
        yield stream[at:end]
        at = end


def refusal(serial, name):
    fields = (
        struct.pack("<BBBBI", 5, 1, ord("u"), 0, serial)
        + struct.pack("<BBBBI", 4, 1, ord("s"), 0, len(name))
        + name.encode()
        + b"\0"
    )
    head = struct.pack("<cBBBIII", b"l", 3, 1, 1, 0, 1, len(fields)) + fields
    return head + b"\0" * (-len(head) % 8)


class Manager:
    """Answers each call with the message that the real manager answered the call of the same number with."""

    def __init__(self, root, release, refuse=None, garble=None, drop=0):
        self.connections = 0
        self._refuse, self._garble, self._drop = refuse or {}, garble, drop
        for name, path in (("private", "run/systemd/private"), ("bus", "run/dbus/system_bus_socket")):
            path = os.path.join(str(root), path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(path)
            listening.listen(5)
            stream = fixture(release, name + ".stream.gz")
            replies = {dbus.parse_message(message).reply_serial: message for message in messages(stream)}
            first = 1 if name == "bus" else 0  # Hello
            threading.Thread(target=self._serve, args=(listening, replies, first), daemon=True).start()

    def _serve(self, listening, replies, first):
        while True:
            client, _unused = listening.accept()
            self.connections += 1
            with client:
                try:
                    self._talk(client, replies, first)
                except OSError:
                    pass

    def _talk(self, client, replies, first):
        heard = b""
        while b"BEGIN\r\n" not in heard:
            heard += client.recv(65536)
        client.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")
        heard = heard.partition(b"BEGIN\r\n")[2]
        number = 0
        while True:
            while len(heard) >= 16 and len(heard) >= dbus.message_length(heard[:16]):
                heard = heard[dbus.message_length(heard[:16]) :]
                number += 1
                if self.connections <= self._drop:
                    return
                asked = number - first
                client.sendall(self._garble or self._answer(replies, number, asked))
            data = client.recv(65536)
            if not data:
                return
            heard += data

    def _answer(self, replies, number, asked):
        unit = (asked - 4) // 3
        if asked > 3 and unit in self._refuse:
            return refusal(number, self._refuse[unit])
        return replies[number]


@pytest.fixture
def host(tmp_path):
    """A root with the unit files of a release's host; `running`: and its manager."""

    def make(release, running=True, **behaviour):
        with tarfile.open(os.path.join(FIXTURES, release, "units.tar.gz")) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the archive is ours and holds links that leave it
            archive.extractall(
                str(tmp_path), **({"filter": "fully_trusted"} if hasattr(tarfile, "data_filter") else {})
            )
        if running:
            os.makedirs(str(tmp_path / "run/systemd/system"), exist_ok=True)
            make.manager = Manager(tmp_path, release, **behaviour)
        return str(tmp_path)

    return make


def fields(item):
    return dict(
        zip(
            FIELDS,
            (
                item.description,
                item.load_state,
                item.active_state,
                item.sub_state,
                item.unit_file_state,
                item.wanted_by,
                item.path,
            ),
        )
    )


def by_name(part):
    found = {item.name: item for item in part.items}
    assert [item.name for item in part.items] == sorted(found)
    return found


@pytest.mark.parametrize("release", RELEASES)
def test_every_unit_is_what_systemctl_shows(host, release):
    part = systemd.collect(Known(), root=host(release))
    shown = json.loads(fixture(release, "shown.json.gz").decode())
    ours = {name + ".service": fields(item) for name, item in by_name(part).items()}
    # Of the files of packages, the fixture has none: those count that the manager had loaded.
    expected = {name: unit for name, unit in shown.items() if name.startswith("odd") or name in ours}
    for unit in expected.values():
        unit["Description"] = unit["Description"].replace(HOST_NAMES[release], os.uname().nodename)
    wanted = ours.pop("odd-tmpl@un-loaded\\x20inst.service")  # systemctl lists no instance that is only wanted
    assert (wanted["LoadState"], wanted["UnitFileState"]) == ("loaded", "enabled")
    assert ours == expected
    assert len(ours) > 70 and not part.unsure and not part.message


@pytest.mark.parametrize("release", RELEASES)
def test_every_kind_of_unit_is_among_them(host, release):
    found = by_name(systemd.collect(Known(), root=host(release)))
    states = {item.unit_file_state for item in found.values()}
    assert {"enabled", "disabled", "static", "masked", "masked-runtime", "generated", "transient", "linked"} < states
    assert {"enabled-runtime", "indirect", "bad"} < states
    assert {item.load_state for item in found.values()} >= {"loaded", "masked", "bad-setting", "error", "not-found"}
    assert found["odd-fail"].active_state == "failed"
    assert "odd-tmpl@one" in found and "odd-tmpl@" not in found


def test_an_alias_is_not_a_second_unit(host):
    found = by_name(systemd.collect(Known(), root=host("bookworm")))
    assert "odd-run" in found and "odd-alias" not in found
    assert "odd-unloaded" in found and not {"odd-alias2", "odd-alias3"} & set(found)


def test_templates_are_counted_on_request(host):
    found = by_name(systemd.collect(Known(), root=host("bookworm"), templates=True))
    assert found["odd-tmpl@"].description.startswith("Template ")
    assert found["odd-tmpl@"].load_state == "loaded"


def test_a_description_is_kept_whole(host):
    found = by_name(systemd.collect(Known(), root=host("trixie")))
    assert found["odd-run"].description == 'Runs = with equals | pipe "quotes"     continued    twice'


def test_a_unit_that_vanishes_meanwhile_is_left_out(host):
    root = host("bookworm", refuse={0: NOWHERE})
    part = systemd.collect(Known(), root=root)
    other = systemd.collect(Known(), root=root)
    assert part == other and not part.unsure and not part.message


def test_a_unit_that_cannot_be_asked_about_is_unsure_and_named(host):
    part = systemd.collect(Known(), root=host("bookworm", refuse={0: DENIED}))
    ((name,),) = part.unsure
    assert name not in by_name(part)
    assert part.message == "Could not be read: {0}; run as root to see all.".format(name)


def test_a_dropped_connection_is_tried_once_more(host):
    root = host("bookworm", drop=1)
    assert systemd.collect(Known(), root=root).items


def test_a_manager_that_keeps_dropping_connections_is_a_failure(host):
    root = host("bookworm", drop=100)
    with pytest.raises(SourceFailed, match="check `systemctl is-system-running`"):
        systemd.collect(Known(), root=root)


@pytest.mark.parametrize("garble", [b"\0" * 32, b"l\2\0\1" + b"\xff" * 28, b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_manager_that_talks_nonsense_is_a_failure(host, garble):
    root = host("bookworm", garble=garble)
    with pytest.raises(SourceFailed):
        systemd.collect(Known(), root=root)


def test_no_socket_is_a_failure_not_an_empty_host(tmp_path):
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    with pytest.raises(SourceFailed):
        systemd.collect(Known(), root=str(tmp_path))


def test_without_a_manager_the_states_are_unknown_and_it_says_so(host):
    root = host("bookworm", running=False)
    os.rename(os.path.join(root, "run"), os.path.join(root, "was-run"))  # as in an image that is not booted
    part = systemd.collect(Known(), root=root)
    found = by_name(part)
    assert part.message.startswith("systemd is not running here")
    assert {(i.load_state, i.active_state, i.sub_state) for i in part.items} == {("unknown",) * 3}
    assert found["odd-run"].unit_file_state == "enabled"
    assert found["odd-run"].wanted_by == "multi-user.target"
    assert found["odd-masked"].unit_file_state == "masked"
    assert found["odd-rescuewanted"].wanted_by == "oddity.target"
    assert "odd-transient" not in found


def test_a_host_without_unit_files_has_no_such_source(tmp_path):
    with pytest.raises(SourceAbsent):
        systemd.collect(Known(), root=str(tmp_path))


def test_a_link_counts_as_followed_by_a_reload_when_the_generators_ran_after_it(tmp_path):
    wants, generated = tmp_path / "etc/systemd/system/multi-user.target.wants", tmp_path / "run/systemd/generator"
    assert systemd._linked_at(str(tmp_path)) == systemd._reloaded_at(str(tmp_path)) == 0
    for folder in (wants, generated):
        folder.mkdir(parents=True)
    os.utime(str(wants), (2000, 2000))
    os.utime(str(generated), (1000, 1000))
    os.utime(str(tmp_path / "run/systemd"), (1500, 1500))
    assert systemd._linked_at(str(tmp_path)) == 2000
    assert systemd._reloaded_at(str(tmp_path)) == 1500
    os.utime(str(generated), (3000, 3000))
    assert systemd._reloaded_at(str(tmp_path)) == 3000
