#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: arguments, one call, exit_json."""

DOCUMENTATION = r"""
module: ct_file_facts
short_description: Tracked files as facts in Change Tracking & Inventory format
version_added: "0.1.0"
description:
  - Returns the files that a data collection rule (DCR) tracks, or those below the given paths, as the fact C(ct_files).
  - Contents are hashed as a stream, so the checksum is right at any size.
  - Loops of links, entries that vanish and special files do not disturb the scan. What could not be read is named in
    C(sources) and in a warning; it is never left out silently.
  - The scan does not descend into network file systems, automounts, and pseudo file systems such as C(/proc). Each of O(paths)
    may name a path on the first two.
  - Time, size and number of what is read are limited, so that no file, folder or link keeps the others from being looked at.
    What is beyond a limit is counted in C(sources); see the page C(docs/files.md) of the collection.
options:
  paths:
    description:
      - What to track, each as C(destinationPath) of a DCR.
      - The last segment may be a shell pattern (C(/etc/*.conf)) or, as in Azure's template, a regular expression on the file's
        whole name (C(/etc/.*.conf)). Without either it is a file, or a folder and what is in it.
      - A leading C(~) is the home directory of the user the module runs as, and C(~name) that of another user.
      - The default is what Azure's template tracks, C(/etc/.*.conf).
    type: list
    elements: str
  recurse:
    description: Whether folders below each of O(paths) are searched as well.
    type: bool
    default: true
  links:
    description:
      - What to do with symbolic links below O(paths).
      - With V(follow), an item describes the target; with V(manage), the link itself; with V(ignore), links are left out.
    type: str
    choices: [follow, manage, ignore]
    default: follow
  type:
    description: Whether to return files, directories, or V(any) entry, which includes sockets, pipes and devices.
    type: str
    choices: [file, directory, any]
    default: file
  checksum:
    description:
      - How to hash contents. With V(none) no file is read.
      - A host in FIPS mode forbids V(md5). Its files are then returned without checksums, and the module warns.
    type: str
    choices: [sha256, md5, none]
    default: sha256
  dcr:
    description:
      - A data collection rule whose file items are to be returned instead of O(paths), with their own options.
      - A path on the managed host, the rule's JSON text, or the rule itself. See M(changetracking.inventory.ct_inventory_info).
    type: raw
  max_files:
    description: Return at most this many items, and say how many there are. V(0) means all.
    type: int
    default: 0
  fields:
    description:
      - Keep only these keys of each item.
      - Ansible keeps the facts of every host in memory for the whole run, so on a fleet it pays to name the keys that are used.
    type: list
    elements: str
    default: []
    choices: [FileSystemPath, FileContentChecksum, Size, Owner, Group, Mode, DateModified, DateCreated, FileType, LinkTarget]
extends_documentation_fragment:
  - changetracking.inventory.attributes
  - changetracking.inventory.facts
seealso:
  - module: ansible.builtin.find
  - module: changetracking.inventory.ct_inventory_info
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Gather what Azure's template tracks
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
  description: The fact this module adds.
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
            - One of the elements of the list C(items), which holds the entries sorted by path.
            - In a template, write C(['items']); C(.items) is a method of every dictionary.
          returned: as the elements of C(items)
          type: dict
          contains:
            FileSystemPath:
              description:
                - Path of the entry. A byte that is not UTF-8 is written C(\\xNN), in lower case.
                - Backslashes directly before such a code are doubled, so an even number of them means the letters C(xNN) themselves.
              type: str
              sample: /etc/ssh/sshd_config
            FileContentChecksum:
              description: Checksum in lower-case hexadecimal; empty where there is no content or it could not be read.
              type: str
              sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
            Size:
              description: Size in bytes.
              type: int
              sample: 3223
            Owner:
              description: Name of the owner, or the number where it has no name.
              type: str
              sample: root
            Group:
              description: Name of the group, or the number where it has no name.
              type: str
              sample: root
            Mode:
              description: Permissions with setuid, setgid and sticky bit, as four octal digits.
              type: str
              sample: "0644"
            DateModified:
              description:
                - Time of the last change of the content, in UTC.
                - Years after 9999 are written with a sign and six digits, as ISO 8601 has it, V(+010000-01-01T00:00:00Z); so are those
                  before 0.
              type: str
              sample: "2026-01-09T08:00:01Z"
            DateCreated:
              description: Time of birth, in UTC; null where the file system does not keep it.
              type: str
              sample: "2026-01-09T08:00:01Z"
            FileType:
              description: One of V(file), V(directory), V(link), V(fifo), V(socket), V(block), V(char).
              type: str
              sample: file
            LinkTarget:
              description: What the symbolic link says; empty for anything else.
              type: str
        count:
          description: Number of items returned.
          type: int
          returned: always
        digest:
          description: Equal digests mean equal items.
          type: str
          returned: always
          sample: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        sources:
          description:
            - How each of O(paths), or each file item of the DCR, fared.
            - C(status) is V(ok), V(absent) (the folder does not exist) or V(failed) (a part of it could not be seen, which does
              not mean that nothing is there); C(count) is the number of entries seen, before any filter; C(message) says why.
          type: dict
          returned: always
          sample: {/etc/ssh: {status: ok, count: 12}}
        collected_at:
          description: When the scan ended, in UTC.
          type: str
          returned: always
          sample: "2026-01-09T08:00:01Z"
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._cti.kinds.files.pathspec import expand
from ..module_utils._cti.kinds.files.scan import Scan
from ..module_utils._cti.model import FileRule, Known
from ..module_utils._dcr_option import dcr_settings
from ..module_utils._module import fact_arguments, facts, run


def main():
    module = AnsibleModule(
        argument_spec=dict(
            fact_arguments("files"),
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

    def work():
        given = module.params
        if given["paths"] is None:
            rules = dcr_settings(module).file_rules
        else:
            options = [given[option] for option in ("recurse", "links", "type", "checksum")]
            rules = [FileRule(path, expand(path), *options) for path in given["paths"]]
        return facts(module, "files", Scan(rules, Known(), given["max_files"]))

    run(module, work)


if __name__ == "__main__":
    main()
