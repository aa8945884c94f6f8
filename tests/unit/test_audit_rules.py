# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's audit rules: which there are, and when there are none. tests/actors sets real ones."""

import errno
import os

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.audit import netlink, rules
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.audit.netlink import (
    AuditError,
    AuditStatus,
    watch,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.audit.nodes import read_devices
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.audit.rules import Root
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.mounts import Mounts


def set_rules(kernel, roots, before=None, **more):
    """`more`: mounts of this type at these paths."""
    mounts = Mounts.read()
    kinds = {point: kind for kind, points in more.items() for point in points}
    mounts = Mounts(dict(mounts.kinds, **kinds), mounts.points)
    return rules.set_rules(kernel, roots, mounts, read_devices(), before or {})


class Kernel:
    """Takes the place of netlink.Control."""

    def __init__(self, *present):
        self.present = [netlink.Rule(raw, netlink.key_of(raw)) for raw in present]
        self.refused = {}

    def rules(self):
        return list(self.present)

    def add(self, raw):
        path = netlink.parse_watch(raw)[0]
        if path in self.refused:
            raise AuditError(self.refused[path])
        self.present.append(netlink.Rule(raw + b"\0\0", netlink.key_of(raw)))

    def delete(self, raw):
        self.present = [rule for rule in self.present if rule.raw != raw]

    def watched(self, key=b"ctagent"):
        return sorted(netlink.parse_watch(rule.raw)[:3] for rule in self.present if rule.key == key)


@pytest.fixture
def base(tmp_path):
    return os.fsencode(str(tmp_path.resolve()))


def test_a_rule_says_what_auditctl_would_say():
    raw = watch(b"/etc", True, 10, b"ctagent")
    assert len(raw) == 1040 + 4 + 7 and netlink.parse_watch(raw + b"\0") == (b"/etc", True, 10, b"ctagent")
    assert netlink.key_of(raw) == b"ctagent"
    assert netlink.parse_watch(bytes(1040)) is None and netlink.key_of(bytes(1040)) == b""


def test_folders_files_and_programs_are_watched_and_what_is_below_another_is_not_watched_twice(base):
    for name in (b"/a/deep", b"/b"):
        os.makedirs(base + name)
    open(base + b"/file", "w").close()
    os.symlink(b"a", base + b"/link")
    kernel = Kernel()
    roots = [Root(base + name) for name in (b"/a", b"/a/deep", b"/link/deep", b"/b/new", b"/no/where", b"/file")]
    outcome = set_rules(kernel, [*roots, Root(base + b"/file", starts=True)])
    assert kernel.watched() == [
        (base + b"/a", True, 10), (base + b"/b/new", False, 10), (base + b"/file", False, 1), (base + b"/file", False, 10),
    ]  # fmt: skip
    status = os.stat(base + b"/a")
    found = read_devices().node(os.major(status.st_dev), os.minor(status.st_dev), status.st_ino)
    assert outcome.folders == {base + b"/a": found} and outcome.problems == []


def test_only_own_rules_are_deleted_and_those_that_are_right_stay(base):
    others = [watch(base, True, 10, key) for key in (b"other", b"ctagent2", b"ctagent\1x", b"")]
    stale = watch(base + b"/gone", False, 10, b"ctagent")
    right = watch(base, True, 10, b"ctagent") + b"\0"
    kernel = Kernel(*others, stale, right)
    set_rules(kernel, [Root(base)])
    assert [rule.raw for rule in kernel.present] == [*others, right]
    assert rules.delete_rules(kernel) == 1
    assert [rule.raw for rule in kernel.present] == others


def test_a_rule_is_added_again_for_another_folder_that_has_its_path(base):
    for name in (b"/a", b"/b"):
        os.mkdir(base + name)
    kernel = Kernel()
    roots = [Root(base + b"/a"), Root(base + b"/b")]
    before = set_rules(kernel, roots).folders
    same = [rule.raw for rule in kernel.present]
    assert set_rules(kernel, roots, before).folders == before and [rule.raw for rule in kernel.present] == same
    os.rename(base + b"/a", base + b"/old")
    os.mkdir(base + b"/a")
    after = set_rules(kernel, roots, before).folders
    assert [rule.raw for rule in kernel.present] == same[::-1]
    assert after[base + b"/a"] != before[base + b"/a"] and after[base + b"/b"] == before[base + b"/b"]


def test_mounts_below_a_folder_have_rules_of_their_own(base):
    for name in (b"/a/mounted", b"/a/plain", b"/a/nfs/deep", b"/a/proc", b"/other"):
        os.makedirs(base + name)
    open(base + b"/a/file", "w").close()
    points = [os.fsdecode(base + name) for name in (b"/a/mounted", b"/a/nfs/deep", b"/a/file", b"/other")]
    kernel = Kernel()
    outcome = set_rules(
        kernel, [Root(base + b"/a")], tmpfs=points,
        nfs=[os.fsdecode(base) + "/a/nfs"], proc=[os.fsdecode(base) + "/a/proc"],
    )  # fmt: skip
    watched = [base + name for name in (b"/a", b"/a/mounted")]
    assert kernel.watched() == [(path, True, 10) for path in watched]
    assert sorted(outcome.folders) == watched and outcome.problems == []
    set_rules(kernel, [Root(base + b"/a")], outcome.folders)
    assert kernel.watched() == [(base + b"/a", True, 10)]


def test_nothing_behind_a_mount_that_may_not_answer_is_looked_at(base, monkeypatch):
    for name in (b"/sl ow", b"/nfs", b"/auto", b"/near"):
        os.mkdir(base + name)
    os.symlink(base + b"/sl ow/deep", base + b"/link")
    os.symlink(b"nfs", base + b"/end")
    opened = []
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda path, *more, **keywords: opened.append(path) or real(path, *more, **keywords)
    )
    kernel = Kernel()
    slow = (b"/sl ow", b"/nfs/a", b"/nfs/a/not/there", b"/link", b"/link/../x", b"/end", b"/auto")
    outcome = set_rules(
        kernel, [Root(base + name) for name in (*slow, b"/near")],
        fuse=[os.fsdecode(base) + "/sl ow"], nfs4=[os.fsdecode(base) + "/nfs"], autofs=[os.fsdecode(base) + "/auto"],
    )  # fmt: skip
    assert kernel.watched() == [(base + b"/near", True, 10)]
    assert len(outcome.problems) == len(slow) and all("network or FUSE" in text for text in outcome.problems)
    assert not [path for path in opened if str(path).endswith(("sl ow", "nfs", "auto"))]


