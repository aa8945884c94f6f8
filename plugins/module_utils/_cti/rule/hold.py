# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""What a rule with errors is replaced with."""

from ..text import plural
from .settings import Settings


def hold(settings: Settings, last: Settings) -> Settings:
    """The settings with those of the last good rule for the kinds that have an error."""
    note = "Until then, %s used, from the last good rule." % plural(len(last.file_rules), "file item", "is")
    errors = len(settings.errors)
    return settings._replace(
        kinds=tuple(kind for kind in settings.kinds if kind in last.kinds or kind not in settings.errors),
        file_rules=last.file_rules,
        intervals=dict(settings.intervals, **{kind: last.every(kind) for kind in settings.errors}),
        warnings=[*settings.warnings[:errors], note, *settings.warnings[errors:]],
    )
