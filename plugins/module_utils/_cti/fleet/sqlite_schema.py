# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Which tables, views and triggers an SQLite file has, and which of them are not as schema.py makes them.

Somebody else may have written the file. A view or a computed column can run for ever, and a table without types can hold anything.
What a statement creates is read off its text: the other columns of sqlite_master can say anything.
"""

import re
from functools import lru_cache
from typing import Any, Container, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Sequence, Set, Tuple

from . import schema

MOST = 2000  # statements; the collection makes about 40
QUERY = "SELECT substr(name, 1, 80), substr(sql, 1, 50000) FROM sqlite_master WHERE sql IS NOT NULL LIMIT %d" % MOST
# In the form in which SQLite stores a statement: a comment or IF NOT EXISTS is not part of it.
_STATEMENT = re.compile(
    r"CREATE (?:UNIQUE |VIRTUAL )?(TABLE|VIEW|INDEX|TRIGGER) (?![Ii][Ff] )(?:[\"'`\[]([^\"'`\[\]]*)[\"'`\]]|(\w+))(?=[ (])"
)


class Object(NamedTuple):
    """A statement of the schema. `kind`: table, view, index or trigger; or schema entry, which is none of these."""

    kind: str
    name: str
    text: str


def read(rows: Sequence[Tuple[Any, Any]]) -> List[Object]:
    """The statements, from the rows of QUERY."""
    found = []
    if len(rows) == MOST:  # there may be more
        found.append(Object("schema entry", str(rows[-1][0]), ""))
    for name, sql in rows:
        text = re.sub("[ \t\n\f\r]+", " ", str(sql))
        match = _STATEMENT.match(text)
        if match:
            found.append(Object(match.group(1).lower(), match.group(2) or match.group(3), text))
        else:
            found.append(Object("schema entry", str(name), text))
    return found


def foreign(found: Sequence[Object]) -> List[Object]:
    """Those that are not as schema.py makes them. What has a name that the schema does not have is never read, and left out."""
    others = [one for one in found if one.text not in _own()]
    views = _views(_missing(others)) if others else {}
    return [one for one in others if not _is_harmless(one, views)]


@lru_cache(maxsize=None)
def _own() -> FrozenSet[str]:
    """The statements of this version, as SQLite stores them."""
    return frozenset(text.replace(" IF NOT EXISTS", "", 1) for text in schema.statements(schema.SQLITE))


def _is_harmless(one: Object, views: Mapping[str, str]) -> bool:
    name = one.name.lower()
    if name in views:
        return one.text == views[name]
    if name in _tables():
        before, after, columns = _parts(one.text)
        made = _tables()[name]
        required = made.columns.difference(made.later)
        return (before, after) == (made.before, made.after) and required <= columns <= made.columns
    return one.kind in ("table", "index") or (one.kind == "view" and not name.startswith("sqlite_"))


def _missing(found: Iterable[Object]) -> Set[str]:
    """The names of columns that a store of an older version does not have."""
    missing: Set[str] = set()
    for one in found:
        made = _tables().get(one.name.lower())
        if made is not None:
            present = _parts(one.text)[2]
            missing.update(name for column, name in made.later.items() if column not in present)
    return missing


class _Table(NamedTuple):
    before: str  # the columns
    after: str
    columns: FrozenSet[str]
    later: Mapping[str, str]  # those that an older version may not have -> their names


@lru_cache(maxsize=None)
def _tables() -> Dict[str, _Table]:
    return {
        name.lower(): _Table(
            *_parts("CREATE TABLE " + declaration),
            {schema.declared(column, schema.SQLITE): column for column in schema.COLUMNS.get(name, ())},
        )
        for name, declaration in schema.tables(schema.SQLITE).items()
    }


def _views(without: Container[str]) -> Dict[str, str]:
    return {name.lower(): "CREATE VIEW %s AS %s" % (name, query) for name, query in schema.views(without).items()}


def _parts(text: str) -> Tuple[str, str, FrozenSet[str]]:
    """What precedes the columns, what follows them, and the columns and constraints."""
    before, _parenthesis, rest = text.partition(" (")
    columns, _parenthesis, after = rest.rpartition(")")
    return before, after, frozenset(one.strip() for one in re.split(r",(?![^(]*\))", columns))
