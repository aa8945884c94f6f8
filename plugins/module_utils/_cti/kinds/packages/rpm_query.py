# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Reads packages with one `rpm -qa`, from the databases that only rpm can read: Berkeley DB and ndb."""

import os
import re
from typing import List, Optional, Tuple

from ...errors import SourceFailed
from ...text import decode
from .kind import Package
from .rpm_tags import REMEDY, TAGS, Found, package, usual

_QUERY_DEADLINE = 120  # seconds

_QUERY = (
    " ".join("%%|%s?{%%{%s%s}}:{-}|" % (name, name, ":shescape" if is_text else "") for _tag, name, is_text in TAGS)
    + "\\n"  # noqa: W503
)
# A text in quotes; a number, which also stands where a header has one in the place of a text; or what has neither.
_VALUE = r"(-|'[^']*'(?:\\''[^']*')*|[0-9]+|\((?:invalid type|not a number)\)|[^' \n]+)"
_ROW = re.compile(" ".join([_VALUE] * len(TAGS)) + "\n")
# rpm's messages on standard error that it leaves a package out; the first is that of 4.14 and older.
_LEFT_OUT = re.compile(r"error: (?:rpmdb: damaged header #|rpmdbNextIterator: skipping h# *)([0-9]+)\b")


def read(path: str, root: str, ndb: bool) -> Found:
    """Every package, and how many more there are whose header rpm cannot read. Raises SourceFailed with rpm's own message where
    it reports any other error, which it may do with exit code 0."""
    folder = os.path.dirname(path)
    command = ["rpm", "--dbpath", "/" + os.path.relpath(folder, root)]
    if os.path.abspath(root) != "/":
        command += ["--root", os.path.abspath(root)]
    if ndb:
        command += ["--define", "_db_backend ndb"]  # an rpm without it would make an empty database of its own
    command += ["-qa", "--queryformat", _QUERY]
    output, messages, code = _run(command)
    complaints = [line for line in decode(messages).splitlines() if line.startswith("error:")]
    left_out = {found.group(1) for found in map(_LEFT_OUT.match, complaints) if found}
    wrong = [line for line in complaints if not _LEFT_OUT.match(line)]
    if wrong or code:
        raise SourceFailed(
            "`rpm -qa` failed on the database in %s (exit code %d): %s; %s"
            % (folder, code, wrong[0] if wrong else "it does not say why", REMEDY)
        )
    packages, damaged = parse_query(output, folder)
    if not packages and complaints:
        raise SourceFailed("`rpm -qa` cannot read any package in %s: %s; %s" % (folder, complaints[0], REMEDY))
    if not packages:
        # An rpm that was built without this kind of database lists nothing and reports no error.
        raise SourceFailed("`rpm -qa` sees no package in %s; %s with an rpm that can read it" % (path, REMEDY))
    return Found(packages, damaged + [""] * len(left_out))


def parse_query(output: bytes, folder: str) -> Found:
    """The packages in what rpm printed for _QUERY. Raises SourceFailed where the output has another form."""
    text = decode(output)
    packages: List[Package] = []
    damaged = []
    at = 0
    while at < len(text):
        row = _ROW.match(text, at)
        if row is None:
            raise SourceFailed(
                "`rpm -qa` on the database in %s printed what cannot be read after %d characters: %.80r; %s"
                % (folder, at, text[at : at + 80], REMEDY)  # noqa: E203
            )
        values = usual([_value(value) for value in row.groups()])
        try:
            packages.append(package(*values))
        except ValueError:
            damaged.append(values[0] or "")
        at = row.end()
    return Found(packages, damaged)


def _value(printed: str) -> Optional[str]:
    if printed == "-" or printed[0] == "(":
        return None
    return printed[1:-1].replace("'\\''", "'") if printed[0] == "'" else printed


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
            "The rpm database can only be read with the program rpm, which was not found. Install rpm."
        ) from None
    except subprocess.TimeoutExpired:
        raise SourceFailed(f"`rpm -qa` took longer than {_QUERY_DEADLINE} seconds and was stopped.") from None
    return process.stdout, process.stderr, process.returncode
