"""Handles and kits in a process that was forked from their own."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import jobkit
from jobkit.client.connection import Connection
from jobkit.client.kit import Kit
from jobkit.client.loop import background
from tests.store.server import Server, running_server
from tests.support import ROOT, environment, wait_until
from tests.worker import jobs

from .conftest import own_kit, own_place

pytestmark = pytest.mark.usefixtures("by_events_alone")

place = pytest.fixture(own_place, name="place")
kit = pytest.fixture(own_kit, name="kit")
own_server = pytest.fixture(running_server, name="own_server")


class Child:
    """A forked process that calls a function."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._pipe, pipe = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            signal.alarm(30)  # a function that hangs must not outlive its test
            try:
                said = repr(function())
            except BaseException as error:
                said = f"{type(error).__name__}: {error}"
            os.write(pipe, said.encode())
            os._exit(0)
        os.close(pipe)

    def said(self) -> str:
        """Return what the function has returned or raised."""
        with os.fdopen(self._pipe, "rb") as pipe:
            said = pipe.read().decode()
        os.waitpid(self._pid, 0)
        return said


def outcome(job: jobkit.Job) -> str:
    try:
        return str(job.result(20))
    except jobkit.JobCancelled:
        return "cancelled"


async def awaited(job: jobkit.Job) -> str:
    try:
        return str(await job)
    except jobkit.JobCancelled:
        return "cancelled"


def state(job: jobkit.Job) -> str:
    wait_until(lambda: job.is_terminal)
    return str(job.state)


def found_again(job: jobkit.Job) -> str:
    return f"{outcome(job.kit.get(job.id))} {job.kit.get(job.id) is job} {job.snapshot.state}"


def in_a_grandchild(job: jobkit.Job) -> str:
    assert str(job.state) in ("queued", "cancelled")
    return Child(lambda: outcome(job)).said().strip("'")


