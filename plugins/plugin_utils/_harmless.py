# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a defect of a callback from ending a run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def harmless(hook: Callable[..., None]) -> Callable[..., None]:
    """The hook of a callback with a method `warn`, with an exception turned into one warning."""

    @functools.wraps(hook)
    def guarded(self: Any, *arguments: Any, **options: Any) -> None:
        try:
            hook(self, *arguments, **options)
        except Exception as error:
            self.warn(
                f"{hook.__name__} failed ({type(error).__name__}: {error}). The run continues, but records may be missing"
            )

    return guarded
