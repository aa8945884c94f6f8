# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that is soon full, and a PostgreSQL server. Property tests try the same examples on every machine under CI, and new ones
elsewhere."""

import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, settings

from ansible_collections.changetracking.inventory.tests.helpers import postgres
from ansible_collections.changetracking.inventory.tests.helpers.root import need_root

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_collection_modifyitems(config, items):
    """Leaves out tests with PostgreSQL on a Python for which tests/requirements/unit.txt has no psycopg."""
    if sys.version_info < (3, 10):
        unfit = [item for item in items if _uses_postgresql(item)]
        config.hook.pytest_deselected(items=unfit)
        items[:] = [item for item in items if item not in unfit]


def _uses_postgresql(item):
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return "server" in item.fixturenames or "postgresql" in parameters.values()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB. Needs root."""
    folder = str(tmp_path / "small")
    os.mkdir(folder)
    need_root("mounting a small file system")
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", folder])
    yield folder
    subprocess.check_call(["umount", folder])


@pytest.fixture(scope="session")
def server():
    """A running PostgreSQL server."""
    why = postgres.missing()
    if why:
        assert not os.environ.get("CI"), why
        pytest.skip(why)
    server = postgres.Server()
    yield server
    server.close()
