# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A booted host with agent and relay, installed by their roles, for the measurements in this folder."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTHOST = os.environ.get("CT_TESTHOST", str(ROOT / "tests/hosts/testhost"))
AGENT = "/usr/bin/python3 /usr/local/lib/ctagent/agent.pyz"
CHUNK = "etc/ctrelay/configchunks/measured.json"
PLAY = """
- hosts: all
  gather_facts: false
  roles: [changetracking.inventory.agent, changetracking.inventory.relay]
"""


def rule(every, *folders, **options):
    """A config chunk: all kinds, each `every` seconds, and what is below these folders. `options`: of the file items."""
    items = [dict(options, name=folder, destinationPath=folder + "/*", recurse=True) for folder in folders]
    settings = {
        "fileSettings": {"fileCollectionFrequency": every, "fileInfo": items},
        "softwareSettings": {"softwareCollectionFrequency": every},
        "servicesSettings": {"serviceCollectionFrequency": every},
        "inventorySettings": {"inventoryCollectionFrequency": 36000},
    }
    streams = {name: "dcr-1:CTDataSource-Linux:" + name for name in ("CONFIG_CHANGE_BLOB_V2", "CONFIG_DATA_BLOB_V2")}
    element = {"id": "dcr-1:CTDataSource-Linux", "extensionSettings": settings, "outputStreams": streams}
    return {"extensionConfigurations": {"ChangeTracking-Linux": [element]}}


class Host:
    """`image`: path of a root image. `chunk`: see rule(). `before`: a shell script to run before the agent is installed. `variables`: of
    the two roles."""

    def __init__(self, image, chunk, before="true", **variables):
        self.name = "realtime-" + Path(image).name
        self.state = tempfile.mkdtemp(prefix="realtime")
        self.root = Path(self.state, self.name, "root")
        self.status_file = self.root / "var/lib/ctagent/status.json"
        self._environment = dict(os.environ, TESTHOST_DIR=self.state)
        try:
            subprocess.run([TESTHOST, "up", image, self.name], env=self._environment, check=True)
            (self.root / "opt/realtime").mkdir(parents=True)
            for name in ("on_host.py", "storm.py"):
                shutil.copy(str(Path(__file__).with_name(name)), str(self.root / "opt/realtime"))
            self.sh(before)
            self._install(dict(variables, relay_chunks={"measured": chunk}))
            self.wait_for_runs()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()

    def close(self):
        subprocess.run([TESTHOST, "down", "--all"], env=self._environment, check=False)
        shutil.rmtree(self.state, ignore_errors=True)

    def command(self, *command):
        return [TESTHOST, "exec", self.name, *map(str, command)]

    def sh(self, script, check=True):
        """What a shell script prints on the host."""
        done = subprocess.run(
            self.command("sh", "-c", script), env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            universal_newlines=True, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, script + "\n" + done.stdout
        return done.stdout

    def start(self, program, *arguments):
        """on_host.py or storm.py, running on the host."""
        return subprocess.Popen(
            self.command("python3", "-B", "/opt/realtime/" + program, *arguments), env=self._environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True,
        )  # fmt: skip

    def run(self, *arguments):
        """What on_host.py or storm.py prints, which is JSON."""
        process = self.start(*arguments)
        output = process.communicate()[0]
        assert process.returncode == 0, output
        return json.loads(output)

    @contextlib.contextmanager
    def load(self, *arguments):
        """on_host.py or storm.py makes changes meanwhile. It ends with its standard input."""
        process = self.start(*arguments)
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait()

    def put_rule(self, chunk):
        new = self.root / (CHUNK + ".new")
        new.write_text(json.dumps(chunk))
        shutil.copymode(str(self.root / CHUNK), str(new))
        new.rename(self.root / CHUNK)

    def status(self):
        try:
            return json.loads(self.status_file.read_text())
        except (OSError, ValueError):
            return {}

    def restart_agent(self):
        self.sh("systemctl restart ctagent")
        self.wait_for_runs()

    def wait_for_runs(self, seconds=120):
        """Until this process of the agent has collected each kind, and has watches."""
        end = time.monotonic() + seconds
        pid = self.sh("systemctl show --value -p MainPID ctagent").strip()
        while True:
            status = self.status()
            kinds, realtime = status.get("Kinds", {}), status.get("Realtime")
            ran = (
                str(status.get("Pid")) == pid and len([kind for kind in kinds.values() if kind.get("CollectedAt")]) == 3
            )
            if ran and (realtime is None or all(realtime.get(kind, {}).get("Watches") for kind in kinds)):
                return
            if time.monotonic() > end:
                log = self.sh("journalctl --unit ctagent --no-pager --lines 50", check=False)
                raise AssertionError("the agent did not collect: %s\n%s" % (json.dumps(status), log))
            time.sleep(0.2)

    def _install(self, variables):
        common = {
            "ansible_python_interpreter": "/usr/bin/python3",
            "agent_allow_users": ["ctrelay"],
            "agent_refresh": 5,
            "agent_jitter": 0,
            "relay_allow_users": ["ctagent"],
            "relay_upload": "jsonl:/var/lib/ctrelay/rows",
            "relay_interval": 0.1,
        }
        folder = Path(self.state)
        (folder / "play.yml").write_text(PLAY)
        (folder / "variables.json").write_text(json.dumps(dict(common, **variables)))
        ssh = (
            "-F %s/ssh_config -o ControlMaster=no -o ControlPath=none" % self.state
        )  # hosts elsewhere have this name too
        done = subprocess.run(
            [str(Path(sys.executable).with_name("ansible-playbook")), "-i", self.name + ",", "-e",
             "@%s/variables.json" % self.state, str(folder / "play.yml")],
            env=dict(self._environment, ANSIBLE_PIPELINING="true", ANSIBLE_SSH_ARGS=ssh),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
