# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the spec files of the packages on the rpm test host, and what of them to install.

One spec with many sub-packages is the quickest way to many small rpms: ``<set>-<arch>.spec``. ``install`` lists file
names to give to rpm, ``install.dnf`` names to give to dnf; the rest stays in the repository, to be installed by tests.
"""

import os
import sys
from typing import Iterator, List, NamedTuple, Optional, TextIO


class Package(NamedTuple):
    name: str
    version: str
    release: str = "1.el9"
    epoch: Optional[int] = None
    arch: str = "noarch"
    summary: str = "A package of the test host"
    description: str = "Nothing."
    packager: Optional[str] = "Test Host <root@localhost>"
    vendor: Optional[str] = "Test Host Project"
    provides: str = ""
    install: bool = True

    @property
    def file_name(self) -> str:
        return "%s-%s-%s.%s" % (self.name, self.version, self.release, self.arch)


def the_packages() -> Iterator[Package]:
    yield Package("testhost-release", "9.4", provides="system-release(releasever) = 9, system-release = 9.4")
    for number in range(40):
        yield Package(
            "plain%02d" % number,
            "1.%d" % (number % 7),
            "%d.el9" % (number % 5 + 1),
            arch="x86_64" if number % 2 else "noarch",
            epoch=2 if number % 10 == 0 else None,
            summary="Plain package number %d" % number,
        )
    # Several versions of one name side by side, as dnf keeps kernels; the last one is not installed yet.
    for release in ("427.13.1.el9_4", "427.40.1.el9_4", "503.11.1.el9_5"):
        yield Package("kernel-core", "5.14.0", release, arch="x86_64", install=not release.startswith("503"))
    # One name in two architectures.
    for arch in ("x86_64", "i686"):
        yield Package("libmulti", "2.34", "100.el9_4.2", arch=arch, summary="A multilib library")
    # An upgrade waits in the repository.
    yield Package("openssl-libs", "3.0.7", "27.el9", epoch=1, arch="x86_64")
    yield Package("openssl-libs", "3.0.7", "28.el9_4", epoch=1, arch="x86_64", install=False)
    yield Package("not-installed", "1.0", install=False)
    # Versions in which only the package manager's own order is right.
    yield Package("order-tilde", "1.0~rc1")
    yield Package("order-caret", "1.0^20240101git")
    yield Package("order-epoch", "0.9", epoch=3)
    yield Package("order-numbers", "1.10.0")
    yield Package("epoch-zero", "1.0", epoch=0)
    # Texts.
    yield Package("text-none", "1.0", summary="Says (none) and means it", packager=None, vendor=None)
    yield Package("text-separators", "1.0", summary="a; b | c = d, e\tf: \"g\" 'h' %%{NAME} $HOME `i` \\n @@")
    yield Package("text-utf8", "1.0", summary="Größe, 大きさ, размер, \U0001f4e6", packager="Jörg <jörg@example.org>")
    yield Package("text-long", "1.0", summary="long " * 400)
    yield Package("text-lines", "1.0", description="First line.\n\nThird line @@\n; installed; x86_64")
    yield Package("name+plus.dot_under-dash", "1.0+git.5")


def write_spec(out: TextIO, title: str, arch: str, packages: List[Package]) -> None:
    out.write("Name: %s\nVersion: 1\nRelease: 1\nSummary: set\nLicense: MIT\n" % title)
    if arch == "noarch":
        out.write("BuildArch: noarch\n")
    out.write("%description\nset\n")
    for package in packages:
        out.write("%%package -n %s\nVersion: %s\nRelease: %s\n" % (package.name, package.version, package.release))
        out.write("Summary: %s\n" % package.summary)
        if package.epoch is not None:
            out.write("Epoch: %d\n" % package.epoch)
        if package.provides:
            out.write("Provides: %s\n" % package.provides)
        if package.name == "kernel-core":
            out.write("Provides: installonlypkg(kernel)\n")
        out.write("%%description -n %s\n%s\n" % (package.name, package.description))
    out.write("%install\n")
    for package in packages:
        folder = "%%{buildroot}/usr/share/testhost/%s" % package.file_name
        out.write("mkdir -p %s\nhead -c %d /dev/zero > %s/data\n" % (folder, 100 + len(package.summary), folder))
    for package in packages:
        out.write("%%files -n %s\n/usr/share/testhost/%s\n" % (package.name, package.file_name))


def main(folder: str) -> None:
    # Packages in one spec share packager and vendor, and a name may occur in it once.
    sets: List[List[Package]] = []
    for package in the_packages():
        for members in sets:
            first = members[0]
            same = (first.arch, first.packager, first.vendor) == (package.arch, package.packager, package.vendor)
            if same and package.name not in [member.name for member in members]:
                members.append(package)
                break
        else:
            sets.append([package])
    for number, members in enumerate(sets):
        first = members[0]
        with open(os.path.join(folder, "set%d-%s.spec" % (number, first.arch)), "w", encoding="utf-8") as out:
            for tag, value in (("Packager", first.packager), ("Vendor", first.vendor)):
                if value is not None:
                    out.write("%s: %s\n" % (tag, value))
            write_spec(out, "set%d" % number, first.arch, members)
    installed = [package for package in the_packages() if package.install]
    # Old kernels only by rpm: dnf would take the newest.
    by_rpm = [package.file_name for package in installed if not package.name.startswith("plain")]
    by_dnf = [package.name for package in installed if package.name.startswith("plain")]
    for name, lines in (("install", by_rpm), ("install.dnf", by_dnf)):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
            out.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
