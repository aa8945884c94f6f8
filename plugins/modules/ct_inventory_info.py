#!/usr/bin/python
# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module ct_inventory_info: options, a few calls of the library, and the result."""

DOCUMENTATION = r"""
module: ct_inventory_info
short_description: Collect a compact inventory of a host and report changes
version_added: "0.1.0"
description:
  - Collects packages, services and tracked files in one pass. Returns counts and digests and, on request, the changes or all items.
  - With O(state), each run stores its inventory on the managed host, and the next run reports the changes since then.
  - A source that cannot be read is reported as failed. None of its items is reported as removed.
options:
  kinds:
    description:
      - Kinds of items to collect. The default are the kinds that the data collection rule enables.
      - A kind that the rule has switched off is compared with O(state) once more. Its changes are returned and stored.
    type: list
    elements: str
    choices: [packages, services, files]
  dcr:
    description:
      - The data collection rule (DCR) that says what to track. The default is Azure's template, which tracks packages,
        services and C(/etc/.*.conf).
      - A path on the managed host, the rule's JSON text, or the rule as data. Accepts an ARM resource, a list of them, an ARM or Bicep
        template, and a config chunk of the Azure Monitor Agent.
      - With V(recommended), the recommended rule of this collection, which M(changetracking.inventory.ct_dcr_info) shows.
      - Unknown keys are ignored, with a warning for each. A file item that cannot be used is left out, with a warning and in
        RV(rule_problems). If none of the file items can be used, the task fails and changes nothing.
    type: raw
  report:
    description:
      - What to return.
      - With V(summary), counts and digests.
      - With V(changes), also the changes since the last run. This requires O(state). A consumer that must not miss a change uses
        O(since).
      - With V(full), also all items and, with O(state), the changes.
    type: str
    choices: [summary, changes, full]
    default: summary
  source_packages:
    description:
      - Whether the packages in RV(packed) have the key C(Source), as M(changetracking.inventory.ct_package_facts) describes it.
      - Change records and item files never have it.
    type: bool
    default: false
    version_added: "0.2.0"
  state:
    description:
      - Path of the state database on the managed host, absolute or starting with C(~/). If it does not exist, the module creates it,
        readable only by its owner.
      - The first run is the baseline and reports no changes. Every later run stores its inventory, whatever O(report) is.
      - The state belongs to one machine, which is identified by its machine-id and, for root, by the UUID of its firmware. On a clone, or
        after the machine-id changed, the next run is a new baseline, with a warning.
      - If another run stores its result in the same state first, this run collects again, up to five times. Then it fails.
      - In check mode, nothing is stored.
    type: path
  rehash_days:
    description:
      - Number of days within which the contents of every tracked file are read again even if its times have not changed, spread over
        the runs. Some changes leave the times as they are, for example a write through a shared memory mapping. V(0) means never.
      - Requires O(state).
    type: float
    default: 7
  since:
    description:
      - Return the changes that follow in the history of the host as RV(changes), oldest first, including those of this run. They are of all
        kinds, whatever O(kinds) and O(report) are. Requires O(state). The changes stay in the history.
      - A place, which is RV(history.place) of the previous result. A list of places is accepted too, latest last; the last place that
        belongs to this state is used. It is for programs that ask until RV(history.remaining) is 0; there is no warning if it is not.
      - The number of a change. V(0) returns all changes that are kept. A number above that of the newest change does so too, with a
        warning.
      - A time, such as V(2026-01-09T08:00:00Z), V(2026-01-09 08:00:00+01:00) or V(2026-01-09). A time without an offset is in UTC.
        If the clock of the host was set back, more changes are returned rather than fewer. A time in the future gives a warning.
      - An age, such as V(30m), V(12h), V(2d) or V(1w).
      - Without O(since), RV(changes) has only the changes that this run found. A consumer that must not miss a change gives a place. It
        then gets every change even if a result was lost, or if others use the same O(state).
    type: raw
  history_days:
    description:
      - Number of days for which O(state) keeps changes.
      - A gap of more than a day between two runs counts as one day, so no change is dropped early if the clock jumps ahead.
    type: float
    default: 30
  history_mib:
    description:
      - Maximum size of the changes that O(state) keeps, compressed, in MiB.
      - If there are more, the oldest changes in folders of the user who has the most are dropped first. All other changes, such as those of
        packages, are dropped first only while they take more than half of the space.
    type: float
    default: 64
  known:
    description:
      - What the caller already has. With O(report=full), a kind of which the host has the same is left out of RV(packed).
      - For each kind, the SHA-256 checksum, in hexadecimal, of the file that M(changetracking.inventory.ct_inventory_fetch) writes.
    type: dict
    suboptions:
      packages:
        description: Checksum of C(Packages.json).
        type: str
      services:
        description: Checksum of C(Services.json).
        type: str
      files:
        description: Checksum of C(File.json).
        type: str
  forward:
    description:
      - Send the records of this run, and those that earlier runs could not send, from the managed host to the Azure Monitor Agent (AMA)
        on it, or to any receiver of the Fluentd forward protocol. V({}) means AMA with its default sockets.
      - Changes go to the change stream. All items go to the data stream on the first run, and then at the interval
        C(inventoryCollectionFrequency) of the rule.
      - Requires O(state), which keeps the records until they are delivered. If delivery fails, the task fails after it stored its
        inventory, and the next run sends the records. A receiver may get a record twice, with the same C(RecordId).
      - Without O(dcr), the rule that AMA has for this machine is used. If none of its file items can be used, those of the last run with
        this O(state) are used, with a warning.
      - In check mode, nothing is sent.
    type: dict
    suboptions:
      address:
        description:
          - Address of the receiver, as V(@name) (an abstract unix socket), V(/path) (a socket file), V(tcp://host:port) or
            V(tls://host:port).
          - The default is the socket that AMA opens when it has a rule for the extension C(ChangeTracking-Linux).
        type: str
        default: "@CAgentStream_CloudAgentInfo_ChangeTracking-Linux_default_fluent.socket"
      config_address:
        description: Unix socket at which the module asks AMA for its rule and the tags of the streams.
        type: str
        default: "@CAgentStream_CloudAgentInfo_config_default_fluent.socket"
      allow_users:
        description:
          - Names or numbers of the users that may listen at a unix socket. Nothing is sent to a process of another user.
          - The default are the users that AMA runs as. The role P(changetracking.inventory.relay#role) runs the relay as C(ctrelay).
        type: list
        elements: str
        default: [root, syslog, azuremonitoragent]
      acks:
        description:
          - When a record counts as delivered. With V(require), when the receiver acknowledges it. With V(off), when the receiver has read it.
          - V(auto) is V(off) if AMA is at the other end of the unix socket, and V(require) for every other receiver.
            Whether AMA acknowledges is not documented. AMA is recognized by the name of its process, C(mdsd).
          - For another receiver that does not acknowledge, such as Fluentd's C(in_unix), set V(off).
        type: str
        choices: [auto, require, "off"]
        default: auto
      change_tag:
        description:
          - Tag of the change records.
          - The default depends on O(forward.address). At a unix socket it is the tag that the rule names for the stream
            C(CONFIG_CHANGE_BLOB_V2). Over TCP or TLS it is the name of the stream, because the tags of a rule are meant for AMA.
        type: str
      data_tag:
        description:
          - Tag of the inventory records.
          - The default depends on O(forward.address). At a unix socket it is the tag that the rule names for the stream
            C(CONFIG_DATA_BLOB_V2). Over TCP or TLS it is the name of the stream, because the tags of a rule are meant for AMA.
        type: str
      tls_ca:
        description:
          - Path on the managed host of a PEM file with the certificate authorities that a V(tls) receiver's certificate may be signed by.
          - It replaces the authorities of the system.
        type: path
        default: ""
      tls_cert:
        description: Path on the managed host of a PEM file with the client certificate, for a V(tls) receiver that requires one.
        type: path
        default: ""
      tls_key:
        description: Path on the managed host of a PEM file with the key of O(forward.tls_cert). By default, that file has the key too.
        type: path
        default: ""
attributes:
  check_mode:
    description: Can run in C(check_mode); compares with the state and does not change it.
extends_documentation_fragment:
  - changetracking.inventory.attributes
  - changetracking.inventory.attributes.direct
notes:
  - A changed rule is not a change of the host. A warning says how many items were added to and removed from the set of tracked items.
seealso:
  - plugin: changetracking.inventory.ct_unpack
    plugin_type: filter
  - module: changetracking.inventory.ct_inventory_fetch
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
- name: Count packages, services and files
  changetracking.inventory.ct_inventory_info:
  register: inventory

- name: Report the changes since the last run
  changetracking.inventory.ct_inventory_info:
    report: changes
    state: /var/lib/changetracking/inventory.db
  register: inventory

- name: Show them
  ansible.builtin.debug:
    var: inventory.changes

- name: Get all changes since the place that was reached, whoever ran in between
  changetracking.inventory.ct_inventory_info:
    state: /var/lib/changetracking/inventory.db
    since: "{{ place | default(0) }}"
  register: inventory

- name: Process them
  ansible.builtin.debug:
    var: inventory.changes

- name: Store the new place once they are processed
  ansible.builtin.set_fact:
    place: "{{ inventory.history.place }}"
    cacheable: true

- name: Send records to the Azure Monitor Agent from a scheduled play, without an agent of this collection
  changetracking.inventory.ct_inventory_info:
    state: /var/lib/changetracking/inventory.db
    forward: {}

- name: Get all items
  changetracking.inventory.ct_inventory_info:
    report: full
  register: inventory

- name: Show the names of all packages
  ansible.builtin.debug:
    msg: "{{ (inventory.packed | changetracking.inventory.ct_unpack).packages | map(attribute='SoftwareName') }}"
"""

