"""Workers that are short of something: jobs wait for room, and pages and commands say so."""

from __future__ import annotations

import pytest

from jobkit.features.doctor.commands import _workers
from jobkit.store.values import WorkerInfo
from jobkit.ui.workers.workers_page import picture
from jobkit.worker import capacity
from jobkit.worker.capacity import Capacity
from tests.support import wait_until

from . import jobs
from .conftest import Bench


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(capacity, "time", clock)
    return clock


def test_a_worker_has_as_many_slots_as_it_has_descriptors_for_processes(clock: Clock) -> None:
    room = Capacity(100, 50)

    assert room.room(100, running=0, processes=50) == 50
    assert room.room(60, running=40, processes=10) == 10
    assert room.room(60, running=40, processes=50) == 50  # coroutines need none
    assert room.problem.startswith("runs at most 50 processes at once: its limit of open files allows no more")
    assert Capacity(50, 50).problem == ""


def test_a_shortage_stops_new_jobs_for_a_while_then_more_and_more_are_tried(clock: Clock) -> None:
    room = Capacity(20, 50)
    for others in (13, 12, 11):  # one after the other of a claim of many
        room.fell_short("no memory", others)
    assert room.problem == "runs 11 of 20 jobs at once: no memory"
    assert room.room(20, running=11, processes=50) == 0
    assert room.room(20, running=9, processes=50) == 2

    tried = []
    while room.problem:
        clock.now += 1.01
        tried.append(room.room(20, running=11, processes=50))
    assert tried == [1, 3, 7, 20]


def test_a_lasting_shortage_is_tried_less_and_less_often_up_to_a_minute(clock: Clock) -> None:
    room = Capacity(20, 50)
    room.fell_short("no memory", 0)
    pauses = []
    for _ in range(9):
        began = clock.now
        while not room.room(20, running=0, processes=50):
            clock.now += 0.25
        pauses.append(clock.now - began)
        room.fell_short("no memory", 0)

    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_page_and_the_doctor_say_what_is_short() -> None:
    short = WorkerInfo("w1", slots=8, problem="runs 2 of 8 jobs at once: no memory")

    assert picture([short], {}, [])["alerts"] == ["Worker w1 runs 2 of 8 jobs at once: no memory"]
    assert [(each.check, each.text) for each in _workers([short], {}, "")][1] == ("worker", f"w1 {short.problem}")


def test_jobs_beyond_the_limit_of_open_files_wait_for_the_others(bench: Bench) -> None:
    """A limit for six processes; twelve slots, twelve jobs."""
    bench.worker("-c", "12", files=140)
    submitted = [bench.kit.submit(jobs.until, bench.file(), bench.file("sign")) for _ in range(12)]
    bench.started(times=6)
    [info] = wait_until(bench.kit.workers, what="the worker to be known")
    assert info.problem.startswith("runs at most 6 processes at once: its limit of open files allows no more")
    assert "runs at most 6 processes at once" in bench.said()
    assert len(bench.notes()) == 6

    (bench.folder / "sign").touch()

    assert [job.result(60) for job in submitted] == ["done"] * 12
    assert {job.attempt for job in submitted} == {1}
