# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fact modules have in common: their options, and their result."""

from fnmatch import fnmatchcase
from typing import Any, Callable, Dict, Optional

from ansible.module_utils.basic import AnsibleModule

from ._cti.errors import CtiError
from ._cti.kinds.kind import Kind
from ._cti.kinds.sources import Contained
from ._cti.model import Collection
from ._cti.tracking import report
from ._cti.tracking.snapshot import collect_only


def fact_arguments(kind: Kind) -> Dict[str, Dict[str, Any]]:
    """The options every fact module has; see the doc fragment `facts`."""
    return {
        "name": {"type": "list", "elements": "str", "default": []},
        "fields": {"type": "list", "elements": "str", "default": [], "choices": [*kind.columns, *kind.on_request]},
    }


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
