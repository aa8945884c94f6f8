#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin: arguments, one call, exit_json."""

DOCUMENTATION = r"""
module: ct_inventory_info
short_description: Inventory of a host, and what changed in it, in one small result
version_added: "0.1.0"
description:
  - Collects packages, services and tracked files in one pass and returns counts and digests and, if asked, what changed or everything.
  - With O(state), each run keeps what it saw on the managed host, and the next one tells what is different.
  - A source that could not be read is reported as such. It never makes anything look removed.
options:
  kinds:
    description: What to collect. The default is what the DCR enables.
    type: list
    elements: str
    choices: [packages, services, files]
  dcr:
    description:
      - The data collection rule (DCR) that says what is tracked. The default is Azure's template, which tracks packages,
        services and C(/etc/.*.conf).
      - A path on the managed host, the rule's JSON text, or the rule itself (as an ARM resource, an ARM template, or a config chunk
        of the Azure Monitor Agent).
      - Keys that the format does not know are ignored with a warning each.
    type: raw
  report:
    description:
      - With V(summary), counts and digests are returned.
      - With V(changes), in addition what changed since the run before; this needs O(state). See O(since) for a consumer that must
        not miss anything.
      - With V(full), in addition all items, and with O(state) what changed.
    type: str
    choices: [summary, changes, full]
    default: summary
  state:
    description:
      - Path of the state database on the managed host, absolute or starting with C(~/). It is created where it does not exist,
        readable by its owner alone.
      - The first run is the baseline and reports no changes. Every later one stores what it saw, whatever it reports.
      - The state belongs to one machine, known by its machine-id, and as root also by the UUID of its firmware. On a clone, or
        after a change of the machine-id, the next run is a new baseline, with a warning.
      - If another run of the same state stores its result first, this one collects again, up to five times in all. Then it fails.
      - In check mode nothing is stored.
    type: path
  rehash_days:
    description:
      - Within how many days the contents of every tracked file are read again although its times are the same, spread over the
        runs. A write through a shared memory mapping, for one, leaves the times as they are. V(0) means never.
      - This needs O(state).
    type: float
    default: 7
  since:
    description:
      - Return the changes that follow in the history of the host as RV(changes), oldest first, those of this run included, with
        any O(report) and of all kinds. This needs O(state). Asking uses nothing up.
      - Best, RV(history.place) of the result before. A list of such places is taken too, latest last; the one that belongs to
        the state counts.
      - Or the number of a change. V(0) stands for all that is kept. For a number above that of the newest change, all that is kept is
        returned, with a warning.
      - Or a time, as V(2026-01-09T08:00:00Z), V(2026-01-09 08:00:00+01:00) or V(2026-01-09). Without an offset it is in UTC.
        If the clock of the host was set back, more is returned rather than less. For a time in the future there is a warning.
      - Or an age, as V(30m), V(12h), V(2d) or V(1w).
      - Without it, RV(changes) are those that this run found. A consumer that must not miss a change, whatever happens to a result
        on its way, or whoever else uses the same O(state), gives a place.
    type: raw
  history_days:
    description:
      - For how many days O(state) keeps changes for whoever asks with O(since).
      - A gap of more than a day between two runs counts as one day, so nothing is dropped early where a clock jumps ahead.
    type: float
    default: 30
  history_mib:
    description: How many MiB of changes, compressed, O(state) keeps. The oldest go first.
    type: float
    default: 64
  known:
    description:
      - With O(report=full), what the caller has already. A kind of which it has the same is left out of RV(packed).
      - For each kind the SHA-256, in hexadecimal, of its items as M(changetracking.inventory.ct_inventory_fetch) writes them to
        a file.
    type: dict
    suboptions:
      packages:
        description: Of C(Packages.json).
        type: str
      services:
        description: Of C(Services.json).
        type: str
      files:
        description: Of C(File.json).
        type: str
  forward:
    description:
      - Sends the records of this run, and what earlier runs could not send, from the managed host to the Azure Monitor Agent (AMA)
        there or to any receiver of the Fluentd forward protocol. V({}) stands for AMA with its usual sockets.
      - What changed goes to the change stream. All items go to the data stream at the first run and then as often as the
        rule's C(inventoryCollectionFrequency) says.
      - This needs O(state), which keeps the records until they were handed over. Where they cannot be, the task fails after it
        stored what it saw, and the next run sends them. A receiver may get a record twice; both bear the same C(RecordId).
      - Without O(dcr), the rule AMA has for this machine is used.
      - In check mode nothing is sent.
    type: dict
    suboptions:
      address:
        description:
          - Where to send, as V(@name) (an abstract unix socket), V(/path) (a socket file), V(tcp://host:port) or V(tls://host:port).
          - The default is the socket that AMA opens for the extension once it has a rule for it.
        type: str
        default: "@CAgentStream_CloudAgentInfo_ChangeTracking-Linux_default_fluent.socket"
      config_address:
        description: The unix socket at which AMA is asked for its rule and the tags of the streams.
        type: str
        default: "@CAgentStream_CloudAgentInfo_config_default_fluent.socket"
      allow_users:
        description:
          - Names or numbers of the users whose process may listen at a unix socket. Nothing is sent to anybody else's.
          - The default are the users AMA runs as. The role P(changetracking.inventory.relay#role) runs as C(ctrelay).
        type: list
        elements: str
        default: [root, syslog, azuremonitoragent]
      acks:
        description:
          - With V(require), records count as handed over when the receiver acknowledged them; with V(off), when it has read them.
          - V(auto) is V(off) when AMA is at the other end of the unix socket, and V(require) for every other receiver.
            Whether AMA acknowledges is not documented. It is recognized by the name of its process, C(mdsd).
          - Set V(off) for another receiver that does not acknowledge, such as Fluentd's C(in_unix).
        type: str
        choices: [auto, require, "off"]
        default: auto
      change_tag:
        description:
          - The tag for changes.
          - The default depends on O(forward.address). At a unix socket it is the tag that the rule names for the stream
            C(CONFIG_CHANGE_BLOB_V2). Over TCP or TLS it is the name of the stream, since the tags of a rule are meant for AMA.
        type: str
      data_tag:
        description:
          - The tag for the inventory.
          - The default depends on O(forward.address). At a unix socket it is the tag that the rule names for the stream
            C(CONFIG_DATA_BLOB_V2). Over TCP or TLS it is the name of the stream, since the tags of a rule are meant for AMA.
        type: str
      tls_ca:
        description:
          - PEM file on the managed host with the authorities that may have signed the certificate of a V(tls) receiver.
          - It replaces those of the system.
        type: path
        default: ""
      tls_cert:
        description: PEM file on the managed host with a certificate of our own.
        type: path
        default: ""
      tls_key:
        description: PEM file on the managed host with its key, where that is another file.
        type: path
        default: ""
attributes:
  check_mode:
    description: Can run in C(check_mode); compares with the state and leaves it as it is.
extends_documentation_fragment:
  - changetracking.inventory.attributes
notes:
  - A different DCR is not a change of the host. Items that are tracked only now, or no longer, are counted in a warning.
seealso:
  - plugin: changetracking.inventory.ct_unpack
    plugin_type: filter
  - module: changetracking.inventory.ct_inventory_fetch
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Count what is there
  changetracking.inventory.ct_inventory_info:
  register: inventory

- name: Tell what changed since the run before
  changetracking.inventory.ct_inventory_info:
    report: changes
    state: /var/lib/changetracking/inventory.db
  register: inventory

- name: Show it
  ansible.builtin.debug:
    var: inventory.changes

- name: Get all that changed since the last time, whoever ran in between
  changetracking.inventory.ct_inventory_info:
    state: /var/lib/changetracking/inventory.db
    since: "{{ place | default(0) }}"
  register: inventory

- name: Do something with it
  ansible.builtin.debug:
    var: inventory.changes

- name: Move on once that is done
  ansible.builtin.set_fact:
    place: "{{ inventory.history.place }}"
    cacheable: true

- name: Track changes without an agent of our own, from a scheduled play
  changetracking.inventory.ct_inventory_info:
    state: /var/lib/changetracking/inventory.db
    forward: {}

- name: Get everything
  changetracking.inventory.ct_inventory_info:
    report: full
  register: inventory

- name: Show the names of all packages
  ansible.builtin.debug:
    msg: "{{ (inventory.packed | changetracking.inventory.ct_unpack).packages | map(attribute='SoftwareName') }}"
"""

