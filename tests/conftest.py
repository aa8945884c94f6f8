# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the collection importable in any clone, and builds the programs as `make programs` does, with compiled code added.

Tests import everything as `ansible_collections.changetracking.inventory`, so that name must lead to this clone. The
import itself is pytest-ansible's, or a plain entry of sys.path where there is none: it needs Python 3.10.
"""

import importlib.util
import marshal
import os
import signal
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

try:
    from pytest_ansible.units import inject_only
except ImportError:
    inject_only = None

ROOT = Path(__file__).resolve().parents[1]
BUILDER = ROOT / "plugins/plugin_utils/_zipapp.py"


def lay_collections():
    """The folder with ansible_collections in it, through which this clone is imported: the one that make lays too."""
    if ROOT.parts[-3:] == ("ansible_collections", "changetracking", "inventory"):
        return ROOT.parents[2]
    collections = ROOT / ".build/collections"
    link = collections / "ansible_collections/changetracking/inventory"
    if not link.exists() or link.resolve() != ROOT:
        link.parent.mkdir(parents=True, exist_ok=True)
        new = link.with_name("inventory.%d" % os.getpid())
        new.symlink_to(ROOT)
        new.replace(link)
    return collections


# A shell that starts the tests in the background has them ignore Ctrl-C, and all that they start, which some wait for.
signal.signal(signal.SIGINT, signal.default_int_handler)

COLLECTIONS = str(lay_collections())
os.environ["ANSIBLE_COLLECTIONS_PATH"] = COLLECTIONS
if inject_only:
    inject_only()  # already here: the next conftest imports the collection, before pytest-ansible is configured
elif COLLECTIONS not in sys.path:
    sys.path.insert(0, COLLECTIONS)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Have pytest-ansible do no more than that: by itself it fills a folder `collections` with links."""
    if hasattr(config.option, "ansible_unit_inject_only"):
        config.option.ansible_unit_inject_only = True


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """A folder with agent.pyz and relay.pyz, which also hold their modules compiled by this Python."""
    folder = tmp_path_factory.mktemp("programs")
    for name in ("agent", "relay"):
        path = folder / (name + ".pyz")
        subprocess.run([sys.executable, str(BUILDER), name, str(path)], check=True)
        add_bytecode(path)
    return folder


def add_bytecode(path):
    """Adds to a zipapp the .pyc of each module. Without them each of the many processes of these tests compiles the library anew.

    Python takes a .pyc only if it is of its own version, and if time and size are those of the source next to it.
    """
    with zipfile.ZipFile(str(path), "a") as archive:
        for entry in list(archive.infolist()):
            source = archive.read(entry)
            modified = int(time.mktime((*entry.date_time, -1, -1, -1)))
            flags = b"" if sys.version_info < (3, 7) else bytes(4)
            header = importlib.util.MAGIC_NUMBER + flags + struct.pack("<II", modified, len(source))
            code = compile(source, str(path / entry.filename), "exec", dont_inherit=True)
            archive.writestr(zipfile.ZipInfo(entry.filename + "c"), header + marshal.dumps(code))
