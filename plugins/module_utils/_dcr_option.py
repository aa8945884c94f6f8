# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option `dcr` of the modules that take a data collection rule."""

import os

from ansible.module_utils.basic import AnsibleModule

from ._cti import folders
from ._cti.errors import DcrError
from ._cti.rule import dcr
from ._cti.rule.settings import Settings


def dcr_settings(module: AnsibleModule) -> Settings:
    """The settings of the option `dcr`, with a warning for each key that is ignored."""
    given = module.params["dcr"]
    if given is None:
        return dcr.default()
    if not isinstance(given, str):
        settings = dcr.load(given, "of the option dcr")
    elif given.lstrip().startswith(("{", "[")):
        settings = dcr.loads(given, "of the option dcr")
    else:
        settings = dcr.loads(_read(given), given)
    for warning in settings.warnings:
        module.warn(warning)
    return settings


def _read(path: str) -> bytes:
    try:
        return folders.read(os.path.expanduser(path), dcr.MAX_BYTES)[0]
    except OSError as error:
        raise DcrError(
            "The DCR %s cannot be read (%s); give a path on the managed host." % (path, error.strerror)
        ) from error
