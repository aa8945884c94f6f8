# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Whether a unit is enabled: what systemd calls UnitFileState, from the symlinks of the search path.

Source: systemctl(1), "is-enabled"; systemd's src/shared/install.c (unit_file_lookup_state).
"""

import os
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from . import unit_syntax as syntax
from .root_fs import RootFs

GENERATED = ("/run/systemd/generator", "/run/systemd/generator.early", "/run/systemd/generator.late")
TRANSIENT = "/run/systemd/transient"
MOST_LINKS = 8  # in one chain of aliases, as systemd has it
# Versions of systemd from which on something differs: up to 247, FragmentPath is the target of a symlink, not the symlink; up to
# 253, UpheldBy= and folders named .upholds have no effect.
FIRST_BY_LINK, FIRST_UPHELD_BY = 248, 254
_PERSISTENT = "/etc/systemd/system"


class Folder(NamedTuple):
    """The symlinks in one folder of the search path that enable units, by the name of the unit."""

    path: str
    wants: Dict[str, List[str]]  # names of links in its .wants, .requires and .upholds
    links: Dict[str, List[Tuple[str, str]]]  # (name, base name of the target) of links in the folder itself
    pulls: List[Tuple[str, str]]  # (name of its .wants or the like, name of a link in there), of services


class Enablement:
    """Computes the UnitFileState of units.

    `files`: by name, each (folder, whether it is a symlink) of the search path that has a file of that name, the highest
    precedence first. `within`: the folders, each with a slash at the end. `version`: that of systemd.
    """

    def __init__(
        self,
        disk: RootFs,
        files: Dict[str, List[Tuple[str, bool]]],
        folders: Sequence[Folder],
        within: Tuple[str, ...],
        version: int,
    ) -> None:
        self._disk = disk
        self._files = files
        self._folders = folders
        self._within = within
        self._by_target = version < FIRST_BY_LINK
        self._enabling = ("Alias", "WantedBy", "RequiredBy") + (("UpheldBy",) if version >= FIRST_UPHELD_BY else ())

    def state(self, name: str, install: syntax.Settings) -> str:
        """The UnitFileState of a unit; `install`: its settings of the section Install."""
        path, kind = self._resolve(name)
        folder, _unused, base = path.rpartition("/")
        if kind == "bad":
            return kind
        if kind == "mask":
            return "masked-runtime" if _is_runtime(path) else "masked"
        if base != name and not syntax.instance(name):
            return "alias"
        if folder in GENERATED:
            return "generated"
        if folder == TRANSIENT:
            return "transient"
        enabled = self._by_links(name, path, _names(name, install))
        if enabled:
            return enabled
        if self._by_links(name, path, None):
            return "indirect"
        if any(syntax.words(install, "Install", key) for key in self._enabling):
            return "disabled"
        return "indirect" if syntax.words(install, "Install", "Also") else "static"

    def _resolve(self, name: str) -> Tuple[str, str]:
        """The path of a unit's file, after following symlinks, and what is there: file, mask or bad."""
        found = self._files.get(name)
        if not found and syntax.instance(name):
            name = syntax.template(name)
            found = self._files.get(name)
        if not found:
            return "", "bad"
        folder, is_link = found[0]
        path = folder + "/" + name
        for _unused in range(MOST_LINKS):
            target = self._disk.link(path) if is_link else None
            if target is None:
                return path, "mask" if self._disk.is_mask(path) else "file"
            if self._disk.is_mask(target):
                return path, "mask"
            if not self._is_accepted(path, target):
                return path, "bad"
            path, is_link = target, True  # it may be a symlink too
        return path, "bad"

    def _is_accepted(self, path: str, target: str) -> bool:
        """Whether systemd accepts the symlink: newer versions refuse an invalid alias, older ones a target outside of the search
        path that has another name."""
        link, name = os.path.basename(path), os.path.basename(target)
        within = target.startswith(self._within)
        if self._by_target:
            return within or link == name
        return not within or syntax.may_alias(link, name)

    def _by_links(self, name: str, path: str, names: Optional[Set[str]]) -> str:
        """The state that symlinks give a unit with a file at `path`; empty where they give none. `names`: count only symlinks that
        have one of these names."""
        enabling: List[str] = []  # folders
        linking: List[str] = []
        overridden = False
        for folder in self._folders:
            enables, links = _links_in(folder, name, names, overridden)
            if enables and folder.path == _PERSISTENT:
                return "enabled"
            if enables:
                enabling.append(folder.path)
            elif links:
                linking.append(folder.path)
            overridden = overridden or path.startswith(folder.path + "/")
        if any(map(_is_runtime, enabling)):
            return "enabled-runtime"
        if enabling and syntax.instance(name):
            return "static"  # a package's own .wants starts this instance; nobody enabled it
        if _PERSISTENT in linking:
            return "linked"
        return "linked-runtime" if any(map(_is_runtime, linking)) else ""


def _names(name: str, install: syntax.Settings) -> Set[str]:
    """The names under which symlinks enable a unit: its own, its aliases, and the default instance of a template."""
    names = set(syntax.words(install, "Install", "Alias"))
    names.add(name)
    default = syntax.last(install, "Install", "DefaultInstance")
    if default and syntax.instance(name) == "":
        names.add(syntax.instantiate(name, default))
    return names


def _links_in(folder: Folder, name: str, names: Optional[Set[str]], overridden: bool) -> Tuple[bool, bool]:
    """Whether a symlink of the folder enables the unit, and whether one links it under its own name. `names`: see _by_links().

    `overridden`: the unit file is in a folder of higher precedence, so that a symlink with the unit's name has no effect here.
    """
    wants = folder.wants.get(name)
    if wants and (names is None or not names.isdisjoint(wants)):
        return True, False
    links_unit = False
    for link, target in folder.links.get(name, ()):
        is_own = link == name and not overridden
        if is_own and target == name:
            links_unit = True
        elif (is_own or target == name) and (names is None or link in names):
            return True, links_unit
    return False, links_unit


def _is_runtime(path: str) -> bool:
    return path.startswith("/run/")
