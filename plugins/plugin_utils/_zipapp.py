# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds one file of the library that Python can run (zipapp, PEP 441): `python3 _zipapp.py relay build/relay.pyz`.

The same library gives the same bytes for every user, machine, time and Python: the entries are sorted, have one time and one
mode, and are stored uncompressed, since versions of zlib may compress differently.
"""

import io
import os
import sys
import tempfile
import zipfile
from typing import List

LIBRARY = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "module_utils", "_cti")
SHEBANG = b"#!/usr/bin/env python3\n"
MAIN = "import sys\n\nfrom _cti.{program}.program import main\n\nsys.exit(main())\n"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest a zip file can bear


def build(program: str, library: str = LIBRARY) -> bytes:
    """A zipapp of the whole library that runs `main` of its package `program`. Raises ValueError where there is no such program."""
    if not os.path.isfile(os.path.join(library, program, "program.py")):
        raise ValueError("The library has no program {0!r}. Give agent or relay.".format(program))
    buffer = io.BytesIO()
    buffer.write(SHEBANG)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        _add(archive, "__main__.py", MAIN.format(program=program).encode("ascii"))
        for path in _sources(library):
            with open(os.path.join(library, path), "rb") as file:
                _add(archive, "_cti/" + path.replace(os.sep, "/"), file.read())
    return buffer.getvalue()


def write(program: str, path: str) -> None:
    """Write the zipapp to an executable file, which is replaced as a whole."""
    data = build(program)
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o755)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _sources(library: str) -> List[str]:
    found: List[str] = []
    for folder, _folders, names in os.walk(library):
        found += [os.path.relpath(os.path.join(folder, name), library) for name in names if name.endswith(".py")]
    return sorted(found)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.create_system = 3  # Unix, wherever it is built
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, data)


if __name__ == "__main__":
    write(*sys.argv[1:])
