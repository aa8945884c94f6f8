# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Which machine a result is of."""

import os
from typing import Dict, Optional

from .text import printable

# machine-id(5) is confidential, so what leaves the host is derived from it, as the manual page asks.
_APPLICATION = b"changetracking.inventory"


def identity(root: str = "/") -> Dict[str, Optional[str]]:
    """The columns that name the machine; None where the host does not tell (VMUUID is readable by root only)."""
    machine_id = _read(root, "etc/machine-id") or _read(root, "var/lib/dbus/machine-id")
    if machine_id == "uninitialized":  # an image before its first boot
        machine_id = None
    vm_uuid = _read(root, "sys/class/dmi/id/product_uuid")
    return {
        "Computer": printable(os.uname().nodename),
        "SourceComputerId": source_computer_id(machine_id) if machine_id else None,
        "VMUUID": vm_uuid.lower() if vm_uuid else None,
    }


def in_container(root: str = "/") -> bool:
    """Whether the VMUUID is that of a machine that containers come to and leave, rather than our own."""
    marks = ("run/systemd/container", "run/.containerenv", ".dockerenv")
    return any(os.path.exists(os.path.join(root, mark)) for mark in marks)


def source_computer_id(machine_id: str) -> str:
    """A stable UUID that does not disclose the machine-id it is derived from."""
    import hashlib  # whoever uses a state loads this module, and few ask for the id
    import hmac

    digest = bytearray(hmac.new(machine_id.encode("utf-8"), _APPLICATION, hashlib.sha256).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x40  # version 4, RFC 4122; the module uuid takes longer to import than all of this
    digest[8] = digest[8] & 0x3F | 0x80
    text = bytes(digest).hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _read(root: str, path: str) -> Optional[str]:
    try:
        with open(os.path.join(root, path), "rb") as file:
            return file.read(256).decode("ascii", "replace").strip() or None
    except OSError:
        return None
