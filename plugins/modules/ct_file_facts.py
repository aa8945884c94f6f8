#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module ct_file_facts: options, one call of the library, and the result."""

DOCUMENTATION = r"""
module: ct_file_facts
short_description: Gather tracked files as facts in Change Tracking & Inventory format
version_added: "0.1.0"
description:
  - Returns the files that match O(paths), or the files that a data collection rule (DCR) tracks, as the fact C(ct_files).
  - Contents are hashed in pieces, so a checksum is correct whatever the size of the file.
  - Symlink loops, files that vanish during the scan and special files do not disturb the scan. Whatever cannot be read is named in
    C(sources) and in a warning, and is never left out silently.
  - The scan does not descend into network file systems, automounts, and pseudo file systems such as C(/proc). To list files on a
    network file system or an automount, name its path in O(paths).
  - Time, size and number of files are limited, so that no file, folder or symlink keeps the others from being read. C(sources) counts
    what is beyond a limit. The limits are listed on the page C(docs/files.md) of the collection.
options:
  paths:
    description:
      - Paths to track, in the syntax of C(destinationPath) in a DCR. The default is the path of Azure's template, C(/etc/.*.conf).
      - The last segment may be a shell pattern (C(/etc/*.conf)), or a regular expression for the whole file name (C(/etc/.*.conf)).
        Without either, the path is a file, or a folder with its contents.
      - A leading C(~) is the home directory of the user that runs the module, C(~name) that of another user.
      - O(paths) and O(dcr) are mutually exclusive.
    type: list
    elements: str
  recurse:
    description: Whether to search the folders below each of O(paths).
    type: bool
    default: true
  links:
    description:
      - What to return for a symlink below one of O(paths).
      - With V(follow), the item describes the target. With V(manage), it describes the symlink itself. With V(ignore), symlinks are
        skipped.
    type: str
    choices: [follow, manage, ignore]
    default: follow
  type:
    description: Which entries to return. V(any) includes sockets, pipes and devices.
    type: str
    choices: [file, directory, any]
    default: file
  checksum:
    description:
      - Algorithm for the checksum of each file. With V(none), no file is read.
      - A host in FIPS mode forbids V(md5). Its files are then returned without checksums, with a warning.
    type: str
    choices: [sha256, md5, none]
    default: sha256
  dcr:
    description:
      - A data collection rule. Its file items, with their own settings, replace O(paths), O(recurse), O(links), O(type) and O(checksum).
      - A path on the managed host, the rule's JSON text, or the rule as data. All accepted forms are listed at
        O(changetracking.inventory.ct_inventory_info#module:dcr).
    type: raw
  max_files:
    description: Maximum number of items to return. If there are more, C(sources) says how many. V(0) means no limit.
    type: int
    default: 0
  fields:
    description:
      - Return only these keys of each item.
      - Ansible keeps the facts of every host in memory for the whole run. On a large fleet, select the keys that you use.
    type: list
    elements: str
    default: []
    choices: [FileSystemPath, FileContentChecksum, Size, Owner, Group, Mode, DateModified, DateCreated, FileType, LinkTarget]
extends_documentation_fragment:
  - changetracking.inventory.attributes
  - changetracking.inventory.attributes.direct
  - changetracking.inventory.facts
seealso:
  - module: ansible.builtin.find
  - module: changetracking.inventory.ct_inventory_info
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Gather the files that Azure's template tracks
  changetracking.inventory.ct_file_facts:

- name: Gather checksums of the ssh configuration
  changetracking.inventory.ct_file_facts:
    paths: [/etc/ssh]
    fields: [FileSystemPath, FileContentChecksum, Mode]

- name: Gather the files that a rule on the controller tracks
  changetracking.inventory.ct_file_facts:
    dcr: "{{ lookup('ansible.builtin.file', 'dcr.json') }}"
"""

