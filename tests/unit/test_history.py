# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The history of a host: numbers, places, what is kept, and what a consumer is told that cannot get what it asks for."""

import os
import shutil
import sqlite3
import time

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import RetentionError, RowDamaged
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.records import identified
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state import history, pages
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state import store as store_module
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.history import Retention
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.pages import History
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.since import Place, Since
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Run, Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.text import timestamp

PACKAGES = all_kinds()["packages"]
DAY = 86400


class State:
    """A state whose runs find what the test says, at the time it says."""

    def __init__(self, path, monkeypatch):
        self.path = str(path)
        self.now = 1700000000
        self.told = 0
        self.retention = Retention()
        monkeypatch.setattr(store_module, "time", self)

    def time(self):
        return self.now

    def run(self, changes=0, owner="", **more):
        """The place after a run that finds so many changes in folders of that owner."""
        with Store(self.path, retention=self.retention) as store:
            names = range(self.told, self.told + changes)
            self.told += changes
            records = list(identified([dict({"Name": number}, **more) for number in names]))
            if records:
                store.remember(records, owner)
            store.finish(PACKAGES, Run(self.now, [], []), {})
        return store.after

    def follow(self, since, until=None):
        with History(self.path) as opened:
            return opened.follow(since, until)

    def at(self, *places):
        return self.follow(Since(places=places))


@pytest.fixture
def state(tmp_path, monkeypatch):
    return State(tmp_path / "state.db", monkeypatch)


def names(page):
    return [record["Name"] for record in page.records]


def outcome(page):
    return names(page), page.missed, page.remaining, page.restarted


def test_each_consumer_gets_each_change_once_whenever_it_asks(state):
    baseline = state.run()
    first = state.run(2)
    assert (baseline.number, first.number) == (0, 2)
    quick = state.at(baseline)
    assert outcome(quick) == ([0, 1], 0, 0, False) and quick.place == first
    assert outcome(state.at(quick.place)) == ([], 0, 0, False)
    state.run()
    state.run(3)
    assert names(state.at(quick.place)) == [2, 3, 4]
    assert names(state.at(baseline)) == [0, 1, 2, 3, 4] == names(state.at(baseline))
    assert (state.at(baseline).first, state.at(baseline).last) == (1, 5)


def test_a_number_of_a_change_is_a_place_too_also_in_the_middle_of_a_run(state):
    state.run()
    state.run(5)
    assert [names(state.follow(Since(number=number))) for number in (0, 3, 5)] == [[0, 1, 2, 3, 4], [3, 4], []]
    state.run(1)
    assert outcome(state.follow(Since(number=4))) == ([4, 5], 0, 0, False)


def test_a_number_that_was_never_given_yields_all_that_is_kept(state):
    state.run()
    state.run(2)
    since = Since(number=3)
    page = state.follow(since)
    assert outcome(page) == ([0, 1], 0, 0, True)
    (text,) = pages.warnings(page, "state.db", since)
    assert "since is 3, and the newest change in the history of 'state.db' has the number 2." in text
    place = Since(places=[Place("f" * 32, 3, "")])
    (text,) = pages.warnings(state.follow(place), "state.db", place)
    assert "not in the history" in text


@pytest.mark.parametrize("seconds, warned", [(3600, 1), (-3600, 0)])
def test_a_time_in_the_future_is_named_with_that_of_the_host(state, seconds, warned):
    state.run()
    since = Since(at=int(time.time()) + seconds)
    texts = pages.warnings(state.follow(since), "state.db", since)
    assert len(texts) == warned
    assert all(timestamp(since.at) in text and "in the future" in text for text in texts)


def test_a_time_before_the_first_run_is_named_with_that_of_the_run(state):
    state.now = first = int(time.time()) - 5000
    state.run()
    for changes in (0, 2):
        state.now += 1000
        state.run(changes)
        for at, warned in ((first - 1, 1), (first, 0), (first + 1500, 0)):
            since = Since(at=at)
            page = state.follow(since)
            assert (len(page.records), page.missed) == (changes, 0)
            texts = pages.warnings(page, "state.db", since)
            assert len(texts) == warned
            assert all("history of state.db begins at %s." % timestamp(first) in text for text in texts)
    state.retention = Retention(mib=1e-9)
    state.run(1)
    (text,) = pages.warnings(state.follow(Since(at=first - 1)), "state.db", Since(at=first - 1))
    assert "3 changes are no longer kept" in text


