# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Service unit files and their enablement, read from disk.

Source: systemd.unit(5), "Unit File Load Path"; systemctl(1), "is-enabled"; systemd's src/basic/unit-file.c
(unit_file_build_name_map), src/shared/install.c (unit_file_lookup_state) and src/shared/dropin.c. What PID 1 says of a
unit depends on whether it has it loaded, which a login or a status command changes; what the disk says does not. To ask
PID 1 also costs it more than a millisecond a unit, and makes it load every unit it is asked about.
"""

import os
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from ...errors import SourceFailed
from . import exec_lines
from . import unit_syntax as syntax
from .root_fs import TOO_LARGE, RootFs, Unreadable

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
_WANTS = (".wants", ".requires", ".upholds")
_WANTING = ("Wants", "Requires", "Upholds")
_MOST_LINKS = 8  # in one chain of aliases, as systemd has it
_LARGEST_UNIT = 1 << 20  # bytes of one unit file and its drop-ins


# What depends on systemd's version: up to 247 a link's target is the FragmentPath, not the link; as seen with 252 and not
# any more with 257, a masked unit has the settings of its drop-ins.
_FIRST_BY_LINK, _FIRST_BARE_MASKS = 248, 256
UNKNOWN_VERSION = 255  # what is assumed where no version is known


class UnitFile(NamedTuple):
    """What the disk says about one unit."""

    name: str  # its Id
    path: str  # what systemd calls FragmentPath
    load_state: str  # loaded masked bad-setting error, as systemd would find it
    state: str  # UnitFileState
    description: str
    wanted_by: Tuple[str, ...]  # sorted; the units that pull it in when they start, whether they are loaded or not


class _Folder(NamedTuple):
    """The symlinks of one folder of the search path that say something about enablement, by the unit they speak of."""

    path: str
    wants: Dict[str, List[str]]  # names of links in its .wants, .requires and .upholds
    links: Dict[str, List[Tuple[str, str]]]  # (name, base name of the target) of links in the folder itself
    pulls: List[Tuple[str, str]]  # (name of its .wants or the like, name of a link in there), of services


class UnitFiles:
    """All service unit files of a search path. The folders are read once, here; unit files when asked for.

    `version` is systemd's. Units and links that are there for one start only, in /run/systemd/transient, are named in `transient` alone.
    """

    def __init__(
        self, root: str = "/", search_path: Sequence[str] = DEFAULT_PATH, version: int = UNKNOWN_VERSION
    ) -> None:
        self.disk = RootFs(root)
        self.transient: Set[str] = set()
        self._version = version
        self._by_target = version < _FIRST_BY_LINK
        self._files: Dict[str, List[Tuple[str, bool]]] = {}
        self._identified: Dict[str, Optional[Tuple[str, str]]] = {}
        self._folders: List[_Folder] = []
        self._dropins: Dict[str, List[str]] = {}
        self._listings: Dict[str, List[str]] = {}
        self._parsed: Dict[str, Tuple[int, syntax.Settings, bool]] = {}
        self._host = os.uname().nodename
        self._alias_table: Optional[Dict[str, List[str]]] = None
        self._wanted: Optional[Dict[str, Set[str]]] = None
        real: Dict[str, str] = {}
        for path in search_path:
            real.setdefault(self.disk.real(path), path)
        self._within = tuple({path + "/" for path in search_path}.union(path + "/" for path in real))
        for path in real.values():
            self._scan(path)
        self._any_truncated = any("-." in name for name in self._dropins)  # as systemd-.service.d has it

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
        if path == _TRANSIENT:
            self.transient.update(entry.name for entry in entries)
            return
        folder = _Folder(path, {}, {}, [])
        self._folders.append(folder)
        for entry in entries:
            name = entry.name
            if name.endswith(_WANTS):
                self._scan_wants(folder, name)
            elif name.endswith((".service.d", ".target.d")) or name in ("service.d", "target.d"):
                self._dropins.setdefault(name, []).append(path)
            elif syntax.is_service(name) or syntax.is_unit(name, syntax.TARGET):
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
        for entry in entries:
            unit = entry.name
            if not syntax.is_service(unit) or not entry.is_symlink():
                continue
            folder.wants.setdefault(unit, []).append(unit)
            if syntax.instance(unit):
                folder.wants.setdefault(syntax.template(unit), []).append(unit)
            folder.pulls.append((name, unit))

    def names(self) -> Set[str]:
        """Every name that a service goes by on disk: units, aliases, templates, and instances that something wants."""
        wanted = {name for name in self._wants() if syntax.instance(name)}
        return wanted.union(name for name in self._files if name.endswith(syntax.SUFFIX))

    def identify(self, name: str) -> Optional[Tuple[str, str]]:
        """The Id and the path of the unit that has this name; None where systemd would not find it."""
        if name not in self._identified:
            self._identified[name] = self._identify(name)
        return self._identified[name]

    def _identify(self, name: str) -> Optional[Tuple[str, str]]:
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
        """The unit with this Id; None where systemd would not find it. Unreadable: this run cannot tell."""
        raw = self.disk.read(path)
        if raw is None:
            return None
        self.disk.spend(len(raw))
        settings: syntax.Settings = {}
        load_state = syntax.parse(raw, settings, self._is_fatal(name))
        state = "bad" if load_state == "error" else ""
        install = {key: list(values) for key, values in settings.items() if key[0] == "Install"}
        if load_state == "loaded":
            if raw or self._version < _FIRST_BARE_MASKS:
                self._drop_in(self._dropin_folders(name), name, settings, len(raw))
            if not raw:
                load_state = "masked"
            elif syntax.instance(name) != "" and not exec_lines.can_run(settings, name, self._host, self._version):
                load_state = "bad-setting"
        if raw and not self._drop_in(self._own_dropins(name), name, install, 0):
            state = "bad"
        text = syntax.description(settings, name, self._host)
        self.disk.spend(len(text))
        return UnitFile(name, path, load_state, state or self._state(name, install), text, self._wanters(name))

    def _is_fatal(self, name: str) -> syntax.Fatal:
        return lambda section, key, value: exec_lines.is_fatal(section, key, value, name, self._host)

    def _wanters(self, name: str) -> Tuple[str, ...]:
        names = [name] + self._aliases().get(name, [])
        return tuple(sorted({wanter for known in names for wanter in self._wants().get(known, ())}))

    def _wants(self) -> Dict[str, Set[str]]:
        """By the name of a service, what wants or requires it: units with a link to it, targets whose files name it.

        A link to /dev/null hides one of the same name in a folder of less precedence.
        """
        table = self._wanted
        if table is None:
            table = self._wanted = {}
            seen = set()
            for folder in self._folders:
                for pull in folder.pulls:
                    if pull in seen:
                        continue
                    seen.add(pull)
                    wanter = self._wanter(pull[0].rpartition(".")[0])
                    if wanter and not self.disk.is_mask("/".join((folder.path, *pull))):
                        table.setdefault(pull[1], set()).add(wanter)
            for target, name in self._named_by_targets():
                table.setdefault(name, set()).add(target)
        return table

    def _wanter(self, name: str) -> str:
        """The Id of what has a folder of links; empty for a template, and a target that does not exist."""
        if syntax.instance(name) == "":
            return ""
        found = self.identify(name)
        if found is None:
            return "" if name.endswith(syntax.TARGET) else name
        bare = self._version >= _FIRST_BARE_MASKS and self.disk.is_mask(found[1])
        return "" if bare else found[0]

    def _named_by_targets(self) -> Iterator[Tuple[str, str]]:
        """(target, service) for each Wants=, Requires= and Upholds= of a target."""
        for name in [name for name in self._files if name.endswith(syntax.TARGET) and syntax.instance(name) != ""]:
            found = self.identify(name)
            if found is None or found[0] != name or not self._wanter(name):
                continue
            settings: syntax.Settings = {}
            try:
                raw = self.disk.read(found[1]) or b""
                self.disk.spend(len(raw))
                named = syntax.SUFFIX.encode() in raw  # else there is nothing to find, as in most
                if not named or syntax.parse(raw, settings) == "loaded":
                    self._drop_in(self._dropin_folders(name), name, settings, len(raw))
            except Unreadable:
                continue
            for key in _WANTING:
                for word in syntax.words(settings, "Unit", key):
                    unit = syntax.expand(word, name, self._host) if word.endswith(syntax.SUFFIX) else None
                    if unit and syntax.is_service(unit):
                        yield name, unit

    def _aliases(self) -> Dict[str, List[str]]:
        table = self._alias_table
        if table is None:
            table = self._alias_table = {}
            for folder in self._folders:
                for name, _unused in (link for links in folder.links.values() for link in links):
                    found = self.identify(name) if name.endswith(syntax.SUFFIX) else None
                    if found and found[0] != name and name not in table.setdefault(found[0], []):
                        table[found[0]].append(name)
        return table

    def _own_dropins(self, name: str) -> List[str]:
        names = [name, syntax.template(name)] if syntax.instance(name) else [name]
        return [folder + "/" + n + ".d" for n in names for folder in self._dropins.get(n + ".d", ())]

    def _dropin_folders(self, name: str) -> List[str]:
        """In falling precedence: those of the unit and its aliases, of its truncated prefixes, of all of its type."""
        if not self._dropins:
            return []
        out = []
        suffix = syntax.suffix_of(name)
        for known in [name] + self._aliases().get(name, []):
            out += self._own_dropins(known)
            stem = known[: -len(suffix)].partition("@")[0] if self._any_truncated else ""
            while "-" in stem.rstrip("-"):
                stem = stem.rstrip("-").rpartition("-")[0]
                general = stem + "-" + suffix + ".d"
                out += [folder + "/" + general for folder in self._dropins.get(general, ())]
        general = suffix[1:] + ".d"
        return out + [folder + "/" + general for folder in self._dropins.get(general, ())]

    def _drop_in(self, folders: List[str], unit: str, settings: syntax.Settings, size: int) -> bool:
        """Add the settings of the drop-ins in these folders. `size`: bytes of text the unit has so far.

        Returns False if there is one that `systemctl` cannot read.
        """
        found: Dict[str, str] = {}
        for folder in folders:
            for name in self._listing(folder):
                found.setdefault(name, folder + "/" + name)
        whole = True
        for name in sorted(found):
            length, added, readable = self._dropin(found[name], unit)
            whole = whole and readable
            size += length
            if size > _LARGEST_UNIT:
                raise Unreadable(TOO_LARGE)
            self.disk.spend(length)
            for key, values in added.items():
                settings.setdefault(key, []).extend(values)
        return whole

    def _listing(self, folder: str) -> List[str]:
        known = self._listings.get(folder)
        if known is None:
            try:
                known = [entry.name for entry in self.disk.entries(folder) if entry.name.endswith(".conf")]
            except OSError:
                known = []
            self._listings[folder] = known
        return known

    def _dropin(self, path: str, unit: str) -> Tuple[int, syntax.Settings, bool]:
        """The bytes and the settings of a drop-in, and whether it could be read; without, where this user may not."""
        known = self._parsed.get(path)
        if known is None:
            settings: syntax.Settings = {}
            try:
                raw = self.disk.read(path)
            except Unreadable as error:
                if error.reason == TOO_LARGE:
                    raise
                raw = b""
            readable = raw is not None and syntax.parse(raw, settings, self._is_fatal(unit)) != "error"
            known = self._parsed[path] = (len(raw or b""), settings, readable)
        return known

    def _state(self, name: str, install: syntax.Settings) -> str:
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
        folder, is_link = found[0]
        path = folder + "/" + name
        for _unused in range(_MOST_LINKS):
            target = self.disk.link(path) if is_link else None
            if target is None:
                return path, "mask" if self.disk.is_mask(path) else "file"
            if self.disk.is_mask(target):
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


def _links_in(folder: _Folder, name: str, known: Optional[Set[str]], below: bool) -> Tuple[bool, bool]:
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


def _link_text(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _is_runtime(path: str) -> bool:
    return path.startswith("/run/")
