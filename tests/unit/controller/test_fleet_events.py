# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event source `changes`, run as ansible-rulebook runs it; with the program itself: tests/eda."""

import asyncio
import contextlib
import json
import logging
import runpy
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.tests.helpers.fleets import (
    HOSTILE,
    HOUR,
    NOON,
    VIM,
    FleetStore,
    by_module,
    file,
    make_older,
    package,
)

pytestmark = pytest.mark.no_core

SOURCE = Path(__file__).parents[3] / "extensions/eda/plugins/event_source/changes.py"
PATIENCE = 30


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request, tmp_path):
    if request.param == "sqlite":
        return str(tmp_path / "fleet.db")
    return request.getfixturevalue("server").database()


def ssh(host, content, at=NOON):
    return (host, file("/etc/ssh/sshd_config", "a"), file("/etc/ssh/sshd_config", content, modified=at - 60), at)


class Engine:
    """The part of ansible-rulebook that a source sees: it takes events off a queue, and gives them back if there is feedback."""

    def __init__(self, args, feedback=False, takes=10**6):
        self.args = dict(args)
        self.taken = []
        self._feedback = feedback
        self._takes = takes

    async def run(self, until, meanwhile=None):
        """Run the source until `until` events were taken; `meanwhile` is called once it waits for events."""
        queue = asyncio.Queue(1)
        if self._feedback:
            self.args.update(feedback=True, eda_feedback_queue=asyncio.Queue(1))
        source = asyncio.create_task(runpy.run_path(str(SOURCE))["main"](queue, self.args))
        engine = asyncio.create_task(self._take(queue))
        try:
            deadline = asyncio.get_running_loop().time() + PATIENCE
            if meanwhile is not None:
                await asyncio.sleep(1)
                meanwhile()
            while len(self.taken) < until and not source.done():
                assert asyncio.get_running_loop().time() < deadline, self.taken
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.1)
        finally:
            for task in (source, engine):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await source
        return self.taken

    async def _take(self, queue):
        while True:
            event = await queue.get()
            self.taken.append(event)
            if self._feedback and len(self.taken) <= self._takes:
                await self.args["eda_feedback_queue"].put(event)


def taken(args, until, meanwhile=None, **options):
    return asyncio.run(Engine(args, **options).run(until, meanwhile))


def uuids(events):
    return [event["meta"]["uuid"] for event in events]


def test_an_event_says_what_changed_where_and_whether_it_was_ansible(where):
    store = FleetStore(where)
    store.task("web01", "copy", NOON - 61, {"paths": ["/etc/ssh/sshd_config"]})
    ours = store.change(*ssh("web01", "b"))
    by_hand = store.change(*ssh("web02", "b"))
    events = taken({"store": where, "since": "all"}, 2)
    assert [event["meta"] for event in events] == [
        {"hosts": "web01", "uuid": ours},
        {"hosts": "web02", "uuid": by_hand},
    ]
    first, second = (event["change"] for event in events)
    assert (first["level"], first["task"]["name"], second["level"]) == ("task", "a task", "drift")
    assert (second["kind"], second["item"], second["category"], second["host"]) == (
        "files", "/etc/ssh/sshd_config", "Modified", "web02",
    )  # fmt: skip
    assert "task" not in second and "mark" not in second
    json.dumps(events)


def test_an_event_has_its_actor_and_no_text_of_it_is_a_template(where):
    store = FleetStore(where)
    store.task("web01", "copy", NOON - 61, {"paths": ["/etc/ssh/sshd_config"]})
    store.change(*ssh("web01", "b"), **by_module("copy"))
    store.change(*ssh("web02", "b"), **HOSTILE)
    first, second = (event["change"] for event in taken({"store": where, "since": "all"}, 2))
    assert first["witness"] == "confirmed" and first["actor"]["module"] == "copy" and first["actor"]["login"] == "alice"
    assert set(second["actor"]) == {"login", "process", "command", "module", "at"}
    assert "{{" not in json.dumps(second) and all(text.isprintable() for text in second["actor"].values())


def test_events_of_a_store_without_actors(where):
    make_older(where)
    store = []
    events = taken(
        {"store": where, "since": "all"}, 4, lambda: store.append(FleetStore(where).change(*ssh("web02", "c"), **VIM))
    )
    assert all("actor" not in event["change"] for event in events[:3])
    assert events[3]["meta"]["uuid"] == store[0] and events[3]["change"]["actor"]["login"] == "bob"


def test_new_changes_are_events_at_once_and_old_ones_are_not(where):
    store = FleetStore(where)
    store.change(*ssh("web01", "b"))
    new = []
    events = taken({"store": where}, 1, lambda: new.append(store.change(*ssh("web01", "c", NOON + HOUR))))
    assert uuids(events) == new


