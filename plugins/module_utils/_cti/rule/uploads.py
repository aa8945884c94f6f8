# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Where a rule wants the texts of files uploaded to. Whether they may be uploaded there is not decided here."""

from typing import Any, List

from ..kinds.files.scope import FileRule
from .forms import is_expression, shown
from .reading import Warnings, read_section

KEYS = ("blobEndpoint", "storageAccountResourceId", "managedIdentity")
MAX_CHARACTERS = 2048  # of one value
_NOTHING = "%s.%s is %s, so no contents are uploaded. Give %s."
_FORMS = (
    "the URL of the account's blob service, such as https://ACCOUNT.blob.core.windows.net/",
    "the resource id of the storage account",
    "the client id or the resource id of an identity, or an empty text for the system-assigned one",
)


def with_upload(where: str, items: List[FileRule], setting: Any, warnings: Warnings) -> List[FileRule]:
    """The items, those with contents with the account to upload to; without one where the rule does not name it."""
    found = {} if is_expression(setting) else read_section(where, setting, KEYS, warnings)
    values = [found.get(key) or "" for key in KEYS]
    for key, value, form in zip(KEYS, values, _FORMS):
        usable = isinstance(value, str) and not is_expression(value) and len(value) <= MAX_CHARACTERS
        if not usable or (not value and key == KEYS[0]):
            warnings.add(_NOTHING.__mod__, (where, key, shown(value) if value else "missing", form))
            return items
    return [item._replace(upload=tuple(values)) if item.contents else item for item in items]
