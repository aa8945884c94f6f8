# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile and odd unit files; that real ones are read as systemd reads them is in test_systemd.py."""

import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.services import exec_lines, root_fs
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.services import unit_syntax as syntax
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.services.root_fs import (
    TOO_LARGE,
    RootFs,
    Unreadable,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.services.unit_files import UnitFiles

RUNS = b"[Unit]\nDescription=Runs\n[Service]\nExecStart=/bin/true\n"
ETC, LIB, RUN = "etc/systemd/system", "usr/lib/systemd/system", "run/systemd/system"


@pytest.fixture
def tree(tmp_path):
    """Writes {path: content, or a str as the target of a symlink} below a root, and reads its unit files."""

    def make(files):
        for path, content in files.items():
            path = tmp_path / path
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                path.symlink_to(content)
        return UnitFiles(str(tmp_path))

    make.root = tmp_path
    return make


def state(files, name):
    found = files.identify(name)
    return files.read(*found).state if found else None


def described(raw, name="a.service"):
    settings_ = {}
    syntax.parse(raw, settings_)
    return syntax.description(settings_, name, "host")


@pytest.mark.parametrize(
    "raw, text",
    [
        (b"[Unit]\nDescription=a = b | c", "a = b | c"),
        (b"[Unit]\nDescription = a \t\n", "a"),
        (b"[Unit]\nDescription=a \\\n# comment\n  b", "a    b"),
        (b"[Unit]\nDescription=a\\\\\nb=c", "a\\\\"),
        (b"[Unit]\nDescription=a \\", "a"),
        (b"\xef\xbb\xbf[Unit]\r\nDescription=a\r\n", "a"),
        (b"[Unit]\nDescription=a\0b", "a"),
        (b"[Unit]\nDescription=a\nDescription=b", "b"),
        (b"[Unit]\nDescription=a\nDescription=", "a.service"),
        (b"[Unit]\nDescription=a\nDescription=%Z", "a"),
        (b"[Unit]\nDescription=100 %% of %p, 5 % more, %", "100 % of a, 5 % more, %"),
        (b"[Install]\nDescription=a", "a.service"),
        (b"Description=a", "a.service"),
    ],
)
def test_a_description_is_what_systemd_makes_of_it(raw, text):
    assert described(raw) == text


@pytest.mark.parametrize("raw", [b"[Unit\nDescription=a", b"[Unit]\nDescription=caf\xe9\n"])
def test_a_file_that_systemd_gives_up_is_not_whole(raw):
    assert syntax.parse(raw, {}) == "error"


def test_a_comment_may_be_in_any_encoding():
    assert syntax.parse(b"# caf\xe9\n[Unit]\nDescription=a", {}) == "loaded"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_content_does_more_than_not_parse(raw):
    found = {}
    syntax.parse(raw, found)
    assert syntax.description(found, "a@b.service", "host")
    exec_lines.can_run(found, "a@b.service", "host", 252)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=20))
def test_unescaping_undoes_escaping(text):
    escaped = "".join("\\x{0:02x}".format(byte) if byte else "" for byte in text.encode("utf-8", "ignore"))
    assert syntax.unescape(escaped) == text.encode("utf-8", "ignore").replace(b"\0", b"").decode("utf-8")


@pytest.mark.parametrize("text", ["\\x4", "\\xzz", "\\y", "\\", "\\x00"])
def test_what_is_not_escaped_text_is_not_unescaped(text):
    assert syntax.unescape(text) is None


@pytest.mark.parametrize("name", ["a.service", "a@.service", "a@b.service", "a-b:c_d\\x2d.service", "a.b.service"])
def test_a_valid_name_is_a_service(name):
    assert syntax.is_service(name)


@pytest.mark.parametrize(
    "name", [".service", "@.service", "@a.service", "a b.service", "a.socket", "a" * 250 + ".service", "\udcff.service"]
)
def test_an_invalid_name_is_not_a_service(name):
    assert not syntax.is_service(name)


def test_a_loop_of_aliases_is_no_unit(tree):
    files = tree({ETC + "/a.service": "b.service", ETC + "/b.service": "a.service", ETC + "/c.service": "c.service"})
    assert files.names() == {"a.service", "b.service", "c.service"}
    assert [files.identify(name) for name in sorted(files.names())] == [None, None, None]


def test_a_loop_of_folders_ends(tmp_path):
    (tmp_path / "x").symlink_to("y")
    (tmp_path / "y").symlink_to("x")
    assert RootFs(str(tmp_path)).read("/x/a.service") is None