RETURN = r"""
ansible_facts:
  description: The facts that the module adds.
  returned: always
  type: dict
  contains:
    ct_files:
      description: The tracked files.
      returned: always
      type: dict
      contains:
        item:
          description:
            - An element of the list C(items), which is sorted by path.
            - In a template, write C(ct_files['items']), because C(.items) is a method of every dictionary.
          returned: as an element of C(items)
          type: dict
          contains:
            FileSystemPath:
              description:
                - Path of the entry. A byte that is not valid UTF-8 is written as C(\\xNN), in lower case.
                - Backslashes directly before such a code are doubled, so an even number of backslashes means the characters C(xNN)
                  themselves.
              type: str
              sample: /etc/ssh/sshd_config
            FileContentChecksum:
              description: Checksum in lower-case hexadecimal. Empty for an entry without contents, and for a file that cannot be read.
              type: str
              sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
            Size:
              description: Size in bytes.
              type: int
              sample: 3223
            Owner:
              description: Name of the owner, or its number if it has no name.
              type: str
              sample: root
            Group:
              description: Name of the group, or its number if it has no name.
              type: str
              sample: root
            Mode:
              description: Permissions with setuid, setgid and sticky bit, as four octal digits.
              type: str
              sample: "0644"
            DateModified:
              description:
                - Time of the last change of the contents, in UTC.
                - Years before 0 and after 9999 have a sign and six digits, as in ISO 8601, for example V(+010000-01-01T00:00:00Z).
              type: str
              sample: "2026-01-09T08:00:01Z"
            DateCreated:
              description: Creation time, in UTC. Null if the file system does not record it.
              type: str
              sample: "2026-01-09T08:00:01Z"
            FileType:
              description: One of V(file), V(directory), V(link), V(fifo), V(socket), V(block), V(char).
              type: str
              sample: file
            LinkTarget:
              description: Target of the symlink, as it is written in the symlink. Empty for other entries.
              type: str
        count:
          description: Number of items returned.
          type: int
          returned: always
        digest:
          description: Checksum over the items. Two results with the same digest have the same items.
          type: str
          returned: always
          sample: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        sources:
          description:
            - Status of each of O(paths), or of each file item of the DCR.
            - C(status) is V(ok), V(absent) (the folder does not exist) or V(failed) (a part of it could not be read). After V(failed), files may
              exist that are not returned.
            - C(count) is the number of entries found, before any filter. C(message) has the reason for a status other than V(ok).
          type: dict
          returned: always
          sample: {/etc/ssh: {status: ok, count: 12}}
        collected_at:
          description: Time at which the scan ended, in UTC.
          type: str
          returned: always
          sample: "2026-01-09T08:00:01Z"
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _compile_once  # noqa: F401  # pylint: disable=unused-import
from ..module_utils._cti.kinds.files.kind import FILES
from ..module_utils._cti.kinds.files.pathspec import expand
from ..module_utils._cti.kinds.files.scan import Scan
from ..module_utils._cti.kinds.files.scope import FileRule
from ..module_utils._cti.model import Known
from ..module_utils._dcr_option import dcr_settings
from ..module_utils._facts import fact_arguments, facts
from ..module_utils._module import run

OPTIONS: Dict[str, Any] = dict(
    argument_spec=dict(
        fact_arguments(FILES),
        paths={"type": "list", "elements": "str"},
        recurse={"type": "bool", "default": True},
        links={"type": "str", "choices": ["follow", "manage", "ignore"], "default": "follow"},
        type={"type": "str", "choices": ["file", "directory", "any"], "default": "file"},
        checksum={"type": "str", "choices": ["sha256", "md5", "none"], "default": "sha256"},
        dcr={"type": "raw"},
        max_files={"type": "int", "default": 0},
    ),
    mutually_exclusive=[("paths", "dcr")],
    supports_check_mode=True,
)


def main() -> None:
    module = AnsibleModule(**OPTIONS)

    def work() -> Dict[str, Any]:
        given = module.params
        if given["paths"] is None:
            rules = dcr_settings(module).file_rules
        else:
            options = [given[option] for option in ("recurse", "links", "type", "checksum")]
            rules = [FileRule(path, expand(path), *options) for path in given["paths"]]
        return facts(module, FILES, Scan(rules, Known(), given["max_files"]))

    run(module, work)


if __name__ == "__main__":
    main()
