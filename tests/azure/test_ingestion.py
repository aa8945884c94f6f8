# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes to Log Analytics is what Azure's own client sends, is what the API is specified to take, and is found again by the saved
functions."""

import gzip
import http.client
import json
import os
import random
import re
import subprocess
import time

import duckdb_kql
import pytest
from azure.core.credentials import AccessToken
from azure.monitor.ingestion import LogsIngestionClient

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure import https, ingestion, tables
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.ingestion import (
    Ingestion,
    IngestionError,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.plugin_utils._azure import direct
from ansible_collections.changetracking.inventory.tests.helpers.log_analytics import RULE, TOKEN, Tokens, Workspace
from ansible_collections.changetracking.inventory.tests.helpers.program import PATIENCE, wait_for
from ansible_collections.changetracking.inventory.tests.helpers.web import Answer, Web, answer

NOW = 1800000000
TIME = "2027-01-15T08:00:00Z"
HEADERS = ("authorization", "content-type", "content-encoding", "accept", "host")  # that matter


class Credential:
    def get_token(self, *scopes, **_options):
        assert scopes == ("https://monitor.azure.com/.default",)
        return AccessToken(TOKEN, int(time.time()) + 3600)


def records(count, seed, text=40):
    """Records of all kinds, with texts of all scripts."""
    chance = random.Random(seed)
    letters = 'abcäß€漢\U0001f600\\"\n\x01 '
    made = []
    for number in range(count):
        kind = chance.choice(list(all_kinds().values()))
        record = {column: "".join(chance.choices(letters, k=chance.randrange(text))) for column in kind.columns}
        record.update(
            {"Size": str(number), "TimeGenerated": TIME, "RecordId": "%d-%d" % (seed, number), "Computer": "web01"}
        )
        record[chance.choice(["ConfigDataType", "ConfigChangeType"])] = kind.config_type
        made.append(record)
    return made


def rows_of(made):
    """Stream -> rows, as ours are."""
    rows = {}
    for record in made:
        table = tables.table_of(record)
        row = tables.encode_row(table, "stream", NOW, record, NOW)
        rows.setdefault(table.stream, []).append(json.loads(row.decode("utf-8")))
    return rows


def send_ours(url, certificate, made, tokens=None):
    rule = ingestion.parse_rule("azure:%s/%s" % (url, RULE))
    with Ingestion(rule, https.Client(rule.endpoint, certificate[0]), tokens or Tokens(), now=lambda: NOW) as ours:
        ours.send("stream", [(NOW, record) for record in made])


def send_theirs(url, certificate, made):
    client = LogsIngestionClient(url, Credential(), connection_verify=certificate[0], retry_total=0)
    for stream, rows in rows_of(made).items():
        client.upload(RULE, stream, rows)


def calls(web):
    """Target -> calls, each as headers that matter and rows."""
    found = {}
    for request in web.requests:
        assert request.method == "POST"
        headers = {name: request.headers.get(name) for name in HEADERS}
        rows = json.loads(gzip.decompress(request.body).decode("utf-8"))
        found.setdefault(request.target, []).append((headers, rows))
    web.requests.clear()
    return found


@pytest.fixture
def recorder(certificate):
    with Web(lambda request: answer(204), certificate) as web:
        yield web


@pytest.mark.parametrize("seed", range(25))
def test_a_call_of_ours_is_one_of_theirs(recorder, certificate, seed):
    """Where the rows fit into one call of each table, the calls are equal."""
    made = records(random.Random(seed).randrange(1, 200), seed)
    send_theirs(recorder.url, certificate, made)
    theirs = calls(recorder)
    send_ours(recorder.url, certificate, made)
    assert calls(recorder) == theirs and theirs


def test_many_rows_are_the_same_in_the_same_order_in_calls_within_the_limit(recorder, certificate):
    made = records(6000, 99, text=120)
    send_theirs(recorder.url, certificate, made)
    theirs = calls(recorder)
    send_ours(recorder.url, certificate, made)
    assert all(len(gzip.decompress(request.body)) <= tables.CALL_BYTES for request in recorder.requests)
    ours = calls(recorder)
    assert set(ours) == set(theirs) and len(ours) == 2
    for target, found in ours.items():
        assert [row for _headers, rows in found for row in rows] == [
            row for _headers, rows in theirs[target] for row in rows
        ]
        assert {json.dumps(headers) for headers, _rows in found} == {
            json.dumps(headers) for headers, _rows in theirs[target]
        }


# --- the API as it is documented


def specification():
    """Source: "Logs Ingestion API in Azure Monitor" and its limits. The columns are those of our rule."""
    streams = direct.rule_body("workspace", "westeurope")["properties"]["streamDeclarations"]
    types = {
        "string": {"type": "string", "maxLength": 65536}, "long": {"type": "integer", "format": "int64"},
        "datetime": {"type": "string", "format": "date-time"}, "dynamic": {"type": "object"},
    }  # fmt: skip
    answers = {"204": {"description": "Taken."}}
    for status in ("400", "401", "403", "404", "413", "422", "429", "503"):
        answers[status] = {"description": "An error.", "content": {"application/json": {"schema": {"type": "object"}}}}
    paths = {}
    for stream, declared in streams.items():
        properties = {column["name"]: types[column["type"]] for column in declared["columns"]}
        row = {
            "type": "object",
            "additionalProperties": False,
            "properties": properties,
            "required": ["TimeGenerated", "RecordId"],
        }
        version = {
            "name": "api-version",
            "in": "query",
            "required": True,
            "schema": {"type": "string", "enum": ["2023-01-01"]},
        }
        body = {"required": True, "content": {"application/json": {"schema": {"type": "array", "items": row}}}}
        paths["/dataCollectionRules/%s/streams/%s" % (RULE, stream)] = {
            "post": {"parameters": [version], "requestBody": body, "responses": answers, "security": [{"entra": []}]}
        }
    schemes = {"entra": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.0.3", "info": {"title": "Logs Ingestion API", "version": "2023-01-01"}, "paths": paths,
        "components": {"securitySchemes": schemes},
    }  # fmt: skip


@pytest.fixture(scope="module")
def prism(tmp_path_factory):
    """The port of a Prism that answers as specified."""
    folder = tmp_path_factory.mktemp("prism")
    (folder / "api.json").write_text(json.dumps(specification()))
    program, log = os.path.join(os.environ["CT_NPM"], "prism"), folder / "log"
    command = [program, "mock", "--errors", "--host", "127.0.0.1", "--port", "0", "api.json"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=str(folder), stdout=output, stderr=output)

    def port():
        return re.search(r"listening on http://127.0.0.1:(\d+)", log.read_text())

    try:
        wait_for(
            lambda: port() or process.poll() is not None, log.read_text, 3 * PATIENCE
        )  # node reads thousands of files
        assert port(), log.read_text()
        yield int(port().group(1))
    finally:
        process.kill()
        process.wait(PATIENCE)


@pytest.fixture
def specified(prism, certificate):
    """Prism behind what it does not do itself: TLS and gzip."""

    def respond(request):
        plain = gzip.decompress(request.body)
        connection = http.client.HTTPConnection("127.0.0.1", prism, timeout=60)
        headers = {
            name: request.headers[name]
            for name in ("authorization", "content-type", "accept")
            if request.headers.get(name)
        }
        connection.request("POST", request.target, plain, headers)
        found = connection.getresponse()
        return Answer(found.status, {"Content-Type": "application/json"}, found.read())

    with Web(respond, certificate) as web:
        yield web


def test_the_documented_api_takes_every_row_of_ours(specified, certificate):
    made = records(500, 7)
    made += [
        {"log": "text", "RecordId": "other"},
        {"RecordId": "x", "ConfigChangeType": "Files", "DateModified": "never", "Size": "?"},
    ]
    send_ours(specified.url, certificate, made)
    assert len(calls(specified)) == 3


def test_what_the_documented_api_refuses_is_an_error_of_ours(specified, certificate):
    with pytest.raises(IngestionError, match="does not accept the token"):
        send_ours(specified.url, certificate, records(3, 8), Tokens(""))
    with pytest.raises(IngestionError, match="has no rule"):
        rule = ingestion.parse_rule("azure:%s/%s" % (specified.url, "dcr-f"))
        Ingestion(rule, https.Client(rule.endpoint, certificate[0]), Tokens()).send("s", [(NOW, {"RecordId": "x"})])


# --- the saved functions


AZURE_COLUMNS = {  # of Azure's own tables, as documented
    "ConfigurationChange": "Computer:string,ConfigChangeType:string,ChangeCategory:string,SoftwareName:string,Current:string,"
    "Previous:string,SvcName:string,SvcState:string,FileSystemPath:string,FieldsChanged:string,Size:long,PreviousSize:long,"
    "DateModified:datetime,DateCreated:datetime,LastSnapshotAge:long,TimeGenerated:datetime,VMUUID:string",
    "ConfigurationData": "Computer:string,ConfigDataType:string,SoftwareName:string,CurrentVersion:string,SvcName:string,SvcState:string,"
    "FileSystemPath:string,Size:long,DateModified:datetime,DateCreated:datetime,TimeGenerated:datetime,VMUUID:string",
}


def schemas():
    found = {table.name: ",".join("%s:%s" % pair for pair in table.columns.items()) for table in tables.TABLES}
    return dict(found, **AZURE_COLUMNS)


def test_microsofts_parser_finds_nothing_wrong_with_functions_rule_and_documented_queries():
    functions = {name: body["properties"]["query"] for name, body in direct.function_bodies().items()}
    queries = dict(functions)
    for flow in direct.rule_body("workspace", "westeurope")["properties"]["dataFlows"]:
        queries[flow["outputStream"]] = flow["transformKql"].replace("source", flow["outputStream"][len("Custom-") :])
    changes = "let CTConfigurationChange = () {%s};\nCTConfigurationChange\n" % functions["CTConfigurationChange"]
    queries["daemons"] = (
        changes + '| where ConfigChangeType == "Daemons" and SvcName contains "ssh" and SvcState != "Running"'
    )
    queries["software"] = changes + '| where ConfigChangeType == "Software" and ChangeCategory == "Added"'
    queries["files"] = (
        changes + '| where FieldsChanged contains "FileContentChecksum" and FileSystemPath == "/etc/hosts"'
    )
    queries["wrong"] = changes + "| where NoSuchColumn > 5"
    given = {"tables": {name: "(%s)" % schema for name, schema in schemas().items()}, "queries": queries}
    run = subprocess.run(
        ["node", "tests/azure/kql.js"], input=json.dumps(given), stdout=subprocess.PIPE, text=True, check=True
    )
    found = json.loads(run.stdout)
    assert found.pop("wrong")["diagnostics"] != []
    assert {name: one["diagnostics"] for name, one in found.items()} == {name: [] for name in found}
    for name, (azure, ours) in direct.FUNCTIONS.items():
        columns = dict(found[name]["columns"])
        assert len(columns) == len(found[name]["columns"]), "a column that the two tables have with different types"
        assert columns == {**dict(pair.split(":") for pair in AZURE_COLUMNS[azure].split(",")), **ours.columns}


def test_the_functions_show_each_record_once(certificate, tmp_path):
    """As another implementation of KQL runs them, on the rows that a throttled and unreliable Azure has taken."""
    workspace = Workspace(lambda number, _rows: Workspace.LOST if number % 3 == 1 else None)
    made = records(3000, 11)
    made.append(dict(made[0], RecordId="old", TimeGenerated="2027-01-01T00:00:00Z"))
    with Web(workspace.respond, certificate) as web:
        rule = ingestion.parse_rule("azure:%s/%s" % (web.url, RULE))
        ours = Ingestion(
            rule, https.Client(rule.endpoint, certificate[0]), Tokens(), 60, lambda _seconds: None, lambda: NOW
        )
        for start in range(0, len(made), 500):
            ours.send("stream", [(NOW, record) for record in made[start : start + 500]])
    assert workspace.stored > len(made) == len(workspace.ids)
    sql = {"string": "VARCHAR", "long": "BIGINT", "datetime": "TIMESTAMP", "dynamic": "JSON"}
    with duckdb_kql.connect() as database:
        for name, schema in schemas().items():
            columns = [column.split(":") for column in schema.split(",")]
            database.execute(
                "CREATE TABLE %s (%s)"
                % (name, ", ".join('"%s" %s' % (column, sql[type_]) for column, type_ in columns))
            )
            if name in AZURE_COLUMNS:
                database.execute(
                    "INSERT INTO %s (Computer, TimeGenerated) VALUES ('ama', '2027-01-15'), ('ama', '2027-01-15')"
                    % name
                )
                continue
            (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in workspace.rows[name]))
            types = ", ".join("'%s': '%s'" % (column, sql[type_]) for column, type_ in columns)
            read = "INSERT INTO %s BY NAME SELECT * FROM read_json('%s', format='newline_delimited', columns={%s})"
            if workspace.rows[name]:
                database.execute(read % (name, tmp_path / name, types))
        seen = []
        for name, body in direct.function_bodies().items():
            query = body["properties"]["query"] + "\n| project RecordId, Computer, TimeGenerated, Size"
            rows = duckdb_kql.kql(database, query).fetchall()
            assert [row[1] for row in rows].count("ama") == 2, name
            seen += [(row[0], row[2].strftime("%Y-%m-%dT%H:%M:%SZ"), row[3]) for row in rows if row[1] != "ama"]
    assert sorted(seen) == sorted((record["RecordId"], record["TimeGenerated"], int(record["Size"])) for record in made)
