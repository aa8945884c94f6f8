# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""archive.py ARCHIVE: fails where the collection's archive holds a file that a user does not need, or lacks one that a page links to."""

import fnmatch
import posixpath
import re
import sys
import tarfile

# tests/config.yml: ansible-test, which Automation Hub runs on the archive, finds in it that no module runs on Python 2.
WANTED = (
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "REUSE.toml", "SECURITY.md", "requirements.txt"),
    *("FILES.json", "MANIFEST.json", "LICENSES/*.txt", "changelogs/changelog.yaml", "tests/config.yml"),
    *(
        "docs/*",
        "meta/*.yml",
        "meta/requirements.txt",
        "playbooks/*",
        "plugins/*.py",
        "plugins/plugin_utils/_fleet/page/*",
        "roles/*",
        "extensions/*",
    ),
)
UNWANTED = ("*.pyc", "*.pyz", "*/__pycache__/*", "*/.*", ".*", "*~", "*.orig", "*.rej")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def main() -> int:
    with tarfile.open(sys.argv[1]) as archive:
        files = {member.name: member for member in archive if not member.isdir()}
        problems = [f"{name} does not belong into the archive" for name in files if not _belongs(name)]
        for name, member in files.items():
            if name.endswith(".md"):
                text = archive.extractfile(member).read().decode()
                problems += [f"{name}: {link} is not in the archive" for link in _broken(name, text, files)]
    for problem in problems:
        print(problem)
    return bool(problems)


def _belongs(name: str) -> bool:
    def is_one_of(patterns):
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    return is_one_of(WANTED) and not is_one_of(UNWANTED)


def _broken(page, text, files):
    """The relative links of a page that lead to no file or folder."""
    folder = posixpath.dirname(page)
    for link in LINK.findall(text):
        path = posixpath.normpath(posixpath.join(folder, link))
        if "://" not in link and path not in files and not any(name.startswith(path + "/") for name in files):
            yield link


sys.exit(main())