RETURN = r"""
Computer:
  description: Host name of the managed host.
  returned: always
  type: str
  sample: web01
SourceComputerId:
  description: A UUID that identifies the host, derived from its machine-id. Null if the host has no machine-id.
  returned: always
  type: str
  sample: 5e3a2b7c-6f0d-4c1a-9b1e-1f2a3b4c5d6e
VMUUID:
  description: UUID of the machine, from its firmware. Null if it cannot be read, which requires root.
  returned: always
  type: str
  sample: 5e3a2b7c-6f0d-4c1a-9b1e-1f2a3b4c5d6e
inventory:
  description: Summary of each kind, by its name (V(packages), V(services), V(files)).
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
      description: Summary of one kind.
      returned: always
      type: dict
      contains:
        count:
          description: Number of items, including RV(inventory.KIND.kept).
          type: int
          returned: always
        kept:
          description:
            - Number of items that an earlier run recorded and this one could not read. They stay in the state, in the item files and in
              RV(packed). C(sources) has the reason.
          type: int
          returned: with O(state), if there are any
        left_out:
          description: Number of items that RV(packed) leaves out, because the kind has more than a result can hold. A warning says whose they are.
          type: int
          returned: with O(report=full), if there are any
        digest:
          description: Checksum over the values that count as changes. Two results with the same digest have no change between them.
          type: str
          returned: always
        collected_at:
          description: Time at which the items were collected, in UTC.
          type: str
          returned: always
        sources:
          description:
            - Status of each source, by its name. C(status) is V(ok), V(absent) or V(failed). C(count) is the number of items it returned,
              C(message) the reason for a status other than V(ok).
          type: dict
          returned: always
        baseline:
          description: Whether this run was the first one, with which the next run compares.
          type: bool
          returned: with O(state)
        added:
          description: Number of items added since the last run.
          type: int
          returned: with O(state), from the second run on
        removed:
          description: Number of items removed since the last run.
          type: int
          returned: with O(state), from the second run on
        modified:
          description: Number of items modified since the last run.
          type: int
          returned: with O(state), from the second run on
changes:
  description:
    - One record per change, with the columns of the table ConfigurationChange.
    - The record of an added item has no previous values. The record of a removed item has no current values.
    - At most about 10,000 records, or 16 MiB of JSON, are returned at once. RV(history.remaining) is the number of changes that follow.
    - In check mode, the changes that this run found come last and have no C(RecordId). Of these, at most 10,000 or 16 MiB are returned, and a
      warning says of how many.
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
        - Identifies the state. A state that was removed and created again, and that of a clone, has another value.
        - Null if nothing was stored yet.
      type: str
      returned: always
    path:
      description: Absolute path of O(state).
      type: str
      returned: always
    place:
      description: The value for O(since) of the next run.
      type: str
      returned: always
    first:
      description: Number of the oldest change that is kept. Null if no change is kept.
      type: int
      returned: always
    last:
      description: Number of the newest change. Each stored change gets the next number.
      type: int
      returned: always
    missed:
      description:
        - Number of changes after O(since) that are no longer kept or cannot be read. There is also a warning.
        - If O(since) is a time before the oldest change that is kept, the number of all changes that are no longer kept.
        - If O(since) is a time before the first run with O(state), a warning names the time of that run.
      type: int
      returned: always
    remaining:
      description: Number of changes that follow RV(history.place).
      type: int
      returned: always
    restarted:
      description: Whether O(since) is not a place of this state. All changes that are kept are then returned.
      type: bool
      returned: always
    not_stored:
      description: Number of changes at the end of RV(changes) that this run found and did not store. They have no number.
      type: int
      returned: in check mode
forward:
  description: Numbers of delivered and undelivered records.
  returned: with O(forward), outside of check mode
  type: dict
  contains:
    delivered:
      description: Number of records that were delivered, including records of earlier runs.
      type: int
      returned: success
      sample: 3
    waiting:
      description:
        - Number of records that are kept for the next run.
        - After 60 seconds, the task begins no further message. If a slow receiver leaves records undelivered, there is a warning.
      type: int
      returned: always
      sample: 0
rule_problems:
  description: Why less is tracked than the rule says, such as a file item with a path that is not absolute. One sentence for each.
  returned: if there are any
  type: list
  elements: str
  sample:
    - "CTDataSource-Linux: fileSettings.fileInfo[1] (\"ssh\") is left out: destinationPath 'etc/ssh' is not an absolute path; start it with /."
packed:
  description:
    - All items by kind, without the kinds that the caller has according to O(known), as base64 of zlib of JSON. The filter
      P(changetracking.inventory.ct_unpack#filter) unpacks it.
    - As nested lists, the same data would take many times the memory and time on the controller.
    - If a kind has more items than the filter accepts, those of the owners with the most items are left out. A warning and a row with the
      key C(LeftOut) say how many, and whose.
  returned: when O(report) is V(full)
  type: str
"""