def test_numbers_are_never_given_twice_although_all_changes_are_gone(state):
    state.run(3)
    state.retention = Retention(mib=1e-9)
    state.run(1)
    place = state.run(1)
    assert place.number == 5
    page = state.follow(Since(number=1))
    assert (outcome(page), page.first, page.last) == (([], 4, 0, False), None, 5)


def test_a_state_that_was_removed_and_made_anew_is_told_and_yields_all_it_has(state):
    old = state.run(2)
    os.unlink(state.path)
    state.told = 0
    state.run()
    new = state.run(2)
    assert new.number == old.number and new.state != old.state
    assert outcome(state.at(old)) == ([0, 1], 0, 0, True)


def test_a_state_that_was_restored_from_a_backup_does_not_pass_over_what_came_since(state, tmp_path):
    state.run(1)
    backup = str(tmp_path / "backup.db")
    shutil.copy(state.path, backup)
    place = state.run(1)
    later = state.run(1)
    shutil.copy(backup, state.path)
    assert outcome(state.at(place)) == ([0], 0, 0, True)
    again = state.run(1)
    assert again.number == place.number
    assert outcome(state.at(place)) == ([0, 3], 0, 0, True)
    state.run(3)
    assert outcome(state.at(later)) == ([0, 3, 4, 5, 6], 0, 0, True)
    assert outcome(state.at(again)) == ([4, 5, 6], 0, 0, False)


def test_of_several_places_the_one_of_this_state_counts(state):
    state.run(1)
    one, two = state.run(1), state.run(1)
    other = Place("f" * 32, 1, "")
    assert names(state.at(one, other)) == [2]
    assert names(state.at(one, two, other)) == []
    assert state.at(other).restarted


def test_what_is_older_than_the_days_it_is_kept_goes_and_is_told(state):
    state.retention = Retention(days=2)
    start = state.run()
    for _day in range(5):
        state.run(1)
        state.now += DAY
    page = state.at(start)
    assert outcome(page) == ([2, 3, 4], 2, 0, False)
    assert pages.warnings(page, "/s.db") == [
        "2 changes are no longer kept in the history of /s.db. Ask more often, or raise history_days or history_mib."
    ]
    assert (page.first, page.last) == (3, 5)
    assert outcome(state.follow(Since(number=0))) == ([2, 3, 4], 0, 0, False)  # whatever there is


def test_what_is_older_goes_also_where_nothing_changes_any_more(state):
    state.retention = Retention(days=2)
    state.run(1)
    for _day in range(3):
        state.now += DAY
        state.run()
    assert state.follow(Since(number=0)).records == []


@pytest.mark.parametrize("jump", [365 * DAY, 40 * 365 * DAY, -365 * DAY, -40 * 365 * DAY])
def test_a_clock_that_jumps_drops_nothing(state, jump):
    start = state.run()
    state.run(2)
    state.now += jump
    state.run(1)
    state.now += 300
    state.run(1)
    state.now -= jump
    state.run(1)
    state.now += 300
    state.run()
    assert outcome(state.at(start)) == ([0, 1, 2, 3, 4], 0, 0, False)


def test_what_is_more_than_it_may_keep_goes_oldest_first(state):
    state.retention = Retention(mib=0.01)
    start = state.run()
    for _run in range(30):
        state.run(1, Noise=os.urandom(500).hex())
    page = state.at(start)
    assert names(page) == list(range(30 - len(page.records), 30)) and 5 < len(page.records) < 25
    assert page.missed == 30 - len(page.records)
    with sqlite3.connect(state.path) as db:
        assert db.execute("SELECT sum(length(records)) FROM history").fetchone()[0] <= 0.01 * (1 << 20)
    db.close()


def flood(state, owner, runs):
    """So many changes of which 0.01 MiB holds about 18. Returns their names."""
    first = state.told
    for _run in range(runs):
        state.run(1, owner, Noise=os.urandom(500).hex())
    return list(range(first, state.told))


def test_a_users_flood_of_changes_drops_none_of_the_others_which_are_returned_with_the_number_of_those_dropped(state):
    state.retention = Retention(mib=0.01)
    start = state.run()
    others = flood(state, "", 3) + flood(state, "uid=1", 2)
    theirs = []
    for _round in range(4):
        theirs += flood(state, "uid=2", 10)
        others += flood(state, "", 1)
    page = state.at(start)
    left = [name for name in names(page) if name not in others]
    assert [name for name in names(page) if name in others] == others
    assert 5 < len(left) < 15 and left == theirs[-len(left) :]
    assert (page.missed, page.remaining, page.restarted) == (40 - len(left), 0, False)
    assert (page.first, page.last) == (1, state.told)
    assert "%d changes are no longer kept" % page.missed in pages.warnings(page, "s")[0]


