# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent does when."""

import os
import threading
import time

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent import schedule
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.agent.schedule import (
    Schedule,
    ScheduledTask,
)

PATIENCE = 60


class Driven:
    """A schedule whose clock goes only when the test says so."""

    def __init__(self):
        self.now = 1000.0
        self.failures = []
        self.schedule = Schedule(lambda name, error: self.failures.append((name, str(error))), lambda: self.now)
        self.thread = threading.Thread(target=self.schedule.run, args=(lambda: None,), daemon=True)

    def start(self):
        self.thread.start()
        return self

    def advance(self, seconds):
        self.now += seconds
        self.schedule._wake()

    def end(self):
        self.schedule.end()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def driven():
    driven = Driven()
    yield driven
    driven.end()


def test_runs_that_were_missed_are_not_made_up_for():
    task = ScheduledTask(lambda: None)
    task.set_interval(10.0, 100.0, 0.0)
    task.started(100.0)
    assert task.due == 110.0
    task.started(175.0)
    assert task.due == 180.0


def test_a_slow_task_delays_no_other_and_is_not_run_twice_at_once(driven):
    slow, go, quick = threading.Semaphore(0), threading.Event(), threading.Semaphore(0)

    def linger():
        slow.release()
        go.wait(PATIENCE)

    driven.schedule.set("slow", linger, 10.0)
    driven.schedule.set("quick", quick.release, 10.0)
    driven.start()
    assert slow.acquire(timeout=PATIENCE) and quick.acquire(timeout=PATIENCE)
    driven.advance(10)
    assert quick.acquire(timeout=PATIENCE)
    assert not slow.acquire(blocking=False)
    go.set()
    assert slow.acquire(timeout=PATIENCE)


def test_a_task_that_raises_is_told_and_runs_again_when_it_is_due(driven):
    ran = threading.Semaphore(0)

    def fail():
        ran.release()
        raise ValueError("a defect")

    driven.schedule.set("bad", fail, 10.0)
    driven.start()
    assert ran.acquire(timeout=PATIENCE)
    driven.advance(10)
    assert ran.acquire(timeout=PATIENCE)
    assert driven.failures[0] == ("bad", "a defect")


def test_a_task_without_an_interval_runs_only_when_it_is_asked_to(driven):
    ran, other = threading.Semaphore(0), threading.Semaphore(0)
    driven.schedule.set("asked", ran.release, None)
    driven.schedule.set("other", other.release, 10.0)
    driven.start()
    assert other.acquire(timeout=PATIENCE)
    assert not ran.acquire(blocking=False)
    driven.schedule.run_within("asked")
    assert ran.acquire(timeout=PATIENCE)
    driven.advance(1000)
    assert other.acquire(timeout=PATIENCE)
    assert not ran.acquire(blocking=False)


def test_another_interval_holds_at_once_and_the_same_one_moves_nothing(driven):
    for every, due in ((100.0, 1100.0), (100.0, 1100.0), (10.0, 1010.0), (500.0, 1010.0)):
        driven.schedule.set("task", lambda: None, every, 100.0)
        assert driven.schedule._tasks["task"].due == due
    driven.schedule.set("task", lambda: None, None)
    assert driven.schedule._tasks["task"].due is None
    driven.start()


def test_the_clock_goes_on_and_never_back():
    first = schedule.uptime()
    assert schedule.uptime() >= first > 0


def test_a_task_may_add_others_while_the_schedule_goes_through_them(driven):
    ran = threading.Semaphore(0)

    def add():
        for number in range(100):
            driven.schedule.set("added %d" % number, ran.release, 3600.0)

    driven.schedule.set("adding", add, 3600.0)
    driven.start()
    for _task in range(100):
        assert ran.acquire(timeout=PATIENCE)


def test_a_thread_that_waits_in_one_call_of_the_kernel_is_stuck_and_no_other():
    driven = Driven().start()
    reader, writer = os.pipe()
    begun = threading.Event()

    def wait():
        begun.set()
        os.read(reader, 1)

    def work():
        while not begun.wait(0.001):
            pass
        while driven.schedule._tasks["waits"].running:
            time.sleep(0.001)

    try:
        for name, task in (("waits", wait), ("works", work)):
            driven.schedule.set(name, task, 1000)
        assert begun.wait(PATIENCE)
        time.sleep(0.1)
        stuck = {"waits": [], "works": []}
        for _time in range(5):
            for name, seconds in stuck.items():
                seconds.append(driven.schedule.stuck(name))
            driven.now += 3600  # such as while the machine was suspended
            time.sleep(0.1)
        most = schedule.LONGEST_WAIT
        assert stuck == {"waits": [0, most, 2 * most, 3 * most, 4 * most], "works": [0] * 5}
        assert driven.schedule.stuck("unknown") == 0
    finally:
        driven.end()  # before the tasks end, which are due again
        os.write(writer, b"x")
    for thread in [task.thread for task in driven.schedule._tasks.values()]:
        thread.join(PATIENCE)
    assert driven.schedule.stuck("waits") == 0
    for descriptor in (reader, writer):
        os.close(descriptor)
