# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make quickstart` as somebody runs it who has just cloned the project: an ordinary user, an empty environment."""

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOBODY = 65534
PATIENCE = 60  # seconds for what takes a moment
AS_NOBODY = ["setpriv", "--reuid=%d" % NOBODY, "--regid=%d" % NOBODY, "--clear-groups"]
RUN = [*AS_NOBODY, "make", "quickstart"]


@pytest.fixture(scope="module")
def clone():
    """In a folder so deep that no socket's path would fit below it."""
    scratch = Path(tempfile.mkdtemp(prefix="quickstart-clone"))
    folder = scratch / ("deep" * 20) / "clone"
    listed = subprocess.check_output(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT)
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    subprocess.run(["chown", "-R", "%d:%d" % (NOBODY, NOBODY), scratch], check=True)
    scratch.chmod(0o755)
    yield folder
    for process in processes(folder):
        os.kill(process, signal.SIGKILL)
    shutil.rmtree(scratch)


def start(folder):
    return subprocess.Popen(
        RUN, cwd=folder, env={"PATH": "/usr/bin:/bin", "HOME": str(folder.parent)}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
    )  # fmt: skip


def processes(folder):
    """Those that have the clone in their command line: ansible-playbook, its workers and modules, the relay."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def wait_for_end(process):
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], PATIENCE)[0], "process %d is left" % process
    finally:
        os.close(descriptor)


def socket_folders():
    return [path for path in Path("/tmp").glob("ct-demo-*") if path.stat().st_uid == NOBODY]


def run_to_the_end(folder):
    process = start(folder)
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 0, output
    assert "ConfigurationChange: Files Removed %s/quickstart/demo/green.conf" % folder in output
    assert "ConfigurationChange: Files Modified %s/quickstart/demo/red.conf FileContentChecksum" % folder in output
    assert "Inventory your own hosts: ansible-playbook changetracking.inventory.inventory" in output
    assert "CONFIG_CHANGE_BLOB_V2 now has (actual count) 2 rows" in output
    changes = json.loads((folder / "quickstart/localhost/Changes.json").read_text(encoding="utf-8"))
    assert sorted(change["ChangeCategory"] for change in changes) == ["Modified", "Removed"]
    assert processes(folder) == [] and socket_folders() == []


def test_the_first_run_shows_what_changed_and_leaves_no_process(clone):
    run_to_the_end(clone)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_in_the_middle_leaves_no_process(clone, number):
    process = start(clone)
    seen = []
    for line in process.stdout:
        seen.append(line)
        if "TASK [Inventory this machine and forward the records]" in line:
            break
    running = processes(clone)
    assert any(b"relay.pyz\0run" in Path("/proc/%d/cmdline" % pid).read_bytes() for pid in running), "".join(seen)
    os.killpg(process.pid, number)
    while running:  # also what was started since they were listed
        for pid in running:
            wait_for_end(pid)
        running = processes(clone)
    process.communicate(timeout=PATIENCE)
    assert socket_folders() == []


def test_a_later_run_does_what_the_first_did_whatever_ended_those_before(clone):
    run_to_the_end(clone)


def test_a_run_as_root_in_a_users_clone_leaves_nothing_that_is_roots(clone):
    environment = {"PATH": os.environ["PATH"], "HOME": str(clone.parent)}
    subprocess.run([*AS_NOBODY, "git", "init", "--quiet"], cwd=clone, env=environment, check=True)
    for prefix in ([], AS_NOBODY):  # the user's next run finds nothing in its way
        run = subprocess.run(
            [*prefix, "make", "lint-shell", "programs"], cwd=clone, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=False,
        )  # fmt: skip
        assert run.returncode == 0 and "ok       lint-shell" in run.stdout, run.stdout
        assert [path for path in clone.rglob("*") if path.lstat().st_uid == 0] == []


def test_what_was_not_run_is_named_in_the_last_line(tmp_path):
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (tmp_path / ".build/venv/unit-3.6").mkdir(parents=True)
    (tmp_path / ".build/venv/unit-3.6/GAP").write_text("Python 3.6 is not on this machine")
    said = ""
    for step in (["--prepare", "venv-unit-3.6", "-", "true"], ["unit-3.6", "unit-3.6", "true"], ["other", "-", "true"]):
        said += subprocess.check_output(["tests/tools/step", *step], cwd=tmp_path, universal_newlines=True)
    assert "!!! GAP  venv-unit-3.6" in said and "!!! GAP  unit-3.6" in said and "ok       other" in said
    total = subprocess.check_output(["python3", "tests/tools/summary.py", "0"], cwd=tmp_path, universal_newlines=True)
    assert total.splitlines()[-1] == "1 passed, 0 failed, 1 skipped; not run: unit-3.6"
