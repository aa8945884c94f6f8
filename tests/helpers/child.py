# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Python processes that a test starts."""

import os
import sys


def importing(**variables):
    """The environment for a child that imports the collection from where this process does, with `variables` added."""
    return dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)), **variables)
