# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who changed a file, a package or a service: the agent's answers, beside those of ausearch."""

import os
import random
import re
import shlex
import signal
import stat
import subprocess
import time
from bisect import bisect
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, FrozenSet, Mapping, NamedTuple

from ansible_collections.changetracking.inventory.tests.helpers import logins
from ansible_collections.changetracking.inventory.tests.helpers.actor_records import only, records, wait_for_runs
from ansible_collections.changetracking.inventory.tests.helpers.audit import auditctl, rules

COUNT = int(os.environ.get("COUNT", "300"))  # changes
ROUND = 100
FILES = max(8, COUNT // 125)  # of each name
NAMES = [
    "plain",
    "with blank",
    "line\nend",
    'quote"d',
    "back\\slash",
    "ünï",
    "-dash",
    "x" * 200,
    "name=(null)",
    "$(id)",
]
CLOCK = 0.012  # seconds by which the time of an event may be early
SED_FILE = re.compile(r"/sed\w{6}\Z").search  # a temporary one of sed -i
WAYS = {
    "sudo", "sudo su", "su", "setsid", "ssh", "ssh, sudo", "cron", "service", "service, forged login", "sudo, container",
    "container of a user", "container, service", "module",
}  # fmt: skip
MODULE = "ansible-tmp-1700000000.1-2-3/AnsiballZ_copy.py"


def operations(path, other):
    """Scripts that change one file or two: each with the files that it changes."""
    one, two = shlex.quote(path), shlex.quote(other)
    folder, name = shlex.quote(os.path.dirname(path)), repr(os.path.basename(path))
    yield "echo $$ > %s" % one, [path]
    yield "echo $$ >> %s" % one, [path]
    yield "cd %s && echo $$ >> ./%s" % (folder, shlex.quote(os.path.basename(path))), [path]
    yield "rm -rf %s && echo $$ > %s && chmod 0%o %s" % (one, one, random.choice((0o600, 0o640, 0o644)), one), [path]
    yield "rm -rf %s && mkdir %s" % (one, one), [path]
    yield "rm -rf %s && ln -s /nowhere/$$ %s" % (one, one), [path]
    yield "rm -rf %s" % one, [path]
    yield "rm -rf %s && echo $$ > %s && rm -rf %s && mv %s %s" % (one, one, two, one, two), [path, other]
    yield "rm -rf %s && truncate -s $$ %s" % (one, one), [path]
    yield "rm -rf %s && echo 1 > %s && sed -i s/1/$$/ -- %s" % (one, one, one), [path]
    yield "rm -rf %s && cp -p /etc/passwd %s" % (one, one), [path]
    yield "rm -rf %s && install -m 600 /etc/passwd %s" % (one, one), [path]
    code = (
        "import os; d = os.open(%r, os.O_RDONLY); f = os.open(%s, os.O_WRONLY | os.O_CREAT, dir_fd=d); os.write(f, b'%%d' %% os.getpid());"
        " os.fchmod(f, 0o620)" % (os.path.dirname(path), name)
    )
    yield "rm -rf %s && python3 -c %s" % (one, shlex.quote(code)), [path]


class Change(NamedTuple):
    start: float
    end: float
    name: str  # of the user
    way: str
    has_session: bool
    script: str
    changed: FrozenSet[str]  # paths
    touched: FrozenSet[str]  # these, and one that was there only meanwhile
    left: Mapping[str, Any]  # path -> what a record would show of it then


class Author:
    """Makes changes one after the other, so that one user alone is at it at any time."""

    def __init__(self, draw, host, people, sshd, cron, cgroup):
        self._draw = draw
        self._tracked = host.tracked
        names = sorted(people)
        self._ways = {
            name: logins.ways(sshd, cron, cgroup, name, people[name], other, host.tracked)
            for name, other in zip(names, reversed(names))
        }
        module = host.folder / MODULE
        module.parent.mkdir()
        module.write_text("import subprocess, sys\nsys.exit(subprocess.call(['sh', '-c', sys.argv[1]]))\n")
        for name, uid in people.items():
            self._ways[name]["module"] = logins.Way(
                lambda script, uid=uid: logins.logged_in(uid, logins.PYTHON, str(module), script)
            )
        self.changes = []

    def change_at_random(self):
        path, other = (
            str(self._tracked / ("%s %d" % (name, self._draw.randrange(FILES)))) for name in self._draw.sample(NAMES, 2)
        )
        script, paths = self._draw.choice(list(operations(path, other)))
        name = self._draw.choice(sorted(self._ways))
        way, (command, has_session) = self._draw.choice(sorted(self._ways[name].items()))
        before = [state(each) for each in paths]
        time.sleep(CLOCK)
        start = time.time()
        subprocess.run(command(script), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        end = time.time()
        time.sleep(CLOCK)
        changed = frozenset(each for each, was in zip(paths, before) if state(each) != was)
        touched = frozenset(paths) if other in changed else changed
        left = {each: shown(each) for each in touched}
        self.changes.append(Change(start, end, name, way, has_session, script, changed, touched, left))


def judge(row, changes, uid):
    """The number of the change that a record names, and what is wrong with that; empty where it is right.

    `changes`: all so far. `uid`: by name. Each record is compared with the one change that was made at its time.
    """
    at = datetime.strptime(row["ChangedAt"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc).timestamp()
    number = bisect([each.start for each in changes], at + CLOCK) - 1
    change = changes[number]
    path = row["FileSystemPath"]
    wrong = []
    if number < 0 or at > change.end + CLOCK:
        wrong.append("nobody changed anything then")
    if path not in change.touched and not (" sed " in change.script and SED_FILE(path)):
        wrong.append("this change was none of the file")
    if (row["ChangedBy"], row["ChangedByUid"]) != (change.name, uid[change.name]):
        wrong.append("it was %s" % change.name)
    if (row["ChangedBySession"] is not None) != change.has_session:
        wrong.append("session")
    # A shell between the module and the program may have ended before the agent looks at it.
    if row["ChangedByModule"] not in (("copy", None) if change.way == "module" else (None,)):
        wrong.append("module")
    return number, ", ".join(wrong)


def collected(row):
    """When the run started that found a change; unix seconds, rounded down."""
    return datetime.strptime(row["TimeGenerated"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp()


def state(path):
    """Differs after each change of a file or link; None where there is none."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return None if stat.S_ISDIR(status.st_mode) else (status.st_ino, status.st_ctime_ns)


def shown(path):
    """What a record shows of a file or link; None where there is none."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        return None
    content = os.readlink(path) if stat.S_ISLNK(status.st_mode) else Path(path).read_bytes()
    return status.st_mode, status.st_uid, status.st_gid, int(status.st_mtime), hash(content)


def test_no_change_is_given_to_the_wrong_user(host, people, referee, sshd, cron, cgroup):
    author = Author(random.Random(COUNT), host, people, sshd, cron, cgroup)
    changes = author.changes
    host.start("--who", "rules")
    wait_for_runs(host)
    outcomes, strange, told, seen = {}, [], [], 0
    for _round in range(0, COUNT, ROUND):
        for _change in range(ROUND):
            author.change_at_random()
        wait_for_runs(host)
        print("%d of %d" % (len(changes), COUNT), flush=True)
        new = records(host, seen)
        newest = {row["FileSystemPath"]: row["Seq"] for row in new}
        for row in new:
            seen, path = row["Seq"], row["FileSystemPath"]
            by = max((number for number, each in enumerate(changes) if path in each.changed), default=-1)
            if row["ChangedBy"] is None:
                outcome = why = "unknown"
                number = by
            else:
                told.append(row)
                number, why = judge(row, changes, people)
                later = [each for each in changes[number + 1 :] if path in each.changed]
                # What between two collections ends as it began is no change.
                then = None if row["ChangeCategory"] == "Removed" else changes[number].left.get(path)
                same = later and later[-1].left[path] == then
                undone = same and collected(row) <= later[0].start
                if newest[path] == seen and later and not undone:
                    why += " somebody changed it later"
                outcome = "wrong" if why else "right"
            if why:
                strange.append((outcome, why, row, [each for each in changes[-3 * ROUND :] if path in each.touched]))
                print(*strange[-1], sep="\n  ", flush=True)
            outcomes.setdefault(changes[number].way, Counter())[outcome] += 1
            outcomes[changes[number].way]["module"] += row["ChangedByModule"] is not None
    total = sum(outcomes.values(), Counter())
    print("%d changes, %d records of them" % (len(changes), sum(total.values()) - total["module"]), dict(total))
    for way, outcome in sorted(outcomes.items()):
        print("%-24s" % way, dict(outcome))
    for _outcome, why, row, _changes in strange[:20]:
        print(why, row["FileSystemPath"], *referee.about(row["FileSystemPath"]), sep="\n  ")
    wrong = [each for each in strange if each[0] == "wrong"]
    assert wrong == [] and total["right"] > 0 and total["module"] > 0
    assert set(outcomes) == WAYS
    assert total["unknown"] * 100 <= total["right"], total
    # A wrong answer would have been found.
    exchange = dict(zip(people, reversed(list(people))))
    for row in told:
        name = exchange[row["ChangedBy"]]
        assert "it was" in judge(dict(row, ChangedBy=name, ChangedByUid=people[name]), changes, people)[1]
    status = host.status()["Who"]
    assert (status["Mode"], status["By"], status["Why"], status["Lost"]) == ("rules", "audit", "", 0)
    assert host.stop() == 0
    check_by_ausearch(told, referee)


def check_by_ausearch(told, referee):
    """Each answer is an event that ausearch finds: of the same second, user, session and program."""
    found = {
        (
            "%s-%s-%02dT%s" % (event["YEAR"], event["MONTH"], int(event["DAY"]), event["TIME"]),
            event["SUBJ_PRIME"],
            event["SESSION"],
        )
        for event in referee.events()
    }
    for row in told:
        if row["ChangedBy"] is not None and row["ChangedBySession"] is not None:
            assert (row["ChangedAt"][:19], row["ChangedBy"], str(row["ChangedBySession"])) in found, row


def test_what_a_name_does_not_tell_is_found_by_the_inode(host, people, audited):
    (host.tracked / "one").write_text("text")
    os.link(str(host.tracked / "one"), str(host.tracked / "two"))
    host.start("--who", "rules")
    wait_for_runs(host)
    subprocess.run(logins.logged_in(people["ctbob"], "sh", "-c", "echo >> %s/one" % host.tracked), check=True)
    wait_for_runs(host)
    rows = records(host)
    assert [(row["FileSystemPath"][-3:], row["ChangedBy"]) for row in rows] == [("one", "ctbob"), ("two", "ctbob")]
    script = "cd %s; ln -s target link; echo > link" % host.tracked
    subprocess.run(logins.logged_in(people["ctalice"], "sh", "-c", script), check=True)
    wait_for_runs(host)
    last = {row["FileSystemPath"].rpartition("/")[2]: row["ChangedBy"] for row in records(host, rows[-1]["Seq"])}
    assert last == {"link": "ctalice", "target": "ctalice"}


def test_all_below_a_folder_that_is_moved_or_removed_is_changed_by_who_did_it(host, people, audited):
    host.track(paths=[str(host.tracked) + "/*"])
    (host.tracked / "old/deep").mkdir(parents=True)
    (host.tracked / "old/deep/file").write_text("text")
    host.start("--who", "rules")
    wait_for_runs(host)
    subprocess.run(
        logins.logged_in(people["ctbob"], "mv", str(host.tracked / "old"), str(host.tracked / "new")), check=True
    )
    wait_for_runs(host)
    rows = records(host)
    assert {(row["ChangeCategory"], row["ChangedBy"]) for row in rows} == {("Added", "ctbob"), ("Removed", "ctbob")}
    subprocess.run(logins.logged_in(people["ctalice"], "rm", "-r", str(host.tracked / "new")), check=True)
    wait_for_runs(host)
    row = only(host, rows[-1]["Seq"])
    assert (row["ChangeCategory"], row["ChangedBy"], row["ChangedByProcess"]) == ("Removed", "ctalice", "/usr/bin/rm")


def test_two_users_are_counted_and_arguments_are_kept_only_if_asked_for(host, people, audited):
    (host.tracked / "file").write_text("text")
    host.start("--who", "rules", "--who-arguments")
    wait_for_runs(host)
    os.kill(host.process.pid, signal.SIGSTOP)  # so that both are between two runs
    for name in ("ctalice", "ctbob"):
        subprocess.run(logins.logged_in(people[name], "sh", "-c", "echo >> %s/file" % host.tracked), check=True)
    os.kill(host.process.pid, signal.SIGCONT)
    wait_for_runs(host)
    row = only(host)
    assert (row["ChangedBy"], row["ChangedByCount"]) == ("ctbob", 2)


def test_rules_are_the_agents_own_and_gone_when_it_is(host, people, audited):
    others = ["-w %s -p wa -k %s" % (host.folder, key) for key in ("other", "ctagent2", "xctagent")]
    for rule in others:
        auditctl(*rule.split(" "))
    own = "-w %s -p wa -k ctagent" % host.tracked
    host.start("--who", "rules")
    wait_for_runs(host)
    assert sorted(rules()) == sorted([*others, own])
    more = host.folder / "more"
    more.mkdir()
    host.track(paths=[str(more) + "/*"])
    host.expect("Using the rule")
    wait_for_runs(host)
    assert sorted(rules()) == sorted([*others, own.replace("tracked", "more")])
    host.kill()
    assert own.replace("tracked", "more") in rules()
    host.track()
    host.start("--who", "rules")
    wait_for_runs(host)
    assert sorted(rules()) == sorted([*others, own])
    assert host.stop() == 0
    assert sorted(rules()) == sorted(others)


def test_what_is_mounted_later_or_put_in_the_place_of_a_tracked_folder_has_an_actor(host, people, audited):
    below = host.tracked / "below"
    below.mkdir()
    host.track(paths=[str(host.tracked) + "/*"])
    host.start("--who", "rules")
    wait_for_runs(host)
    seen = 0

    def actor_of(name):
        nonlocal seen
        wait_for_runs(host)
        path = str(host.tracked / name)
        subprocess.run(logins.logged_in(people["ctalice"], "sh", "-c", "echo > " + path), check=True)
        wait_for_runs(host)
        rows = records(host, seen)
        seen = rows[-1]["Seq"]
        return [row["ChangedBy"] for row in rows if (row["FileSystemPath"], row["ChangeCategory"]) == (path, "Added")]

    mounted = []
    try:
        for path, name in ((below, "below/one"), (host.tracked, "two")):
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=777", "tmpfs", str(path)], check=True)
            mounted.append(path)
            assert actor_of(name) == ["ctalice"]
    finally:
        for path in reversed(mounted):
            subprocess.run(["umount", str(path)], check=True)
    os.rename(str(host.tracked), str(host.tracked) + ".old")
    host.tracked.mkdir()
    os.chmod(str(host.tracked), 0o777)
    assert actor_of("three") == ["ctalice"]


def test_the_rules_of_others_are_enough_to_read(host, people, audited):
    auditctl("-w", str(host.tracked), "-p", "wa", "-k", "theirs")
    (host.tracked / "file").write_text("text")
    host.start("--who", "read")
    wait_for_runs(host)
    with open(str(host.tracked / "file"), "rb"):
        pass
    command = logins.logged_in(
        people["ctalice"], "sh", "-c", "cat %s/file; echo >> %s/file" % (host.tracked, host.tracked)
    )
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    wait_for_runs(host)
    assert only(host)["ChangedBy"] == "ctalice"
    assert host.stop() == 0
    assert rules() == ["-w %s -p wa -k theirs" % host.tracked]


def test_a_package_is_changed_by_who_ran_dpkg_for_it(host, people, audited):
    package = host.folder / "package"
    (package / "DEBIAN").mkdir(parents=True)
    for version in ("1", "2"):
        (package / "DEBIAN/control").write_text(
            "Package: ct-actors\nVersion: %s\nArchitecture: all\nMaintainer: a <a@example.com>\nDescription: test\n"
            % version
        )
        subprocess.run(["dpkg-deb", "-b", str(package), str(host.folder / (version + ".deb"))], check=True)
    subprocess.run(["dpkg", "--purge", "ct-actors"], check=False)
    host.track(enableFiles=False, enableSoftware=True, softwareSettings={"softwareCollectionFrequency": 1})
    host.start("--who", "rules")
    wait_for_runs(host, "Package")
    seen = 0
    steps = (
        ("ctalice", ["-i", "1.deb"], "Added"),
        ("ctbob", ["-i", "2.deb"], "Modified"),
        ("ctalice", ["--purge", "ct-actors"], "Removed"),
    )
    for name, arguments, category in steps:
        command = [
            "dpkg",
            *arguments[:-1],
            arguments[-1] if category == "Removed" else str(host.folder / arguments[-1]),
        ]
        subprocess.run(logins.logged_in(people[name], *command), check=True)
        wait_for_runs(host, "Package")
        row = records(host, seen)[-1]
        seen = row["Seq"]
        assert (row["ChangeCategory"], row["ChangedBy"], row["ChangedByProcess"]) == (category, name, "/usr/bin/dpkg")


def test_a_service_is_changed_by_who_wrote_its_unit_or_enabled_it(host, people, audited):
    unit = "/etc/systemd/system/ct-actors.service"
    host.track(enableFiles=False, enableServices=True, servicesSettings={"serviceCollectionFrequency": 1})
    host.start("--who", "rules")
    wait_for_runs(host, "Service")
    text = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
    try:
        script = "printf %s > %s" % (shlex.quote(text.replace("\n", "\\n")), unit)
        subprocess.run(logins.logged_in(people["ctalice"], "sh", "-c", script), check=True)
        wait_for_runs(host, "Service")
        row = only(host)
        assert (row["ChangeCategory"], row["ChangedBy"], row["ChangedByUid"]) == ("Added", "ctalice", people["ctalice"])
        subprocess.run(logins.logged_in(people["ctbob"], "systemctl", "enable", "ct-actors"), check=True)
        wait_for_runs(host, "Service")
        row = only(host, row["Seq"])
        assert (row["ChangeCategory"], row["ChangedBy"], row["ChangedByProcess"]) == (
            "Modified",
            "ctbob",
            "/usr/bin/systemctl",
        )
    finally:
        subprocess.run(["systemctl", "disable", "ct-actors"], check=False)
        os.unlink(unit)
