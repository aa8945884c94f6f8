# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A relay and run_log share a store, as docs/relay.md shows: then ct_fleet_info knows what Ansible did on a host that sends to the relay."""

import json
import os

import pytest

from ansible_collections.changetracking.inventory.tests.helpers import postgres
from ansible_collections.changetracking.inventory.tests.helpers.program import wait_for

SITE = """
- hosts: h1
  gather_facts: {facts}
  gather_subset: [min]
  tasks:
    - {{name: Set the log level, ansible.builtin.copy: {{content: "log_level = info\\n", dest: "{folder}/tracked/app.conf", mode: "0644"}}}}
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    if request.param == "sqlite":
        yield str(tmp_path / "fleet.db")
        return
    why = postgres.missing()
    if why:
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    server = postgres.Server()
    yield server.database()
    server.close()


def test_what_ansible_did_on_a_host_of_a_relay_is_known(place, store):
    """The host's own name is not its inventory name, which the store learns when facts are gathered."""
    tracked = place.folder / "tracked"
    tracked.mkdir()
    place.relay.start(upload=store if "://" in store else f"sqlite:{store}")

    def module(name, arguments, host="localhost"):
        command = (
            "ansible",
            host,
            "-i",
            str(place.inventory),
            "-m",
            f"changetracking.inventory.{name}",
            "-a",
            json.dumps(arguments),
        )
        run = place.command(*command)
        assert run.status == 0, run.output
        warnings, _brace, answer = run.output.partition("{")
        return json.loads("{" + answer), warnings.rpartition("\n")[0]

    def collect():
        settings = {"enableSoftware": False, "enableServices": False, "enableFiles": True, "fileSettings": {
            "fileInfo": [{"name": "tracked", "destinationPath": f"{tracked}/*"}]}}  # fmt: skip
        dcr = {"extensionConfigurations": {"ChangeTracking-Linux": [{"extensionSettings": settings}]}}
        forward = {
            "address": place.address,
            "config_address": str(place.relay.address("config")),
            "allow_users": [str(os.geteuid())],
        }
        module("ct_inventory_info", {"state": str(place.folder / "state.db"), "dcr": dcr, "forward": forward}, "h1")
        wait_for(lambda: not any(sink["Rows"] for sink in place.relay.status()["Sinks"]))

    def site(facts):
        options = {"ANSIBLE_CALLBACKS_ENABLED": "changetracking.inventory.run_log", "RUN_LOG_STORE": store}
        run = place.play(
            SITE.format(folder=place.folder, facts=facts), RUN_LOG_SPOOL=str(place.folder / "run_log"), **options
        )
        assert run.status == 0 and "WARNING" not in run.output, run.output

    def asked():
        answer, warnings = module("ct_fleet_info", {"ask": "changes", "store": store})
        return {one["item"]: one["level"] for one in answer["changes"]}, warnings

    collect()
    site(facts="false")
    (tracked / "debug.conf").write_text("debug = yes\n")
    collect()
    changes, warning = asked()
    assert changes == dict.fromkeys((f"{tracked}/app.conf", f"{tracked}/debug.conf"), "drift")
    assert f"run_log recorded no task of {os.uname().nodename}, but tasks of h1 that" in warning
    site(facts="true")
    assert asked() == ({f"{tracked}/app.conf": "task", f"{tracked}/debug.conf": "drift"}, "")
    lines = module("ct_fleet_info", {"ask": "actors", "store": store, "format": "lines"})[0]["lines"]
    assert lines[0].startswith("play.yml of ") and lines[1].startswith("not known")
