#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin ct_azure_resource."""

DOCUMENTATION = r"""
module: ct_azure_resource
short_description: Create, update or delete one resource in Azure
version_added: "0.2.0"
description:
  - Reads the resource, compares it with what is asked for, and sends a request only if something differs. Keys that Azure adds, and
    its spelling of ids and regions, are no difference.
  - Then waits until the provisioning of the resource ended, and fails with the reason if it failed.
  - Repeats a request while Azure is busy (429, 5xx) or changes the same resource (409).
  - Sends the requests with P(azure.azcollection.azure_rm_resource#module), which must be installed where the task runs.
  - The role P(changetracking.inventory.azure#role) uses it.
options:
  id:
    description: Id of the resource, from C(/subscriptions/) or C(/providers/) on.
    type: str
    required: true
  api_version:
    description: Version of the API.
    type: str
    required: true
  name:
    description: What messages call the resource. The default is its type and its name.
    type: str
    default: ""
  state:
    description: With V(absent), the resource is deleted if it has O(mark) and is not used.
    type: str
    choices: [present, absent]
    default: present
  body:
    description: The resource, or the part of it that matters.
    type: dict
    default: {}
  mark:
    description: A part of the resource that is written when it is created, and by which O(state=absent) knows that it may be deleted.
    type: dict
    default: {}
  method:
    description: With V(PATCH), changes a resource that must exist.
    type: str
    choices: [PUT, PATCH]
    default: PUT
  create_only:
    description: Whether to leave a resource that exists as it is.
    type: bool
    default: false
  wait:
    description: Whether to wait until the provisioning ended.
    type: bool
    default: true
  found:
    description: The resource as it was read before, or an empty dictionary if there is none. By default, it is read.
    type: dict
  used_by:
    description: Lists of what may use the resource. With O(state=absent), it stays if one of them is not empty.
    type: list
    elements: dict
    default: []
    suboptions:
      url:
        description: Id of the list.
        type: str
        required: true
      api_version:
        description: Version of the API.
        type: str
        required: true
      ignoring:
        description: Ids of elements that do not count.
        type: list
        elements: str
        default: []
extends_documentation_fragment:
  - changetracking.inventory.attributes
  - changetracking.inventory.attributes.action
  - changetracking.inventory.attributes.azure
attributes:
  check_mode:
    description: Can run in C(check_mode). Reads the resource, and returns what would change.
  diff_mode:
    support: full
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Associate a machine with a rule
  changetracking.inventory.ct_azure_resource:
    id: "{{ machine }}/providers/Microsoft.Insights/dataCollectionRuleAssociations/ct-inventory"
    api_version: "2022-06-01"
    body:
      properties:
        dataCollectionRuleId: "{{ rule }}"
  delegate_to: localhost
"""

RETURN = r"""
resource:
  description: The resource as Azure has it. In check mode, what would be sent.
  returned: success
  type: dict
kept:
  description: Why the resource is not deleted; empty otherwise.
  returned: success
  type: str
  sample: "the extension AzureMonitorLinuxAgent of web01 stays: the role azure did not make it."
"""
