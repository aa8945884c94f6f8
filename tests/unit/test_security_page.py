# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/security.md promises what tests hold, and names them."""

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs/security.md"


def named():
    """(file, function or "") of each test that the page names; `::function` is one of the file named before it."""
    path = ""
    for file, function in re.findall(
        r"`((?:unit|relay|integration|agent)/[\w/]+\.py)?(?:::(\w+))?`", PAGE.read_text("utf-8")
    ):
        path = file or path
        if file or function:
            yield path, function


def test_every_test_that_the_page_names_is_there():
    found = list(named())
    assert len(found) > 40
    texts = {path: (TESTS / path).read_text("utf-8") for path, _function in found}
    assert [pair for pair in found if pair[1] and f"def {pair[1]}(" not in texts[pair[0]]] == []
