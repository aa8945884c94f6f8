# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ct_sbom: a software bill of materials of hosts."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

from ..plugin_utils import _sbom
from ..plugin_utils._untrusted import untrusted

DOCUMENTATION = r"""
name: ct_sbom
short_description: Make a software bill of materials (CycloneDX) of the packages of hosts
version_added: "0.2.0"
description:
  - Returns a CycloneDX 1.6 document for one host, or for a group of hosts, made of the facts of each host.
  - Each host needs C(ct_packages), from M(changetracking.inventory.ct_package_facts) with at least the
    O(changetracking.inventory.ct_package_facts#module:fields) C(SoftwareName), C(CurrentVersion), C(Architecture) and C(Source), and the facts
    C(distribution) and C(distribution_version) of M(ansible.builtin.setup). C(Publisher) and C(SoftwareDescription) are included if they are there.
  - Packages have a package URL (purl) as syft writes it, which tools that match vulnerabilities read, with the source package in C(upstream).
  - A package is a component once, however many hosts have it. C(dependencies) lists the packages of each host.
  - C(compositions) says of which hosts the packages are V(complete); of which they are V(incomplete), because a package database could not be read or
    because the facts are only some of the packages; and of which they are V(unknown). The property C(changetracking:problem) of the host says why.
  - C(timestamp) is the time of the last collection. The same facts give the same document.
positional: _input, hostvars, name
options:
  _input:
    description: Names of the hosts.
    type: list
    elements: str
    required: true
  hostvars:
    description: Ansible's variable C(hostvars).
    type: dict
    required: true
  name:
    description:
      - Name of the group of hosts, as the subject of the document.
      - Without a name, the subject is the host, which must then be the only one.
    type: str
    default: ""
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Get the distribution
  ansible.builtin.setup:
    gather_subset: ["!all", "!min", distribution]

- name: Get the packages
  changetracking.inventory.ct_package_facts:
    fields: [SoftwareName, CurrentVersion, Architecture, Publisher, Source]

- name: Write one bill of materials for each host
  ansible.builtin.copy:
    content: "{{ [inventory_hostname] | changetracking.inventory.ct_sbom(hostvars) | to_json }}"
    dest: "{{ inventory_hostname }}.cdx.json"
    mode: "0644"
  delegate_to: localhost

- name: Write one for all hosts
  ansible.builtin.copy:
    content: "{{ ansible_play_hosts_all | changetracking.inventory.ct_sbom(hostvars, 'web servers') | to_json }}"
    dest: web.cdx.json
    mode: "0644"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
_value:
  description: The document.
  type: dict
"""


def ct_sbom(hosts, hostvars, name=""):
    if isinstance(hosts, str):
        raise AnsibleFilterError("ct_sbom needs a list of hosts, not a text. For one host, write [inventory_hostname].")
    for host in hosts:
        if host not in hostvars:
            raise AnsibleFilterError(
                f"ct_sbom: there is no host {str(host)[:80]!r} in the inventory. Give names of hosts."
            )
    found = [_sbom.read(str(host), hostvars[host]) for host in hosts]
    if not name and len(found) != 1:
        raise AnsibleFilterError(
            f"ct_sbom got {len(found)} hosts and no name. Give the name of the group, or one host."
        )
    usable = [host for host in found if not host.problem]
    if not usable:
        problem = f" {found[0].problem}" if found else ""
        raise AnsibleFilterError(
            f"ct_sbom has the packages of no host.{problem} Run ansible.builtin.setup with gather_subset distribution, and ct_package_facts"
            f" with fields {', '.join(_sbom.NEEDED)}, before."
        )
    return _sbom.bom(found, name)


class FilterModule:
    def filters(self):
        return {"ct_sbom": untrusted(ct_sbom)}
