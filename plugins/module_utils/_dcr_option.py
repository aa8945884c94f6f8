# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option `dcr` of the modules that take a data collection rule."""

import os

from ansible.module_utils.basic import AnsibleModule

from ._cti import folders
from ._cti.errors import DcrError
from ._cti.rule.settings import RECOMMENDED, Settings, default
from ._cti.text import quoted


def dcr_settings(module: AnsibleModule) -> Settings:
    """The settings of the option `dcr`, with a warning for each key that is ignored."""
    given = module.params["dcr"]
    if given is None:
        return default()
    from ._cti.rule import dcr  # only where a rule is given

    if isinstance(given, str) and not given.strip():
        raise DcrError("The value of dcr is empty. Give a rule, or leave out dcr to use Azure's template.")
    if given == RECOMMENDED:
        from ._cti.rule import recommended

        given = recommended.rule()
    if not isinstance(given, str):
        settings = dcr.given(given, "of the option dcr")
    elif given.lstrip().startswith(("{", "[")):
        settings = dcr.given(dcr.parse(given, "of the option dcr"), "of the option dcr")
    else:
        settings = dcr.given(dcr.parse(_read(given, dcr.MAX_BYTES), given), given)
    for warning in settings.warnings:
        module.warn(warning)
    return settings


def _read(path: str, limit: int) -> bytes:
    try:
        return folders.read(os.path.expanduser(path), limit)[0]
    except OSError as error:
        raise DcrError(
            "Cannot read the rule '%s' on the managed host (%s). Give the path of a file there, the rule itself, or recommended; for a file of the"
            " controller use lookup('ansible.builtin.file', PATH)." % (quoted(path), error.strerror)
        ) from error
