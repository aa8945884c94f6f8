# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The library as one file."""

import os
import shutil
import subprocess
import sys

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti import daemon
from ansible_collections.changetracking.inventory.plugins.plugin_utils import _zipapp


def test_the_same_library_gives_the_same_bytes_wherever_and_whenever(tmp_path):
    copy = str(tmp_path / "elsewhere")
    shutil.copytree(_zipapp.LIBRARY, copy)
    for folder, _folders, names in os.walk(copy):
        for name in names:
            os.utime(os.path.join(folder, name), (1, 1))
            os.chmod(os.path.join(folder, name), 0o777)
    os.makedirs(os.path.join(copy, "__pycache__"), exist_ok=True)
    with open(os.path.join(copy, "__pycache__", "model.cpython-39.pyc"), "w"):
        pass
    assert _zipapp.build("relay", copy) == _zipapp.build("relay")


def test_it_is_one_executable_file_that_needs_nothing_else(tmp_path):
    path = str(tmp_path / "new" / "relay.pyz")
    _zipapp.write("relay", path)
    assert os.access(path, os.X_OK) and os.listdir(os.path.dirname(path)) == ["relay.pyz"]
    text = subprocess.run([sys.executable, "-I", path, "--help"], stdout=subprocess.PIPE, check=True).stdout.decode()
    assert "run" in text and "status" in text


def test_a_room_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no program 'collect'"):
        _zipapp.build("collect")


def test_the_library_knows_the_collections_version():
    with open(os.path.join(_zipapp.LIBRARY, "..", "..", "..", "galaxy.yml"), encoding="utf-8") as file:
        assert "version: %s" % daemon.VERSION in file.read().splitlines()