from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _compile_once  # noqa: F401  # pylint: disable=unused-import
from ..module_utils._cti.errors import CtiError, RetentionError, RowDamaged
from ..module_utils._cti.kinds.registry import all_kinds
from ..module_utils._cti.rule.settings import Settings
from ..module_utils._cti.state.history import MOST_DAYS, Retention
from ..module_utils._cti.state.pages import answer
from ..module_utils._cti.state.store import Store, run_until_stored
from ..module_utils._cti.tracking.host_run import run_host
from ..module_utils._dcr_option import dcr_settings
from ..module_utils._forward_option import ARGUMENTS
from ..module_utils._module import check_state_path, run

if TYPE_CHECKING:
    from ..module_utils._forward import Forward

OPTIONS: Dict[str, Any] = dict(
    argument_spec={
        "kinds": {"type": "list", "elements": "str", "choices": list(all_kinds())},
        "dcr": {"type": "raw"},
        "report": {"type": "str", "choices": ["summary", "changes", "full"], "default": "summary"},
        "source_packages": {"type": "bool", "default": False},
        "state": {"type": "path"},
        "rehash_days": {"type": "float", "default": 7},
        "since": {"type": "raw"},
        "history_days": {"type": "float", "default": 30},
        "history_mib": {"type": "float", "default": 64},
        "known": {"type": "dict", "options": {kind: {"type": "str"} for kind in all_kinds()}},
        "forward": ARGUMENTS,
    },
    required_if=[("report", "changes", ["state"])],
    required_by={"forward": ["state"], "since": ["state"]},
    supports_check_mode=True,
)


