# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Packages as one `rpm -qa` tells them, for the databases that only rpm can read: Berkeley DB and ndb."""

import os
import re
from typing import Iterator, List, Tuple

from ..errors import SourceFailed
from ..model import Package
from ..text import decode
from .rpmtags import REMEDY, STRING, TAGS, package

_QUERY_DEADLINE = 120  # seconds

_QUERY = (
    " ".join(
        "%%|%s?{%%{%s%s}}:{-}|" % (name, name, ":shescape" if STRING in types else "") for _tag, name, types in TAGS
    )
    + "\\n"
)
_TEXT = r"(-|'[^']*'(?:\\''[^']*')*)"
_ROW = re.compile(" ".join(_TEXT if STRING in types else "(-|[0-9]+)" for _tag, _name, types in TAGS) + "\n")


def read(path: str, root: str, ndb: bool) -> List[Package]:
    """Every package; rpm's own message where it finds anything wrong, for it exits with 0 even so."""
    folder = os.path.dirname(path)
    command = ["rpm", "--dbpath", "/" + os.path.relpath(folder, root)]
    if os.path.abspath(root) != "/":
        command += ["--root", os.path.abspath(root)]
    if ndb:
        command += ["--define", "_db_backend ndb"]  # an rpm without it would make an empty database of its own
    command += ["-qa", "--queryformat", _QUERY]
    output, messages, code = _run(command)
    wrong = [line for line in decode(messages).splitlines() if line.startswith("error:")]
    if wrong or code:
        raise SourceFailed(
            "`rpm -qa` failed on the database in %s (exit code %d): %s; %s"
            % (folder, code, wrong[0] if wrong else "it does not say why", REMEDY)
        )
    packages = list(parse_query(output, folder))
    if not packages:
        # So says, without an error, an rpm that was built without this kind of database.
        raise SourceFailed("`rpm -qa` sees no package in %s; %s with an rpm that can read it" % (path, REMEDY))
    return packages


def parse_query(output: bytes, folder: str) -> Iterator[Package]:
    """The packages in what rpm printed for _QUERY; SourceFailed where that is anything else."""
    text = decode(output)
    at = 0
    while at < len(text):
        row = _ROW.match(text, at)
        if row is None:
            raise SourceFailed(
                "`rpm -qa` on the database in %s printed what cannot be read after %d characters: %.80r; %s"
                % (folder, at, text[at : at + 80], REMEDY)
            )
        values = [
            None if value == "-" else int(value) if value[0] != "'" else value[1:-1].replace("'\\''", "'")
            for value in row.groups()
        ]
        try:
            yield package(*values)
        except ValueError as error:
            raise SourceFailed("a package in the rpm database in %s %s; %s" % (folder, error, REMEDY)) from error
        at = row.end()


def _run(command: List[str]) -> Tuple[bytes, bytes, int]:
    """Standard output, standard error and exit code of a command that gets no input, bounded in time."""
    import subprocess

    environment = {key: value for key, value in os.environ.items() if key not in ("LANGUAGE", "LANG")}
    environment["LC_ALL"] = "C.UTF-8"
    try:
        # The library knows no AnsibleModule, whose run_command the gates would have.
        process = subprocess.run(  # pylint: disable=ansible-bad-function
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=_QUERY_DEADLINE,
            check=False,
        )
    except FileNotFoundError:
        raise SourceFailed(
            "the rpm database can only be read with rpm, which is not to be found: install rpm"
        ) from None
    except subprocess.TimeoutExpired:
        raise SourceFailed("`rpm -qa` took longer than %d seconds and was stopped" % _QUERY_DEADLINE) from None
    return process.stdout, process.stderr, process.returncode
