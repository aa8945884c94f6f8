# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option `who` where nothing can be known. tests/actors has what is known with audit rules."""

from ansible_collections.changetracking.inventory.tests.helpers.root import need_root


def change_a_file(host, *options):
    """The status of the agent after a change, and who made it."""
    host.relay.start()
    host.write("a", "one")
    host.start(*options)
    host.expect("1 record was delivered")
    host.write("a", "two")
    host.expect("1 record was delivered")
    status = host.status()
    assert host.stop() == 0
    return status, host.arrived().relay.rows("SELECT ChangedBy, ChangedAt FROM ConfigurationChange")


def test_without_the_option_nothing_is_read_and_nothing_is_said(host):
    status, rows = change_a_file(host)
    assert "Who" not in status and rows == [(None, None)]


def test_without_rules_nobody_is_guessed(host):
    need_root("reading the audit")
    status, rows = change_a_file(host, "--who", "read")
    assert rows == [(None, None)]
    assert (status["Who"]["Mode"], status["Who"]["Known"], status["Who"]["Unknown"]) == ("read", 0, 1)
