# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import pytest

from ansible_collections.changetracking.inventory.tests.helpers.runs import Place


@pytest.fixture
def place(programs, tmp_path):
    place = Place(programs / "relay.pyz", tmp_path)
    yield place
    place.close()
