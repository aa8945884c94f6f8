# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What is particular to one kind of item: its identity, its columns, and the words and names it has elsewhere."""

from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..text import printable, printable_values

Row = Dict[str, Any]


class DcrKeys(NamedTuple):
    """Where a data collection rule (DCR) says whether a kind is collected, and how often."""

    switch: str  # the key of extensionSettings that is true or false
    section: str  # the object in extensionSettings that holds the frequency
    frequency: str  # the key in there
    seconds: int  # the frequency of a rule that gives none


class Kind(NamedTuple):
    """One kind of item. A row is an item as columns of the tables ConfigurationData and ConfigurationChange."""

    name: str
    config_type: str  # ConfigDataType and ConfigChangeType
    item: Callable[..., Any]  # the item's class, to read it back from a stored array
    identity: Callable[[Any], Tuple[str, ...]]  # what makes two items the same thing at two times; the name is first
    compared: Callable[[Any], Sequence[Any]]  # two items with equal ones have not changed
    make_row: Callable[[Any], Row]  # the item's columns, with texts as the host has them: use row()
    columns: Tuple[str, ...]  # of a row; the first one holds the item's name
    tracked: Dict[str, Tuple[str, str]]  # column -> its names (current, previous) in a change record
    uncompared: Tuple[str, ...]  # columns whose change alone is no change of the item
    dcr: DcrKeys
    fact_module: str  # the module that returns it as facts; empty: none
    item_file: str  # the name of the agent's item file
    item_form: Callable[[Any], Row]  # the item as it is in that file, with texts as the host has them
    received: str  # what Microsoft's agent calls an item in its log
    shown: Tuple[str, ...]  # the columns of `agent.pyz show`
    version: str = ""  # the tracked column whose values a line about a change shows
    sources: Tuple[str, ...] = ()  # names of sources that the kind itself gives them
    # (older item, newer item) -> columns that cannot be compared between these two
    incomparable: Callable[[Any, Any], Tuple[str, ...]] = lambda older, newer: ()
    # (file items of a rule, item) -> whether they reach the item; None: the kind is collected as a whole
    reaches: Optional[Callable[[Sequence[Any], Any], bool]] = None
    # columns that are in no record and no item file, and in a result only where they are asked for; each with its value in an item
    on_request: Mapping[str, Callable[[Any], str]] = {}
    # signature of a part -> the owner to whose share its items and changes count; empty: root
    owner: Callable[[Optional[str]], str] = lambda signature: ""

    def row(self, item: Any) -> Row:
        """The item's columns, printable: the way in which an item leaves the library."""
        return printable_values(self.make_row(item))

    def full_row(self, item: Any) -> Row:
        """The same, with the columns of `on_request`."""
        more = {column: value(item) for column, value in self.on_request.items()}
        return dict(self.row(item), **printable_values(more))

    def label(self, item: Any) -> str:
        """What an operator calls the item."""
        return printable(self.identity(item)[0])
