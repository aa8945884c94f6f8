# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an agent costs while nothing happens: idle.py IMAGE MINUTES

Boots the image as a host with 500 packages, 150 service units and 500 tracked files, runs agent and relay there with the
frequencies of Azure's template, and prints the agent's CPU seconds an hour, its memory, and what it writes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTHOST = os.environ.get("CT_TESTHOST", str(ROOT / "tests/hosts/testhost"))

SET_UP = r"""
set -e
mkdir -p /etc/chunks /etc/many /tmp/debs
missing=$((500 - $(dpkg-query -W -f '${db:Status-Abbrev}\n' | grep -c '^ii')))
for number in $(seq $missing); do
  mkdir -p /tmp/deb/DEBIAN
  printf 'Package: many-%d\nVersion: 1.0\nArchitecture: all\nMaintainer: Somebody <somebody@example.org>\n' $number > /tmp/deb/DEBIAN/control
  printf 'Description: one of many\n a longer text\n' >> /tmp/deb/DEBIAN/control
  dpkg-deb --build /tmp/deb /tmp/debs/$number.deb > /dev/null
done
dpkg --install /tmp/debs/*.deb > /dev/null
missing=$((150 - $(systemctl list-units --all --type=service --no-legend --plain | wc -l)))
for number in $(seq $missing); do
  printf '[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n' > /etc/systemd/system/many-$number.service
done
missing=$((500 - $(find /etc -name '*.conf' | wc -l)))
for number in $(seq $missing); do seq 100 > /etc/many/$number.conf; done
systemctl daemon-reload
chmod 755 /root/*.pyz
systemd-run --unit=relay --quiet /root/relay.pyz run --chunks /etc/chunks --events /var/lib/relay/events --upload sqlite:/var/lib/relay/r.db
systemd-run --unit=agent --quiet --setenv=MALLOC_ARENA_MAX=1 /root/agent.pyz run --jitter 5
"""


def main(image, minutes):
    environment = dict(os.environ, TESTHOST_DIR=tempfile.mkdtemp(prefix="idle"))

    def sh(script):
        command = [TESTHOST, "exec", "idle", "sh", "-c", script]
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout.decode()

    subprocess.run([TESTHOST, "up", image, "idle"], env=environment, check=True)
    try:
        root = Path(environment["TESTHOST_DIR"], "idle/root")
        for name in ("agent", "relay"):
            program = root / ("root/%s.pyz" % name)
            subprocess.run([sys.executable, ROOT / "plugins/plugin_utils/_zipapp.py", name, program], check=True)
        (root / "etc/chunks").mkdir()
        streams = {
            name: "dcr-1:CTDataSource-Linux:" + name for name in ("CONFIG_CHANGE_BLOB_V2", "CONFIG_DATA_BLOB_V2")
        }
        items = [{"name": "template", "destinationPath": "/etc/.*.conf"}]
        rule = {"id": "dcr-1", "outputStreams": streams, "extensionSettings": {"fileSettings": {"fileInfo": items}}}
        chunk = {"extensionConfigurations": {"ChangeTracking-Linux": [rule]}}
        (root / "etc/chunks/a.json").write_text(json.dumps(chunk))
        sh(SET_UP)
        time.sleep(30)  # past the baseline
        look = "pid=$(systemctl show --value -p MainPID agent); cat /proc/$pid/stat /proc/$pid/status /proc/$pid/io"
        before, start = figures(sh(look)), time.monotonic()
        time.sleep(minutes * 60)
        after, hours = figures(sh(look)), (time.monotonic() - start) / 3600
        kinds = json.loads(sh("/root/agent.pyz status --json"))["Kinds"]
        print("%s" % ", ".join("%d %s" % (state["Count"], kind) for kind, state in sorted(kinds.items())))
        print("CPU: %.2f s an hour" % ((after["cpu"] - before["cpu"]) / hours))
        print("memory: %.1f MiB now, %.1f MiB at the most" % (after["VmRSS"] / 1024, after["VmHWM"] / 1024))
        print("written: %.2f MiB an hour" % ((after["write_bytes"] - before["write_bytes"]) / hours / (1 << 20)))
    finally:
        subprocess.run([TESTHOST, "down", "--all"], env=environment, check=False)


def figures(text):
    stat, *lines = text.splitlines()
    fields = stat.rpartition(")")[2].split()
    found = {"cpu": (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")}
    for line in lines:
        name, _colon, value = line.partition(":")
        if name in ("VmRSS", "VmHWM", "write_bytes"):
            found[name] = int(value.split()[0])
    return found


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
