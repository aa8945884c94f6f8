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
_PERSISTENT = "/etc/systemd/system"


class Folder(NamedTuple):
    """The symlinks of one folder of the search path that say something about enablement, by the unit they speak of."""

    path: str
    wants: Dict[str, List[str]]  # names of links in its .wants, .requires and .upholds
    links: Dict[str, List[Tuple[str, str]]]  # (name, base name of the target) of links in the folder itself
    pulls: List[Tuple[str, str]]  # (name of its .wants or the like, name of a link in there), of services


class Enablement:
    """Over the `files` of each name, as (folder, whether it is a symlink), in the folders of a search path.

    `within`: the folders, with a slash at the end. `by_target`: as systemd up to 247, which goes by the target of a link.
    """

    def __init__(
        self,
        disk: RootFs,
        files: Dict[str, List[Tuple[str, bool]]],
        folders: Sequence[Folder],
        within: Tuple[str, ...],
        by_target: bool,
    ) -> None:
        self._disk = disk
        self._files = files
        self._folders = folders
        self._within = within
        self._by_target = by_target

    def state(self, name: str, install: syntax.Settings) -> str:
        """The UnitFileState of a unit; `install`: its settings of the section Install."""
        path, kind = self._installed(name)
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
        known = set(syntax.words(install, "Install", "Alias"))
        known.add(name)
        default = syntax.last(install, "Install", "DefaultInstance")
        if default and syntax.instance(name) == "":
            known.add(syntax.instantiate(name, default))
        enabled = self._links(name, path, known)
        if enabled:
            return enabled
        if self._links(name, path, None):
            return "indirect"
        if any(syntax.words(install, "Install", key) for key in ("Alias", "WantedBy", "RequiredBy", "UpheldBy")):
            return "disabled"
        return "indirect" if syntax.words(install, "Install", "Also") else "static"

    def _installed(self, name: str) -> Tuple[str, str]:
        """The file behind a unit's name, through links of its own, and how it is there: file, mask or bad."""
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
            if not self._may_stand_for(path, target):
                return path, "bad"
            path, is_link = target, True  # if it is one, as may be
        return path, "bad"

    def _may_stand_for(self, path: str, target: str) -> bool:
        """Newer versions refuse an alias that means nothing, older ones a file from elsewhere with another name."""
        link, name = os.path.basename(path), os.path.basename(target)
        within = target.startswith(self._within)
        if self._by_target:
            return within or link == name
        return not within or syntax.may_alias(link, name)

    def _links(self, name: str, path: str, known: Optional[Set[str]]) -> str:
        """How symlinks enable a unit; `known`: only those by one of these names count."""
        below = runtime = vendor = False
        linked = ""
        for folder in self._folders:
            found, same = _links_in(folder, name, known, below)
            if found and folder.path == _PERSISTENT:
                return "enabled"
            if found:
                runtime = runtime or _is_runtime(folder.path)
                vendor = vendor or not _is_runtime(folder.path)
            elif same and folder.path == _PERSISTENT:
                linked = "linked"
            elif same and _is_runtime(folder.path):
                linked = linked or "linked-runtime"
            below = below or path.startswith(folder.path + "/")
        if runtime:
            return "enabled-runtime"
        # What a package's own .wants instantiates is on without anybody's doing.
        return "static" if vendor and syntax.instance(name) else linked


def _links_in(folder: Folder, name: str, known: Optional[Set[str]], below: bool) -> Tuple[bool, bool]:
    """Whether a link of this folder enables the unit, and whether one links it under its own name.

    `below`: the folder has less precedence than the unit file, so that a link of the same name is without effect.
    """
    wants = folder.wants.get(name)
    if wants and (known is None or not known.isdisjoint(wants)):
        return True, False
    same = False
    for link, target in folder.links.get(name, ()):
        mine = link == name and not below
        if mine and target == name:
            same = True
        elif (mine or target == name) and (known is None or link in known):
            return True, same
    return False, same


def _is_runtime(path: str) -> bool:
    return path.startswith("/run/")
