# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Service unit files and their enablement, read from disk.

Source: systemd.unit(5), "Unit File Load Path"; systemctl(1), "is-enabled"; systemd's src/basic/unit-file.c
(unit_file_build_name_map), src/shared/install.c (unit_file_lookup_state) and src/shared/dropin.c. Asking PID 1 instead
costs it more than a millisecond a unit, in which it does nothing else, and makes it load every unit it is asked about.
"""

import os
from typing import AbstractSet, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Set, Tuple

from ..errors import SourceFailed
from . import unitsyntax as syntax
from .rootfs import RootFs, Unreadable

DEFAULT_PATH = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/run/systemd/generator.late",
)
_PERSISTENT = "/etc/systemd/system"
GENERATED = ("/run/systemd/generator", "/run/systemd/generator.early", "/run/systemd/generator.late")
_TRANSIENT = "/run/systemd/transient"
_ORDERING = ("Before", "After")
_REFERENCES = ("Wants", "Requires", "Requisite", "BindsTo", "PartOf", "Upholds", "Conflicts", "OnFailure", "OnSuccess")
_WANTS = (".wants", ".requires", ".upholds")
_MOST_LINKS = 8  # in one chain of aliases, as systemd has it


class UnitFile(NamedTuple):
    """What the disk says about one unit."""

    name: str  # its Id
    path: str  # what systemd calls FragmentPath
    load_state: str  # loaded masked bad-setting error, as systemd would find it
    state: str  # UnitFileState
    description: str
    wanted_by: Tuple[str, ...]  # sorted; by what, loaded or not, has a link to it in its .wants
    refers_to: FrozenSet[str] = frozenset()  # units that systemd loads when it loads this one


class _Folder(NamedTuple):
    """The symlinks of one folder of the search path that say something about enablement, by the unit they speak of."""

    path: str
    wants: Dict[str, List[str]]  # names of links in its .wants, .requires and .upholds
    links: Dict[str, List[Tuple[str, str]]]  # (name, base name of the target) of links in the folder itself


class UnitFiles:
    """All service unit files of a search path. The folders are read once, here; unit files when asked for.

    `by_target`: a linked or masked unit's path is its link's target, as before systemd 248, not the link.
    """

    def __init__(self, root: str = "/", search_path: Sequence[str] = DEFAULT_PATH, by_target: bool = False) -> None:
        self.disk = RootFs(root)
        self._by_target = by_target
        self._files: Dict[str, List[Tuple[str, bool]]] = {}
        self._folders: List[_Folder] = []
        self._dropins: Dict[str, List[str]] = {}
        self._wanted: Dict[str, Set[str]] = {}
        self._wants_table: Dict[str, List[str]] = {}
        self._host = os.uname().nodename
        self._alias_table: Optional[Dict[str, List[str]]] = None
        real: Dict[str, str] = {}
        for path in search_path:
            real.setdefault(self.disk.real(path), path)
        self._within = tuple({path + "/" for path in search_path}.union(path + "/" for path in real))
        for path in real.values():
            self._scan(path)

    @property
    def found(self) -> bool:
        """Whether there is any folder of unit files at all."""
        return bool(self._folders)

    def _scan(self, path: str) -> None:
        try:
            entries = self.disk.entries(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise SourceFailed("{0}: cannot be read ({1})".format(path, error.strerror)) from error
        folder = _Folder(path, {}, {})
        self._folders.append(folder)
        for entry in entries:
            name = entry.name
            if name.endswith(_WANTS):
                self._scan_wants(folder, name)
            elif name.endswith(".service.d") or name == "service.d":
                self._dropins.setdefault(name, []).append(path)
            elif syntax.is_service(name):
                if entry.is_symlink():
                    target = os.path.basename(_link_text(entry.path))
                    folder.links.setdefault(name, []).append((name, target))
                    if target != name:
                        folder.links.setdefault(target, []).append((name, target))
                    self._files.setdefault(name, []).append((path, True))
                elif entry.is_file():
                    self._files.setdefault(name, []).append((path, False))

    def _scan_wants(self, folder: _Folder, name: str) -> None:
        try:
            entries = self.disk.entries(folder.path + "/" + name)
        except OSError:
            return
        wanter = name[: -len(".wants")] if name.endswith(".wants") else ""
        for entry in entries:
            unit = entry.name
            if not syntax.is_service(unit) or not entry.is_symlink():
                continue
            folder.wants.setdefault(unit, []).append(unit)
            if syntax.instance(unit):
                folder.wants.setdefault(syntax.template(unit), []).append(unit)
            if wanter:
                self._wanted.setdefault(unit, set()).add(wanter)

    def names(self) -> Set[str]:
        """Every name that a service goes by on disk: units, aliases, templates, and instances that something wants."""
        wanted = {name for folder in self._folders for name in folder.wants if syntax.instance(name)}
        return wanted.union(self._files)

    def identify(self, name: str) -> Optional[Tuple[str, str]]:
        """The Id and the path of the unit that has this name; None where systemd would not find it."""
        inst = syntax.instance(name)
        for _unused in range(_MOST_LINKS):
            source = self._source(name)
            if source is None and syntax.instance(name):
                source = self._source(syntax.template(name))
            if source is None:
                return None
            if source.startswith("/"):
                return (syntax.instantiate(name, inst) if inst else name), source
            name = source
        return None

    def _source(self, name: str) -> Optional[str]:
        """The name that this one is an alias of, or the absolute path of its file."""
        for folder, is_link in self._files.get(name, ()):
            path = folder + "/" + name
            target = self.disk.link(path) if is_link else None
            if target is None:
                return path
            if not target.startswith(self._within):
                return target if self._by_target else path
            if syntax.may_alias(name, os.path.basename(target)):
                return os.path.basename(target)
        return None

    def read(self, name: str, path: str) -> Optional[UnitFile]:
        """The unit with this Id; None where systemd would not find it. Unreadable: this user cannot tell."""
        try:
            raw = self.disk.read(path)
        except ValueError:
            return UnitFile(name, path, "error", "bad", name, self._wanters(name))
        if raw is None:
            return None
        settings: syntax.Settings = {}
        if not raw:
            return UnitFile(name, path, "masked", self._state(name, settings), name, self._wanters(name))
        if not syntax.parse(raw, settings):
            text = syntax.description(settings, name, self._host)
            return UnitFile(name, path, "error", "bad", text, self._wanters(name))
        install = {key: list(values) for key, values in settings.items() if key[0] == "Install"}
        self._drop_in(self._own_dropins(name), install)
        self._drop_in(self._dropin_folders(name), settings)
        return UnitFile(
            name,
            path,
            "loaded" if syntax.can_run(settings) or syntax.instance(name) == "" else "bad-setting",
            self._state(name, install),
            syntax.description(settings, name, self._host),
            self._wanters(name),
            frozenset(word for key in _REFERENCES + _ORDERING for word in syntax.words(settings, "Unit", key)),
        )

    def wanted_when_loaded(self, unit: UnitFile, loaded: AbstractSet[str]) -> List[str]:
        """What would want this unit were it loaded now, as by `systemctl show`; sorted. `loaded`: the units that are.

        A unit that is loaded wants nothing that is not loaded too, so only what this one brings along can want it.
        """
        brought = unit.refers_to.difference(loaded)
        return sorted(other for other in brought if other in unit.wanted_by or unit.name in self._wants(other))

    def _wants(self, name: str) -> List[str]:
        """The Wants= of a unit of any kind."""
        known = self._wants_table.get(name)
        if known is None:
            raw = None
            for folder in self._folders if "/" not in name else ():
                raw = raw or self._content(folder.path + "/" + name)
            settings: syntax.Settings = {}
            syntax.parse(raw or b"", settings)
            known = self._wants_table[name] = syntax.words(settings, "Unit", "Wants")
        return known

    def _content(self, path: str) -> Optional[bytes]:
        """That of a file which matters little: where it cannot be read, there is none."""
        try:
            return self.disk.read(path)
        except (Unreadable, ValueError):
            return None

    def _wanters(self, name: str) -> Tuple[str, ...]:
        names = [name] + self._aliases().get(name, [])
        return tuple(sorted({wanter for known in names for wanter in self._wanted.get(known, ())}))

    def _aliases(self) -> Dict[str, List[str]]:
        table = self._alias_table
        if table is None:
            table = self._alias_table = {}
            for folder in self._folders:
                for name, _unused in (link for links in folder.links.values() for link in links):
                    found = self.identify(name)
                    if found and found[0] != name and name not in table.setdefault(found[0], []):
                        table[found[0]].append(name)
        return table

    def _own_dropins(self, name: str) -> List[str]:
        names = [name, syntax.template(name)] if syntax.instance(name) else [name]
        return [folder + "/" + n + ".d" for n in names for folder in self._dropins.get(n + ".d", ())]

    def _dropin_folders(self, name: str) -> List[str]:
        """In falling precedence: those of the unit and its aliases, of its truncated prefixes, of all services."""
        if not self._dropins:
            return []
        out = []
        for known in [name] + self._aliases().get(name, []):
            out += self._own_dropins(known)
            stem = known[: -len(syntax.SUFFIX)].partition("@")[0]
            while "-" in stem.rstrip("-"):
                stem = stem.rstrip("-").rpartition("-")[0]
                general = stem + "-" + syntax.SUFFIX + ".d"
                out += [folder + "/" + general for folder in self._dropins.get(general, ())]
        return out + [folder + "/service.d" for folder in self._dropins.get("service.d", ())]

    def _drop_in(self, folders: List[str], settings: syntax.Settings) -> None:
        found: Dict[str, str] = {}
        for folder in folders:
            try:
                entries = self.disk.entries(folder)
            except OSError:
                continue
            for entry in entries:
                if entry.name.endswith(".conf"):
                    found.setdefault(entry.name, folder + "/" + entry.name)
        for name in sorted(found):
            syntax.parse(self._content(found[name]) or b"", settings)

    def _state(self, name: str, install: syntax.Settings) -> str:
        path, kind = self._installed(name)
        folder = os.path.dirname(path)
        if kind == "bad":
            return kind
        if kind == "mask":
            return "masked-runtime" if _is_runtime(path) else "masked"
        if os.path.basename(path) != name and not syntax.instance(name):
            return "alias"
        if folder in GENERATED:
            return "generated"
        if folder == _TRANSIENT:
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
        path = found[0][0] + "/" + name
        for _unused in range(_MOST_LINKS):
            target = self.disk.link(path)
            if target is None:
                return path, "mask" if self.disk.is_mask(path) else "file"
            if self.disk.is_mask(target):
                return path, "mask"
            if not self._may_stand_for(path, target):
                return path, "bad"
            path = target
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


def _links_in(folder: _Folder, name: str, known: Optional[Set[str]], below: bool) -> Tuple[bool, bool]:
    """Whether a link of this folder enables the unit, and whether one links it under its own name.

    `below`: the folder has less precedence than the unit file, so that a link of the same name is without effect.
    """
    if any(known is None or link in known for link in folder.wants.get(name, ())):
        return True, False
    same = False
    for link, target in folder.links.get(name, ()):
        mine = link == name and not below
        if mine and target == name:
            same = True
        elif (mine or target == name) and (known is None or link in known):
            return True, same
    return False, same


def _link_text(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _is_runtime(path: str) -> bool:
    return path.startswith("/run/")
