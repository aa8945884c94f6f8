# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be written as `since`, and what may not."""

import time

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import SinceError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.since import (
    Place,
    Since,
    parse,
    place,
)

STATE = "0123456789abcdef" * 2
EIGHT = 1767945601  # 2026-01-09T08:00:01Z


@pytest.mark.parametrize("given", [42, "42", " 42 "])
def test_a_number_is_one_of_a_change(given):
    assert parse(given) == Since(number=42)


@pytest.mark.parametrize(
    "given, seconds",
    [
        ("2026-01-09T08:00:01Z", EIGHT),
        ("2026-01-09T08:00:01.999999Z", EIGHT),
        ("2026-01-09 08:00:01", EIGHT),
        ("2026-01-09t08:00:01z", EIGHT),
        ("2026-01-09 08:00:01 UTC", EIGHT),
        ("2026-01-09T08:00:01+00:00", EIGHT),
        ("2026-01-09T09:00:01+01:00", EIGHT),
        ("2026-01-09T02:30:01-0530", EIGHT),
        ("2026-01-09 10:00:01 +02", EIGHT),
        ("2026-01-09T08:00", EIGHT - 1),
        ("2026-01-09", EIGHT - 1 - 8 * 3600),
        ("2026-01-09T07:59:60Z", EIGHT - 2),
        ("1969-12-31T23:59:59Z", -1),
        ("0001-01-01", -62135596800),
        ("9999-12-31T23:59:59Z", 253402300799),
    ],
)
def test_a_time_is_one_whatever_its_form_and_in_utc_without_an_offset(given, seconds):
    assert parse(given) == Since(at=seconds)


@pytest.mark.parametrize("given, seconds", [("30m", 1800), ("12h", 43200), ("2d", 172800), ("1w", 604800), ("0s", 0)])
def test_an_age_is_before_now(given, seconds):
    before = int(time.time())
    assert before - seconds <= parse(given).at <= int(time.time()) - seconds


def test_a_place_is_what_was_returned_and_several_are_taken():
    one, other = Place(STATE, 7, "6f2f0c3c"), Place(STATE[::-1], 0, "")
    assert parse(str(one)) == Since(places=[one])
    assert parse([str(one), str(other)]) == Since(places=[one, other], paged=True)
    assert (place(str(one)), place(STATE + ":7"), place(7)) == (one, None, None)


@pytest.mark.parametrize(
    "given",
    [
        "", " ", "yesterday", "-1", -1, True, 1.5, "1.5", None, {}, {"number": 1}, [], [1], [STATE], [None], ["2d"],
        [STATE + ":1:"] * 33, "9" * 19, 10**18, "²", "٣", "2026-13-01", "2026-02-30", "2026-01-09T25:00Z", "20260109T080001Z",
        "2026-01-09T08:00:01+99:00", "2026-01-09T08", "0000-01-01", "10000-01-01", "now() - 1", "2 days", "1y", "d", "9999999999d",
        STATE, STATE + ":", STATE + ":x:", STATE + ":1:zz", STATE.upper() + ":1:", STATE + ":" + "9" * 19 + ":",
        STATE + ":1:-", 10**5000, "1; DROP TABLE history", "{{ 1 }}", "\udcff", "x" * 10000, b"1",
    ],
    ids=lambda given: ascii(given)[:20] if given != 10**5000 else "long",
)  # fmt: skip
def test_anything_else_is_refused_in_one_sentence_that_quotes_it(given):
    with pytest.raises(SinceError) as caught:
        parse(given)
    text = str(caught.value)
    text.encode("utf-8")
    assert text.startswith("The value of since is ") and len(text) < 400 and "\n" not in text


def test_the_widest_age_is_a_time_that_a_database_takes():
    assert -(2**63) < parse("999999999w").at < 0
