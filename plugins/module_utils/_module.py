# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one bridge from AnsibleModule to the library: arguments in, results, warnings and failures out."""

import gc
import os
import sys
from typing import Any, Callable, Dict

from ansible.module_utils import basic
from ansible.module_utils.basic import AnsibleModule

from ._cti.errors import CtiError, StateError
from ._cti.text import quoted


def run(module: AnsibleModule, work: Callable[[], Dict[str, Any]]) -> None:
    """End the module with what `work` returns, or with the one sentence of the library's error."""
    # All that a module makes, it keeps to its end: a search for garbage finds none, and looks at all that Ansible loaded.
    gc.disable()
    try:
        result = work()
    except CtiError as error:
        module.fail_json(msg=str(error))
    if not getattr(module, "no_log_values", True):  # exit_json would search every value for secrets, and there are none
        basic.remove_values = lambda value, _secrets: value
    if sys.version_info >= (3, 7):
        gc.freeze()  # Python searches for garbage once more at its end, even if disabled; this takes a tenth of what ping takes
    module.exit_json(**result)


def check_path(option: str, path: str) -> None:
    """Check that an option is an absolute path. A relative one would start at a folder that depends on how Ansible connects.

    `path`: as Ansible returns it, with `~` expanded if that user exists. Raises StateError.
    """
    if path.startswith("/"):
        return
    problem = "is empty" if not path.strip() else "is relative"
    if path.startswith("~"):
        problem = "names the home of a user who is not on this host"
    raise StateError(
        "The value of %s is '%s', which %s. Give an absolute path on the managed host, or one that starts with ~/."
        % (option, quoted(path), problem)
    )


def check_state_path(option: str, path: str) -> None:
    """Check that an option is the path of a file, such as a state database, which may not exist yet. Raises StateError."""
    check_path(option, path)
    if path.endswith("/") or os.path.isdir(path):
        raise StateError(
            "The value of %s is '%s', which is a folder. Give the path of a file in it, such as '%s/inventory.db'."
            % (option, quoted(path), quoted(path.rstrip("/")))
        )
