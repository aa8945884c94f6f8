# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tracked folder whose directories are watched, without an agent."""

import os
from contextlib import contextmanager

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files import scan
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import FileRule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import Known
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.realtime.folder_watches import FolderWatches
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.realtime.news import News


class Tracked:
    """A folder with what watches it."""

    def __init__(self, folder, *rules, **options):
        self.folder = str(folder)
        self.rules = [FileRule("r%d" % number, self.folder + path, *more) for number, (path, *more) in enumerate(rules)]
        self.watches = FolderWatches(**options)
        self.scan()

    def scan(self, partial=False, named=None):
        """A run that looks everywhere; the news since the last one are forgotten. `partial`: whether it began as one that does not,
        and `named` where it looked."""
        self.watches.begin(None if partial else [rule.path for rule in self.rules])
        for _part in scan.Scan(self.rules, Known(), watch=self.watches.watch):
            pass
        self.watches.end(named)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def make(self, *names):
        path = self.path(*names)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write("text")
        return path

    def news(self):
        """What was announced; the events are there as soon as the call that made them returns."""
        news = News()
        while self.watches.read(news):
            pass
        return news

    def named(self):
        """The folders and trees that were announced, below the tracked one."""
        news = self.news()
        assert not news.everything, news.items
        start = len(self.folder) + 1
        return {path[start:] for path in news.folders}, {path[start:] for path in news.trees}


@contextmanager
def watched(folder):
    """A function that makes a Tracked of these rules in the folder. In the end, nothing is watched."""
    made = []

    def make(*rules, **options):
        made.append(Tracked(folder, *rules, **options))
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.watches.close()


def everything_below(path=""):
    return (path + "/",)