def test_a_link_cannot_leave_the_root(tree, tmp_path):
    outside = tmp_path.parent / (tmp_path.name + "-outside")
    outside.mkdir()
    (outside / "a.service").write_bytes(RUNS)
    files = tree(
        {
            ETC + "/a.service": "../../../../" + outside.name + "/a.service",
            ETC + "/b.service": str(outside / "a.service"),
        }
    )
    assert [files.read(*files.identify(name)) for name in ("a.service", "b.service")] == [None, None]


def test_a_dangling_link_is_no_unit(tree):
    files = tree({ETC + "/a.service": "/nowhere/a.service", ETC + "/b.service": "missing.service"})
    assert files.read(*files.identify("a.service")) is None
    assert files.identify("b.service") is None


def test_an_image_without_devices_has_masks(tree):
    files = tree(
        {
            ETC + "/a.service": "/dev/null",
            LIB + "/a.service": RUNS,
            ETC + "/b.service": b"",
            RUN + "/c.service": "/dev/null",
        }
    )
    assert [state(files, name) for name in ("a.service", "b.service", "c.service")] == [
        "masked",
        "masked",
        "masked-runtime",
    ]


def test_enablement_follows_the_link_that_makes_it(tree):
    wants = "/multi-user.target.wants/"
    installed = RUNS + b"[Install]\nWantedBy=multi-user.target\n"
    files = tree(
        {
            LIB + "/a.service": installed,
            LIB + "/b.service": installed,
            LIB + "/c.service": installed,
            LIB + "/d.service": RUNS,
            LIB + "/e.service": RUNS + b"[Install]\nAlso=a.service\n",
            LIB + "/f.service": RUNS + b"[Install]\nAlias=g.service\n",
            ETC + wants + "a.service": "/lib/systemd/system/a.service",
            "run/systemd/generator" + wants + "b.service": "/lib/systemd/system/b.service",
            ETC + "/g.service": "/usr/lib/systemd/system/f.service",
            "lib": "usr/lib",
        }
    )
    states = [state(files, name + ".service") for name in "abcdef"]
    assert states == ["enabled", "enabled-runtime", "disabled", "static", "indirect", "enabled"]
    assert files.identify("g.service") == ("f.service", "/lib/systemd/system/f.service")


def test_what_is_no_file_is_no_unit(tree, tmp_path):
    (tmp_path / ETC / "dir.service").mkdir(parents=True)
    os.mkfifo(str(tmp_path / ETC / "fifo.service"))
    files = tree({ETC + "/link.service": "/fifo", ETC + "/a.service": RUNS})
    os.mkfifo(str(tmp_path / "fifo"))
    assert files.names() == {"a.service", "link.service"}
    assert files.read(*files.identify("link.service")) is None


def test_an_oversized_file_cannot_be_told(tree):
    files = tree({ETC + "/a.service": RUNS + b"#" * (1 << 20)})
    with pytest.raises(Unreadable) as caught:
        files.read(*files.identify("a.service"))
    assert caught.value.reason == TOO_LARGE


def test_a_description_that_its_specifiers_make_too_long_is_ignored_as_systemd_does(monkeypatch):
    name = "a" * 200 + ".service"
    monkeypatch.setattr(syntax, "_LONGEST_VALUE", 1000 * len(name))
    assert len(syntax.expand("%n" * 1000, name, "host")) == 1000 * len(name)
    assert syntax.expand("%n" * 1001, name, "host") is None
    assert described(b"[Unit]\nDescription=short\nDescription=" + b"%n" * 1001, name) == "short"


def test_what_specifiers_make_of_all_descriptions_is_counted(tree, monkeypatch):
    monkeypatch.setattr(root_fs, "_LARGEST_SUM", 20000)
    raw = b"[Unit]\nDescription=%s\n[Service]\nExecStart=/bin/true\n" % (b"%n" * 10)
    files = tree({"%s/%s%d.service" % (ETC, "a" * 200, number): raw for number in range(30)})
    with pytest.raises(Unreadable, match="all unit files together"):
        for name in files.names():
            files.read(*files.identify(name))


def test_a_broken_file_is_a_unit(tree):
    files = tree({ETC + "/a.service": b"\x7fELF\xff\xfe garbage", ETC + "/b.service": b"[Unit]\nDescription=b\n"})
    assert [files.read(*files.identify(name)).load_state for name in ("a.service", "b.service")] == [
        "error",
        "bad-setting",
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.sampled_from([None, "a", "b", "c", "d", "a@", "../b", "/x/c", "/dev/null"])
        ),
        max_size=6,
    )
)
def test_no_web_of_links_does_more_than_resolve(tmp_path_factory, links):
    root = tmp_path_factory.mktemp("w")
    folder = root / ETC
    folder.mkdir(parents=True)
    for name, target in links:
        path = folder / (name + ".service")
        if not os.path.lexists(str(path)):
            path.write_bytes(RUNS) if target is None else path.symlink_to(
                target + ".service" if target[0] != "/" else target
            )
    files = UnitFiles(str(root))
    for name in files.names():
        found = files.identify(name)
        if found:
            files.read(*found)


