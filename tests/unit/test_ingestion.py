# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records become rows of the tables in Log Analytics, and arrive there whatever Azure answers."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure import ingestion, tables
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.errors import AzureError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.ingestion import (
    Ingestion,
    IngestionError,
    parse_rule,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.records import ACTOR_COLUMNS
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.text import timestamp
from ansible_collections.changetracking.inventory.tests.helpers.fleets import VIM
from ansible_collections.changetracking.inventory.tests.helpers.log_analytics import (
    FIELD_BYTES,
    RULE,
    Client,
    Tokens,
    Workspace,
    error,
)

NOW = 1800000000
TIME = timestamp(NOW)
FILE = {"ConfigChangeType": "Files", "TimeGenerated": TIME, "FileSystemPath": "/etc/hosts"}


def row_of(record, table=None, stream="s", seconds=NOW, now=NOW):
    data = tables.encode_row(table or tables.table_of(record), stream, seconds, record, now)
    assert len(data) <= tables.CALL_BYTES - 2
    return json.loads(data.decode("utf-8"))


# --- rows


def test_columns_have_names_and_types_that_azure_takes():
    for table in tables.TABLES:
        assert table.columns["TimeGenerated"] == "datetime" and table.columns["RecordId"] == "string"
        assert set(table.columns.values()) <= {"string", "long", "datetime", "dynamic"}
        for name in table.columns:
            assert re.match(r"[A-Za-z][A-Za-z0-9_]{0,44}\Z", name)
            assert name not in ("_ResourceId", "id", "_SubscriptionId", "TenantId", "Type", "UniqueId", "Title")


def test_columns_that_azures_own_tables_have_are_of_the_same_type():
    """Or else a union of both shows each of them as two columns."""
    documented = {
        "Size": "long",
        "PreviousSize": "long",
        "LastSnapshotAge": "long",
        "DateModified": "datetime",
        "DateCreated": "datetime",
    }
    documented.update(
        PreviousDateModified="datetime", PreviousDateCreated="datetime", Current="string", VMUUID="string"
    )
    for name, type_ in documented.items():
        found = {table.columns[name] for table in tables.TABLES if name in table.columns}
        assert found == {type_}, name


def test_each_record_of_ours_fills_columns_alone():
    for kind in all_kinds().values():
        record = dict.fromkeys(kind.columns, "1")
        record.update(ConfigDataType=kind.config_type, TimeGenerated=TIME, RecordId="r", Computer="web01")
        record.update({name: TIME for name in record if tables.DATA.columns[name] == "datetime"})
        row = row_of(record)
        assert tables.MORE not in row and set(row) == set(record)


def test_the_actor_of_a_change_has_columns_of_its_types():
    assert {name: tables.CHANGES.columns[name] for name in ACTOR_COLUMNS} == {
        "ChangedAt": "datetime", "ChangedBy": "string", "ChangedByUid": "long", "ChangedByProcess": "string", "ChangedByCommand": "string",
        "ChangedBySession": "long", "ChangedByModule": "string", "ChangedByCount": "long",
    }  # fmt: skip
    record = dict(FILE, RecordId="r", **VIM)
    assert row_of(record) == record
    wrong = {
        "ChangedAt": "2026-01-01T00:00:00.1234Z",
        "ChangedByUid": "root",
        "ChangedBySession": 1 << 70,
        "ChangedByCount": True,
    }
    assert row_of(dict(FILE, RecordId="r", **wrong)) == dict(FILE, RecordId="r", AdditionalColumns=wrong)
    for time in (
        "2026-02-31T00:00:00.123Z",
        "2026-01-01T00:00:00.12\u0663Z",
        "2026-01-01T00:00:00+00:0Z",
        "2026-01-01T00:00:00.123\n",
    ):
        assert row_of(dict(FILE, RecordId="r", ChangedAt=time))["AdditionalColumns"] == {"ChangedAt": time}


def test_a_value_has_the_type_of_its_column_and_is_kept_where_it_does_not_fit():
    record = dict(
        FILE,
        Size="123",
        PreviousSize="many",
        DateModified="+012026-01-01T00:00:00Z",
        DateCreated="2026-02-31T00:00:00Z",
    )
    record.update(
        PreviousDateModified="2026-02-28T00:00:00Z", Owner=5, Mode=None, Group="", json_tags='["a"]', nested={"a": [1]}
    )
    row = row_of(dict(record, RecordId="r"))
    assert row.pop("AdditionalColumns") == {
        "PreviousSize": "many", "DateModified": "+012026-01-01T00:00:00Z", "DateCreated": "2026-02-31T00:00:00Z",
        "json_tags": '["a"]', "nested": {"a": [1]},
    }  # fmt: skip
    assert row == dict(FILE, RecordId="r", Size=123, PreviousDateModified="2026-02-28T00:00:00Z", Owner="5")


@pytest.mark.parametrize("own", [None, "", "yesterday", 5, "2026-13-01T00:00:00Z", "0000-01-01T00:00:00Z"])
def test_a_record_without_a_valid_time_has_the_time_it_was_sent(own):
    row = row_of(dict(FILE, TimeGenerated=own, RecordId="r"), seconds=NOW - 5)
    assert row["TimeGenerated"] == timestamp(NOW - 5)
    assert row.get("AdditionalColumns") == ({"TimeGenerated": own} if own else None)
    assert row_of({"RecordId": "r"}, seconds=1e13)["TimeGenerated"] == TIME


def test_a_time_that_azure_may_replace_is_kept_in_a_column_of_its_own():
    for seconds, kept in ((NOW - 3600, False), (NOW - 86400, True), (NOW + 86400, True)):
        row = row_of(dict(FILE, TimeGenerated=timestamp(seconds), RecordId="r"))
        assert row.get("OriginalTime") == (timestamp(seconds) if kept else None)


def test_no_long_text_of_a_sender_stays_in_memory():
    before = tables._parse.cache_info().currsize
    row_of(dict(FILE, DateModified="2026" * 100000, RecordId="r"))
    assert tables._parse.cache_info().currsize <= before + 1


def test_a_record_of_neither_table_is_in_the_third():
    row = row_of({"log": "text", "RecordId": "r"}, stream="syslog")
    assert row == {"Stream": "syslog", "RecordId": "r", "TimeGenerated": TIME, "AdditionalColumns": {"log": "text"}}


@pytest.mark.parametrize("letter", ["a", "ä", "€", "\U0001f600", "\ud800", "\x01", '"', "\0"])
@pytest.mark.parametrize(
    "bytes_", [FIELD_BYTES - 4, FIELD_BYTES - 1, FIELD_BYTES, FIELD_BYTES + 1, FIELD_BYTES + 4, 1 << 20]
)
def test_a_long_text_is_cut_where_azure_would_and_says_so(letter, bytes_):
    size = len(letter.encode("utf-8", "backslashreplace"))
    text = "x" * (bytes_ % size) + letter * (bytes_ // size)
    got = row_of(dict(FILE, ContentDiff=text, RecordId="r"))["ContentDiff"]
    if bytes_ <= FIELD_BYTES and letter != "\ud800":
        assert got == text
    elif bytes_ > FIELD_BYTES:
        kept, total = re.search(r"\.\.\. \[(\d+) of (\d+) bytes\]\Z", got).groups()
        raw = got[: got.rindex("... [")].encode("utf-8")
        assert int(total) == bytes_ and int(kept) == len(raw)
        assert FIELD_BYTES - 8 <= len(got.encode("utf-8")) <= FIELD_BYTES
        assert text.encode("utf-8", "backslashreplace").startswith(raw)


def test_a_row_with_many_long_texts_fits_into_a_call_and_each_says_how_long_it_was():
    names = [name for name, type_ in tables.CHANGES.columns.items() if type_ == "string"]
    row = row_of(
        dict(dict.fromkeys(names, "\x01" * 300000), ConfigChangeType="Files", RecordId="r", other="y" * 300000)
    )
    assert all(
        row[name].endswith(" of 300000 bytes]") for name in names if name not in ("ConfigChangeType", "RecordId")
    )


def test_many_fields_without_a_column_are_bounded_and_counted():
    row = row_of(dict({"k%d" % number: "v" * 100 for number in range(5000)}, RecordId="r"))
    more = row["AdditionalColumns"]
    assert more["..."] == "%d of 5000 keys" % (len(more) - 1) and 400 < len(more) < 5000
    assert len(json.dumps(more, separators=(",", ":"))) <= FIELD_BYTES


values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.text(), max_size=3), st.just("x" * 70000)
)
names = st.one_of(st.sampled_from(sorted(tables.CHANGES.columns)), st.text(max_size=300))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(names, values, max_size=60), max_size=20), st.integers(3000, 200000))
def test_whatever_records_are_the_rows_are_valid_and_the_calls_within_the_limit_and_nothing_is_missing(records, limit):
    workspace = Workspace()
    records = [dict(record, RecordId=str(number)) for number, record in enumerate(records)]
    Ingestion(the_rule(), Client(workspace), Tokens(), now=lambda: NOW).send("s", [(NOW, record) for record in records])
    assert workspace.ids == {record["RecordId"] for record in records} and workspace.stored == len(records)
    assert set(workspace.statuses) <= {204}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 3000), max_size=60), st.integers(4000, 9000))
