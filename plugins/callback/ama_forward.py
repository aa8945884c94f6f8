# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Callback ama_forward: its options, and the hooks that write results to the spool and deliver the spool."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ama_forward
type: notification
short_description: Send what plays gather to the Azure Monitor Agent or a Fluentd-compatible receiver
version_added: "0.1.0"
description:
  - Takes the results of M(changetracking.inventory.ct_package_facts), M(changetracking.inventory.ct_service_facts),
    M(changetracking.inventory.ct_file_facts) and M(changetracking.inventory.ct_inventory_info) in any play, including those that come
    through M(ansible.builtin.gather_facts) and M(ansible.builtin.async_status), and sends them as records of the tables
    ConfigurationData and ConfigurationChange. From the results of M(changetracking.inventory.ct_inventory_fetch) it sends the changes.
  - A record has only the documented columns. The callback does not read arguments, variables and other facts, quotes no messages, and
    skips tasks with C(no_log).
  - C(Computer) is the inventory name of the host. C(ReportedComputer), C(SourceComputerId) and C(VMUUID) are what the host itself
    returned. A value that another inventory host returned before, in this run or in an earlier run with the same O(spool), is left out,
    and so is a C(ReportedComputer) that is the inventory name of another host. A warning at the end of the run names these hosts.
  - Records stay in a spool on the controller until they are delivered. What a run cannot deliver, a later run delivers.
  - If gathering fails, or the host is unreachable, a record with the ConfigDataType C(CollectionStatus) reports it. This type belongs to
    this collection and is not documented by Azure.
  - The last line of a run has the number of records that were delivered, that remain in the spool, and that were dropped. It goes to
    stderr if the stdout callback prints JSON.
requirements:
  - enable in configuration
  - jmespath on the controller, for O(query)
