# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines that a plugin shows in the output of a run."""

from ansible import constants
from ansible.utils.display import Display


def show(text: str) -> None:
    """Print a line to stdout; to stderr where the stdout callback prints JSON there, which a program reads."""
    Display().display(text, stderr="json" in constants.DEFAULT_STDOUT_CALLBACK)
