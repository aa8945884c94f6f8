# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs as root on the host: random changes in a tree.

storm.py start FOLDER SEED   makes the tree
storm.py storm FOLDER SEED   100 to 2,000 changes a second, with pauses, until its standard input ends
storm.py burst FOLDER SEED   10,000 files written as fast as possible, which overflows the queue of inotify if nobody reads it
storm.py writes FOLDER SEED  20,000 writes a second for 20 seconds, by several processes to files that they keep open
storm.py look FOLDER         what is there now

Prints JSON: the number of changes, or path -> [type, permission bits, SHA-256 or symlink target].
"""

import hashlib
import json
import os
import random
import select
import shutil
import stat
import sys
import time

FOLDERS, FILES, LINKS = 30, 30, 5  # names that may be there
BURST = 10000  # each gives at least two events, and the queue of inotify holds 16,384

WRITERS, WRITES, WRITE_SECONDS = 4, 20000, 20  # processes; writes a second of all; for so long


class Tree:
    def __init__(self, folder, seed):
        self.dice = random.Random(seed)
        self.root = folder
        self.made = 0

    def folder(self):
        """One of 30 paths, up to three folders deep; it need not exist."""
        number = self.dice.randrange(FOLDERS)
        names = ["d%d" % (number % divisor) for divisor in (3, 9, 30)][: 1 + number % 3]
        return os.path.join(self.root, *names)

    def file(self):
        return "%s/f%d" % (self.folder(), self.dice.randrange(FILES))

    def text(self):
        return "%d\n" % self.dice.randrange(1 << 40) * self.dice.choice([1, 1, 1, 5, 2000])

    def change(self):
        """One random change; what cannot be done, because the path is not there, is none."""
        name = self.dice.choices(list(CHANGES), list(CHANGES.values()))[0]
        try:
            getattr(self, name)()
        except OSError:
            return
        self.made += 1

    def create(self):
        path = self.file()
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(self.text())

    def modify(self):
        with open(self.file(), "r+") as file:
            file.write(self.text())

    def delete(self):
        os.unlink(self.file())

    def replace(self):
        path = self.file()
        with open(path + ".new", "w") as file:
            file.write(self.text())
        os.rename(path + ".new", path)

    def rename(self):
        os.rename(self.file(), self.file())

    def link(self):
        os.symlink(self.text()[:20].strip(), "%s/l%d" % (self.folder(), self.dice.randrange(LINKS)))

    def unlink(self):
        os.unlink("%s/l%d" % (self.folder(), self.dice.randrange(LINKS)))

    def chmod(self):
        os.chmod(self.file(), self.dice.choice([0o600, 0o640, 0o644]))

    def make_folder(self):
        os.mkdir(self.folder())

    def rename_folder(self):
        os.rename(self.folder(), self.folder())

    def remove_tree(self):
        shutil.rmtree(self.folder())

    def undo(self):
        """A file that comes and goes."""
        path = self.file() + ".tmp"
        with open(path, "w") as file:
            file.write(self.text())
        os.unlink(path)


CHANGES = {
    "create": 40, "modify": 60, "delete": 20, "replace": 20, "rename": 20, "link": 3, "unlink": 3, "chmod": 10,
    "make_folder": 3, "rename_folder": 1, "remove_tree": 1, "undo": 10,
}  # fmt: skip


def storm(tree):
    while True:
        rate = tree.dice.choice([0, 0, 100, 200, 500, 1000, 2000])
        end = time.monotonic() + tree.dice.uniform(1, 8)
        started, first = time.monotonic(), tree.made
        while time.monotonic() < end:
            ahead = (tree.made - first) / rate - (time.monotonic() - started) if rate else 0.5
            if select.select([sys.stdin], [], [], max(0.0, ahead))[0]:
                return tree.made
            for _change in range(max(1, rate // 200) if rate else 0):
                tree.change()


def burst(tree):
    """In the folder that is always there, and watched: other folders come and go. Nothing is truncated, which would wait for the disk."""
    for number in range(BURST):
        file = os.open("%s/burst%d" % (tree.root, number % FILES), os.O_WRONLY | os.O_CREAT, 0o600)
        os.pwrite(file, b"%012d" % tree.dice.randrange(1 << 39), 0)
        os.close(file)
    return BURST


def writes(tree):
    """By each of the processes to 30 files of its own, which it truncates and renames now and then."""
    pipes = []
    for writer in range(WRITERS):
        reader, writer_end = os.pipe()
        if not os.fork():
            made = write_open_files("%s/fast%d-" % (tree.root, writer), random.Random(tree.dice.random()))
            os.write(writer_end, b"%d" % made)
            os._exit(0)
        os.close(writer_end)
        pipes.append(reader)
        tree.dice.random()
    made = sum(int(os.read(reader, 20)) for reader in pipes)
    for _writer in pipes:
        os.wait()
    return made


def write_open_files(prefix, dice):
    """Returns the number of writes, truncations and renames."""
    files = [os.open(prefix + str(number), os.O_RDWR | os.O_CREAT, 0o600) for number in range(FILES)]
    started, made = time.monotonic(), 0
    while True:
        if made >= WRITE_SECONDS * WRITES / WRITERS:
            return made
        time.sleep(max(0.0, made / (WRITES / WRITERS) - (time.monotonic() - started)))
        for _write in range(50):
            number = dice.randrange(FILES)
            os.pwrite(files[number], b"%012d" % dice.randrange(1 << 39), 12 * dice.randrange(10))
        number = dice.randrange(FILES)
        os.ftruncate(files[number], dice.randrange(120))
        os.rename(prefix + str(number), prefix + "moved")
        os.rename(prefix + "moved", prefix + str(number))
        made += 53


def start(tree):
    os.makedirs(tree.root, exist_ok=True)
    while tree.made < 2000:
        tree.create()
        tree.made += 1
    return tree.made


def look(root):
    found = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                found[path] = ["link", 0o777, os.readlink(path)]
            elif stat.S_ISDIR(status.st_mode):
                found[path] = ["directory", status.st_mode & 0o7777, ""]
            else:
                with open(path, "rb") as file:
                    found[path] = ["file", status.st_mode & 0o7777, hashlib.sha256(file.read()).hexdigest()]
    return found


if __name__ == "__main__":
    what, root = sys.argv[1:3]
    if what == "look":
        print(json.dumps(look(root)))
    else:
        print(
            json.dumps(
                {"start": start, "storm": storm, "burst": burst, "writes": writes}[what](Tree(root, int(sys.argv[3])))
            )
        )
