# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Service unit files, read from disk.

Source: systemd.unit(5), "Unit File Load Path"; systemd's src/basic/unit-file.c (unit_file_build_name_map) and
src/shared/dropin.c. What PID 1 says of a unit depends on whether it has it loaded, which a login or a status command changes; what
the disk says does not. To ask PID 1 also costs it more than a millisecond a unit, and makes it load every unit it is asked about.
"""

import os
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from ...errors import SourceFailed
from . import exec_lines
from . import unit_syntax as syntax
from .enablement import FIRST_BY_LINK, FIRST_UPHELD_BY, MOST_LINKS, TRANSIENT, Enablement, Folder
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
_WANTS = (".wants", ".requires")
_WANTING = ("Wants", "Requires", "Upholds")
_LARGEST_UNIT = 1 << 20  # bytes of one unit file and its drop-ins


# The version of systemd from which on something differs: with 252, but no longer with 257, a masked unit has the settings of its
# drop-ins.
_FIRST_BARE_MASKS = 256
UNKNOWN_VERSION = 255  # what is assumed where no version is known


class UnitFile(NamedTuple):
    """One unit as it is on disk."""

    name: str  # its Id
    path: str  # what systemd calls FragmentPath
    load_state: str  # loaded masked bad-setting error, as systemd would find it
    state: str  # UnitFileState
    description: str
    wanted_by: Tuple[str, ...]  # sorted; the units that pull it in when they start, whether they are loaded or not


class UnitFiles:
    """All service unit files of a search path. The folders are read once, in the constructor; unit files when they are asked for.

    `version`: that of systemd. Units in /run/systemd/transient, which exist until they stop, are only named in `transient`.
    """

    def __init__(
        self, root: str = "/", search_path: Sequence[str] = DEFAULT_PATH, version: int = UNKNOWN_VERSION
    ) -> None:
        self.disk = RootFs(root)
        self.transient: Set[str] = set()
        self._version = version
        self._by_target = version < FIRST_BY_LINK
        self._wants_folders = _WANTS + ((".upholds",) if version >= FIRST_UPHELD_BY else ())
        self._files: Dict[str, List[Tuple[str, bool]]] = {}
        self._identified: Dict[str, Optional[Tuple[str, str]]] = {}
        self._folders: List[Folder] = []
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
        self._enablement = Enablement(self.disk, self._files, self._folders, self._within, version)
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
            raise SourceFailed(f"Cannot read the folder of unit files '{path}' ({error.strerror}).") from error
        if path == TRANSIENT:
            self.transient.update(entry.name for entry in entries)
            return
        folder = Folder(path, {}, {}, [])
        self._folders.append(folder)
        for entry in entries:
            name = entry.name
            if name.endswith(self._wants_folders):
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

    def _scan_wants(self, folder: Folder, name: str) -> None:
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
        """All names of services on disk: of units, aliases, templates, and instances that something wants."""
        wanted = {name for name in self._wants() if syntax.instance(name)}
        return wanted.union(name for name in self._files if name.endswith(syntax.SUFFIX))

    def identify(self, name: str) -> Optional[Tuple[str, str]]:
        """The Id and the path of the unit that has this name; None where systemd would not find it."""
        if name not in self._identified:
            self._identified[name] = self._identify(name)
        return self._identified[name]

    def _identify(self, name: str) -> Optional[Tuple[str, str]]:
        inst = syntax.instance(name)
        for _unused in range(MOST_LINKS):
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
        """The unit with this Id; None where systemd would not find it. Raises Unreadable where it was not read."""
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
        return UnitFile(
            name, path, load_state, state or self._enablement.state(name, install), text, self._wanters(name)
        )

    def _is_fatal(self, name: str) -> syntax.Fatal:
        return lambda section, key, value: exec_lines.is_fatal(section, key, value, name, self._host)

    def _wanters(self, name: str) -> Tuple[str, ...]:
        names = [name] + self._aliases().get(name, [])
        return tuple(sorted({wanter for known in names for wanter in self._wants().get(known, ())}))

    def _wants(self) -> Dict[str, Set[str]]:
        """By the name of a service, what wants or requires it: units with a symlink to it, and targets whose files name it.

        A symlink to /dev/null hides one of the same name in a folder of lower precedence.
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
        """The Id of the unit with a .wants or similar folder; empty for a template, and for a target that does not exist."""
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
        """The folders of drop-ins, the highest precedence first: of the unit and its aliases, of its truncated prefixes, of its type."""
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

        Returns False where `systemctl` could not read one of them.
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
        """The size and the settings of a drop-in, and whether it could be read; without settings where the current user may not."""
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


def _link_text(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