def test_calls_are_as_large_as_the_limit_allows_and_no_larger(sizes, limit):
    batches = [ingestion.Batch(tables.CHANGES, limit)]
    for number, size in enumerate(sizes):
        waiting = ingestion.Waiting(number, (0, {}), b"x" * size)
        if not batches[-1].add(waiting):
            assert len(ingestion.body_of([*batches[-1].rows, waiting])) > limit
            batches.append(ingestion.Batch(tables.CHANGES, limit))
            assert batches[-1].add(waiting)
    bodies = [ingestion.body_of(batch.rows) for batch in batches]
    assert all(len(body) <= limit for body in bodies)
    assert [waiting.number for batch in batches for waiting in batch.rows] == list(range(len(sizes)))


# --- what Azure answers


def the_rule(host="https://x.westeurope-1.ingest.monitor.azure.com"):
    return parse_rule("azure:%s/%s" % (host, RULE))


class Sending:
    def __init__(self, faults=None, patience=0.0, tokens=None, **options):
        self.workspace = Workspace(faults, **options)
        self.tokens = tokens or Tokens()
        self.slept = []
        self.ingestion = Ingestion(
            the_rule(), Client(self.workspace), self.tokens, patience, self.slept.append, lambda: NOW
        )

    def send(self, count=100, size=10, stream="s", first=0):
        records = [
            (NOW, dict(FILE, RecordId=str(number), SvcName="x" * size)) for number in range(first, first + count)
        ]
        self.ingestion.send(stream, records)

    def fails(self, *arguments, **options):
        with pytest.raises(IngestionError) as failure:
            self.send(*arguments, **options)
        return failure.value


