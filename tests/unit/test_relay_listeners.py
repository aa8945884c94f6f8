# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom the relay admits at its sockets."""

import pwd
import selectors
import types

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.relay import listeners


def test_a_user_who_appears_is_admitted_and_nobody_else(monkeypatch):
    users = {}
    monkeypatch.setattr(pwd, "getpwnam", lambda name: types.SimpleNamespace(pw_uid=users[name]))
    monkeypatch.setattr(listeners, "LOOK_SECONDS", 0.0)
    said = []
    admitted = listeners.Listeners(selectors.DefaultSelector(), None, ["gone", "4242"], said.append)
    assert len(said) == 1 and "The user 'gone' in --allow-user does not exist" in said[0]
    assert admitted._admits(4242) and not admitted._admits(4343)
    users["gone"] = 4343
    assert admitted._admits(4343) and not admitted._admits(4444)


def test_users_who_are_not_there_are_not_looked_up_for_every_client(monkeypatch):
    looked = []
    monkeypatch.setattr(pwd, "getpwnam", lambda name: looked.append(name) or {}[name])
    monkeypatch.setattr(listeners, "LOOK_SECONDS", 3600.0)
    admitted = listeners.Listeners(selectors.DefaultSelector(), None, ["gone"], lambda _text: None)
    assert not any(admitted._admits(uid) for uid in range(4200, 4300)) and looked == ["gone"]