@pytest.mark.parametrize("version, text", [(252, "masked but described"), (257, "a.service")])
@pytest.mark.parametrize("mask", ["/dev/null", b""])
def test_a_masked_unit_is_described_as_systemd_describes_it(tree, mask, version, text):
    tree({ETC + "/a.service": mask, ETC + "/a.service.d/x.conf": b"[Unit]\nDescription=masked but described\n"})
    files = UnitFiles(str(tree.root), version=version)
    unit = files.read(*files.identify("a.service"))
    assert (unit.load_state, unit.state, unit.description) == ("masked", "masked", text)


@pytest.mark.parametrize(
    "lines",
    [
        "ExecStart=build/bin/server start",
        "ExecStart=./server",
        "ExecStart=-",
        "ExecStart=@/bin/sh",
        "ExecStart=/bin/folder/",
        "ExecStart=%z/bin/x",
        "ExecStart=/bin/true %Z",
        "ExecStart=+!!/bin/true",
        "ExecStart=!+/bin/true",
        "ExecStart=::/bin/true",
        "ExecStart=/bin/true ; /bin/false",
        "ExecStart=;",
        "ExecStart='/bin/x",
        'ExecStart=/bin/sh -c "unbalanced',
        "ExecStart=/bin/a\\qb",
        "ExecStart=/bin/" + "x" * 256,
        "ExecStart=/bin/a\nExecStart=",
        "ExecStart=/bin/a\nExecStart=/bin/b",
        "ExecStart=/bin/true\nExecStartPre=rel/x",
        "ExecStart=/bin/true\nExecReload=/bin/kill -HUP '$MAINPID",
        "Type=oneshot\nExecStart=rel/x\nExecStart=/bin/true",
        "Type=oneshot\nExecStart=/bin/true\nRestart=always",
        "Type=oneshot\nExecStart=/bin/true\nExitType=cgroup",
        "Type=oneshot\nRemainAfterExit=1\nExecStop=rel/x",
        "Type=dbus\nExecStart=/bin/true",
        "Type=dbus\nBusName=1.b\nExecStart=/bin/true",
        "RemainAfterExit=yes\nRemainAfterExit=no\nExecStop=/bin/true",
        "ExecStart=/bin/true\nPAMName=login\nKillMode=process",
        "[Unit]\nSuccessAction=none",
    ],
)
def test_what_systemd_refuses_is_a_bad_setting(tree, lines):
    files = tree({ETC + "/a.service": "[Service]\n{0}\n".format(lines).encode()})
    assert files.read(*files.identify("a.service")).load_state == "bad-setting"


@pytest.mark.parametrize(
    "lines",
    [
        "ExecStart=-@/bin/sh sh -c 'a;b' ; ",
        "ExecStart=/bin/true \\; x",
        "ExecStart=/bin/true;/bin/false",
        'ExecStart="/bin/with space/x" a',
        "ExecStart=/bin/\\x41b",
        "ExecStart=true",
        "ExecStart=!!/bin/true",
        "ExecStart=/bin/true %i 100%",
        "Type=oneshot\nExecStart=/bin/true ; /bin/false",
        "Type=oneshot\nType=nonsense\nExecStart=/bin/a\nExecStart=/bin/b",
        "Type=oneshot\nExecStart=-rel/x\nExecStart=/bin/true",
        "Type=oneshot\nExecStart=/bin/true\nRestart=on-failure",
        "BusName=a.b\nBusName=\nExecStart=/bin/true",
        "RemainAfterExit=YES\nExecStop=/bin/true",
        "ExecStart=/bin/true\nPAMName=login\nKillMode=mixed",
        "[Unit]\nSuccessAction=reboot",
    ],
)
def test_what_systemd_takes_is_loaded(tree, lines):
    files = tree({ETC + "/a.service": "[Service]\n{0}\n".format(lines).encode()})
    assert files.read(*files.identify("a.service")).load_state == "loaded"


def test_systemd_reads_no_further_than_a_refused_command_line_and_systemctl_does(tree):
    raw = b"[Unit]\nDescription=before\n[Service]\nExecStart=rel/x\n[Unit]\nDescription=after\n[Install]\nWantedBy=a.target\n"
    files = tree({ETC + "/a.service": raw})
    unit = files.read(*files.identify("a.service"))
    assert (unit.description, unit.load_state, unit.state) == ("before", "bad-setting", "disabled")


