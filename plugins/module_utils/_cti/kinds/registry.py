# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The kinds of items, in their order. What collects them is in collectors.py, which only those that collect import."""

from functools import lru_cache
from typing import Dict

from .kind import Kind


@lru_cache(maxsize=None)
def all_kinds() -> Dict[str, Kind]:
    """Each kind by its name; their modules are loaded by the first call.

    The imports are statements for Ansible, which sends a module what it finds imported somewhere in the text.
    """
    from .files.kind import FILES
    from .packages.kind import PACKAGES
    from .services.kind import SERVICES

    return {kind.name: kind for kind in (PACKAGES, SERVICES, FILES)}
