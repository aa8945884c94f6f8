# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for the 1.6 GB of packages that azure.azcollection imports, and does not use for azure_rm_resource.

What signs in and sends the requests is real: azure-core, azure-identity, azure-mgmt-core, azure-cli-core.
"""

import sys
from importlib.machinery import ModuleSpec
from unittest.mock import MagicMock

NEEDLESS = ("azure.mgmt.", "azure.storage", "kiota_authentication_azure", "msgraph")
NEEDED = "azure.mgmt.core"


class Finder:
    """The first finder, so that models which the tests use themselves cost the modules no time either."""

    @staticmethod
    def find_spec(name, _path=None, _target=None):
        return (
            ModuleSpec(name, Finder, is_package=True)
            if name.startswith(NEEDLESS) and not name.startswith(NEEDED)
            else None
        )

    @staticmethod
    def create_module(spec):
        module = MagicMock(name=spec.name)
        module.__path__ = []
        module.__spec__ = spec
        return module

    @staticmethod
    def exec_module(_module):
        pass


sys.meta_path.insert(0, Finder)
