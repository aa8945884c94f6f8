# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loading modules from a zip file, as Ansible sends them, without compiling each of them twice."""

import json
import subprocess
import sys
import zipfile

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils import _compile_once

PROGRAM = """
import builtins, json, sys
sys.path.insert(0, sys.argv[1])
compiled = []
real = builtins.compile
builtins.compile = lambda *given, **options: compiled.append(given[1]) or real(*given, **options)
from app import {first}
from app.inner import thing
import app.inner.deeper
from app import beside
try:
    import app.inner.missing
except ImportError as error:
    missing = str(error)
print(json.dumps({{
    "files": [module.__file__ for module in (app, app.beside, app.inner, thing, app.inner.deeper)],
    "paths": list(app.inner.__path__),
    "source": thing.__loader__.get_source("app.inner.thing"),
    "missing": missing,
    "compiled": compiled,
}}))
"""
FILES = (
    "app/__init__.py",
    "app/beside.py",
    "app/inner/__init__.py",
    "app/inner/thing.py",
    "app/inner/deeper/__init__.py",
)


@pytest.fixture
def load(tmp_path):
    archive = str(tmp_path / "payload.zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in FILES:
            file.writestr(name, "NAME = %r\n" % name)
        file.writestr("app/usual.py", "")
        file.write(_compile_once.__file__, "app/_compile_once.py")

    def run(first):
        program = PROGRAM.format(first=first)
        output = subprocess.check_output([sys.executable, "-c", program, archive], universal_newlines=True)
        return json.loads(output.replace(archive, "ZIP"))

    return run


def test_each_module_is_found_where_it_is(load):
    found, usual = load("_compile_once"), load("usual")
    assert found["files"] == ["ZIP/" + name for name in FILES]
    for what in ("files", "paths", "source", "missing"):
        assert found[what] == usual[what]


@pytest.mark.skipif(sys.version_info < (3, 8), reason="zipimport is written in C, which tells nobody what it compiles")
def test_each_module_is_compiled_once(load):
    compiled = load("_compile_once")["compiled"]
    names = ["ZIP/" + name for name in FILES[1:]]
    assert [compiled.count(name) for name in names] == [1] * len(names)


def test_nothing_changes_where_the_collection_is_a_folder():
    assert _compile_once.Importer not in sys.path_hooks
