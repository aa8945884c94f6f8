# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The parameters of a query of the fleet store: how many at a time, and what stands for them in SQL."""

from typing import Any, Iterator, Sequence, Sized

AT_ONCE = 450  # or half of them; SQLite before 3.32 takes 999


def placeholders(values: Sized) -> str:
    return ", ".join("?" * len(values))


def slices(values: Sequence[Any], most: int = AT_ONCE) -> Iterator[Sequence[Any]]:
    return (values[start : start + most] for start in range(0, len(values), most))  # noqa: E203
