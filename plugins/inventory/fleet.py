# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventory plugin fleet: the hosts of the fleet store, with variables and groups of what is known of them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet
short_description: Hosts of the fleet store, grouped by their packages, services, files, status and drift
version_added: "0.2.0"
description:
  - Reads hosts from the fleet store, which the playbook C(inventory), M(changetracking.inventory.ct_inventory_fetch) and the relay fill.
    Gives each host a few variables, and makes groups of them. Connects to no host.
  - The name of the file must end in C(fleet.yml) or C(fleet.yaml).
  - Use it together with the inventory that says how the hosts are reached (C(-i hosts -i fleet.yml)). Variables of that inventory are
    available in expressions, if it comes first.
  - Each host has C(ct_status) (V(ok), V(failed), V(stale), or V(partial), which is that something could not be read), C(ct_is_stale),
    C(ct_last_seen) (a time in UTC, V(null) if the host was never seen), C(ct_failure) (why the last attempt to collect it failed, or empty)
    and C(ct_via) (V(playbook) or V(relay)).
  - Expressions can also use C(ct_packages) (a mapping of names to versions), C(ct_services) (of names to states, such as V(Running)),
    C(ct_files) (of paths to checksums), and C(ct_drift) (the number of changes since O(drift_since) that no task of Ansible made and no mark
    covers). They are read only if an expression has their name, and are not variables of the hosts unless O(packages), O(services), O(files) or O(drift)
    says so.
  - If several versions of a package are installed, C(ct_packages) has the newest one.
  - What a host reports decides in which of these groups it is. Its values are never evaluated as templates.