def test_users_together_drop_nothing_of_root_while_root_has_half_of_the_space_or_less(state):
    state.retention = Retention(mib=0.01)
    start = state.run()
    roots = flood(state, "", 8)
    for user in range(30):
        flood(state, "uid=%d" % user, 2)
    assert names(state.at(start))[:8] == roots
    roots = flood(state, "", 60)
    found = names(state.at(start))
    assert found[-8:] == roots[-8:] and found[0] not in roots


def test_a_user_alone_keeps_the_newest_of_all_that_fits(state):
    state.retention = Retention(mib=0.01)
    start = state.run()
    theirs = flood(state, "uid=1", 30)
    found = names(state.at(start))
    assert 10 < len(found) < 25 and found == theirs[-len(found) :]
    assert state.at(start).first == 31 - len(found)


def gaps(state):
    """A history of the numbers 1 to 8, of which 3, 4 and 8 are dropped. Returns the place after each number."""
    places = [state.run()]
    for _number in range(1, 9):
        state.now += 10
        places.append(state.run(1))
    with sqlite3.connect(state.path) as db:
        history._drop(db, db.execute("SELECT last, stored_at FROM history WHERE last IN (3, 4, 8)").fetchall())
    db.close()
    return places


def test_what_is_dropped_in_the_middle_is_missed_once_by_each_consumer_that_did_not_have_it(state, monkeypatch):
    places = gaps(state)
    assert outcome(state.at(places[0])) == ([0, 1, 4, 5, 6], 3, 0, False)
    assert outcome(state.at(places[1])) == ([1, 4, 5, 6], 3, 0, False)
    for number, missed in ((2, 3), (3, 2), (4, 1), (5, 1), (7, 1), (8, 0)):
        assert outcome(state.at(places[number])) == (list(range(max(number, 4), 7)), missed, 0, False), number
    assert outcome(state.follow(Since(number=3))) == ([4, 5, 6], 2, 0, False)
    assert state.at(places[0]).place == places[8]
    assert outcome(state.follow(Since(places=[places[0]]), 4)) == ([0, 1], 2, 0, False)
    with History(state.path) as opened:
        assert outcome(opened.latest()) == ([0, 1, 4, 5, 6], 0, 0, False)
    monkeypatch.setattr(pages, "PAGE_RECORDS", 2)
    place, seen = places[0], []
    while place != places[8]:
        page = state.at(place)
        place = page.place
        seen.append(outcome(page)[:3])
    assert seen == [([0, 1], 0, 3), ([4, 5], 2, 1), ([6], 1, 0)]


def test_a_time_misses_what_is_dropped_in_the_middle_if_some_of_it_was_later(state):
    gaps(state)
    start = state.now - 80
    for after, found, missed in (
        (10, [0, 1, 4, 5, 6], 3),
        (30, [4, 5, 6], 3),
        (50, [4, 5, 6], 3),
        (80, [], 3),
        (90, [], 0),
    ):
        assert outcome(state.follow(Since(at=start + after))) == (found, missed, 0, False), after


def test_a_place_that_was_dropped_is_this_states_and_one_of_another_history_is_not(state, tmp_path):
    places = gaps(state)
    other = Place(places[3].state, 3, "ffffffff")
    assert not state.at(other).restarted  # nothing tells any more
    assert state.at(Place(places[3].state, 5, "ffffffff")).restarted


def test_a_time_yields_what_was_stored_from_then_on_and_more_where_the_clock_was_set_back(state):
    state.run()
    for now in (100, 200, 150, 300):
        state.now = now
        state.run(1)
    at = {when: names(state.follow(Since(at=when))) for when in (0, 100, 101, 160, 201, 301)}
    assert at == {0: [0, 1, 2, 3], 100: [0, 1, 2, 3], 101: [1, 2, 3], 160: [1, 2, 3], 201: [3], 301: []}
    assert outcome(state.follow(Since(at=-(10**12)))) == ([0, 1, 2, 3], 0, 0, False)


def test_a_time_tells_what_is_no_longer_kept_only_if_some_of_that_was_later(state):
    state.retention = Retention(days=2)
    began = state.now
    for _day in range(5):
        state.run(1)
        state.now += DAY
    assert outcome(state.follow(Since(at=began))) == ([2, 3, 4], 2, 0, False)
    assert outcome(state.follow(Since(at=began + 2 * DAY))) == ([2, 3, 4], 0, 0, False)


