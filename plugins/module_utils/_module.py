# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one bridge from AnsibleModule to the library: arguments in, results, warnings and failures out."""

import gc
import os
from fnmatch import fnmatchcase
from typing import Any, Callable, Dict, Optional

from ansible.module_utils.basic import AnsibleModule

from ._cti.errors import CtiError, StateError
from ._cti.kinds.kind import Kind
from ._cti.kinds.sources import Contained
from ._cti.model import Collection
from ._cti.text import quoted
from ._cti.tracking import report
from ._cti.tracking.snapshot import collect_only

# All that a module makes, it keeps to its end: a search for garbage finds none, and looks at all that Ansible loaded.
gc.disable()


def fact_arguments(kind: Kind) -> Dict[str, Dict[str, Any]]:
    """The options every fact module has; see the doc fragment `facts`."""
    return {
        "name": {"type": "list", "elements": "str", "default": []},
        "fields": {"type": "list", "elements": "str", "default": [], "choices": [*kind.columns, *kind.on_request]},
    }


def run(module: AnsibleModule, work: Callable[[], Dict[str, Any]]) -> None:
    """End the module with what `work` returns, or with the one sentence of the library's error."""
    try:
        result = work()
    except CtiError as error:
        module.fail_json(msg=str(error))
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


def facts(
    module: AnsibleModule,
    kind: Kind,
    collection: Collection,
    accept: Optional[Callable[[str, Any], bool]] = None,
) -> Dict[str, Any]:
    """The result of a fact module: `ansible_facts` with `ct_<kind>`. `accept(source, item)` narrows the items further."""
    patterns = module.params["name"]
    if any(not pattern.strip() for pattern in patterns):
        raise CtiError(
            "The value of name is empty. Give a name or a pattern, or leave out name for all %s." % kind.name
        )

    def select(part: str, item: Any) -> bool:
        if patterns and not any(fnmatchcase(kind.label(item), pattern) for pattern in patterns):
            return False
        return accept is None or accept(part, item)

    snapshot = collect_only(kind, Contained(kind.name, lambda: collection), select if patterns or accept else None)
    for warning in snapshot.warnings():
        module.warn(warning)
    return {"ansible_facts": {"ct_" + kind.name: report.facts(snapshot, module.params["fields"])}}
