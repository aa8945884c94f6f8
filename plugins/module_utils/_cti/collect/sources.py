# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Collections whose sources each yield one part: package databases, the service manager."""

from typing import Callable, Iterator, Sequence, Tuple

from ..errors import SourceAbsent, SourceFailed
from ..model import Collection, Known, Part, Source


class Sources(Collection):
    """Runs each collector; one that fails leaves the others alone and its own known state standing."""

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
                self.sources[name] = Source("failed", 0, str(error))
                self.unseen.append(name)
            else:
                count = self._known.count(name) if part.items is None else len(part.items)
                self.sources[name] = Source("ok", count, part.message)
                yield part

    def out_of_sight(self, part: str) -> bool:
        return True
