# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Collections whose sources each yield one part, such as package databases. A defect of one source, or of one kind, does not
affect the others."""

from typing import Callable, Iterator, Sequence, Tuple

from ..errors import CtiError, SourceAbsent, SourceFailed, describe_defect
from ..model import Collection, Known, Part, Source


class Sources(Collection):
    """Runs each collector. Where one fails, the others still run, and the state of its source stays as it is."""

    def __init__(self, collectors: Sequence[Tuple[str, Callable[[Known], Part]]], known: Known) -> None:
        super().__init__()
        self._collectors = collectors
        self._known = known

    def __iter__(self) -> Iterator[Part]:
        for name, collect in self._collectors:
            try:
                part = collect(self._known)
            except SourceAbsent as error:
                self.sources[name] = Source("absent", 0, str(error))
            except SourceFailed as error:
                self._fail(name, str(error))
            except CtiError:
                raise
            except Exception as error:
                self._fail(name, describe_defect(error))
            else:
                count = self._known.count(name) if part.items is None else len(part.items)
                self.sources[name] = Source("ok", count, part.message)
                yield part

    def out_of_sight(self, part: str) -> bool:
        """False for a source that is absent: its items are removed."""
        return part not in self.sources or self.sources[part].status != "absent"

    def _fail(self, name: str, why: str) -> None:
        self.sources[name] = Source("failed", 0, why)
        self.unseen.append(name)


class Contained(Collection):
    """The collection that `make` returns. An unexpected exception in it becomes a failed source with the name of the kind: the
    parts yielded so far are valid, and all others are out of sight. A CtiError is raised as it is."""

    def __init__(self, kind: str, make: Callable[[], Collection]) -> None:
        super().__init__()
        self._kind = kind
        self._make = make
        self._collection = Collection()
        self._broken = False

    def __iter__(self) -> Iterator[Part]:
        try:
            self._collection = self._make()
            yield from self._collection
        except CtiError:
            raise
        except Exception as error:
            self._broken = True
            self.sources[self._kind] = Source("failed", 0, describe_defect(error))
            self.unseen.append("/")
        self.sources.update(self._collection.sources)
        self.unseen.extend(self._collection.unseen)
        self.replaced = self._collection.replaced
        self.postponed = self._collection.postponed
        self.partial = self._collection.partial

    def out_of_sight(self, part: str) -> bool:
        return self._broken or self._collection.out_of_sight(part)
