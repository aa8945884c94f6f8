# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The exceptions of the library.

The text of each is a message for the operator: what is wrong, and what to do.
Only the entry points (modules, plugins, the two programs) turn one into a failed task, an exit code or a log line.
"""

from typing import Any, NamedTuple, Sequence

from .text import line


class CtiError(Exception):
    """The base class. Its text is one line that is safe to show, whatever names it quotes."""

    def __str__(self) -> str:
        return line(super().__str__())


class SourceAbsent(CtiError):
    """The host does not have the source, such as a dpkg database or systemd unit files: nothing to collect."""


class SourceFailed(CtiError):
    """The source exists and could not be read in full: there is no data, which is not the same as no items."""


class DcrError(CtiError):
    """The data collection rule cannot be used."""


class StateError(CtiError):
    """The state database cannot be used. Its content is left as it is."""


class StateDamaged(StateError):
    """The state database is corrupt."""


class StateTooNew(StateError):
    """The state database was written by a newer version of this collection."""


class RowDamaged(StateError):
    """One row of the state database is corrupt. The others are not affected."""


class StateOvertaken(StateError):
    """Another run stored its result while this one collected, so nothing of this one is stored. To be run again."""


class SinceError(CtiError):
    """The value of `since` is neither a number, a time, an age nor a place."""


class RetentionError(CtiError):
    """The value of history_days, history_mib or rehash_days is out of range."""


class Refused(NamedTuple):
    """A record that a receiver will never take."""

    number: int  # in the failed call
    entry: Any  # unix seconds, record
    reason: str


class ForwardError(CtiError):
    """Records cannot be sent to a receiver, or a configuration cannot be received from the Azure Monitor Agent."""

    taken = 0  # the number of records of the failed call that are done nevertheless, from the first one on
    refused: Sequence[Refused] = ()  # of these
    complete = False  # whether all records are done, though some are refused
    retry_after = 0.0  # seconds after which the receiver takes records again; 0 where it does not say so


class TurnOver(ForwardError):
    """A receiver takes records so slowly that the rest has to wait for the next delivery."""


class FormatError(ForwardError):
    """The peer sent something that is no valid msgpack or forward message. The connection cannot be used any more."""


def describe_defect(error: BaseException) -> str:
    """The message for an unexpected exception, with the place where it was raised."""
    import traceback  # not in memory until it is needed

    frames = traceback.extract_tb(error.__traceback__)
    place = "%s, line %s" % (frames[-1][0].rpartition("/")[2], frames[-1][1]) if frames else "unknown place"
    return "internal error: %s: %.200s (%s). Report it: this is a defect of the collection, not of the host" % (
        type(error).__name__, error, place,
    )  # fmt: skip