extends_documentation_fragment:
  - constructed
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [changetracking.inventory.fleet]
  store:
    description:
      - The fleet store, as the path of an SQLite file or a PostgreSQL URL (C(postgresql://USER@HOST/DATABASE)).
      - A relative path is relative to the directory of the inventory file.
    type: str
    default: inventory/fleet.db
  via:
    description:
      - Which hosts to read, by what stored them.
      - Hosts that send to a relay choose their names themselves. If two have one name, the one that was seen last is used; a host of the
        playbook precedes.
    type: list
    elements: str
    choices: [playbook, relay]
    default: [playbook]
  stale_after:
    description: A host that was last seen before this age is stale, as a number with V(s), V(m), V(h), V(d) or V(w).
    type: str
    default: 2d
  packages:
    description: Names of packages, or patterns (V(linux-image-*)), that the variable C(ct_packages) of each host has.
    type: list
    elements: str
    default: []
  services:
    description: Names of services, or patterns, that the variable C(ct_services) of each host has.
    type: list
    elements: str
    default: []
  files:
    description: Paths of files, or patterns, that the variable C(ct_files) of each host has.
    type: list
    elements: str
    default: []
  drift:
    description: Whether each host has the variable C(ct_drift).
    type: bool
    default: false
  drift_since:
    description: The time (V(2026-01-09T08:00:00Z)), date or age from which on C(ct_drift) counts changes.
    type: str
    default: 7d
  marks:
    description:
      - Marks of changes that C(ct_drift) does not count, as a list or as the path of a YAML file. A relative path is relative to the
        directory of the inventory file. The marks in the store count too.
      - Their form is that of O(changetracking.inventory.ct_fleet_info#module:marks).
    type: raw
notes:
  - C(ct_packages), C(ct_services) and C(ct_files) of many names for many hosts take memory and time in each run of Ansible. A group needs none of them.
seealso:
  - plugin: changetracking.inventory.ct_version
    plugin_type: test
    description: Compares versions in the order of dpkg or rpm.
  - module: changetracking.inventory.ct_fleet_info
author:
  - changetracking.inventory contributors (@changetracking)
"""

EXAMPLES = r"""
# fleet.yml
plugin: changetracking.inventory.fleet
store: inventory/fleet.db
groups:
  openssl_old: ct_packages.openssl is changetracking.inventory.ct_version('3.0.2', '<')
  without_chrony: "'chrony' not in ct_packages"
  ssh_stopped: ct_services.ssh != 'Running'
  stale: ct_is_stale
  drifted: ct_drift > 0
keyed_groups:
  - prefix: sshd_config
    key: ct_files['/etc/ssh/sshd_config'][:8]
  - prefix: status
    key: ct_status
compose:
  openssl_version: ct_packages.openssl
"""

import difflib
import os
from collections import Counter
from functools import partial
from typing import Any

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible.utils.unsafe_proxy import wrap_var

from ..module_utils._cti.errors import CtiError
from ..module_utils._cti.fleet.store import located, open_store, shown
from ..module_utils._cti.fleet.transaction import PLAYBOOK
from ..module_utils._cti.text import plural, timestamp
from ..plugin_utils._bounded import calm
from ..plugin_utils._fleet import health, history, identities, marks
from ..plugin_utils._fleet.attribution import DRIFT
from ..plugin_utils._fleet.expressions import Expression, names_in
from ..plugin_utils._fleet.names import is_of, usable
from ..plugin_utils._fleet.selection import matching, past
from ..plugin_utils._fleet.values import Values
from ..plugin_utils._untrusted import TEXT_IS_TEMPLATE

ENDS = ("fleet.yml", "fleet.yaml")
KINDS = ("packages", "services", "files")
DRIFT_VARIABLE = "ct_drift"
VARIABLES = ("ct_status", "ct_is_stale", "ct_last_seen", "ct_failure", "ct_via")


class Attempt:
    """Whether an expression could be evaluated for any host, and if not, why."""

    succeeded = False
    error = ""

    def failed(self, error):
        if "key resulted empty" in str(error):  # which only `strict` calls an error
            self.succeeded = True
        else:
            self.error = str(error)


class InventoryModule(BaseInventoryPlugin, Constructable):
    NAME = "changetracking.inventory.fleet"
    inventory: Any

    def verify_file(self, path):
        return super().verify_file(path) and path.endswith(ENDS)

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        self._check_options(self._read_config_data(path))
        self._folder = os.path.dirname(os.path.abspath(path))
        where = located(self.get_option("store").strip(), self._folder)
        try:
            with open_store(where) as store, store.reading():
                self._add_hosts(store, where)
        except (CtiError, ValueError) as error:
            raise AnsibleParserError(str(error)) from None  # whose text ansible-core would repeat

    def _check_options(self, given):
        known = sorted(self.get_options())
        for option in map(str, given):
            if option not in known:
                meant = difflib.get_close_matches(option, known, 1)
                hint = f" Did you mean {meant[0]}?" if meant else f" The options are {', '.join(known)}."
                self.display.warning(f"The option '{calm(option)[:80]}' is unknown and ignored.{hint}")

    def _in_folder(self, path):
        """Return the path, which is relative to the folder of the inventory file."""
        return os.path.join(self._folder, os.path.expanduser(path))

    def _add_hosts(self, store, where):
        stale_before = past(self.get_option("stale_after"), "stale_after")
        hosts = self._hosts(health.numbered(store, matching(()), stale_before))
        if not hosts:
            via = " or ".join(self.get_option("via"))
            self.display.warning(
                f"The fleet store '{shown(where)}' has no hosts of {via} yet. Run the playbook changetracking.inventory.inventory, or set via."
            )
        entries = list(self._entries())
        more = self._more(store, [text for text, _apply in entries])
        self._expressions = [Expression(text, apply, (*VARIABLES, *more)) for text, apply in entries]
        for name, (number, entry) in hosts.items():
            variables = _variables(entry, timestamp(stale_before))
            self._add_host(name, variables, {variable: of(number, name) for variable, of in more.items()})
        for attempt in self._attempts:
            if attempt.error and not attempt.succeeded:
                self.display.warning(f"An expression fails for every host and is skipped. {calm(attempt.error)[:400]}")

    def _hosts(self, entries):
        """Return {name: (number, entry)} of the hosts to add."""
        via = self.get_option("via")
        wanted = [pair for pair in entries if is_of(pair[1]["via"], via)]
        named = [pair for pair in wanted if usable(pair[1]["host"], pair[1]["via"])]
        if len(named) < len(wanted):
            skipped = next(entry["host"] for _number, entry in wanted if not usable(entry["host"], entry["via"]))
            self.display.warning(
                f"{plural(len(wanted) - len(named), 'host')} of the fleet store skipped, because Ansible would not take the name for that of one"
                f" host. The first is '{calm(skipped)[:80]}'."
            )
        named.sort(key=lambda pair: (pair[1]["via"] == PLAYBOOK, pair[1]["last_seen"] or ""))
        hosts = {entry["host"]: (number, entry) for number, entry in named}
        return {name: hosts[name] for name in sorted(hosts)}

    def _more(self, store, texts):
        """Return {variable: (number and name of a host) -> value} of what is asked for, or used in an expression."""
        more = {}
        for kind in KINDS:
            variable = f"ct_{kind}"
            names = [*self.get_option(kind), *_names_in(variable, texts)]
            if names:
                values = Values(store, kind, names, unsafe)
                more[variable] = partial(_of_number, values)
        if self.get_option("drift") or _names_in(DRIFT_VARIABLE, texts):
            counts = self._drift(store)
            more[DRIFT_VARIABLE] = partial(_of_name, counts)
        return more

    def _drift(self, store):
        """Return the number of changes of each host that are drift, without marked ones."""
        groups = self.inventory.get_groups_dict()
        given = self.get_option("marks")
        given = self._in_folder(given) if isinstance(given, str) and given else given
        stored, wrong = marks.from_store(store, groups)
        for warning in wrong:
            self.display.warning(calm(warning))
        every_mark = stored + marks.from_option(given, groups)
        since = past(self.get_option("drift_since"), "drift_since")
        records, more = history.read(store, since, None, matching(()))
        if more:
            self.display.warning(
                f"There are more than {history.MOST_CHANGES} changes since '{self.get_option('drift_since')}', and ct_drift counts the latest ones"
                " alone. Give a later drift_since."
            )
        found = list(history.attributed(store, records, every_mark))
        unknown = sum(one.attribution.level == history.UNKNOWN for one in found)
        if unknown:
            self.display.warning(
                f"No run of Ansible was recorded before {plural(unknown, 'change')} found, so ct_drift does not count them. Enable the"
                " callback changetracking.inventory.run_log."
            )
        for warning in identities.warnings(store, history.drifted(found)):
            self.display.warning(calm(warning))
        return Counter(one.change.host for one in found if one.attribution.level == DRIFT and one.mark is None)

    def _add_host(self, name, variables, more):
        self.inventory.add_host(name)
        for variable, value in {**variables, **self._kept(more)}.items():
            self.inventory.set_variable(name, variable, value)
        ours = {**variables, **more}
        for expression in self._expressions:
            # Again for each one, because it may use what the one before has set.
            known = {**self.inventory.get_host(name).get_vars(), **ours}
            expression.evaluate(self.inventory, known, name)

    def _entries(self):
        """Yield the text of each expression, and what has Ansible evaluate it."""
        strict = self.get_option("strict")

        self._attempts: list[Attempt] = []

        def applying(evaluate, entry, **options):
            attempt = Attempt()
            self._attempts.append(attempt)

            def apply(inventory, variables, host):
                real = self.inventory
                self.inventory = inventory
                try:
                    try:
                        evaluate(entry, variables, host, True, **options)
                    except AnsibleError as error:
                        if strict:
                            raise
                        attempt.failed(error)
                        evaluate(entry, variables, host, False, **options)
                    else:
                        attempt.succeeded = True
                finally:
                    self.inventory = real

            return apply

        for variable, text in (self.get_option("compose") or {}).items():
            yield str(text), applying(self._set_composite_vars, {variable: text})
        for group, text in (self.get_option("groups") or {}).items():
            yield str(text), applying(self._add_host_to_composed_groups, {group: text}, fetch_hostvars=False)
        for keyed in self.get_option("keyed_groups") or []:
            text = f"{keyed.get('key')} {keyed.get('parent_group') or ''}" if isinstance(keyed, dict) else ""
            yield text, applying(self._add_host_to_keyed_groups, [keyed], fetch_hostvars=False)

    def _kept(self, more):
        """Return what becomes a variable of the host."""
        kept = {}
        for kind in KINDS:
            if self.get_option(kind):
                matches = matching(self.get_option(kind))
                kept[f"ct_{kind}"] = {name: value for name, value in more[f"ct_{kind}"].items() if matches(name)}
        if self.get_option("drift"):
            kept[DRIFT_VARIABLE] = more[DRIFT_VARIABLE]
        return kept


def unsafe(text):
    """Return a text of a host that Ansible does not evaluate as a template."""
    return wrap_var(text) if TEXT_IS_TEMPLATE else text


def _names_in(variable, texts):
    return {name for text in texts for name in names_in(variable, text)}


def _of_number(values, number, _name):
    return values.of(number)


def _of_name(counts, _number, name):
    return counts[name]


def _variables(entry, stale_before):
    """Return the variables that each host has."""
    last_seen, failure = entry["last_seen"], entry["failure"]
    values = (
        entry["status"],
        (last_seen or "") < stale_before,
        last_seen and unsafe(calm(last_seen)),
        unsafe(calm(failure or "")),
        entry["via"],
    )
    return dict(zip(VARIABLES, values))
