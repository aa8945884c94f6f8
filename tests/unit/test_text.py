# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every text is printable before it leaves the library, different texts stay different, and a message is one line."""

import io
import json
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti import daemon, host, itemfiles
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import CtiError, SourceFailed
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.sources import Sources
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Known, Part
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.text import (
    calm_json,
    decode,
    line,
    original,
    plural,
    printable,
    quoted,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import enqueue, report
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.run import compare_and_store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking.snapshot import collect_only

# What codes are made of, so that they come up by chance.
tricky = st.text(st.sampled_from("\\\\\\xud8f0a-é\n\udcff\udc80\ud800\udfff\U0001f600"), max_size=12)
texts = tricky | st.text(st.characters(), max_size=20) | st.binary(max_size=12).map(decode)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("caf\udce9", r"caf\xe9"),
        (r"caf\xe9", r"caf\\xe9"),
        ("\\\udcff", r"\\\xff"),
        (r"\\xff", r"\\\\xff"),
        (r"dev-disk-by\x2dlabel.device", r"dev-disk-by\x2dlabel.device"),
        (r"C:\xyz \xFF \x7f \n", r"C:\xyz \xFF \x7f \n"),
        ("a\nb\x1b[2J", "a\nb\x1b[2J"),
        ("\ud83d\ude00", r"\ud83d\ude00"),
        (r"\ud83d", r"\\ud83d"),
        ("für 😀", "für 😀"),
    ],
)
def test_a_byte_that_is_not_utf_8_is_told_from_the_letters_of_its_code(text, shown):
    assert printable(text) == shown
    assert original(shown) == text


@given(texts)
@example("\\" * 9 + "xff")
@example("\\x8" + "\udcff")
def test_every_text_can_be_had_back(text):
    shown = printable(text)
    shown.encode("utf-8")
    assert original(shown) == text


@given(st.lists(st.sampled_from(["\\", "\udcff", "xff", "\ud800", "ud800", "x"]), max_size=9).map("".join), texts)
def test_different_texts_stay_different(one, other):
    assert (one == other) == (printable(one) == printable(other))


def test_long_runs_of_backslashes_are_searched_once():
    for text in ("\\" * 400000, "\\" * 400000 + "\udcff", "\\x8" * 100000):
        assert original(printable(text)) == text


@given(texts)
@example("\u202egnp.exe\u2028\x9b2J\r\n\xa0\t")
def test_a_line_is_one_line_holds_no_control_and_stays_as_it_is_when_it_is_made_again(text):
    shown = line(text)
    assert shown.isprintable() and line(shown) == shown
    assert quoted(text) == line(printable(text))


def test_a_long_line_says_how_long_it_was():
    shown = line("a" * 5000 + "z", 100)
    assert len(shown) < 140 and shown.startswith("aaa") and shown.endswith("z") and "(5001 characters)" in shown
    assert line("a" * 100, 100) == "a" * 100


# --- whoever hands something on


def leaves(value):
    """Every text in data as it leaves the library, keys included."""
    if isinstance(value, dict):
        return [text for key, inner in value.items() for text in [key, *leaves(inner)]]
    if isinstance(value, (list, tuple)):
        return [text for inner in value for text in leaves(inner)]
    return [value] if isinstance(value, str) else []


def odd_item(kind, mark):
    """An item in which every text is odd, whatever its fields are."""
    fields = kind.item._field_types if hasattr(kind.item, "_field_types") else kind.item.__annotations__
    values = [name + mark if fields[name] is str else 1 for name in kind.item._fields]
    return kind.item(*values)._replace(**({"stamp": None} if kind.name == "files" else {}))


@pytest.mark.parametrize("kind", all_kinds().values(), ids=list(all_kinds()))
def test_all_that_is_made_of_an_item_is_printable_and_tells_bytes_from_letters(tmp_path, kind):
    odd, letters = odd_item(kind, "\udcff"), odd_item(kind, r"\xff")
    items, name = [odd, letters], "source \udcff"

    def collect(known):
        return Sources([(name, lambda known: Part(name, None, items))], known)

    with Store(str(tmp_path / "state.db")) as store:
        compare_and_store(kind, collect, store)
        items = []
    with Store(str(tmp_path / "state.db")) as store:
        seen = compare_and_store(kind, collect, store, keep_items=True)
        changes = enqueue.change_records(seen, {"Computer": "h", "SourceComputerId": None})
    facts = report.facts(collect_only(kind, collect(Known())))
    items = [odd, letters]
    everything = [facts, changes, report.summary(seen, True), report.facts(collect_only(kind, collect(Known())))]
    everything.append(list(enqueue.inventory_records(kind, items, {"Computer": "h"}, 0)))
    for text in leaves(everything):
        text.encode("utf-8")
    assert list(facts["sources"]) == [r"source \xff"]
    one, other = (dict(kind.row(item)) for item in (odd, letters))
    assert one != other and len(changes) == 2
    itemfiles.write(str(tmp_path), kind, items, {})
    for text in leaves(json.loads((tmp_path / kind.item_file).read_text())):
        text.encode("utf-8")


def test_a_warning_and_an_error_are_one_printable_line():
    def failing(known):
        raise SourceFailed("Cannot read /x/\udcff\n\x1b[2J: no such file")

    seen = collect_only(all_kinds()["packages"], Sources([("dp\nkg", failing)], Known()))
    assert seen.warnings() == [r"dp\x0akg: Cannot read /x/\xff\x0a\x1b[2J: no such file"]
    assert str(CtiError("No \udce9\r\u202e here")) == r"No \xe9\x0d\u202e here"


def test_a_log_line_shows_the_byte_that_a_name_holds():
    stream = io.StringIO()
    daemon.Log(stream)("cannot read /x/\udcff\n\x1b[2J")
    assert stream.getvalue().endswith("cannot read /x/\\xff\\x0a\\x1b[2J\n")


def test_the_name_of_the_machine_is_printable(monkeypatch):
    names = os.uname()
    monkeypatch.setattr(os, "uname", lambda: type(names)((names[0], "b\udcfcro", *names[2:])))
    assert host.identity()["Computer"] == r"b\xfcro"


@given(st.dictionaries(st.text(), st.text() | st.integers()))
def test_a_json_text_that_is_made_calm_is_the_same_value(value):
    raw = json.dumps(value, ensure_ascii=False)
    assert json.loads(calm_json(raw)) == value


def test_nothing_in_a_calm_json_text_steers_a_terminal_and_other_texts_stay_as_they_are():
    odd = [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)]
    for code in set(odd) - {9, 10, 13}:
        assert calm_json('["a%s"]' % chr(code)) == '["a\\u%04x"]' % code
    good = '{"a": "\u00e4\u00a0\u200b\U0001f600\\u0041"}\t\r\n'
    assert calm_json(good) == good


def test_a_number_fits_its_noun_and_its_verb():
    assert [plural(count, "directory") for count in (0, 1, 2)] == ["0 directories", "1 directory", "2 directories"]
    verbs = {"is": "are", "was": "were", "has": "have", "waits": "wait"}
    for one, several in verbs.items():
        assert plural(1, "file", one) == "1 file " + one and plural(2, "file", one) == "2 files " + several