WAYS: dict[str, Callable[[jobkit.Job], str]] = {
    "result": outcome,
    "wait": lambda job: job.wait(20) and str(job.state),
    "await": lambda job: asyncio.run(awaited(job)),
    "state": state,
    "snapshot": lambda job: wait_until(lambda: job.snapshot.is_terminal) and str(job.state),
    "as_completed": lambda job: str(next(jobkit.as_completed([job], 20)).state),
    "kit.get": found_again,
    "a grandchild": in_a_grandchild,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_handle_moves_in_a_forked_child_and_in_its_parent(kit: Kit, way: str) -> None:
    job = kit.submit(jobs.count_up, 1)
    child = Child(lambda: WAYS[way](job))
    kit.cancel(job.id)

    assert child.said() == ("'cancelled True cancelled'" if way == "kit.get" else "'cancelled'")
    assert job.wait(20)


def test_a_batch_and_its_watchers_move_in_a_forked_child(kit: Kit) -> None:
    batch = kit.map(jobs.count_up, [1, 2, 3])
    seen: list[str] = []
    batch[0].param.watch(lambda event: seen.append(str(event.new)), "state")

    def wait() -> tuple[bool, object, list[str]]:
        return batch.wait(20), batch.counts, seen

    child = Child(wait)
    batch.cancel()

    assert child.said() == "(True, {'cancelled': 3}, ['cancelled'])"
    assert batch.wait(20)
    wait_until(lambda: seen == ["cancelled"])


def test_a_schedule_moves_in_a_forked_child(kit: Kit) -> None:
    schedule = kit.schedule(jobs.count_up, {"n": 1}, every=3600, name="hourly")
    child = Child(lambda: wait_until(lambda: schedule.paused))
    kit.schedules.pause("hourly")

    assert child.said() == "True"
    wait_until(lambda: schedule.paused)


def test_nouns_that_were_used_before_the_fork_work_in_a_forked_child(kit: Kit) -> None:
    kit.schedule(jobs.count_up, {"n": 1}, every=3600, name="hourly")
    assert (len(kit.failures()), len(kit.schedules())) == (0, 1)

    child = Child(lambda: (len(kit.failures()), len(kit.schedules())))

    assert child.said() == "(0, 1)"


def test_locks_that_other_threads_hold_at_the_fork_do_not_matter(kit: Kit) -> None:
    batch = kit.map(jobs.count_up, [1])
    job = batch[0]
    is_held, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with batch._lock, job._lock:
            is_held.set()
            is_over.wait()

    holder = threading.Thread(target=hold)
    waiter = threading.Thread(target=job.wait)
    holder.start()
    is_held.wait()
    child = Child(lambda: (outcome(job), batch.counts))
    is_over.set()
    waiter.start()
    kit.cancel(job.id)

    assert child.said() == "('cancelled', {'cancelled': 1})"
    for thread in (holder, waiter):
        thread.join(20)


def test_a_handle_that_is_read_during_an_outage_moves_after_it(own_server: Server, tmp_path: Any) -> None:
    server, sign = own_server, tmp_path / "read"
    with jobkit.connect(server.url, secret="of these tests") as kit:
        job = kit.submit(jobs.count_up, 1)
        server.kill()

        def read() -> str:
            sign.write_text(str(job.state))
            return state(job)

        child = Child(read)
        wait_until(lambda: sign.exists() and sign.read_text() == "queued")
        server.start()
        with jobkit.connect(server.url, secret="of these tests") as other:
            other.cancel(job.id)
        assert child.said() == "'cancelled'"


_shared: list[jobkit.Job] = []


def _state_in_pool(_: int) -> str:
    return outcome(_shared[0])


def test_the_processes_of_a_pool_wait_for_a_job_of_their_parent(kit: Kit) -> None:
    _shared[:] = [kit.submit(jobs.count_up, 1)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        results = pool.map_async(_state_in_pool, range(4), chunksize=1)
        kit.cancel(_shared[0].id)
        assert results.get(30) == ["cancelled"] * 4
    pool.join()


def test_threads_of_a_forked_child_wait_for_the_same_job(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    job, connects = kit.submit(jobs.count_up, 1), []
    join, connect = jobkit.Job._join, Connection._connect

    def join_late(job: jobkit.Job) -> None:
        time.sleep(0.2)
        join(job)

    def connect_late(connection: Connection) -> None:
        connects.append(connection)
        time.sleep(0.2)
        connect(connection)

    monkeypatch.setattr(jobkit.Job, "_join", join_late)
    monkeypatch.setattr(Connection, "_connect", connect_late)

    def wait() -> tuple[set[str], int]:
        ways = [lambda: outcome(job), lambda: outcome(kit.get(job.id))] * 3
        with ThreadPoolExecutor(len(ways)) as pool:
            return {each.result() for each in [pool.submit(way) for way in ways]}, len(connects)

    child = Child(wait)
    kit.cancel(job.id)

    assert child.said() == "({'cancelled'}, 1)"


def test_threads_of_a_forked_child_do_not_wait_for_a_server_that_is_away(
    own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with jobkit.connect(own_server.url, secret="of these tests") as kit:
        job, follow, is_waiting = kit.submit(jobs.count_up, 1), Connection.follow, threading.Event()
        own_server.kill()

        def follow_late(connection: Connection, job: jobkit.Job) -> None:
            is_waiting.wait(20)
            follow(connection, job)

        monkeypatch.setattr(Connection, "follow", follow_late)

        def wait() -> list[str]:
            with ThreadPoolExecutor(2) as pool:
                first = pool.submit(lambda: job.wait(20))
                wait_until(lambda: job._generation == background.generation)
                second = pool.submit(lambda: job.wait(20))
                wait_until(lambda: job._waited_for is not None)
                is_waiting.set()
                return [type(each.exception()).__name__ for each in (first, second)]

        assert Child(wait).said() == "['StoreUnavailable', 'StoreUnavailable']"


def test_what_a_child_collects_does_not_cut_the_connections_of_its_parent(kit: Kit) -> None:
    job = kit.submit(jobs.count_up, 1)

    async def collect() -> None:
        gc.collect()

    def replace_connections() -> int:
        kit.get(job.id)
        background.call(collect())
        asyncio.run(collect())
        return len(kit.jobs())

    assert Child(replace_connections).said() == "1"
    kit.cancel(job.id)
    assert job.wait(20)


def test_an_iterator_does_not_go_on_in_a_forked_child(kit: Kit) -> None:
    events = kit.events(after="0-0")
    kit.submit(jobs.count_up, 1)
    assert next(events).type == "submitted"

    assert Child(lambda: next(events)).said().startswith("JobkitError: this iterator is of the process that forked")
    kit.submit(jobs.count_up, 1)
    assert next(events).type == "submitted"


OPEN_ITERATOR = """
import jobkit
kit = jobkit.connect()
kit.submit(len, "abc")
events = kit.events(after="0-0")
print(next(events).type)
"""


def test_a_program_ends_although_an_iterator_is_open(server: Server) -> None:
    names = {"JOBKIT_URL": server.url, "JOBKIT_NAMESPACE": f"t{secrets.token_hex(4)}", "JOBKIT_SECRET": "x"}
    done = subprocess.run(
        [sys.executable, "-c", OPEN_ITERATOR], cwd=ROOT, env=environment(**names), capture_output=True, timeout=30
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"submitted\n", b"")
