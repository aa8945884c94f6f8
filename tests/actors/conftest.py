# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's audit of this very machine, with auditd as the referee; all is left as it was found."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from ansible_collections.changetracking.inventory.tests.helpers.agent_process import Host
from ansible_collections.changetracking.inventory.tests.helpers.audit import Referee, auditctl, rules
from ansible_collections.changetracking.inventory.tests.helpers.logins import Cron, Sshd, users


@pytest.fixture(scope="session")
def audited():
    """Auditing is on, without any rule."""
    status = dict(line.split(" ")[:2] for line in auditctl("-s").splitlines() if line)
    if rules():
        pytest.exit("there are audit rules on this machine: %s" % rules(), 1)
    auditctl("-e", "1")
    yield
    auditctl("-D")
    auditctl("-e", status["enabled"])
    auditctl("-b", status["backlog_limit"])


@pytest.fixture
def referee(audited, tmp_path):
    referee = Referee(tmp_path)
    yield referee
    referee.stop()
    auditctl("-e", "1")


@pytest.fixture
def people():
    with users("ctalice", "ctbob") as uids:
        yield uids


@pytest.fixture
def host(programs, audited):
    """A folder in which everybody may write is tracked, by an agent of root."""
    folder = Path(tempfile.mkdtemp(prefix="actors"))
    os.chmod(str(folder), 0o755)
    host = Host(programs, folder)
    os.chmod(str(host.tracked), 0o777)
    host.relay.start()
    yield host
    host.end()
    auditctl("-D")
    shutil.rmtree(str(folder))


@pytest.fixture
def sshd(host, people):
    sshd = Sshd(host.folder / "sshd")
    yield sshd
    sshd.stop()


@pytest.fixture
def cron(host, people):
    cron = Cron(host.folder, people)
    yield cron
    cron.stop()


@pytest.fixture
def cgroup():
    """For the processes of services."""
    is_v2 = os.path.exists("/sys/fs/cgroup/cgroup.procs")
    cgroup = Path("/sys/fs/cgroup" if is_v2 else "/sys/fs/cgroup/pids") / "ct-actors"
    cgroup.mkdir(exist_ok=True)
    yield cgroup
    cgroup.rmdir()