def test_rules_are_named_by_their_endpoint_and_id():
    rule = the_rule()
    assert str(rule) == "azure:https://x.westeurope-1.ingest.monitor.azure.com/" + RULE
    assert rule.resource == "https://monitor.azure.com"
    assert the_rule("https://x.ingest.monitor.azure.us").resource == "https://monitor.azure.us"
    assert the_rule("https://x.ingest.monitor.azure.cn").resource == "https://monitor.azure.cn"
    for text in (
        "azure:http://x/" + RULE,
        "azure:https://x",
        "azure:https://x/a/b",
        "azure:https://x/" + "a" * 65,
        "azure:https://u:secret@x/" + RULE,
        "azure:",
    ):
        with pytest.raises(AzureError) as failure:
            parse_rule(text)
        assert "azure:https://HOST/ID" in str(failure.value) and "secret" not in str(failure.value)


def test_records_go_out_in_few_calls():
    sending = Sending()
    sending.send(5000, 600)
    assert sending.workspace.ids == set(map(str, range(5000)))
    assert sending.workspace.calls == 4 and sending.tokens.asked == ["https://monitor.azure.com"] * 4


def test_a_busy_azure_is_asked_again_when_it_says_and_no_longer_than_the_patience():
    busy = error(429, "RateLimit", **{"retry-after": "7"})
    sending = Sending(lambda number, _rows: busy if number < 3 else None, patience=20)
    sending.send()
    assert sending.slept == [7, 7] and sending.workspace.stored == 100
    sending = Sending(lambda number, _rows: busy, patience=20)
    failure = sending.fails()
    assert sending.slept == [7, 7] and failure.retry_after == 7 and (failure.taken, failure.refused) == (0, [])
    assert "429, RateLimit" in str(failure)
    sending = Sending(lambda number, _rows: error(503, "Busy") if number < 4 else None, patience=100)
    sending.send()
    assert sending.slept == [1, 2, 4]


