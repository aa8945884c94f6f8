# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The library: change tracking and inventory with nothing but Python's standard library."""

__version__ = "0.1.0"  # as in galaxy.yml
