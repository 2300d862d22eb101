"""Stopping a job: cancel, timeout, memory limit. Checked by files that jobs write and by the process table."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest

from jobkit.model import ErrorKind
from tests.support import is_alive, until, weaker_without

from .conftest import Runner, pid_in, stopped
from .test_process import failure, family


async def test_cancel_runs_the_clean_up(runner: Runner, tmp_path: Path) -> None:
    def job(path: Path) -> None:

        from jobkit.run.inside.context import current

        try:
            (path / "started").write_text("0\n")
            time.sleep(100)
        finally:
            (path / "cleaned").write_text(f"{current().should_stop}")

    outcome = await stopped(runner, tmp_path / "started", runner.do(job, tmp_path))

    assert outcome.outcome == "cancelled"
    assert outcome.reason == "stopped on request; its clean-up ran"
    assert (tmp_path / "cleaned").read_text() == "True"
    assert outcome.usage["exit"] == 0


async def test_cancel_of_a_coroutine_cancels_it(runner: Runner, tmp_path: Path) -> None:
    async def job(path: Path) -> None:
        import asyncio

        try:
            (path / "started").write_text("0\n")
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(0.01)
            (path / "cleaned").touch()

    outcome = await stopped(runner, tmp_path / "started", runner.do(job, tmp_path))

    assert outcome.outcome == "cancelled"
    assert (tmp_path / "cleaned").exists()


async def test_a_cancel_during_the_start_takes_effect(runner: Runner) -> None:
    def job() -> None:

        time.sleep(100)

    running = asyncio.create_task(runner.do(job))
    await asyncio.sleep(0)
    runner.stop("j1", "cancel")

    assert (await running).outcome == "cancelled"


async def test_a_job_that_has_ended_keeps_its_outcome(runner: Runner, tmp_path: Path) -> None:
    """The job had returned and was writing its result when the request came."""

    def job(path: Path) -> Any:
        class Slow:
            def __reduce__(self) -> Any:

                (path / "written").touch()
                time.sleep(0.3)
                return (int, (7,))

        return Slow()

    outcome = await stopped(runner, tmp_path / "written", runner.do(job, tmp_path))

    assert outcome.outcome == "succeeded"


async def test_cancel_in_a_c_loop_kills_after_the_grace(runner: Runner, tmp_path: Path) -> None:
    def job(path: Path) -> int:
        (path / "started").touch()
        return sum(range(10**11))

    outcome = await stopped(runner, tmp_path / "started", runner.do(job, tmp_path, cancel_grace_s=0.2))

    assert outcome.outcome == "cancelled"
    assert outcome.reason == "killed: it did not stop within its grace of 0.2 s"
    assert outcome.usage["exit"] == "SIGKILL"


async def test_cancel_kills_the_whole_family_that_ignores_it(runner: Runner, tmp_path: Path) -> None:
    running = asyncio.create_task(runner.do(family(), str(tmp_path), cancel_grace_s=0.2))
    names = ("job", "grandchild", "setsid")
    pids = [await until(lambda name=name: pid_in(tmp_path / name), name) for name in names]
    runner.stop("j1", "cancel")

    assert (await running).outcome == "cancelled"
    for pid in pids:
        assert not is_alive(pid)


@pytest.mark.nightly
async def test_children_of_a_cancelled_job_end_with_it(runner: Runner, tmp_path: Path) -> None:
    def job(path: Path) -> None:
        import os

        pid = os.fork()
        if pid == 0:  # a fork without exec, in a new session
            os.setsid()
            (path / "fork").write_text(f"{os.getpid()}\n")
            time.sleep(100)
        time.sleep(100)

    running = asyncio.create_task(runner.do(job, tmp_path))
    pid = await until(lambda: pid_in(tmp_path / "fork"), "the fork")
    runner.stop("j1", "cancel")

    assert (await running).outcome == "cancelled"
    await until(lambda: not is_alive(pid), "the end of the fork")


async def test_a_timeout_is_named_and_runs_the_clean_up(runner: Runner, tmp_path: Path) -> None:
    def job(path: Path) -> None:

        try:
            time.sleep(100)
        finally:
            (path / "cleaned").touch()

    error = failure(await runner.do(job, tmp_path, timeout_s=0.3))

    assert error.kind is ErrorKind.TIMEOUT
    assert error.message == "ran longer than its timeout of 0.3 s"
    assert (tmp_path / "cleaned").exists()


async def test_a_timeout_kills_what_does_not_stop(runner: Runner) -> None:
    error = failure(await runner.do(lambda: sum(range(10**11)), timeout_s=0.2, cancel_grace_s=0.2))

    assert error.kind is ErrorKind.TIMEOUT
    assert "was killed" in error.message


async def test_a_job_above_its_memory_limit_is_killed_with_both_numbers(runner: Runner) -> None:
    def hungry() -> None:

        kept = bytearray(300_000_000)
        time.sleep(100)
        del kept

    outcome = await runner.do(hungry, memory_limit_bytes=200_000_000)

    error = failure(outcome)
    assert error.kind is ErrorKind.MEMORY
    assert re.fullmatch(r"Out of memory: \d+ MiB, limit 191 MiB \(200 MB\)", error.message)
    # Only "above the limit" is certain: the sample may be taken in the middle of the allocation.
    assert outcome.usage["peak_rss_bytes"] > 200_000_000


@weaker_without("shares of memory")
async def test_shared_memory_of_forks_counts_once(runner: Runner) -> None:
    def forks() -> int:
        import os

        kept = bytearray(b"x" * 150_000_000)
        pids = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                time.sleep(1.3)
                os._exit(0)
            pids.append(pid)
        for pid in pids:
            os.waitpid(pid, 0)
        return len(kept)

    outcome = await runner.do(forks, memory_limit_bytes=400 * 2**20)

    assert outcome.outcome == "succeeded"


async def test_a_cancelled_run_kills_at_once_and_waits_until_it_is_gone(runner: Runner, tmp_path: Path) -> None:
    running = asyncio.create_task(runner.do(family(), str(tmp_path)))
    names = ("job", "grandchild", "setsid")
    pids = [await until(lambda name=name: pid_in(tmp_path / name), name) for name in names]
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert not any(map(is_alive, pids))


async def test_kill_does_not_wait_for_the_grace(runner: Runner, tmp_path: Path) -> None:
    running = asyncio.create_task(runner.do(family(), str(tmp_path), cancel_grace_s=600))
    await until(lambda: pid_in(tmp_path / "job"), "the start")
    runner.stop("j1", "kill")
    await running


async def test_stopping_a_job_does_not_affect_others(runner: Runner, tmp_path: Path) -> None:
    def job(path: Path) -> str:

        (path / "started").touch()
        while not (path / "go").exists():
            time.sleep(0.01)
        return "done"

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = asyncio.create_task(runner.do(job, tmp_path / "a", job_id="a"))
    second = asyncio.create_task(runner.do(job, tmp_path / "b", job_id="b"))
    await until(lambda: (tmp_path / "a/started").exists() and (tmp_path / "b/started").exists(), "both")
    runner.stop("a", "cancel")
    assert (await first).outcome == "cancelled"
    (tmp_path / "b/go").touch()

    assert (await second).summary == "done"
