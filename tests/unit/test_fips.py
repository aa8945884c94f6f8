# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose Python lacks what others have: in FIPS mode md5 and blake2, and ctypes where SELinux forbids memory that can
be executed. The unit suite runs on a Python in FIPS mode as well: `make unit`."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.tests.helpers.child import importing

FOLDER = Path(__file__).parents[1] / "fips"
SCAN = """
import sys
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule.settings import default as default_settings
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.registry import all_kinds
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.state.store import Store
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.tracking import run
settings = default_settings()._replace(file_rules=[FileRule("r", sys.argv[1], checksum=sys.argv[2])])
for kind in all_kinds().values():
    with Store(sys.argv[3]) as store:
        seen = run.run_kind(kind, settings, store, keep_items=True)
    if kind.name == "files":
        print([item.checksum for item in seen.items], seen.sources["r"])
"""


def run(mode, *arguments):
    environment = importing(CT_FIPS=mode)
    environment["PYTHONPATH"] = os.pathsep.join([str(FOLDER), environment["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-c", *arguments], check=False, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert not done.stderr, done.stderr.decode()
    return done.stdout.decode()


def test_the_step_that_asks_for_fips_mode_has_it():
    if "CT_FIPS" in os.environ:
        for name in ("md5", "blake2b", "blake2s"):
            with pytest.raises((ValueError, AttributeError)):
                getattr(hashlib, name)(b"")
            with pytest.raises(ValueError):
                hashlib.new(name)


@pytest.mark.parametrize("mode", ["refuse", "missing"])
def test_every_kind_is_collected_and_files_have_their_checksums(tmp_path, mode):
    settled = Path(json.__file__).parent  # files so old that the folder has a signature
    said = run(mode, SCAN, str(settled), "sha256", str(tmp_path / "state.db"))
    assert hashlib.sha256((settled / "decoder.py").read_bytes()).hexdigest() in said
    assert "Source(status='ok', " in said


@pytest.mark.parametrize("mode", ["refuse", "missing"])
def test_a_rule_that_demands_md5_lists_its_files_without_and_says_so(tmp_path, mode):
    (tmp_path / "tracked").mkdir()
    (tmp_path / "tracked" / "a.conf").write_bytes(b"x")
    said = run(mode, SCAN, str(tmp_path / "tracked"), "md5", str(tmp_path / "state.db"))
    assert said.startswith("[''] Source(status='ok', count=1")
    assert "this host forbids md5 (FIPS); set the rule's checksum to sha256" in said


@pytest.mark.parametrize("error", ["MemoryError", "ImportError"])
def test_a_python_without_ctypes_collects_every_kind(tmp_path, error):
    blocker = """
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name in ("ctypes", "_ctypes"):
            raise %s("by design")
sys.meta_path.insert(0, Blocker())
sys.modules.pop("ctypes", None)
"""
    (tmp_path / "tracked").mkdir()
    (tmp_path / "tracked" / "a.conf").write_bytes(b"x")
    code = "import sys" + blocker % error + SCAN
    said = run("refuse", code, str(tmp_path / "tracked"), "sha256", str(tmp_path / "state.db"))
    assert "status='ok', count=1" in said
