# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Callback run_log: its options, and the hooks that record what a run changes."""

from __future__ import annotations

DOCUMENTATION = r"""
name: run_log
type: notification
short_description: Record which tasks changed which hosts, to tell changes made by Ansible from drift
version_added: "0.2.0"
description:
  - Records each run of a playbook, and each task in it that changed a host. Changes that the inventory finds later can then be
    attributed to a task, to a run, or to neither, which is drift.
  - A record of a task has the run, the play, the task's name, the resolved name of the module, the host where it ran, its start and end,
    and whether it failed. If the host returned its time in the run, for example to M(ansible.builtin.gather_facts), it also has the
    difference between the host's clock and the controller's.
  - A record also has what the task named. This is the values of a fixed list of arguments and results. It has paths, the names of packages,
    services and users, the arguments C(state), C(enabled), C(masked), C(owner), C(group) and C(mode), the size, mode, owner and group of a
    written file, whether a service was active and enabled before the task, and the names and versions that the package manager printed.
  - A name that is a URL is not recorded, because it may have a password.
  - Contents, commands, variables and output are never recorded. Of a task with C(no_log), only its name, module, host and times are.
  - A record of a run has the playbook, the user and host name of the controller, whether it ran in check mode, its start and end, and the
    hosts on which tasks ran.
  - Tasks in check mode, and tasks that changed nothing, are not recorded. A task that failed or lost its host is recorded if its module may
    have changed something before.
  - Records are written to a spool on the controller when a task ends, so they survive if the run is killed. At the end of the run they go
    to the O(store). Without O(store), or if it cannot be written, they stay in the spool until
    M(changetracking.inventory.ct_inventory_fetch) stores them.
requirements:
  - enable in configuration
options:
  store:
    description:
      - Path of the fleet store, or its C(postgresql://) URL. It is created if it does not exist.
      - The default is to leave the records in the O(spool).
    type: str
    env:
      - name: RUN_LOG_STORE
    ini:
      - section: callback_run_log
        key: store
  spool:
    description:
      - Folder for records that are not in a store yet. It is created if it does not exist. Only its owner may be able to write to it.
      - Several runs may share it. The default is C(run_log) in Ansible's home (C(~/.ansible)).
    type: path
    env:
      - name: RUN_LOG_SPOOL
    ini:
      - section: callback_run_log
        key: spool
  spool_max_mib:
    description:
      - Maximum size of the spool in MiB. When it is full, new records are dropped and a warning says so. The records of one host take at most a
        quarter of what is free.
    type: int
    default: 64
    env:
      - name: RUN_LOG_SPOOL_MAX_MIB
    ini:
      - section: callback_run_log
        key: spool_max_mib
notes:
  - C(ansible) (ad hoc) loads callbacks only if E(ANSIBLE_LOAD_CALLBACK_PLUGINS) is V(true).
  - The record of a run also has an id of each host that gathered its facts or ran a module of this collection, so that its tasks are known in a
    store in which the host has another name than in the inventory.
  - The host of a record is the one to which a task is delegated, if it is. With C(connection=local), tasks run on the controller, but
    the record has the inventory name.
  - If a path or name comes from a vaulted variable and must not be recorded, set C(no_log) for the task.
seealso:
  - module: changetracking.inventory.ct_inventory_fetch
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
# Enable the callback in ansible.cfg:
#
# [defaults]
# callbacks_enabled = changetracking.inventory.run_log
#
# [callback_run_log]
# store = /srv/inventory/fleet.db

- name: Install a web server; the callback records which tasks changed which hosts
  hosts: web
  become: true
  tasks:
    - name: Install the package
      ansible.builtin.package:
        name: nginx
"""

import time
import uuid

from ansible import context
from ansible.plugins.callback import CallbackBase

from ..module_utils._cti.fleet.store import FleetError, open_store
from ..plugin_utils._fleet.run_store import default_folder, store_spool
from ..plugin_utils._fleet.runs import FAILED, UNREACHABLE, Run, to_line, user
from ..plugin_utils._harmless import harmless
from ..plugin_utils._run_log.recorder import Recorder, controller
from ..plugin_utils._spool import Spool

OURS = "run_log"


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "changetracking.inventory.run_log"
    CALLBACK_NEEDS_ENABLED = True
    _recorder: Recorder

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._warned = set()

    def warn(self, text):
        """Show a warning, each text once."""
        if text not in self._warned:
            self._warned.add(text)
            self._display.warning(f"{OURS}: {text}.")

    def set_options(self, *arguments, **options):
        super().set_options(*arguments, **options)
        mebibytes = self.get_option("spool_max_mib")
        if mebibytes < 1:
            self.disabled = True
            self.warn(f"spool_max_mib is {mebibytes}. Give at least 1. Nothing is recorded in this run")
            return
        self._spool = Spool(self.get_option("spool") or default_folder(), mebibytes << 20, self.warn)

    def _write(self, record):
        self._spool.append(to_line(record), 1, "" if isinstance(record, Run) else record.host)

    @harmless
    def v2_playbook_on_start(self, playbook):
        """Begin a run. One command may run several playbooks, each of which is a run of its own."""
        run = Run(
            uuid=str(uuid.uuid4()),
            playbook=str(playbook._file_name),
            user=user(),
            controller=controller(),
            check_mode=bool(context.CLIARGS.get("check")),
            started_at=time.time(),
        )
        self._recorder = Recorder(run, self._write)

    @harmless
    def v2_playbook_on_play_start(self, play):
        self._recorder.play(play.get_name())

    @harmless
    def v2_runner_on_start(self, host, task):
        self._recorder.started(host, task)

    @harmless
    def v2_runner_on_ok(self, result):
        self._recorder.ended(result)

    @harmless
    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._recorder.ended(result, problem=FAILED)

    @harmless
    def v2_runner_on_unreachable(self, result):
        self._recorder.ended(result, problem=UNREACHABLE)

    @harmless
    def v2_runner_item_on_ok(self, result):
        self._recorder.ended(result, item=True)

    @harmless
    def v2_runner_item_on_failed(self, result):
        self._recorder.ended(result, item=True, problem=FAILED)

    @harmless
    def v2_playbook_on_stats(self, stats):
        """End the run, and store what it recorded."""
        self._recorder.end()
        where = self.get_option("store")
        if not where:
            return
        try:
            with open_store(where, write=True) as store:
                store_spool(self._spool, store)
        except FleetError as error:
            self.warn(f"{str(error).rstrip('.')}. The records stay in {self._spool.folder} for the next run")
