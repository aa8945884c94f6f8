# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The one family of exceptions the library raises.

The text of each is one sentence for the operator: what is wrong, and what to do about it.
Only the front doors turn an error into a failed task, an exit code or a log line.
"""

from .text import line


class CtiError(Exception):
    """Anything the library cannot do. Its text is on one line and safe to show, whatever names it quotes."""

    def __str__(self) -> str:
        return line(super().__str__())


class SourceAbsent(CtiError):
    """The host has no such source (no dpkg database, no systemd unit files): nothing to collect."""


class SourceFailed(CtiError):
    """The source is there and could not be read in full: there is no data, which is not the same as no items."""


class DcrError(CtiError):
    """The data collection rule cannot be used."""


class StateError(CtiError):
    """The state database cannot be used; what it holds is left as it is."""


class StateDamaged(StateError):
    """It holds what nobody can have written there."""


class RowDamaged(StateError):
    """One row holds what nobody can have written there. The others are not affected."""


class StateOvertaken(StateError):
    """Another run stored its result while this one collected, so nothing of this one is stored. Collecting again helps."""


class SinceError(CtiError):
    """The value of `since` is neither a number, a time, an age nor a place."""


class RetentionError(CtiError):
    """The history cannot be kept for that time or size."""


class ForwardError(CtiError):
    """Records, or a configuration, cannot be exchanged with the Azure Monitor Agent or with what stands in for it."""

    taken = 0  # so many of the records that were to be sent at once, from the first on, were delivered all the same


class TurnOver(ForwardError):
    """A receiver takes records, and takes them so slowly that the rest has to wait for another time."""


class FormatError(ForwardError):
    """The peer sent what no msgpack or forward message may hold; the connection is of no further use."""


def describe_defect(error: BaseException) -> str:
    """What to say of an exception that nobody foresaw, with the place it came from."""
    import traceback  # not in memory until it is needed

    frames = traceback.extract_tb(error.__traceback__)
    place = "%s, line %s" % (frames[-1][0].rpartition("/")[2], frames[-1][1]) if frames else "unknown place"
    return "internal error: %s: %.200s (%s). Report it: this is a defect of the collection, not of the host" % (
        type(error).__name__, error, place,
    )  # fmt: skip
