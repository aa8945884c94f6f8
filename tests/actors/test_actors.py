# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who changed a file, a package or a service: the agent's answers, beside those of ausearch."""

import os
import random
import shlex
import subprocess
from collections import Counter

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.text import original
from ansible_collections.changetracking.inventory.tests.helpers import logins

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
MODULE = """\
import os, subprocess, sys
if sys.argv[1] == "itself":
    open(sys.argv[2], "a").write("text")
else:
    subprocess.run(["sh", "-c", "echo text >> \\"$0\\"", sys.argv[2]])
"""


def operations(path, other):
    """Scripts that change one file or two: each with the files that it changes."""
    one, two = shlex.quote(path), shlex.quote(other)
    folder, name = shlex.quote(os.path.dirname(path)), repr(os.path.basename(path))
    yield "echo $$ > %s" % one, [path]
    yield "echo $$ >> %s" % one, [path]
    yield "cd %s && echo $$ >> ./%s" % (folder, shlex.quote(os.path.basename(path))), [path]
    yield "rm -rf %s && echo $$ > %s && chmod 0%o %s" % (one, one, random.choice((0o600, 0o640, 0o644)), one), [path]
    yield "rm -rf %s && mkdir %s" % (one, one), [path]
    yield "rm -rf %s && ln -s $$ %s" % (one, one), [path]
    yield "rm -rf %s" % one, [path]
    yield "rm -rf %s && echo $$ > %s && rm -rf %s && mv %s %s" % (one, one, two, one, two), [path, other]
    yield "rm -rf %s && echo $$ > %s && rm -rf %s && ln %s %s" % (one, one, two, one, two), [path, other]
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
    """One change. Returns the files, the user, whether there was a login, and whether all of it was done."""
    path, other = (str(tracked / ("%s %d" % (name, draw.randrange(8)))) for name in draw.sample(NAMES, 2))
    script, paths = draw.choice(list(operations(path, other)))
    name, uid = draw.choice(sorted(people.items()))
    way, command = draw.choice(sorted(logins.ways(name, uid, script).items()))
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return paths, name, way != "cron", done.returncode == 0


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
    host.start("--who", "rules")
    wait_for_runs(host)
    outcome, wrong, seen = Counter(), [], 0
    told = []
    for _round in range(0, COUNT, ROUND):
        did = {}
        for _change in range(ROUND):
            paths, name, login, whole = change_at_random(draw, host.tracked, people)
            for path in paths:
                did.setdefault(path, []).append((name, login, whole))
        wait_for_runs(host)
        last = {}
        for row in records(host, seen):
            seen = row["Seq"]
            last[row["FileSystemPath"]] = row
            told.append(row)
            names = [name for name, _login, _whole in did.get(row["FileSystemPath"], ())]
            if row["ChangedBy"] is not None and row["ChangedBy"] not in names:
                wrong.append((row, names))
        for path, row in last.items():
            actors = did.get(path, [("nobody", False, True)])
            if row["ChangedBy"] is None:
                outcome["unknown"] += 1
                print("unknown", row, actors)
            elif not all(whole for _name, _login, whole in actors):  # who was not allowed to changed nothing
                outcome["plausible"] += row["ChangedBy"] in [name for name, _login, _whole in actors]
            elif row["ChangedBy"] == actors[-1][0] and people[row["ChangedBy"]] == row["ChangedByUid"]:
                outcome["right"] += 1
                assert (row["ChangedBySession"] is not None) == actors[-1][1], row
            else:
                outcome["wrong"] += 1
                wrong.append((row, actors))
    print(dict(outcome))
    assert wrong == [] and outcome["right"] > 0
    assert outcome["unknown"] * 50 <= outcome["right"], outcome
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
