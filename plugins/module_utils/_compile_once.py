# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Halves the time that the collection's code takes to load. Modules import it first.

Ansible sends a module as a zip file. Python's zipimporter compiles each module in there twice: to say where it is, and to run it.
"""

import os
import sys
from zipimport import zipimporter


class Importer(zipimporter):
    """A zipimporter of source code that says where a module is without compiling it."""

    def get_filename(self, fullname: str) -> str:
        end = os.sep + "__init__.py" if self.is_package(fullname) else ".py"
        return os.path.join(self.archive, self.prefix + fullname.rpartition(".")[2] + end)


if isinstance(globals().get("__loader__"), zipimporter):
    sys.path_hooks.insert(0, Importer)
    sys.path_importer_cache.pop(os.path.dirname(__file__), None)  # of the modules next to this one
