# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile and odd unit files; that real ones are read as systemd reads them is in test_systemd.py."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.collect import unitsyntax as syntax
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.collect.rootfs import RootFs
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.collect.unitfiles import UnitFiles

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
    assert syntax.parse(raw, {}) is False


def test_a_comment_may_be_in_any_encoding():
    assert syntax.parse(b"# caf\xe9\n[Unit]\nDescription=a", {}) is True


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_content_does_more_than_not_parse(raw):
    found = {}
    syntax.parse(raw, found)
    assert syntax.description(found, "a@b.service", "host")
    syntax.can_run(found)


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


def test_an_oversized_file_is_a_broken_unit_not_a_missing_one(tree):
    files = tree({ETC + "/a.service": RUNS + b"#" * (1 << 20)})
    unit = files.read(*files.identify("a.service"))
    assert (unit.load_state, unit.state, unit.description) == ("error", "bad", "a.service")


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
