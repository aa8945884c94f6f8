# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who changed a file, a package or a service: the agent's answers, beside those of ausearch."""

import os
import random
import shlex
import signal
import stat
import subprocess
import sys
from collections import Counter

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.text import original
from ansible_collections.changetracking.inventory.tests.helpers import logins
from ansible_collections.changetracking.inventory.tests.helpers.audit import auditctl, rules

COUNT = int(os.environ.get("COUNT", "300"))  # changes
ROUND = 25
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
COLUMNS = (
    "ChangeCategory", "FileSystemPath", "ChangedAt", "ChangedBy", "ChangedByUid", "ChangedByProcess", "ChangedByCommand",
    "ChangedBySession", "ChangedByModule", "ChangedByCount",
)  # fmt: skip
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


def change_at_random(draw, tracked, people):
    """One change. Returns the files that it changed, the user, and the way."""
    path, other = (str(tracked / ("%s %d" % (name, draw.randrange(8)))) for name in draw.sample(NAMES, 2))
    script, paths = draw.choice(list(operations(path, other)))
    name, uid = draw.choice(sorted(people.items()))
    ways = sorted(logins.ways(name, uid, script).items())
    way, command = draw.choice(
        [*ways, ("ansible", logins.logged_in(uid, sys.executable, str(tracked.parent / MODULE), script))]
    )
    before = [state(each) for each in paths]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    changed = [each for each, was in zip(paths, before) if state(each) != was]
    return changed, (name, way)


def state(path):
    """Differs after each change of a file or link; None where there is none."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return None if stat.S_ISDIR(status.st_mode) else (status.st_ino, status.st_ctime_ns)


def records(host, after=0):
    host.arrived()
    query = "SELECT Seq, %s FROM ConfigurationChange WHERE Seq > %d ORDER BY Seq" % (", ".join(COLUMNS), after)
    rows = []
    for seq, *values in host.relay.rows(query):
        row = dict(zip(COLUMNS, values), Seq=seq)
        if row["FileSystemPath"]:
            row["FileSystemPath"] = original(row["FileSystemPath"])
        rows.append(row)
    return rows


def wait_for_runs(host, kind="File"):
    """Until a run that started from now on is stored, and its records are delivered."""
    for _run in range(2):
        host.expect("Number of %s received in this run" % kind)
    while host.status()["Outbox"]["Records"]:
        pass


def test_no_change_is_given_to_the_wrong_user(host, people, referee):
    draw = random.Random(COUNT)
    module = host.folder / MODULE
    module.parent.mkdir()
    module.write_text("import subprocess, sys\nsys.exit(subprocess.call(['sh', '-c', sys.argv[1]]))\n")
    host.start("--who", "rules")
    wait_for_runs(host)
    outcome, wrong, seen = Counter(), [], 0
    told = []
    for _round in range(0, COUNT, ROUND):
        did = {}
        for _change in range(ROUND):
            paths, actor = change_at_random(draw, host.tracked, people)
            for path in paths:
                did.setdefault(path, []).append(actor)
        wait_for_runs(host)
        last = {}
        for row in records(host, seen):
            seen = row["Seq"]
            last[row["FileSystemPath"]] = row
            told.append(row)
            if row["ChangedBy"] is not None and row["ChangedBy"] not in [
                name for name, _way in did[row["FileSystemPath"]]
            ]:
                wrong.append((row, did))
        for path, row in last.items():
            name, _way = did[path][-1]
            if row["ChangedBy"] is None:
                outcome["unknown"] += 1
                print("unknown", row, did[path])
            elif row["ChangedBy"] == name and people[name] == row["ChangedByUid"]:
                outcome["right"] += 1
                # The last one to try may have changed nothing, and this user may have been at it before in another way.
                ways = {each for user, each in did[path] if user == name}
                assert row["ChangedBySession"] is not None or "cron" in ways, (row, did[path])
                assert row["ChangedBySession"] is None or ways != {"cron"}, (row, did[path])
                # A shell between the module and the program may have ended before the agent looks at it.
                assert row["ChangedByModule"] in (("copy", None) if "ansible" in ways else (None,)), (row, did[path])
                outcome["module"] += row["ChangedByModule"] is not None
            else:
                outcome["wrong"] += 1
                wrong.append((row, did[path]))
    print(dict(outcome))
    assert wrong == [] and outcome["right"] > 0 and outcome["module"] > 0
    assert outcome["unknown"] * 100 <= outcome["right"], outcome
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


def only(host, seen=0):
    """The one new record."""
    (row,) = records(host, seen)
    return row


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