options:
  address:
    description:
      - Address of the receiver, as V(@name) (an abstract unix socket), V(/path) (a socket file), V(tcp://host:port) or V(tls://host:port).
        Any receiver of the Fluentd forward protocol can be used.
      - The default is the socket that the Azure Monitor Agent (AMA), or the role P(changetracking.inventory.relay#role), opens on
        the controller for the extension C(ChangeTracking-Linux).
    type: str
    default: "@CAgentStream_CloudAgentInfo_ChangeTracking-Linux_default_fluent.socket"
    env:
      - name: AMA_FORWARD_ADDRESS
    ini:
      - section: callback_ama_forward
        key: address
  config_address:
    description:
      - Unix socket at which the callback asks AMA for the tags. It is not asked if O(address) is TCP or TLS, or if both O(data_tag) and
        O(change_tag) are set.
    type: str
    default: "@CAgentStream_CloudAgentInfo_config_default_fluent.socket"
    env:
      - name: AMA_FORWARD_CONFIG_ADDRESS
    ini:
      - section: callback_ama_forward
        key: config_address
  allow_users:
    description:
      - Names or numbers of the users that may listen at a unix socket. Nothing is sent to a process of another user.
      - The role P(changetracking.inventory.relay#role) runs the relay as C(ctrelay).
    type: list
    elements: str
    default: [root, syslog, azuremonitoragent]
    env:
      - name: AMA_FORWARD_ALLOW_USERS
    ini:
      - section: callback_ama_forward
        key: allow_users
  data_tag:
    description:
      - Tag of the ConfigurationData records.
      - The default depends on O(address). At a unix socket it is the tag that AMA's data collection rules name for the stream
        C(CONFIG_DATA_BLOB_V2). Over TCP or TLS it is the name of the stream, because the tags of a rule are meant for AMA.
    type: str
    env:
      - name: AMA_FORWARD_DATA_TAG
    ini:
      - section: callback_ama_forward
        key: data_tag
  change_tag:
    description:
      - Tag of the ConfigurationChange records.
      - The default depends on O(address). At a unix socket it is the tag that AMA's data collection rules name for the stream
        C(CONFIG_CHANGE_BLOB_V2). Over TCP or TLS it is the name of the stream, because the tags of a rule are meant for AMA.
    type: str
    env:
      - name: AMA_FORWARD_CHANGE_TAG
    ini:
      - section: callback_ama_forward
        key: change_tag
  query:
    description:
      - JMESPath expression that is applied to each record. A record is sent if the result is true for JMESPath, which is everything
        but null, false and empty values. The record itself is sent, not the result.
      - If the expression fails for a record, the record is not sent, and there is a warning.
      - The expression is applied on delivery, also by a later run, and is always that of the run that gathered the records.
    type: str
    env:
      - name: AMA_FORWARD_QUERY
    ini:
      - section: callback_ama_forward
        key: query
  hosts:
    description: Send only the results of hosts whose inventory name matches one of these shell patterns.
    type: list
    elements: str
    default: ["*"]
    env:
      - name: AMA_FORWARD_HOSTS
    ini:
      - section: callback_ama_forward
        key: hosts
  kinds:
    description: Send only items of these kinds.
    type: list
    elements: str
    choices: [packages, services, files]
    default: [packages, services, files]
    env:
      - name: AMA_FORWARD_KINDS
    ini:
      - section: callback_ama_forward
        key: kinds
  spool:
    description:
      - Folder for records that are not delivered yet. It is created if it does not exist. Only its owner may be able to write to it.
      - Several runs may share it if they send to the same receiver. The default is C(ama_forward) in Ansible's home (C(~/.ansible)).
    type: path
    env:
      - name: AMA_FORWARD_SPOOL
    ini:
      - section: callback_ama_forward
        key: spool
  spool_max_mib:
    description:
      - Maximum size of the spool in MiB. When it is full, new records are dropped and counted. Records in the spool are kept.
      - A host whose records take more than a 64th of this size gets at most a quarter of what the other hosts left free. The rest is
        dropped and counted, and a warning names the host.
    type: int
    default: 256
    env:
      - name: AMA_FORWARD_SPOOL_MAX_MIB
    ini:
      - section: callback_ama_forward
        key: spool_max_mib
  flush_deadline:
    description:
      - Seconds by which deliveries that succeed may extend a run. Deliveries that fail extend it by less than one second in all.
    type: float
    default: 10
    env:
      - name: AMA_FORWARD_FLUSH_DEADLINE
    ini:
      - section: callback_ama_forward
        key: flush_deadline
  acks:
    description:
      - When a record counts as delivered.
      - With V(require), when the receiver acknowledges it. With V(off), when the receiver has read it from a unix socket, or when it is
        written to a TCP or TLS connection.
      - V(auto) is V(off) if AMA is at the other end of the unix socket, and V(require) for every other receiver. Whether AMA
        acknowledges is not documented. AMA is recognized by the name of its process, C(mdsd).
      - For another receiver that does not acknowledge, such as Fluentd's C(in_unix), set V(off).
    type: str
    choices: [auto, require, 'off']
    default: auto
    env:
      - name: AMA_FORWARD_ACKS
    ini:
      - section: callback_ama_forward
        key: acks
  tls_ca:
    description: PEM file with the certificate authorities to trust. It replaces the authorities of the system.
    type: path
    env:
      - name: AMA_FORWARD_TLS_CA
    ini:
      - section: callback_ama_forward
        key: tls_ca
  tls_cert:
    description: PEM file with the client certificate, for a receiver that requires one.
    type: path
    env:
      - name: AMA_FORWARD_TLS_CERT
    ini:
      - section: callback_ama_forward
        key: tls_cert
  tls_key:
    description: PEM file with the key of O(tls_cert), without a passphrase. By default, that file has the key too.
    type: path
    env:
      - name: AMA_FORWARD_TLS_KEY
    ini:
      - section: callback_ama_forward
        key: tls_key
  tls_verify:
    description: Whether to require that the receiver's certificate is valid for its name.
    type: bool
    default: true
    env:
      - name: AMA_FORWARD_TLS_VERIFY
    ini:
      - section: callback_ama_forward
        key: tls_verify
notes:
  - C(ansible) (ad hoc) loads callbacks only if E(ANSIBLE_LOAD_CALLBACK_PLUGINS) is V(true).
  - C(Computer) is the inventory name of the host that was inventoried, which is the delegated host if a task is delegated.
  - Results of check mode are not sent, because the next run reports the same changes again.
seealso:
  - module: changetracking.inventory.ct_inventory_info
  - plugin: changetracking.inventory.ct_query
    plugin_type: filter
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
# Enable the callback in ansible.cfg and let it send to a relay on another host:
#
# [defaults]
# callbacks_enabled = changetracking.inventory.ama_forward
#
# [callback_ama_forward]
# address = tls://relay.example.org:24224
# tls_ca = /etc/pki/relay-ca.pem

- name: Gather packages and services of all hosts; the callback sends them
  hosts: all
  gather_facts: false
  tasks:
    - name: Gather packages
      changetracking.inventory.ct_package_facts:

    - name: Gather services
      changetracking.inventory.ct_service_facts:
"""

import os
from fnmatch import fnmatchcase

from ansible import constants
from ansible.plugins.callback import CallbackBase

from ..module_utils._cti.errors import CtiError
from ..module_utils._cti.rule.settings import CHANGE_STREAM, DATA_STREAM
from ..module_utils._cti.text import plural
from ..module_utils._cti.wire import address
from ..module_utils._cti.wire.tls import Tls, tls_context
from ..plugin_utils._ama_forward import parcel as parcels
from ..plugin_utils._ama_forward.delivery import Delivery, Receiver
from ..plugin_utils._ama_forward.identities import Identities
from ..plugin_utils._ama_forward.results import Reader
from ..plugin_utils._harmless import harmless
from ..plugin_utils._output import show
from ..plugin_utils._query import MISSING, jmespath
from ..plugin_utils._spool import Spool

OURS = "ama_forward"


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "changetracking.inventory.ama_forward"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._warned = set()
        self._reader = Reader()
        self._dropped = 0

    def warn(self, text):
        """Show a warning, each text once."""
        if text not in self._warned:
            self._warned.add(text)
            self._display.warning(f"{OURS}: {text}.")

    def set_options(self, *arguments, **options):
        super().set_options(*arguments, **options)
        try:
            self._configure()
        except (CtiError, ValueError) as error:
            self.disabled = True
            self.warn(f"{str(error).rstrip('.')}. Nothing is forwarded in this run")

    def _configure(self):
        """Read the options. Raises CtiError and ValueError with one sentence."""
        self._hosts = self.get_option("hosts")
        self._kinds = self.get_option("kinds")
        self._query = self.get_option("query") or ""
        if self._query:
            check_query(self._query)
        mebibytes, seconds = self.get_option("spool_max_mib"), self.get_option("flush_deadline")
        if mebibytes < 1 or not 0 < seconds <= 3600:
            raise ValueError(
                f"spool_max_mib is {mebibytes} and flush_deadline {seconds:g}. Give at least 1 MiB, and more than 0 and at most 3600 seconds"
            )
        folder = self.get_option("spool") or os.path.join(constants.config.get_config_value("ANSIBLE_HOME"), OURS)
        self._spool = Spool(folder, mebibytes << 20, self.warn)
        self._identities = Identities(self._spool, self.warn)
        self._delivery = Delivery(self._receiver(), seconds)

    def _receiver(self):
        tls = Tls(
            self.get_option("tls_ca") or "",
            self.get_option("tls_cert") or "",
            self.get_option("tls_key") or "",
            self.get_option("tls_verify"),
        )
        target = address.parse(self.get_option("address"))
        if target.scheme == "tls":
            tls_context(tls)
        given = {DATA_STREAM: self.get_option("data_tag"), CHANGE_STREAM: self.get_option("change_tag")}
        return Receiver(
            target,
            address.parse(self.get_option("config_address")),
            self.get_option("allow_users"),
            {stream: tag for stream, tag in given.items() if tag},
            self.get_option("acks"),
            tls,
        )

    # --- results

    @harmless
    def v2_runner_on_ok(self, result):
        self._take(self._reader.read(result))

    @harmless
    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._take(self._reader.read(result, problem="failed"))

    @harmless
    def v2_runner_on_unreachable(self, result):
        self._take(self._reader.read(result, problem="unreachable"))

    @harmless
    def v2_runner_item_on_ok(self, result):
        self._take(self._reader.read(result, item=True))

    @harmless
    def v2_runner_item_on_failed(self, result):
        self._take(self._reader.read(result, item=True, problem="failed"))

    def _take(self, reading):
        if not any(fnmatchcase(reading.host, pattern) for pattern in self._hosts):
            return
        self._dropped += reading.refused
        if reading.refused:
            self.warn(f"{reading.host} returned {reading.refused} invalid items, which are dropped")
        for parcel in reading.parcels:
            chosen = parcels.of_kinds(parcel, self._kinds)
            if chosen is None:
                continue
            common = self._identities.believed(reading.host, chosen.common)
            line = parcels.line(chosen._replace(query=self._query, common=common))
            if not self._spool.append(line, chosen.total, reading.host):
                self._dropped += chosen.total

    # --- deliveries

    @harmless
    def v2_playbook_on_play_start(self, play):
        self._identities.expect(inventory_names(play))
        self._delivery.between_tasks(self._spool)

    @harmless
    def v2_playbook_on_task_start(self, task, is_conditional):
        self._delivery.between_tasks(self._spool)

    @harmless
    def v2_playbook_on_handler_task_start(self, task):
        self._delivery.between_tasks(self._spool)

    @harmless
    def v2_playbook_on_stats(self, stats):
        """Deliver and report at the end of a playbook. Another playbook may follow in the same run."""
        self._identities.close()
        delivery = self._delivery
        delivery.at_the_end(self._spool)
        earlier = self._spool.waiting()
        waiting = self._spool.records
        if delivery.problem and (waiting or earlier):
            self.warn(
                f"{delivery.problem.rstrip('.')}. Undelivered records stay in {self._spool.folder} for the next run"
            )
        if delivery.query_problem:
            self.warn(delivery.query_problem)
        if delivery.damaged:
            self.warn(f"Skipped {plural(delivery.damaged, 'damaged line')} of the spool {self._spool.folder}")
        parts = [
            f"delivered {delivery.delivered}, spooled {waiting}, dropped {self._dropped + delivery.dropped} records"
        ]
        if delivery.left_out:
            parts.append(f"{delivery.left_out} left out by the query")
        if earlier:
            parts.append(f"{plural(earlier, 'file')} of other runs not delivered yet")
        show(f"{OURS}: {'; '.join(parts)}")


def inventory_names(play):
    """Return the inventory names of all hosts, whether or not the play or --limit selects them."""
    return list(play.get_variable_manager()._inventory.hosts)


def check_query(query):
    """Raise ValueError if the query cannot be used."""
    if jmespath is None:
        raise ValueError(f"The option query {MISSING}")
    try:
        jmespath.compile(query)
    except jmespath.exceptions.JMESPathError as error:
        raise ValueError(f"The query {query!r} is not valid JMESPath ({' '.join(str(error).split())})") from None