def test_what_is_more_than_a_page_is_told_and_follows(state, monkeypatch):
    monkeypatch.setattr(pages, "PAGE_RECORDS", 4)
    start = state.run()
    for _run in range(4):
        state.run(3)
    page = state.at(start)
    assert outcome(page) == ([0, 1, 2, 3, 4, 5], 0, 6, False)
    assert pages.warnings(page, "") == [
        "6 of 12 changes are returned. The rest comes with the next run that gives history.place as since."
    ]
    assert outcome(state.at(page.place)) == ([6, 7, 8, 9, 10, 11], 0, 0, False)
    with History(state.path) as opened:
        latest = opened.latest()
    assert outcome(latest) == ([9, 10, 11], 0, 0, False)


def test_ten_thousand_changes_of_one_run_are_one_page(state):
    start = state.run()
    end = state.run(10000)
    page = state.at(start)
    assert (len(page.records), page.remaining, page.place) == (10000, 0, end)


def test_long_records_are_stored_and_returned_in_pieces(state, monkeypatch):
    monkeypatch.setattr(pages, "PAGE_BYTES", 2 << 20)
    start = state.run()
    end = state.run(20, ContentDiff="+" * 400000)
    seen, place = [], start
    while place != end:
        page = state.at(place)
        assert len(page.records) <= 8
        seen, place = seen + names(page), page.place
    assert seen == list(range(20))


def test_a_run_returns_its_own_changes_and_the_place_after_them(state):
    state.run(1)
    with Store(state.path) as store:
        store.remember(list(identified([{"Name": "mine"}])))
        store.finish(PACKAGES, Run(1, [], []), {})
    state.run(1)  # another consumer's, before this one asks
    result = pages.answer(store, None, [{}], pytest.fail)
    assert [record["Name"] for record in result["changes"]] == ["mine"]
    assert result["history"]["place"] == str(store.after) and result["history"]["last"] == 3
    result = pages.answer(store, None, [], pytest.fail)
    assert (result["changes"], result["history"]["place"]) == ([], str(store.after))
    assert "changes" not in pages.answer(store, None, None, pytest.fail)


def test_a_damaged_row_is_counted_and_the_others_are_returned(state):
    start = state.run()
    for _run in range(3):
        state.run(2)
    for damage in (b"", b"x", None, history.pack([1, 2]), history.pack([{}]), history.pack([])):
        with sqlite3.connect(state.path) as db:
            db.execute("UPDATE history SET records = ? WHERE last = 4", (damage if damage is not None else "text",))
        db.close()
        page = state.at(start)
        assert (names(page), page.damaged, page.remaining) == ([0, 1, 4, 5], 2, 0)
        assert "2 changes are damaged and left out, in the history of s." in pages.warnings(page, "s")[0]
        assert pages.describe(page, "s")["missed"] == 2
    assert names(state.follow(Since(number=4))) == [4, 5]
    with Store(state.path, read_only=True) as store:
        seen = []
        with pytest.raises(RowDamaged):
            seen.extend(record["Name"] for record in store.history())
    assert state.run(1).number == 7


def test_a_state_that_never_was_has_no_history(state):
    page = state.follow(Since(number=3))
    assert page == pages.NOTHING
    assert pages.describe(page, "/s.db")["place"] is None and pages.warnings(page, "/s.db") == []


@pytest.mark.parametrize("days, mib", [(0, 1), (-1, 1), (1, 0), (float("nan"), 1), (1, float("inf")), (1e9, 1)])
def test_what_cannot_be_kept_is_refused(days, mib):
    with pytest.raises(RetentionError, match="history_"):
        Retention.checked(days, mib)


@pytest.mark.parametrize("count, size, shown", [(3, 10, 3), (10001, 10, 10000), (40, 1 << 20, 15)])
def test_a_run_that_stores_nothing_returns_a_page_of_what_it_found(tmp_path, count, size, shown):
    class Read:
        path, after, before, ignored, read_only = str(tmp_path / "none.db"), None, None, False, True

    found = [{"FileSystemPath": "%d" % number + "x" * size} for number in range(count)]
    said = []
    result = pages.answer(Read, None, found, said.append)
    assert result["changes"] == found[:shown] and result["history"]["not_stored"] == shown
    assert [text.partition(" that")[0] for text in said] == (
        ["%d of %d changes" % (shown, count)] if shown < count else []
    )
