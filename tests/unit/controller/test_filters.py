# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters, on this ansible-core."""

import base64
import json
import zlib

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.filter.ct_query import ct_query
from ansible_collections.changetracking.inventory.plugins.filter.ct_table import ct_table
from ansible_collections.changetracking.inventory.plugins.filter.ct_unpack import ct_unpack
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.survey import pack
from ansible_collections.changetracking.inventory.plugins.plugin_utils import _packed

ITEMS = {"packages": [{"SoftwareName": "a"}, {"SoftwareName": "ä\x01"}], "files": []}
SOURCES = {"dpkg": {"status": "ok", "count": 2}, "rpm": {"status": "absent", "count": 0}}


def test_what_was_packed_is_opened():
    assert ct_unpack(pack(ITEMS)) == ITEMS
    assert ct_unpack({"packed": pack(ITEMS), "inventory": {}}) == ITEMS


@given(
    st.dictionaries(
        st.sampled_from(["packages", "files"]), st.lists(st.dictionaries(st.text(), st.text() | st.integers()))
    )
)
def test_every_set_of_items_survives_packing(items):
    assert ct_unpack(pack(items)) == items


@pytest.mark.parametrize(
    "hostile",
    ["", "x", None, 5, {}, pack([1]), pack({"packages": 5}), pack(ITEMS)[:-8], base64.b64encode(b"garbage").decode(),
     base64.b64encode(zlib.compress(b"[" * 100000)).decode()],
)  # fmt: skip
def test_what_a_host_made_up_is_refused_in_one_sentence(hostile):
    with pytest.raises(AnsibleFilterError, match="This is not what ct_inventory_info returns as packed"):
        ct_unpack(hostile)


def test_a_bomb_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(_packed, "MAX_BYTES", 1 << 20)
    bomb = base64.b64encode(zlib.compress(json.dumps({"packages": [" " * (2 << 20)]}).encode())).decode()
    with pytest.raises(AnsibleFilterError, match="more than 1 MiB"):
        ct_unpack(bomb)


def test_a_query_looks_into_packed_items():
    result = {"packed": pack(ITEMS), "Computer": "web01"}
    assert ct_query(result, "[Computer, packages[].SoftwareName]") == ["web01", ["a", "ä\x01"]]
    assert "packed" in result


def test_a_query_works_on_ansibles_own_types():
    from ansible.utils.unsafe_proxy import wrap_var

    assert ct_query(wrap_var({"items": [{"n": "abc"}, {"n": "abd"}]}), "items[?starts_with(n, 'abd')].n | [0]") == "abd"


@pytest.mark.parametrize("expression", ["[", "nofunction(@)", "abs('x')", ""])
def test_a_bad_expression_is_named(expression):
    with pytest.raises(AnsibleFilterError, match="does not work here"):
        ct_query({}, expression)


def test_the_table_has_a_line_for_every_host_whatever_became_of_it():
    def result(**kinds):
        return {"ct_inventory": {"inventory": {kind: dict(value, sources=SOURCES) for kind, value in kinds.items()}}}

    nothing = {"added": 0, "removed": 0, "modified": 0}
    broken = {"dpkg": {"status": "failed", "count": 0, "message": "locked"}}
    hostvars = {
        "web01": result(packages={"count": 5, "baseline": True}),
        "web02": result(
            packages=dict(nothing, count=5, baseline=False, added=2),
            files=dict(nothing, count=7, baseline=False, modified=1),
        ),
        "web03": result(packages=dict(nothing, count=5, baseline=False)),
        "web04": result(packages={"count": 5}),
        "web05": {"ct_inventory": {"inventory": {"packages": {"count": 0, "sources": broken}}}},
        "web06": {"ct_inventory": {"failed": True, "msg": "The DCR is not JSON.\nmore"}},
        "web07": {},
    }
    assert ct_table(list(hostvars), hostvars) == [
        "HOST   PACKAGES  SERVICES  FILES  CHANGES                             PROBLEMS",
        "web01  5         -         -      baseline",
        "web02  5         -         7      3 (2 added, 0 removed, 1 modified)",
        "web03  5         -         -      0",
        "web04  5         -         -      -",
        "web05  0         -         -      -                                   dpkg",
        "web06  -         -         -      -                                   The DCR is not JSON.",
        "web07  -         -         -      -                                   no result: unreachable, or failed before",
    ]
