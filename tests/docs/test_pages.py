# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every command of every page of the documentation runs, on fresh machines and with nothing but what the page says."""

import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import pytest
import yaml

from ansible_collections.changetracking.inventory.tests.helpers import pages, reader

ROOT = reader.ROOT
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("roles/*/README.md")])
# What another step of `make test` runs.
ELSEWHERE = {"make quickstart": "quickstart-user", "make test": "is what runs this", "make build": "lint-importer"}
MOVING = "docs/moving.md"  # whose reader has Microsoft's agent
INSTALL = "ansible-galaxy collection install changetracking-inventory-*.tar.gz"


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def inventory_of(page):
    """The content of the inventory file that the examples of a page use."""
    found = [
        block.text for name in (page, "docs/README.md") for block in pages.blocks(read(name)) if block.file == "hosts"
    ]
    return found[0]


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    return reader.build(tmp_path_factory.mktemp("archive"))


@pytest.fixture
def world(page, archive):
    folder = Path(tempfile.mkdtemp(prefix="docs", dir=reader.state_folder()))
    hosts = re.findall(r"^\w+$", inventory_of(page), re.MULTILINE)
    first = [block.text for block in pages.blocks(read(page)) if block.language in ("sh", "console")][0]  # noqa: RUF015
    world = reader.World(folder, archive, hosts, installed=INSTALL not in first)
    if page == MOVING:
        world.give_microsoft("web01")
    yield world
    world.close()


def run(world, command):
    """Runs a command of a page, and once more for a while where the page says that it takes some time."""
    until = time.monotonic() + (reader.PATIENCE if command.later else 0)
    while True:
        status, output = world.shell(command.host).run(command.text)
        right = pages.matches(command.output, output) if command.output else status == 0
        if right or time.monotonic() > until:
            return right, status, output
        time.sleep(3)  # most commands start Ansible


def pages_with_commands():
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        if any(block.language in ("sh", "console") and not block.reason for block in pages.blocks(read(name))):
            yield name


@pytest.mark.parametrize("page", pages_with_commands())
def test_the_commands_of_a_page_run_and_print_what_it_shows(page, world):
    world.write("hosts", inventory_of(page))
    for block in pages.blocks(read(page)):
        if block.file:
            world.write(block.file, block.text)
        elif block.language in ("sh", "console") and block.text.strip() not in ELSEWHERE:
            for command in pages.commands(block):
                right, status, output = run(world, command)
                assert right, "%s:%d: %s\nended with %d and printed:\n%s" % (
                    page, command.line, command.text, status, output,
                )  # fmt: skip


PLAY = "- hosts: all\n  gather_facts: false\n  tasks:\n"


def check_syntax(archive, folder, plays):
    installed = folder / "ansible_collections/changetracking/inventory"
    installed.mkdir(parents=True)
    with tarfile.open(str(archive)) as opened:
        opened.extractall(str(installed))
    for name, text in plays.items():
        (folder / name).write_text(text, encoding="utf-8")
    return subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "--syntax-check", "-i", "localhost,", *plays],
        cwd=str(folder), env=dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(folder)),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=False,
    )  # fmt: skip


def test_blocks_that_do_not_run_are_valid(archive, tmp_path):
    """YAML and JSON can be parsed, and Ansible accepts plays and tasks."""
    plays = {}
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        for block in pages.blocks(read(name)):
            if block.language == "json":
                json.loads(block.text)
            if block.language != "yaml":
                continue
            data = yaml.safe_load(block.text)
            if isinstance(data, list) and all(isinstance(entry, dict) and "name" in entry for entry in data):
                is_play = any({"hosts", "import_playbook"} & set(entry) for entry in data)
                text = block.text if is_play else PLAY + re.sub("^", "    ", block.text, flags=re.MULTILINE)
                plays["%s-%d.yml" % (name.replace("/", "-"), block.line)] = text
    run = check_syntax(archive, tmp_path, plays)
    assert len(plays) > 5 and run.returncode == 0, run.stdout


def test_every_link_leads_somewhere():
    """Links between pages name files, and headings, that exist."""
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
            path, _mark, heading = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists() or (heading and heading not in anchors(file)):
                broken.append("%s: %s" % (page.relative_to(ROOT), target))
    assert broken == []


def anchors(file):
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    ("shown", "printed", "equal"),
    [
        ("2026-01-09T08:00:01Z  Added  Files  /etc/a", "2026-11-26T08:07:40Z  Added  Files  /etc/a", True),
        ("2026-01-09T08:00:01Z  Added  Files  /etc/a", "2026-11-26T08:07:40Z  Removed  Files  /etc/a", False),
        ("failed=0", "failed=1", False),
        ("162 packages", "163 packages", True),
        ("a\n...\nd", "a\nb\nc\nd", True),
        ("a\n...\nd", "a\nb\nc\nd\ne", False),
        ("a", "a\nb", False),
        ('"message": "... denied ..."', '"message": "/etc/x (Permission denied)"', True),
        ("web01 | SUCCESS => {\nweb02 | SUCCESS => {", "web02 | SUCCESS => {\nweb01 | SUCCESS => {", True),
    ],
)
def test_output_is_compared_by_its_shape(shown, printed, equal):
    assert pages.matches(tuple(shown.splitlines()), printed) == equal
