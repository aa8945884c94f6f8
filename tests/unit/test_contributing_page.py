# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CONTRIBUTING.md names classes, functions and files of the code, which are there under these names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "plugins/module_utils/_cti"
SPANS = set(re.findall(r"(?<!`)`([^`\n]+)`(?!`)", (ROOT / "CONTRIBUTING.md").read_text("utf-8")))
CODE = "\n".join(path.read_text("utf-8") for path in sorted(LIBRARY.rglob("*.py")))
FILES = [
    "/" + str(path.relative_to(ROOT))
    for folder in ("plugins", "roles", "tests")
    for path in [ROOT / folder, *(ROOT / folder).rglob("*")]
]


def matching(pattern):
    return sorted(span for span in SPANS if re.match(pattern + r"\Z", span))


@pytest.mark.parametrize("name", matching(r"[A-Z]\w+"))
def test_a_class_or_constant_that_the_page_names_is_there(name):
    assert re.search(r"^(class %s\b|%s\b.* = )" % (name, name), CODE, re.MULTILINE)


@pytest.mark.parametrize("span", matching(r"\w+\(.*\)"))
def test_a_function_that_the_page_names_is_there_with_its_parameters(span):
    name, parameters = span[:-1].split("(")
    found = [re.findall(r"(\w+)\s*[:,=)]", text + ")") for text in re.findall(r"\bdef %s\(([^)]*)\)" % name, CODE)]
    assert found and any(set(re.findall(r"\w+", parameters)) <= set(names) for names in found)


@pytest.mark.parametrize(
    "path",
    [path for path in matching(r"[\w/]+/[\w/]+|[\w/]+\.(py|yml)") if "NAME" not in path and path.split("/")[0] not in (
        "changelogs", "ansible_collections", "build")],
)  # fmt: skip
def test_a_file_or_folder_that_the_page_names_is_there(path):
    assert (ROOT / path).exists() or any(file.endswith("/" + path) for file in FILES)
