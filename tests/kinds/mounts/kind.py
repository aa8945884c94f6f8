# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Mounted file systems: an item is what is mounted at one path. A kind of the tests alone."""

from typing import NamedTuple

from ..kind import DcrKeys, Kind, Row


class Mount(NamedTuple):
    """What is mounted at one path."""

    path: str
    device: str
    type: str
    options: str


def _row(item: Mount) -> Row:
    return {
        "MountPath": item.path,
        "MountDevice": item.device,
        "MountType": item.type,
        "MountOptions": item.options,
    }


def _item_form(item: Mount) -> Row:
    return dict(_row(item), CollectionName=item.path, ItemType="Mount")


MOUNTS = Kind(
    name="mounts",
    config_type="Mounts",
    item=Mount,
    identity=lambda item: (item.path,),
    compared=lambda item: item,
    make_row=_row,
    columns=tuple(_row(Mount("", "", "", ""))),
    tracked={column: (column, "Previous" + column) for column in ("MountDevice", "MountType", "MountOptions")},
    uncompared=(),
    dcr=DcrKeys("enableMounts", "mountsSettings", "mountsCollectionFrequency", 300),
    fact_module="",
    item_file="Mounts.json",
    item_form=_item_form,
    received="Mount",
    shown=("MountPath", "MountType", "MountDevice"),
    sources=("proc",),
)
