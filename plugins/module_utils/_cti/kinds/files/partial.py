# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Scans only the directories in which something may have changed."""

from typing import AbstractSet, NamedTuple


class Named(NamedTuple):
    """Where something may have changed, by the paths that Scan's `watch` gets.

    A directory that was made, moved or removed is one of the trees, and its directory is one of the folders. What several paths lead to
    is named by each of them.
    """

    folders: AbstractSet[str]  # directories whose entries may have changed
    trees: AbstractSet[str]  # directories that may differ with all that is below them