@pytest.mark.parametrize("broken", [b"[Unit\n", b"[Unit]\nDescription=caf\xe9\n", "/nowhere", "x.conf"])
def test_systemctl_calls_a_unit_bad_whose_drop_in_it_cannot_read(tree, broken):
    files = tree({ETC + "/a.service": RUNS, ETC + "/a.service.d/x.conf": broken})
    unit = files.read(*files.identify("a.service"))
    assert (unit.load_state, unit.state, unit.description) == ("loaded", "bad", "Runs")


@pytest.mark.parametrize("version, states", [(253, ["static", "static"]), (254, ["enabled", "disabled"])])
def test_upholds_counts_from_the_version_on_that_has_it(tree, version, states):
    tree(
        {
            ETC + "/a.service": RUNS,
            ETC + "/multi-user.target.upholds/a.service": "../a.service",
            ETC + "/b.service": RUNS + b"[Install]\nUpheldBy=multi-user.target\n",
            ETC + "/multi-user.target": b"",
        }
    )
    files = UnitFiles(str(tree.root), version=version)
    assert [state(files, "a.service"), state(files, "b.service")] == states
    wanted_by = files.read(*files.identify("a.service")).wanted_by
    assert wanted_by == (("multi-user.target",) if version >= 254 else ())


@pytest.mark.parametrize("version, masked", [(252, ["gone.target"]), (257, [])])
def test_a_service_is_wanted_by_targets_that_exist_and_by_whatever_else_has_a_link(tree, version, masked):
    link = "/" + LIB + "/a.service"
    tree(
        {
            LIB + "/a.service": RUNS,
            LIB + "/b.service": RUNS,
            LIB + "/c@.service": RUNS,
            LIB + "/one.target": b"[Unit]\nWants=a.service c@x.service other.socket\nRequires=%p-more.service\n",
            LIB + "/one-more.service": RUNS,
            LIB + "/two.target": b"[Unit]\n",
            LIB + "/gone.target": "/dev/null",
            ETC + "/default.target": "/" + LIB + "/two.target",
            ETC + "/one.target.d/x.conf": b"[Unit]\nUpholds=b.service\n",
            ETC + "/default.target.wants/a.service": link,
            ETC + "/two.target.requires/a.service": link,
            ETC + "/nowhere.target.wants/a.service": link,
            ETC + "/gone.target.wants/a.service": link,
            ETC + "/d@.service.wants/a.service": link,
            ETC + "/dev-sda.device.wants/a.service": link,
            ETC + "/two.target.wants/b.service": "/dev/null",
            LIB + "/two.target.wants/b.service": "../b.service",
            RUN + "/two.target.wants/plain.service": RUNS,
            "run/systemd/transient/session-1.scope.wants/a.service": link,
        }
    )
    files = UnitFiles(str(tree.root), version=version)
    wanted = {name: files.read(*files.identify(name)).wanted_by for name in files.names() if "@." not in name}
    assert wanted == {
        "a.service": tuple(sorted(["dev-sda.device", "one.target", "two.target", *masked])),
        "b.service": ("one.target",),
        "c@x.service": ("one.target",),
        "one-more.service": ("one.target",),
    }


@pytest.mark.parametrize(
    "line",
    ["a\\\n", "ExecStart=a\n", "ExecStart=/bin/a 'b\n", "[Service]\n", "ExecStart=/bin/true ; \n", "Description=%n\n"],
)
def test_the_time_to_read_a_unit_file_grows_as_its_size(line):
    def took(size):
        raw = b"[Unit]\nDescription=\\\n[Service]\nType=oneshot\n" + line.encode() * (size // len(line))
        start = time.process_time()
        found = {}
        syntax.parse(raw, found, lambda *assignment: exec_lines.is_fatal(*assignment, "a.service", "host"))
        exec_lines.can_run(found, "a.service", "host", 252)
        syntax.description(found, "a.service", "host")
        return time.process_time() - start

    small, large = min(took(1 << 16) for _unused in range(3)), min(took(1 << 20) for _unused in range(2))
    assert (
        large < 0.2 or large < 80 * small
    )  # sixteen times as long where it is linear, 256 times where it is quadratic


def test_a_device_behind_a_link_is_not_opened(tree, tmp_path, monkeypatch):
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, *more: opened.append(flags) or real(path, flags, *more))
    tree({ETC + "/a.service": "/dev/null"})
    assert RootFs("").read(str(tmp_path / ETC / "a.service")) == b""
    assert opened and all(flags & os.O_PATH for flags in opened)