def test_a_lost_answer_is_a_row_twice_and_once_in_the_function():
    sending = Sending(lambda number, _rows: Workspace.LOST if number == 1 else None, patience=10)
    sending.send(100)
    assert (sending.workspace.stored, len(sending.workspace.function("CTConfigurationChange_CL"))) == (200, 100)


def test_a_refused_token_is_renewed_once():
    sending = Sending(tokens=Tokens("old", "a-token"))
    sending.send()
    assert sending.workspace.statuses == {401: 1, 204: 1}
    failure = Sending(tokens=Tokens("old", "older")).fails()
    assert "Check the identity and its tenant, and the clock of this host" in str(failure)


def test_a_missing_role_and_a_wrong_rule_are_named_with_what_to_do():
    failure = Sending(lambda number, _rows: error(403, "OperationFailed", "no access")).fails()
    assert "Monitoring Metrics Publisher" in str(failure) and "30 minutes" in str(failure)
    failure = Sending(lambda number, _rows: error(404, "NotFound")).fails()
    assert "has no rule %s with the stream Custom-CTConfigurationChange_CL" % RULE in str(failure)


def test_a_call_that_is_too_large_is_halved():
    sending = Sending(call_bytes=100000)
    sending.send(1000, 900)
    assert sending.workspace.ids == set(map(str, range(1000))) and sending.workspace.stored == 1000
    assert sending.workspace.statuses == {413: 15, 204: 16}


@pytest.mark.parametrize("bad", [[0], [99], [3, 4, 70], list(range(100))])
@pytest.mark.parametrize("status", [400, 422])
def test_a_refused_record_is_named_has_a_row_that_says_so_and_the_others_arrive(bad, status):
    ids = set(map(str, bad))

    def faults(_number, rows):
        whole = {row["RecordId"] for row in rows if "SvcName" in row}
        return error(status, "InvalidRecord", "oh") if ids & whole else None

    sending = Sending(faults)
    failure = sending.fails(100)
    assert failure.complete and failure.taken == 100
    assert [refused.number for refused in failure.refused] == bad
    assert all(refused.reason == "%d, InvalidRecord, oh" % status for refused in failure.refused)
    rows = sending.workspace.function("CTConfigurationChange_CL")
    assert {row["RecordId"] for row in rows} == set(map(str, range(100)))
    stubs = [row for row in rows if "SvcName" not in row]
    assert {row["RecordId"] for row in stubs} == ids
    assert all(row["AdditionalColumns"] == {"Refused": "%d, InvalidRecord, oh" % status} for row in stubs)


def test_an_azure_that_refuses_everything_refuses_no_record():
    sending = Sending(lambda number, _rows: error(400, "InvalidStream"))
    failure = sending.fails(100)
    assert (failure.taken, failure.refused, failure.complete) == (0, [], False)
    assert "Azure refuses every row" in str(failure) and sending.workspace.calls < 12


def test_what_was_taken_before_a_failure_is_counted_and_not_sent_again():
    sending = Sending(lambda number, _rows: error(503, "Busy") if number == 3 else None)
    failure = sending.fails(5000, 600)
    assert 2000 < failure.taken < 4000 and sending.workspace.stored == failure.taken
    sending.send(5000, 600)
    assert sending.workspace.stored == 5000  # the same calls, two of which are not repeated
    sending.send(5000, 600)
    assert sending.workspace.stored == 10000  # that send has ended


def test_records_of_one_send_go_to_their_tables_and_the_first_that_waits_counts():
    sending = Sending(lambda number, rows: error(503, "Busy") if "ConfigDataType" in rows[0] else None)
    entries = [(NOW, dict(FILE, RecordId="c%d" % number)) for number in range(10)]
    entries.insert(5, (NOW, {"ConfigDataType": "Files", "RecordId": "d"}))
    with pytest.raises(IngestionError) as failure:
        sending.ingestion.send("s", entries)
    assert failure.value.taken == 5


def test_no_message_has_a_token():
    secret = "sEcReT" * 10
    sending = Sending(tokens=Tokens(secret))
    failure = sending.fails()
    assert secret not in str(failure) and secret not in repr(failure.__cause__)


def test_an_azure_that_does_not_answer_is_asked_three_times():
    sending = Sending(lambda number, _rows: Workspace.LOST, patience=1000)
    assert str(sending.fails()) == "No answer" and sending.slept == [1, 2] and sending.workspace.calls == 3
