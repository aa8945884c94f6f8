# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is changed on the host: each act() is one change, as a shell command and as the record that must tell of it."""

import shlex

ITEMS = 30  # of each kind


class Files:
    kind, config_type = "files", "Files"

    def __init__(self, dice):
        self.dice = dice
        self.there = {}  # name -> content

    def act(self, number, stamp):
        """(command, expected record) of one change to one item."""
        name, content = "f%d" % number, "%s %d\n" % (stamp, self.dice.randrange(1 << 30))
        path = "/srv/soak/" + name
        if name not in self.there:
            self.there[name] = content
            return "printf %%s %s > %s" % (shlex.quote(content), path), ("Added", path, "")
        what = self.dice.choice(["edit", "replace", "chmod", "delete"])
        if what == "edit":
            return "printf %%s %s > %s" % (shlex.quote(content), path), ("Modified", path, "FileContentChecksum")
        if what == "replace":
            command = "printf %%s %s > /srv/new && chmod --reference=%s /srv/new && mv /srv/new %s"
            return command % (shlex.quote(content), path, path), ("Modified", path, "FileContentChecksum")
        if what == "chmod":
            modes = "if [ $(stat -c %%a %s) = 600 ]; then chmod 644 %s; else chmod 600 %s; fi"
            return modes % (path, path, path), ("Modified", path, "Mode")
        del self.there[name]
        return "rm " + path, ("Removed", path, "")


class Packages:
    kind, config_type = "packages", "Software"

    def __init__(self, dice):
        self.dice = dice
        self.there = {}

    def act(self, number, _stamp):
        name, was = "soak-%d" % number, self.there.get(number)
        if was is not None and self.dice.random() < 0.4:
            del self.there[number]
            return "dpkg --purge %s" % name, ("Removed", name, was + ">")
        version = self.dice.choice([version for version in ("1.0", "2.0", "3.0") if version != was])
        self.there[number] = version
        command = "dpkg --install --force-downgrade /srv/debs/%d_%s.deb" % (number, version)
        return command, ("Modified" if was else "Added", name, "%s>%s" % (was or "", version))


class Services:
    kind, config_type = "services", "Daemons"

    def __init__(self, dice):
        self.dice = dice
        self.there = {}  # number -> (running, enabled)

    def act(self, number, _stamp):
        name = "soak-%d" % number
        if number not in self.there:
            self.there[number] = (False, False)
            command = "cp /srv/debs/%s.service /etc/systemd/system/ && systemctl daemon-reload" % name
            return command, ("Added", name, "Stopped Disabled")
        running, enabled = self.there[number]
        what = self.dice.choice(["run", "enable", "remove"])
        if what == "remove" and not running and not enabled:
            del self.there[number]
            return "rm /etc/systemd/system/%s.service && systemctl daemon-reload" % name, ("Removed", name, "")
        if what == "run":
            self.there[number] = (not running, enabled)
            command = "systemctl %s %s" % ("stop" if running else "start", name)
        else:
            self.there[number] = (running, not enabled)
            command = "systemctl %s %s" % ("disable" if enabled else "enable", name)
        state = "%s %s" % (
            "Running" if self.there[number][0] else "Stopped", "Enabled" if self.there[number][1] else "Disabled"
        )  # fmt: skip
        return command, ("Modified", name, state)