RETURN = r"""
Computer:
  description: The host's name for itself.
  returned: always
  type: str
  sample: web01
SourceComputerId:
  description: A UUID that stays the same for the host, derived from its machine-id; null where it has none.
  returned: always
  type: str
  sample: 5e3a2b7c-6f0d-4c1a-9b1e-1f2a3b4c5d6e
VMUUID:
  description: The machine's UUID as its firmware tells it; null where that cannot be read (it needs root).
  returned: always
  type: str
  sample: 5e3a2b7c-6f0d-4c1a-9b1e-1f2a3b4c5d6e
inventory:
  description: What was seen of each kind, by its name (V(packages), V(services), V(files)).
  returned: always
  type: dict
  sample:
    packages:
      count: 776
      digest: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
      collected_at: "2026-01-09T08:00:01Z"
      sources: {dpkg: {status: ok, count: 776}, rpm: {status: absent, count: 0, message: There is no rpm database.}}
      baseline: false
      added: 1
      removed: 0
      modified: 2
  contains:
    KIND:
      description: One of the kinds.
      returned: always
      type: dict
      contains:
        count:
          description: Number of items.
          type: int
          returned: always
        digest:
          description: Equal digests mean that nothing differs that counts as a change.
          type: str
          returned: always
        collected_at:
          description: When they were collected, in UTC.
          type: str
          returned: always
        sources:
          description: C(status) (V(ok), V(absent), V(failed)), C(count) and C(message) of each source.
          type: dict
          returned: always
        baseline:
          description: Whether this was the first run, with which the next one compares.
          type: bool
          returned: with O(state)
        added:
          description: Number of items that came since the run before.
          type: int
          returned: with O(state), from the second run on
        removed:
          description: Number of items that went since the run before.
          type: int
          returned: with O(state), from the second run on
        modified:
          description: Number of items that are different from the run before.
          type: int
          returned: with O(state), from the second run on
changes:
  description:
    - One record per change, with the columns of the table ConfigurationChange.
    - A record of an item that was added has no previous values, one of an item that was removed has no current ones.
    - At most about 10,000 records, or 16 MiB of JSON, are returned at once. RV(history.remaining) says how many follow.
    - In check mode, what this run found comes last, without C(RecordId).
  returned: with O(since), or with O(state) when O(report) is V(changes) or V(full)
  type: list
  elements: dict
  sample:
    - Computer: web01
      SourceComputerId: 5e3a2b7c-6f0d-4c1a-9b1e-1f2a3b4c5d6e
      TimeGenerated: "2026-01-09T08:00:01Z"
      RecordId: 6f2f0c3c7e5f4a0a9c3f6d1b2a3c4d5e-0
      LastSnapshotAge: 300
      ConfigChangeType: Software
      ChangeCategory: Modified
      FieldsChanged: CurrentVersion,Size
      SoftwareName: openssl
      SoftwareType: Package
      SoftwareDescription: Secure Sockets Layer toolkit - cryptographic utility
      Publisher: Debian OpenSSL Team <pkg-openssl-devel@alioth-lists.debian.net>
      Architecture: amd64
      Size: 2319360
      Current: 3.0.11-1~deb12u2
      Previous: 3.0.9-1
history:
  description: The history of the host, and the place in it after RV(changes).
  returned: with O(state)
  type: dict
  sample:
    state: 8f14e45fceea167a5a36dedd4bea2543
    path: /var/lib/changetracking/inventory.db
    place: "8f14e45fceea167a5a36dedd4bea2543:42:6f2f0c3c"
    first: 7
    last: 42
    missed: 0
    remaining: 0
    restarted: false
  contains:
    state:
      description:
        - Identifies the state. It is another one where a state was removed and made anew, and on a clone.
        - Null where nothing was ever stored.
      type: str
      returned: always
    path:
      description: The full path of O(state).
      type: str
      returned: always
    place:
      description: What to give as O(since) the next time.
      type: str
      returned: always
    first:
      description: Number of the oldest change that is kept; null where none is.
      type: int
      returned: always
    last:
      description: Number of the newest change. Each change that is stored gets the next number.
      type: int
      returned: always
    missed:
      description:
        - Number of changes after O(since) that are no longer kept or cannot be read. There is a warning as well.
        - If O(since) is a time before the oldest change that is kept, all that are no longer kept.
      type: int
      returned: always
    remaining:
      description: Number of changes that follow RV(history.place).
      type: int
      returned: always
    restarted:
      description: Whether O(since) is not a place of this state, so that all changes that are kept are returned.
      type: bool
      returned: always
    not_stored:
      description: Number of changes at the end of RV(changes) that this run found and did not store. They have no number.
      type: int
      returned: in check mode
forward:
  description: What was handed over.
  returned: with O(forward), outside of check mode
  type: dict
  contains:
    delivered:
      description: Number of records that were handed over, those of earlier runs included.
      type: int
      returned: success
      sample: 3
    waiting:
      description:
        - Number of records that are kept for the next run.
        - A task begins no further message after 60 seconds. If the receiver is so slow that records are left, there is a warning.
      type: int
      returned: always
      sample: 0
packed:
  description:
    - All items by kind, without the kinds that are O(known) already, as base64 of zlib of JSON. The filter
      P(changetracking.inventory.ct_unpack#filter) opens it.
    - The same data as nested lists would cost the controller many times the memory and time.
  returned: when O(report) is V(full)
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._cti.errors import CtiError, RowDamaged
from ..module_utils._cti.state.history import Retention, answer
from ..module_utils._cti.state.since import parse
from ..module_utils._cti.state.store import Store, run_until_stored
from ..module_utils._cti.tracking.survey import survey
from ..module_utils._dcr_option import dcr_settings
from ..module_utils._forward_option import ARGUMENTS, Forward
from ..module_utils._module import check_state_path, run


def main():
    module = AnsibleModule(
        argument_spec={
            "kinds": {"type": "list", "elements": "str", "choices": ["packages", "services", "files"]},
            "dcr": {"type": "raw"},
            "report": {"type": "str", "choices": ["summary", "changes", "full"], "default": "summary"},
            "state": {"type": "path"},
            "rehash_days": {"type": "float", "default": 7},
            "since": {"type": "raw"},
            "history_days": {"type": "float", "default": 30},
            "history_mib": {"type": "float", "default": 64},
            "known": {"type": "dict", "options": {kind: {"type": "str"} for kind in ("packages", "services", "files")}},
            "forward": ARGUMENTS,
        },
        required_if=[("report", "changes", ["state"])],
        required_by={"forward": ["state"], "since": ["state"]},
        supports_check_mode=True,
    )
    run(module, lambda: work(module))


def work(module):
    given = module.params
    forward = None if given["forward"] is None else Forward(given["forward"])
    settings = settings_for(module, forward)
    kinds = given["kinds"] or settings.kinds
    if given["state"] is None:
        return survey(kinds, settings, given["report"], None, module.warn, known=given["known"])
    check_state_path("state (in the playbook: ct_state)", given["state"])
    since = None if given["since"] is None else parse(given["since"])
    retention = Retention.checked(given["history_days"], given["history_mib"])

    warned = []

    def warn(text):
        if text not in warned:  # where it looks again
            warned.append(text)
            module.warn(text)

    def look():
        with Store(given["state"], read_only=module.check_mode, retention=retention) as store:
            return store, survey(
                kinds,
                settings,
                given["report"],
                store,
                warn,
                forward is not None,
                given["known"],
                given["rehash_days"],
            )

    try:
        store, result = run_until_stored(look)
    except RowDamaged:
        if module.check_mode:
            raise
        from ..module_utils._cti.state.repair import repair

        for note in repair(given["state"]):
            module.warn(note)
        store, result = run_until_stored(look)
    result.update(answer(store, since, result.pop("changes", None), module.warn))
    if forward and not module.check_mode:
        failure = None
        try:
            result["forward"] = forward.deliver(given["state"], settings)
        except CtiError as error:
            failure = error
        for note in forward.notes:
            module.warn(note)
        if failure is not None:
            result.pop("packed", None)  # Ansible prints all that a failed task returns
            module.fail_json(msg=str(failure), **result)
    return result


def settings_for(module, forward):
    """Of the rule given, else of the one the agent has, else the default; with a warning for each key that is ignored."""
    if forward is None or not forward.to_agent or module.params["dcr"] is not None:
        return dcr_settings(module)
    settings = forward.settings()
    for warning in settings.warnings:
        module.warn(warning)
    return settings


if __name__ == "__main__":
    main()
