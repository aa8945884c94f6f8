# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs' command lines, as far as they need no running relay."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.daemon import VERSION
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root


def run(program, *arguments, **options):
    done = subprocess.run(
        [sys.executable, str(program), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        universal_newlines=True, check=False, **options
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


README = Path(__file__).parents[2] / "roles" / "relay" / "README.md"


def test_the_queries_of_the_readme_survive_the_double_quotes_of_a_shell():
    text = README.read_text(encoding="utf-8")
    queries = re.findall("^SELECT .*;$", text, re.MULTILINE)
    ((command, example),) = re.findall(
        '^web01# (/usr/local/lib/ctrelay/relay.pyz query "(SELECT .*;)")$', text, re.MULTILINE
    )
    assert example in queries and len(queries) > 1
    for query in queries:
        shown = command.replace(example, query).replace("/usr/local/lib/ctrelay/relay.pyz query", "printf %s")
        assert subprocess.check_output(["sh", "-c", shown]).decode() == query
    assert not any("!" in query for query in queries)  # which an interactive shell would expand


@pytest.mark.parametrize("name", ["agent", "relay"])
def test_a_program_says_its_version(programs, name):
    assert run(programs / (name + ".pyz"), "--version") == (0, "%s %s\n" % (name, VERSION), "")


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "db" / "a b?.db"
    path.parent.mkdir()
    with sqlite3.connect(str(path)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE t (name, size)")
        db.executemany("INSERT INTO t VALUES (?, ?)", [("\xe4", 1), (None, 2)])
    db.close()
    return path


def test_query_prints_one_object_a_row(programs, database):
    code, output, said = run(
        programs / "relay.pyz", "query", "--database", str(database), "SELECT * FROM t ORDER BY size"
    )
    assert (code, said) == (0, "")
    assert [json.loads(line) for line in output.splitlines()] == [
        {"name": "\xe4", "size": 1},
        {"name": None, "size": 2},
    ]


@pytest.mark.parametrize(
    ("sql", "words"),
    [("SELECT", "The query of"), ("SELECT 1; SELECT 2", "The query of"), ("DELETE FROM t", "readonly")],
)
def test_query_says_why_it_failed_and_changes_nothing(programs, database, sql, words):
    before = database.read_bytes()
    code, output, said = run(programs / "relay.pyz", "query", "--database", str(database), sql)
    assert (code, output) == (1, "") and words in said and len(said.splitlines()) == 1 and ".." not in said
    assert database.read_bytes() == before


def test_query_of_what_is_not_there(programs, tmp_path):
    code, _output, said = run(programs / "relay.pyz", "query", "--database", str(tmp_path / "none.db"), "SELECT 1")
    assert code == 1 and "Cannot read the database" in said
    assert list(tmp_path.iterdir()) == []


def test_query_as_root_leaves_no_file_that_is_roots(programs, database):
    need_root("being another user")
    for path in (database, database.parent):
        os.chown(str(path), 65534, 65534)
    for folder in list(database.parents)[:4]:
        folder.chmod(folder.stat().st_mode | 0o011)
    assert run(programs / "relay.pyz", "query", "--database", str(database), "SELECT * FROM t")[0] == 0
    assert {path.stat().st_uid for path in database.parent.iterdir()} == {65534}


CHECKED = ["--chunks", "/nowhere", "--events", "/nowhere"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--listen", "collector:24224"], "'collector:24224' is no address"),
        (["--listen", "@name"], "Give tcp://HOST:PORT or tls://HOST:PORT"),
        (["--listen", "tls://:24224"], "write host and port"),
        (["--listen", "tls://[::]:24224"], "needs a certificate"),
        (["--upload", "forward:nowhere"], "'nowhere' is no address"),
        (["--upload", "relay.db"], "is no destination"),
        (["--interval", "0"], "give a number greater than 0"),
    ],
)
def test_check_says_what_is_wrong_with_the_options(programs, options, words):
    code, _output, said = run(programs / "relay.pyz", "check", *CHECKED, *options)
    assert code != 0 and words in said.splitlines()[-1]


def test_check_looks_at_nothing_of_the_host(programs):
    options = ["--listen", "tls://[::]:24224", "--tls-cert", "/nowhere.pem", "--upload", "sqlite:/nowhere/relay.db"]
    assert run(programs / "relay.pyz", "check", *CHECKED, *options)[0] == 0


def test_check_validates_the_agents_configuration(programs, tmp_path):
    for configuration, code in (
        ({"address": "tcp://a:1"}, 0),
        ({"address": "a:1"}, 2),
        ({"adress": "@a"}, 2),
        ({"refresh": 0}, 2),
    ):
        path = tmp_path / "agent.json"
        path.write_text(json.dumps(configuration))
        assert run(programs / "agent.pyz", "check", "--config", str(path))[0] == code, configuration
        with open(str(path)) as file:
            assert run(programs / "agent.pyz", "check", "--config", "/dev/stdin", stdin=file)[0] == code


def test_show_says_that_there_is_nothing(programs, tmp_path):
    rule = {"extensionConfigurations": {"ChangeTracking-Linux": [{"id": "x", "extensionSettings": {
        "enableServices": False, "enableSoftware": False, "fileSettings": {"fileInfo": [{"destinationPath": str(tmp_path / "none")}]}}}]}}  # fmt: skip
    (tmp_path / "dcr.json").write_text(json.dumps(rule))
    common = [
        "--state",
        str(tmp_path / "state"),
        "--config-address",
        "",
        "--chunks",
        "",
        "--address",
        "tcp://127.0.0.1:9",
    ]
    run(programs / "agent.pyz", "once", *common, "--dcr", str(tmp_path / "dcr.json"))
    for what in ("changes", "files", "packages"):
        assert run(programs / "agent.pyz", "show", what, *common) == (0, "No %s are recorded.\n" % what, "")
        assert run(programs / "agent.pyz", "show", what, "--json", *common) == (0, "", "")
