# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters, on this ansible-core."""

import base64
import datetime
import zlib

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.changetracking.inventory.plugins.filter.ct_query import ct_query
from ansible_collections.changetracking.inventory.plugins.filter.ct_table import ct_table
from ansible_collections.changetracking.inventory.plugins.filter.ct_unpack import ct_unpack
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.survey import pack

ITEMS = {"packages": [{"SoftwareName": "a"}, {"SoftwareName": "ä\x01"}], "files": []}
SOURCES = {"dpkg": {"status": "ok", "count": 2}, "rpm": {"status": "absent", "count": 0}}


def test_what_was_packed_is_opened():
    assert ct_unpack(pack(ITEMS)) == ITEMS
    assert ct_unpack({"packed": pack(ITEMS), "inventory": {}}) == ITEMS


@pytest.mark.parametrize(
    "hostile",
    ["", "x", None, 5, {}, pack([1]), pack({"packages": 5}), pack(ITEMS)[:-8], base64.b64encode(b"garbage").decode(),
     base64.b64encode(zlib.compress(b"[" * 100000)).decode()],
)  # fmt: skip
def test_what_a_host_made_up_is_refused_in_one_sentence(hostile):
    with pytest.raises(AnsibleFilterError, match="This is not what ct_inventory_info returns as packed"):
        ct_unpack(hostile)


def test_a_query_looks_into_packed_items():
    result = {"packed": pack(ITEMS), "Computer": "web01"}
    assert ct_query(result, "[Computer, packages[].SoftwareName]") == ["web01", ["a", "ä\x01"]]
    assert "packed" in result


def test_a_query_works_on_ansibles_own_types():
    from ansible.utils.unsafe_proxy import wrap_var

    assert ct_query(wrap_var({"items": [{"n": "abc"}, {"n": "abd"}]}), "items[?starts_with(n, 'abd')].n | [0]") == "abd"


class Tagged:
    """As the types that Ansible has of its own for what comes out of YAML, a module, a vault or a template."""


class TaggedText(Tagged, str):
    pass


class TaggedInt(Tagged, int):
    pass


class TaggedFloat(Tagged, float):
    pass


class TaggedDate(Tagged, datetime.date):
    pass


class TaggedList(Tagged, list):
    pass


class TaggedDict(Tagged, dict):
    pass


class Vaulted:
    __ENCRYPTED__ = True

    def __str__(self):
        return TaggedText("secret")


@pytest.mark.parametrize(
    "expression, found",
    [
        ("sort_by(items, &Size)[].n", ["y", "x"]),
        ("items[?Size > `5`].n", ["x"]),
        ("max(items[].Size)", 10),
        ("sum(floats)", 4.0),
        ("type(items[0])", "object"),
        ("length(items)", 2),
        ("join('-', items[].n)", "x-y"),
        ("starts_with(since, '2026-')", True),
        ("to_string(items[0].Size)", "10"),
        ("nothing || vault", "secret"),
        ("sort(set)", ["a", "b"]),
        ("flag && `1`", 1),
    ],
)
def test_every_type_of_ansibles_is_what_it_stands_for(expression, found):
    rows = [TaggedDict({TaggedText("Size"): TaggedInt(10), "n": TaggedText("x")}), {"Size": TaggedInt(2), "n": "y"}]
    data = TaggedDict(
        {"items": TaggedList(rows), "floats": (TaggedFloat(1.5), TaggedFloat(2.5)), "since": TaggedDate(2026, 1, 2)},
        vault=Vaulted(), nothing=None, set={TaggedText("a"), "b"}, flag=True,
    )  # fmt: skip
    result = ct_query(data, TaggedText(expression))
    assert (result, type(result)) == (found, type(found))


def test_an_error_quotes_nothing_of_the_data():
    for expression in ("abs(n)", "sort(l)", "sort_by(l, &n)", "max(l)", "to_number(n)", "join(n, l)", "sum(l)"):
        try:
            ct_query({"n": "{{ hostile }}", "l": [{"n": "{{ hostile }}"}, "{{ hostile }}", 1, None]}, expression)
        except AnsibleFilterError as error:
            assert "hostile" not in str(error)


def test_data_that_is_nested_too_deeply_is_an_error_of_one_sentence():
    data = []
    for _level in range(100000):
        data = [data]
    with pytest.raises(AnsibleFilterError, match="nested too deeply"):
        ct_query(data, "[0]")


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
