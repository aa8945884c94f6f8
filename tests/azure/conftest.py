# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Azure's own clients and ours, before one recorder. Nothing here reaches Azure."""

import os

import pytest

from ansible_collections.changetracking.inventory.tests.helpers import web
from ansible_collections.changetracking.inventory.tests.helpers.azurite import Azurite


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    return web.make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def account(certificate, tmp_path_factory):
    """A running Azurite."""
    azurite = Azurite(tmp_path_factory.mktemp("azurite"), certificate)
    yield azurite
    azurite.end()


@pytest.fixture(scope="session")
def azurite(account):
    """The URL of its account."""
    return account.url


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("AZURE_", "IDENTITY_", "IMDS_", "MSI_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
