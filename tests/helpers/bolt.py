# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes small BoltDB files, such as the database of Microsoft's agent. tests/unit/fixtures/bolt has files of the real library."""

import base64
import grp
import hashlib
import json
import os
import pwd
import struct
import time

PAGE = 4096
META, FREE, LEAF, BRANCH = 4, 16, 2, 1


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def header(number, flags, count, more=0):
    return struct.pack("<QHHI", number, flags, count, more)


def meta(number, transaction, root, pages, page_size=PAGE):
    fields = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, page_size, 0, root, 0, 2, pages, transaction)
    return (header(number, META, 0) + fields + struct.pack("<Q", fnv1a(fields))).ljust(page_size, b"\0")


def leaf(number, elements, page_size=PAGE):
    """A leaf page of (flags, key, value), with as many further pages as it needs."""
    heads, data, place = b"", b"", 16 * len(elements)
    for at, (flags, key, value) in enumerate(elements):
        heads += struct.pack("<IIII", flags, place - 16 * at + len(data), len(key), len(value))
        data += key + value
    size = 16 + len(heads) + len(data)
    more = -(-size // page_size) - 1
    return (header(number, LEAF, len(elements), more) + heads + data).ljust((more + 1) * page_size, b"\0")


def branch(number, children, page_size=PAGE):
    """A branch page of (key, page)."""
    heads, data = b"", b""
    for at, (key, page) in enumerate(children):
        heads += struct.pack("<IIQ", 16 * (len(children) - at) + len(data), len(key), page)
        data += key
    return (header(number, BRANCH, len(children)) + heads + data).ljust(page_size, b"\0")


def database(buckets):
    """The bytes of a database: {name: {key: value}}."""
    number, pages, roots = 4, b"", []
    for name, values in sorted(buckets.items()):
        page = leaf(number, [(0, key, value) for key, value in sorted(values.items())])
        roots.append((1, name, struct.pack("<QQ", number, 0)))
        pages += page
        number += len(page) // PAGE
    free = header(2, FREE, 0).ljust(PAGE, b"\0")
    return meta(0, 2, 3, number) + meta(1, 1, 3, number) + free + leaf(3, roots) + pages


def write(path, buckets, at=None):
    """Write a database, as of the time `at`."""
    with open(str(path), "wb") as file:
        file.write(database(buckets))
    os.chmod(str(path), 0o600)
    if at is not None:
        os.utime(str(path), (at, at))


def key(path):
    return base64.b64encode(path if isinstance(path, bytes) else os.fsencode(str(path)))


def item(path, **fields):
    """What Microsoft's agent records of a file that exists."""
    status = os.stat(str(path))
    with open(str(path), "rb") as file:
        checksum = hashlib.sha256(file.read()).hexdigest()
    found = {
        "CollectionName": str(path), "FileContentChecksum": checksum, "FileSystemPath": str(path), "ChangeType": "StartTracking",
        "Size": status.st_size, "Owner": pwd.getpwuid(status.st_uid).pw_name, "Group": grp.getgrgid(status.st_gid).gr_name,
        "ItemType": "File", "Name": os.path.basename(str(path)), "Mode": status.st_mode & 0o777, "Contents": "",
        "DateModified": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(status.st_mtime)),
        "DateCreated": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(status.st_ctime)), "FileContentBlobLink": "",
        "IsInventorySnapShot": False, "FileMetaDatacheckSum": "11885607384713214702",
    }  # fmt: skip
    return dict(found, **fields)


def microsoft(path, items, at=None):
    """Write the database of Microsoft's agent with these items of files."""
    values = {key(one["FileSystemPath"]): json.dumps(one).encode() for one in items}
    write(path, {b"FileInventory": values, b"PackageInventory": {b"openssl": b"\0made up"}}, at)
