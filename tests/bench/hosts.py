# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fleet costs its controller: the figures of docs/scale.md. Root, with ansible-core importable.

python hosts.py ssh IMAGE [HOSTS]   booted hosts over ssh: our playbook, again, and after 1 % of the hosts changed; and its peers
python hosts.py memory [HOSTS]      the memory of the controller's main process, on this machine, with 1 MB of inventory a host

Wall seconds, CPU seconds of the controller with all its children, the most memory a process of it had, and the bytes to and
from the hosts as the kernel counts them on their network interfaces. It takes care to leave no host running.
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = "changetracking.inventory.inventory"
PEERS = """
- name: What people use now
  hosts: all
  gather_facts: false
  tasks:
    - name: Packages
      ansible.builtin.package_facts:
    - name: Services
      ansible.builtin.service_facts:
    - name: Files
      ansible.builtin.find:
        paths: /etc
        patterns: "*.conf"
        recurse: true
        get_checksum: true
        checksum_algorithm: sha256
"""
PING = """
- name: Ping
  hosts: all
  gather_facts: false
  tasks:
    - name: Ping
      ansible.builtin.ping:
"""
MARKS = (100, 300, 500)  # hosts that are done


def play(command, environment, folder, interfaces=()):
    """Runs it, and prints what it cost."""
    before, start, sent = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), traffic(interfaces)
    with open(folder / "log", "w") as log:
        status = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        peak = 0
        while status.poll() is None:
            peak = max(peak, memory(status.pid))
            time.sleep(0.1)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    moved = [now - then for now, then in zip(traffic(interfaces), sent)]
    if status.returncode:
        sys.exit((folder / "log").read_text()[-3000:])
    return "%6.1f s wall  %6.1f CPU s  %4.0f MiB main process  %8.1f KiB a host to, %8.1f from" % (
        time.monotonic() - start, cpu, peak / 1024, *(value / 1024 / (len(interfaces) or 1) for value in moved),
    )  # fmt: skip


def memory(pid):
    """Resident KiB of a process; 0 when it is gone."""
    try:
        found = re.search(r"^VmRSS:\s*(\d+)", Path("/proc/%d/status" % pid).read_text(), re.M)
    except OSError:
        return 0
    return int(found.group(1)) if found else 0


def traffic(interfaces):
    """Bytes (to the hosts, from them)."""
    counters = [Path("/sys/class/net", name, "statistics") for name in interfaces]
    return [sum(int((counter / what).read_text()) for counter in counters) for what in ("tx_bytes", "rx_bytes")]


def over_ssh(image, hosts):
    with tempfile.TemporaryDirectory(prefix="ct-bench-") as name:
        folder = Path(name)
        state = folder / "hosts"
        testhost = [str(ROOT / "tests/hosts/testhost")]
        environment = dict(
            os.environ, TESTHOST_DIR=str(state), ANSIBLE_SSH_ARGS="-F %s -o ControlMaster=auto -o ControlPersist=60s" % (state / "ssh_config"),
            ANSIBLE_FORKS="10",
        )  # fmt: skip
        names = ["h%d" % number for number in range(1, hosts + 1)]
        (folder / "inventory.txt").write_text("\n".join(names) + "\n")
        (folder / "peers.yml").write_text(PEERS)
        (folder / "ping.yml").write_text(PING)
        try:
            subprocess.run([*testhost, "up", image, *names], env=environment, check=True)
            interfaces = ["cth" + (state / host / "network").read_text().strip() for host in names]

            def run(what, playbook):
                told = play(["ansible-playbook", "-i", "inventory.txt", playbook], environment, folder, interfaces)
                print("%-34s %s" % (what, told), flush=True)

            run("ping, the first connection", "ping.yml")
            run("ping", "ping.yml")
            run("peers", "peers.yml")
            run("ours, everything", OURS)
            run("ours, the first with Changes.json", OURS)
            for host in names[: max(1, hosts // 100)]:
                change = "echo changed >> /etc/host.conf"
                subprocess.run([*testhost, "exec", host, "sh", "-c", change], env=environment, check=True)
            run("ours, 1 % of the hosts changed", OURS)
            print(subprocess.check_output(["du", "-sh", "--apparent-size", "inventory/h1"], cwd=folder).decode())
            print("\n".join(line for line in (folder / "log").read_text().splitlines() if "h1 " in line))
            run("peers, again", "peers.yml")
            run("ping, again", "ping.yml")
        finally:
            subprocess.run([*testhost, "down", "--all"], env=environment, check=True)


def package_database(path, count):
    """A dpkg database whose inventory is about 1 MB at 3,000 packages."""
    os.makedirs(path + "/var/lib/dpkg/info")
    with open(path + "/var/lib/dpkg/status", "w") as file:
        for number in range(count):
            file.write(
                "Package: package-%d\nStatus: install ok installed\nInstalled-Size: %d\nMaintainer: Maintainer %d <m%d@example.org>\n"
                "Architecture: amd64\nVersion: 1.%d-1\nDescription: %s\n\n"
                % (number, number, number, number, number, ("words of package %d " % number) * 5)
            )


def of_the_controller(hosts):
    with tempfile.TemporaryDirectory(prefix="ct-bench-") as name:
        folder = Path(name)
        package_database(str(folder / "root"), 3000)
        (folder / "inventory.txt").write_text("\n".join("h%d" % number for number in range(1, hosts + 1)) + "\n")
        # Each host's Python sees the database in a mount namespace of its own, in the place of the machine's.
        python = folder / "python"
        python.write_text(
            '#!/bin/sh\nexec unshare -m sh -c \'mount --bind %s/var/lib/dpkg /var/lib/dpkg && exec %s "$@"\' sh "$@"\n'
            % (folder / "root", "/usr/bin/python3")
        )
        python.chmod(0o755)
        variables = {
            "ansible_connection": "local", "ansible_python_interpreter": str(python), "ct_kinds": ["packages"],
            "ct_state": str(folder) + "/{{ inventory_hostname }}.db",
        }  # fmt: skip
        command = ["ansible-playbook", "-i", "inventory.txt", OURS, "-f", "4", "-e", json.dumps(variables)]
        with open(folder / "log", "w") as log:
            main = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        written, last = folder / "inventory", 0
        peak, left = 0, [mark for mark in MARKS if mark <= hosts]
        while main.poll() is None:
            last = memory(main.pid) or last
            peak = max(peak, last)
            done = len(list(written.glob("*/Packages.json")))
            if left and done >= left[0]:
                print("%d hosts: %.1f MiB" % (left.pop(0), last / 1024), flush=True)
            time.sleep(0.1)
        if main.returncode:
            sys.exit((folder / "log").read_text()[-3000:])
        size = (written / "h1/Packages.json").stat().st_size
        print("at most %.1f MiB; %d bytes of inventory a host" % (peak / 1024, size))


if __name__ == "__main__":
    if sys.argv[1:2] == ["ssh"]:
        over_ssh(sys.argv[2], int((sys.argv[3:] or ["60"])[0]))
    elif sys.argv[1:2] == ["memory"]:
        of_the_controller(int((sys.argv[2:] or ["500"])[0]))
    else:
        sys.exit(__doc__)
