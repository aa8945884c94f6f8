#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module ct_package_facts: options, one call of the library, and the result."""

DOCUMENTATION = r"""
module: ct_package_facts
short_description: Gather installed packages as facts in Change Tracking & Inventory format
version_added: "0.1.0"
description:
  - Returns the installed packages of dpkg and rpm hosts as the fact C(ct_packages).
  - Reads the package databases directly. The managed host needs neither C(python3-apt) nor C(python3-rpm).
  - A package counts as installed if its package manager says so. A removed package that left its configuration files does not count.
  - Multi-arch packages, and several versions of one package such as kernels, are separate items.
options:
  version:
    description:
      - Return only packages whose version meets all of these conditions.
      - A condition is one of C(<), C(<=), C(=), C(!=), C(>=), C(>) and a version, for example C(< 3.0.2). A version without a digit,
        such as C(foo), is refused.
      - Versions are ordered as the package manager of the package orders them. An epoch that is not given is 0, so for a
        package with an epoch give the epoch (C(< 1:3.0.8) for the OpenSSL of EL 9). The module warns if a package that
        O(name) selects has an epoch and a condition has none. For rpm, a release that is not given is not compared.
    type: list
    elements: str
    default: []
  gpg_keys:
    description: Whether to return the public keys that rpm stores as packages (C(gpg-pubkey)).
    type: bool
    default: false
  fields:
    description:
      - Return only these keys of each item. V(Source) is returned only if it is in this list.
      - Ansible keeps the facts of every host in memory for the whole run. On a large fleet, select the keys that you use.
    type: list
    elements: str
    default: []
    choices: [SoftwareName, SoftwareType, SoftwareDescription, Publisher, CurrentVersion, Architecture, Size, InstalledOn, Source]
extends_documentation_fragment:
  - changetracking.inventory.attributes
  - changetracking.inventory.attributes.direct
  - changetracking.inventory.facts
seealso:
  - module: ansible.builtin.package_facts
  - module: changetracking.inventory.ct_inventory_info
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Gather all installed packages
  changetracking.inventory.ct_package_facts:

- name: Gather OpenSSL packages older than 3.0.2
  changetracking.inventory.ct_package_facts:
    name: openssl*
    version: "< 3.0.2"
    fields: [SoftwareName, CurrentVersion]

- name: Fail if there are any
  ansible.builtin.assert:
    that: ansible_facts.ct_packages.count == 0
    fail_msg: "{{ ansible_facts.ct_packages['items'] }}"
"""

RETURN = r"""
ansible_facts:
  description: The facts that the module adds.
  returned: always
  type: dict
  contains:
    ct_packages:
      description: The installed packages.
      returned: always
      type: dict
      contains:
        item:
          description:
            - An element of the list C(items), which is sorted by name, architecture and version.
            - In a template, write C(ct_packages['items']), because C(.items) is a method of every dictionary.
          returned: as an element of C(items)
          type: dict
          contains:
            SoftwareName:
              description: Name of the package.
              type: str
              sample: openssl
            SoftwareType:
              description: Always V(Package).
              type: str
              sample: Package
            SoftwareDescription:
              description: One-line summary.
              type: str
              sample: Secure Sockets Layer toolkit - cryptographic utility
            Publisher:
              description: The maintainer (dpkg) or packager (rpm). Empty if the package names none.
              type: str
            CurrentVersion:
              description: The version as dpkg writes it. For rpm, C(EPOCH:VERSION-RELEASE), with 0 for a package without an epoch.
              type: str
              sample: 3.0.11-1~deb12u2
            Architecture:
              description: Architecture of the package.
              type: str
              sample: amd64
            Size:
              description: Installed size in bytes. Null if the package does not state it.
              type: int
              sample: 2319360
            Source:
              description:
                - For dpkg, the name of the source package that the package was built from, and its version in parentheses if that differs.
                  Empty if it has the name and version of the package.
                - For rpm, the file name of the source package.
                - Only if O(fields) names it.
              returned: when requested
              type: str
              sample: gcc-12 (12.2.0-14)
            InstalledOn:
              description:
                - Time of installation, in UTC, as rpm records it.
                - For dpkg, the time at which the package's list of files was last written, which is an estimate. Null if there is no such
                  list.
              type: str
              sample: "2026-01-09T08:00:01Z"
        count:
          description: Number of items returned.
          type: int
          returned: always
        digest:
          description: Checksum over the items without C(InstalledOn). Two results with the same digest have the same items.
          type: str
          returned: always
          sample: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        sources:
          description:
            - Status of each package database, by its name (V(dpkg), V(rpm)).
            - C(status) is V(ok), V(absent) (the host has no such database) or V(failed) (the database could not be read). After V(failed),
              packages may be installed that are not returned.
            - C(count) is the number of packages read, before any filter. C(message) has the reason for a status other than V(ok).
          type: dict
          returned: always
          sample: {dpkg: {status: ok, count: 776}, rpm: {status: absent, count: 0, message: There is no rpm database.}}
        collected_at:
          description: Time at which the packages were read, in UTC.
          type: str
          returned: always
          sample: "2026-01-09T08:00:01Z"
"""

from functools import partial
from typing import Any, Callable, Dict, List, Sequence, Tuple

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _compile_once  # noqa: F401  # pylint: disable=unused-import
from ..module_utils._cti.kinds.packages import databases
from ..module_utils._cti.kinds.packages.kind import PACKAGES
from ..module_utils._cti.model import Known
from ..module_utils._cti.text import plural
from ..module_utils._facts import fact_arguments, facts
from ..module_utils._module import run

OPTIONS: Dict[str, Any] = dict(
    argument_spec=dict(
        fact_arguments(PACKAGES),
        version={"type": "list", "elements": "str", "default": []},
        gpg_keys={"type": "bool", "default": False},
    ),
    supports_check_mode=True,
)


def _versions(texts: Sequence[str], epochs: List[Tuple[str, str]]) -> Callable[[str, Any], bool]:
    """Return a function that says whether a package meets all conditions, and that adds packages with an epoch to `epochs`."""
    # Imported where it is used: a module's code is compiled anew on every run.
    from ..module_utils._cti.kinds.packages.versions import has_epoch, parse_condition, satisfies

    conditions = [parse_condition(text) for text in texts]
    without = [condition for condition in conditions if ":" not in condition.version]

    def accept(source: str, package: Any) -> bool:
        if without and has_epoch(package.version):
            epochs.append((package.name, package.version))
        compare = partial(databases.compare, source)
        return all(satisfies(package.version, condition, compare) for condition in conditions)

    return accept


def _epoch_warning(epochs: Sequence[Tuple[str, str]], texts: Sequence[str]) -> str:
    name, version = epochs[0]
    return (
        "%s an epoch, such as %s %s. A condition without an epoch (%s) means epoch 0, so it compares only the"
        " epochs with these packages; write the epoch, such as '< %s:3.0'."
        % (plural(len(epochs), "package", "has"), name, version, ", ".join(texts), version.partition(":")[0])
    )


def main() -> None:
    module = AnsibleModule(**OPTIONS)

    def work() -> Dict[str, Any]:
        texts = module.params["version"]
        epochs: List[Tuple[str, str]] = []
        accept = _versions(texts, epochs) if texts else None
        result = facts(module, PACKAGES, databases.collect(Known(), module.params["gpg_keys"]), accept)
        if epochs:
            module.warn(_epoch_warning(epochs, texts))
        return result

    run(module, work)


if __name__ == "__main__":
    main()