@pytest.mark.parametrize("feedback", [False, True])
def test_a_source_that_is_started_again_continues_where_it_stopped(where, tmp_path, feedback):
    store = FleetStore(where)
    args = {"store": where, "since": "all", "place": str(tmp_path / "place")}
    first = [store.change(*ssh("web01", "b")), store.change(*ssh("web02", "b"))]
    assert uuids(taken(args, 2, feedback=feedback)) == first
    second = [store.change(*ssh("web03", "b"))]
    assert uuids(taken(args, 1, feedback=feedback)) == second
    assert uuids(taken(args, 0, feedback=feedback)) == []


def test_an_event_that_the_engine_did_not_give_back_comes_again(tmp_path):
    where = str(tmp_path / "fleet.db")
    store = FleetStore(where)
    records = [store.change(*ssh(f"web{number}", "b")) for number in range(5)]
    args = {"store": where, "since": "all", "place": str(tmp_path / "place")}
    assert uuids(taken(args, 5, feedback=True, takes=2)) == records
    assert uuids(taken(args, 3, feedback=True)) == records[2:]


def test_marked_changes_say_so(tmp_path):
    where = str(tmp_path / "fleet.db")
    store = FleetStore(where)
    store.change(*ssh("web01", "b"))
    marks = [{"ignore": {"item": "/etc/ssh/*"}, "reason": "known"}]
    (event,) = taken({"store": where, "since": "all", "marks": marks}, 1)
    assert event["change"]["mark"]["word"] == "ignore"


def test_a_wrong_mark_is_one_warning_and_the_events_come(tmp_path, caplog):
    where = str(tmp_path / "fleet.db")
    store = FleetStore(where)
    store.execute("INSERT INTO marks (mark, word, what, made_at) VALUES (7, 'ignore', '[]', '')")
    store.change(*ssh("web01", "b"))
    assert len(taken({"store": where, "since": "all"}, 2, lambda: store.change(*ssh("web02", "b")))) == 2
    assert caplog.text.count("Delete mark 7") == 1


@pytest.mark.parametrize("column", ["hosts.via", "contents.Architecture"])
def test_a_value_that_is_no_text_is_one_sentence_and_no_event_is_lost(tmp_path, caplog, column):
    where = str(tmp_path / "fleet.db")
    store = FleetStore(where)
    store.change("web01", None, package("p"))
    table, name = column.split(".")
    db = sqlite3.connect(where)
    ((text,),) = db.execute(f"SELECT {name} FROM {table}").fetchall()
    db.execute(f"UPDATE {table} SET {name} = ?", (b"\xff",))
    db.commit()

    def correct():
        db.execute(f"UPDATE {table} SET {name} = ?", (text,))
        db.commit()

    assert len(taken({"store": where, "since": "all"}, 1, correct)) == 1
    assert caplog.text.count("has a value of the wrong type in %s." % column) == 1


def test_many_changes_of_one_run_are_judged_together(tmp_path, monkeypatch):
    where = str(tmp_path / "fleet.db")
    store = FleetStore(where)
    records = [store.change("web01", None, package(f"p{number}")) for number in range(2500)]
    assert uuids(taken({"store": where, "since": "all"}, 2500)) == records


def test_no_text_of_an_event_is_a_template_and_no_name_stands_for_other_hosts(tmp_path, caplog):
    where = str(tmp_path / "fleet.db")
    store = FleetStore(where)
    name = "{{{{ lookup('pipe', 'id') }}}} {% raw %} {#\x1b[31m" + "x" * 5000
    store.change("web01", None, package(name, version="{{ 1 }}"))
    for host in ("all,", "web*", "{{ 1 }}", "!web01", "a:b"):
        store.change(host, None, package("p"))
    store.change("relayed", None, package("p"))
    store.execute("UPDATE hosts SET via = 'relay' WHERE name = 'relayed'")
    last = store.change("web02", None, package("p"))
    store.execute("UPDATE batches SET record = ? WHERE record = ?", "{{ lookup('pipe', 'id') }}", last[:-2])
    events = taken({"store": where, "since": "all"}, 2)
    assert [event["meta"]["hosts"] for event in events] == ["web01", "web02"]
    assert events[1]["meta"]["uuid"] == events[1]["change"]["record"] == "{ { lookup('pipe', 'id') }}-0"
    text = json.dumps(events)
    assert not any(mark in text for mark in ("{{", "{%", "{#", "\\u001b")) and len(text) < 10_000
    assert caplog.text.count("Changes of a host are skipped") == 5
    both = taken({"store": where, "since": "all", "via": ["playbook", "relay"]}, 3)
    assert [event["meta"]["hosts"] for event in both] == ["web01", "relayed", "web02"]


