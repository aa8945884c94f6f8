# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module prints is what AnsibleModule prints of the same result, though no value is searched for secrets."""

import json

import pytest
from ansible.module_utils import basic

from ansible_collections.changetracking.inventory.plugins.module_utils import _module

RESULT = {
    "ansible_facts": {
        "ct_packages": {
            "items": [
                {"SoftwareName": "é\u2028\\xff", "Size": None, "InstalledOn": "2026-01-09T08:00:01Z"},
                {"SoftwareName": "b", "Size": 1 << 40, "Publisher": ""},
            ],
            "count": 2,
            "sources": {"dpkg": {"status": "ok", "count": 2}},
            "columns": ("SoftwareName", "Size"),
        }
    },
    "changed": False,
    "since": None,
    "share": 0.5,
}


@pytest.fixture
def printed(monkeypatch, capsys):
    """A function (what ends the module) -> the text that a module prints, with an option that holds a secret or without."""
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
    monkeypatch.setattr(basic, "remove_values", basic.remove_values)

    def run(end, secret=None):
        spec = {"name": {"type": "list", "elements": "str", "default": []}}
        given = {"name": ["a", "é"], "_ansible_remote_tmp": "/tmp"}
        if secret:
            spec["key"], given["key"] = {"type": "str", "no_log": True}, secret
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": given}).encode("utf-8"))
        module = basic.AnsibleModule(argument_spec=spec, supports_check_mode=True)
        with pytest.raises(SystemExit):
            end(module)
        return capsys.readouterr().out

    return run


def test_a_result_is_printed_as_ansible_prints_it(printed):
    expected = printed(lambda module: module.exit_json(**RESULT))
    walk = basic.remove_values
    assert printed(lambda module: _module.run(module, lambda: RESULT)) == expected
    assert basic.remove_values is not walk and "SoftwareName" in expected


def test_an_option_that_is_secret_stays_secret(printed):
    secret = "2026-01-09"
    expected = printed(lambda module: module.exit_json(**RESULT), secret)
    assert printed(lambda module: _module.run(module, lambda: RESULT), secret) == expected
    assert "********T08:00:01Z" in expected and secret not in expected
