# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""How many CPUs a scan may use."""

import os
import sys
from typing import Iterator, Optional

_CGROUPS = "/sys/fs/cgroup"
_OWN_CGROUPS = "/proc/self/cgroup"


def usable() -> int:
    """The number of CPUs that this process may use, by its affinity and by the quotas of its cgroups; 1 in a process with threads, which
    must not fork."""
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        return 1
    try:
        with open(_OWN_CGROUPS, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read(1 << 16).splitlines()
        quotas = [int(quota) for line in lines for quota in _quotas(line)]
    except (OSError, ValueError):
        return 1
    return min([len(os.sched_getaffinity(0)), *quotas])


def _quotas(line: str) -> Iterator[float]:
    """The CPUs that the cgroup in a line of /proc/self/cgroup may use, and those above it; see cgroups(7)."""
    _number, controllers, path = line.split(":", 2)
    if controllers and "cpu" not in controllers.split(","):
        return
    while True:
        quota = _quota_of_v1(_CGROUPS + "/cpu" + path) if controllers else _quota_of_v2(_CGROUPS + path)
        if quota is not None:
            yield quota
        if path in ("/", ""):
            return
        path = os.path.dirname(path)


def _quota_of_v1(folder: str) -> Optional[float]:
    quota = _content(folder + "/cpu.cfs_quota_us")
    return None if quota in ("", "-1") else int(quota) / int(_content(folder + "/cpu.cfs_period_us"))


def _quota_of_v2(folder: str) -> Optional[float]:
    quota, _blank, period = _content(folder + "/cpu.max").partition(" ")
    return None if quota in ("", "max") else int(quota) / int(period)


def _content(path: str) -> str:
    """The text of a small file; empty where there is none."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read(100).strip()
    except FileNotFoundError:
        return ""