TEMPLATES = (
    "{{ lookup('pipe', 'touch evaluated') }}",
    "{% if lookup('pipe', 'touch evaluated') %}{% endif %}",
    # Texts that give themselves other delimiters. ansible-core before 2.19 takes the header without a line end, too.
    "#jinja2:variable_start_string:'[[',variable_end_string:']]'\n[[ lookup('pipe', 'touch evaluated') ]]",
    "#jinja2:variable_start_string:'[[',variable_end_string:']]',x:'[[ lookup(*(\"pipe;touch evaluated\".split(\";\"))) ]]' ",
)


def test_ansible_evaluates_no_text_of_an_event(tmp_path):
    """Not in a playbook that gets it as ansible-rulebook passes it on: as an extra variable."""
    where = str(tmp_path / "fleet.db")
    store = FleetStore(where)
    for text in TEMPLATES:
        record = store.change("web01", package("p", version=text), package("p", version="2"))
        store.execute("UPDATE batches SET record = ? WHERE record || '-0' = ?", text, record)
        store.change("web01", None, package(text, version=text))
    events = taken({"store": where, "since": "all"}, 2 * len(TEMPLATES))
    (tmp_path / "events").write_text(json.dumps({"events": events}))
    task = {"ansible.builtin.debug": {"msg": "{{ events }}"}}
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [task]}
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    ended = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-e", "@events", "play.yml"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.count("touch evaluated") == 5 * len(TEMPLATES)
    assert not (tmp_path / "evaluated").exists()


def test_a_store_that_cannot_be_used_is_tried_again(tmp_path, caplog, monkeypatch):
    where = str(tmp_path / "fleet.db")

    def appear():
        FleetStore(where).change(*ssh("web01", "b"))

    with caplog.at_level(logging.WARNING):
        assert len(taken({"store": where}, 1, appear)) == 1
    assert caplog.text.count("There is no fleet store") == 1 and "can be used again" in caplog.text


def test_a_new_store_is_read_from_its_beginning(tmp_path, caplog):
    where = str(tmp_path / "fleet.db")
    args = {"store": where, "since": "all", "place": str(tmp_path / "place")}
    store = FleetStore(where)
    for number in range(50):
        store.change(*ssh(f"web{number}", "b"))
    assert len(taken(args, 50)) == 50
    store.close()
    for path in tmp_path.glob("fleet.db*"):
        path.unlink()
    again = FleetStore(where).change(*ssh("web01", "b"))
    assert uuids(taken(args, 1)) == [again]
    assert "is a new one" in caplog.text


def test_a_postgresql_that_restarts_loses_no_event(server, tmp_path):
    where = server.database()
    store = FleetStore(where)
    store.change(*ssh("web01", "b"))
    store.close()

    def restart():
        server.stop()
        server.start()
        FleetStore(where).change(*ssh("web02", "b"))

    assert len(taken({"store": where, "since": "all"}, 2, restart)) == 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({}, "needs the option store"),
        ({"store": "x", "sore": "y"}, "has the unknown option 'sore'"),
        ({"store": "x", "via": "web"}, "Give playbook or relay"),
        ({"store": "x", "since": "soon"}, "The value of since is 'soon'"),
        ({"store": "x", "marks": "none.yml"}, "Cannot read the marks"),
        ({"store": "x", "place": "no/such/place"}, "There is no"),
        ({"store": "x", "place": "other"}, "is one in the store 'other.db'"),
        ({"store": "x", "place": "damaged"}, "is damaged"),
    ],
)
def test_wrong_options_end_the_source_with_one_sentence(args, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("other").write_text('{"store": "other.db", "seq": 1}')
    Path("damaged").write_text("{")
    with pytest.raises(ValueError, match=said) as caught:
        taken(args, 1)
    assert "\n" not in str(caught.value)


def test_two_sources_do_not_share_a_place(tmp_path):
    FleetStore(str(tmp_path / "fleet.db"))
    args = {"store": str(tmp_path / "fleet.db"), "place": str(tmp_path / "place")}

    async def twice():
        engines = [Engine(args), Engine(args)]
        await asyncio.gather(*(engine.run(0, lambda: None) for engine in engines))

    with pytest.raises(ValueError, match="is in use by another event source"):
        asyncio.run(twice())


def test_the_query_for_new_changes_reads_only_these(tmp_path):
    where = str(tmp_path / "fleet.db")
    FleetStore(where).change(*ssh("web01", "b"))
    sql = "EXPLAIN QUERY PLAN SELECT * FROM ConfigurationChange WHERE Seq > 1 ORDER BY Seq LIMIT 10"
    steps = [row[3] for row in sqlite3.connect(where).execute(sql)]
    assert any("rowid>?" in step for step in steps) and not any("TEMP B-TREE" in step for step in steps), steps