def main() -> None:
    module = AnsibleModule(**OPTIONS)
    run(module, lambda: work(module))


def work(module: AnsibleModule) -> Dict[str, Any]:
    given = module.params
    forward = None
    if given["forward"] is not None:
        from ..module_utils._forward import Forward

        forward = Forward(given["forward"])
    settings = settings_for(module, forward)
    kinds = given["kinds"] or settings.kinds
    if given["state"] is None:
        full_rows = given["source_packages"]
        return run_host(kinds, settings, given["report"], None, module.warn, known=given["known"], full_rows=full_rows)
    check_state_path("state (in the playbook: ct_state)", given["state"])
    since = None
    if given["since"] is not None:
        from ..module_utils._cti.state.since import parse

        since = parse(given["since"])
    retention = Retention.checked(given["history_days"], given["history_mib"])
    if not 0 <= given["rehash_days"] <= MOST_DAYS:
        raise RetentionError(
            "The value of rehash_days is %s. Give a number from 0, which means never, to %d."
            % (given["rehash_days"], MOST_DAYS)
        )

    warned: List[str] = []

    def warn(text: str) -> None:
        if text not in warned:  # where it looks again
            warned.append(text)
            module.warn(text)

    def look() -> Tuple[Store, Dict[str, Any]]:
        with Store(given["state"], read_only=module.check_mode, retention=retention) as store:
            return store, run_host(
                kinds,
                settings,
                given["report"],
                store,
                warn,
                forward is not None,
                given["known"],
                given["rehash_days"],
                given["source_packages"],
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


def settings_for(module: AnsibleModule, forward: "Optional[Forward]") -> Settings:
    """Return the settings of the given rule, else of AMA's rule, else the default. Warns about each ignored key."""
    if forward is None or not forward.to_agent or module.params["dcr"] is not None:
        return dcr_settings(module)
    settings = forward.settings()
    for warning in settings.warnings:
        module.warn(warning)
    return settings


if __name__ == "__main__":
    main()