def test_links_in_a_circle_get_no_rule_and_others_that_of_what_they_lead_to(base):
    os.symlink(b"circle", base + b"/circle")
    os.mkdir(base + b"/folder")
    os.symlink(b"folder/../folder", base + b"/link")
    kernel = Kernel()
    outcome = set_rules(kernel, [Root(base + b"/circle"), Root(base + b"/link"), Root(base + b"/link/new")])
    assert kernel.watched() == [(base + b"/folder", True, 10)] and outcome.problems == []


def test_all_of_the_host_is_not_watched_and_not_more_than_so_many_rules(base):
    kernel = Kernel()
    for number in range(rules.MAX_RULES + 2):
        os.mkdir(base + b"/%d" % number)
    roots = [Root(b"/"), Root(b"/proc/sys"), *(Root(base + b"/%d" % number) for number in range(rules.MAX_RULES + 2))]
    outcome = set_rules(kernel, roots)
    assert len(kernel.present) == rules.MAX_RULES
    assert "would audit every change" in outcome.problems[0] and "2 paths have no audit rule" in outcome.problems[1]


def test_a_rule_that_the_kernel_refuses_is_named_and_the_others_are_set(base):
    kernel = Kernel()
    for name in (b"/a", b"/b"):
        os.mkdir(base + name)
    kernel.refused[base + b"/a"] = "Cannot add an audit rule (no memory)."
    outcome = set_rules(kernel, [Root(base + b"/a"), Root(base + b"/b")])
    assert list(outcome.folders) == [base + b"/b"] and "no memory" in outcome.problems[0]


def test_the_state_of_the_kernels_audit_is_told():
    assert "locked until the next boot" in rules.refusal(AuditStatus(2, 1, 0, 0))
    assert rules.refusal(AuditStatus(1, 1, 0, 0)) == rules.refusal(AuditStatus(0, 1, 0, 0)) == ""
    assert "enabled 0" in rules.state(AuditStatus(0, 0, 0, 0))
    assert rules.state(AuditStatus(1, 5, 0, 0)) == rules.state(AuditStatus(2, 5, 0, 0)) == ""


def test_what_auditing_costs_without_auditd_is_no_reason_why_nobody_is_known():
    assert rules.state(AuditStatus(1, 0, 0, 0)) == ""
    assert "prints each audit record to its log" in rules.remark(AuditStatus(1, 0, 0, 0))
    assert rules.remark(AuditStatus(1, 5, 0, 0)) == rules.remark(AuditStatus(0, 0, 0, 0)) == ""


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (errno.EAFNOSUPPORT, "no audit"),
        (errno.EPERM, "needs CAP_AUDIT_READ"),
        (errno.ECONNREFUSED, "needs CAP_AUDIT_READ"),
        (errno.ENOBUFS, "Set the option who to off"),
    ],
)
def test_why_there_is_no_audit_is_one_sentence(monkeypatch, code, text):
    def refuse(*_arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(netlink, "_open", refuse)
    with pytest.raises(AuditError) as raised:
        netlink.open_reader()
    assert text in str(raised.value)
