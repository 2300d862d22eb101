"""Processes that import the task modules themselves, if forking from a process with them is unsafe."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobkit.model import ErrorKind
from tests.support import PORTABLE, until

from .conftest import Heard, Runner, started
from .test_process import failure

Make = Callable[..., Awaitable[Runner]]

TASKS = """
import os, threading, time
WHERE = os.getpid()
{more}
def where(): return WHERE
def alive(): return [thread.name for thread in threading.enumerate()]
"""


@pytest.fixture
async def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: Heard) -> AsyncIterator[Make]:
    """Factory of runners with the task modules of these tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    async with contextlib.AsyncExitStack() as runners:

        async def make(more: str = "", **options: Any) -> Runner:
            (tmp_path / "spawned_tasks.py").write_text(TASKS.format(more=more))
            return await runners.enter_async_context(started("spawned_tasks", heard=heard, **options))

        yield make


async def test_a_spawned_process_imports_the_tasks_itself_and_spares_wait_from_the_start(make: Make) -> None:
    runner = await make(start_method="spawn")
    await until(lambda: len(runner._waiting) == 2 and all(p.is_ready for p in runner._waiting), "the spares")
    waiting = {place.pid for place in runner._waiting}

    outcome = await runner.do(None, ref="spawned_tasks:where")

    assert int(outcome.summary) in waiting


async def test_a_coroutine_runs_in_a_process_that_imports_the_tasks_itself(make: Make) -> None:
    runner = await make("async def later(): return WHERE == os.getpid()", start_method="spawn")

    outcome = await runner.do(None, ref="spawned_tasks:later", isolation="async")

    assert outcome.summary == "True"


async def test_a_forked_process_has_the_tasks_from_the_zygote(make: Make) -> None:
    runner = await make(start_method="fork")

    outcome = await runner.do(None, ref="spawned_tasks:where")

    assert int(outcome.summary) == runner.pid


@pytest.mark.skipif(PORTABLE, reason="does not fork")
async def test_a_module_that_starts_a_thread_is_not_forked_from(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    thread = "threading.Thread(target=time.sleep, args=(100,), name='its own', daemon=True).start()"
    with caplog.at_level(logging.WARNING, "jobkit.worker"):
        runner = await make(thread)

    outcome = await runner.do(None, ref="spawned_tasks:alive")

    assert caplog.messages == [
        "jobs are spawned and not forked, because the task modules have started a thread (its own)"
    ]
    assert "its own" in outcome.summary
    assert os.listdir(f"/proc/{runner.pid}/task") == [str(runner.pid)]
    large = await runner.do(bytes, 3_000_000)  # its file goes to the directory of the second zygote
    assert len(large.body) >= 3_000_000


async def test_the_time_of_the_import_is_told_and_does_not_count_for_the_timeout(make: Make, heard: Heard) -> None:
    runner = await make("time.sleep(0.7)", start_method="spawn", spares=0)

    outcome = await runner.do(None, ref="spawned_tasks:where", timeout_s=0.3)
    assert outcome.outcome == "succeeded"
    assert [message for *_, message in heard.news] == ["starting its process", ""]

    error = failure(await runner.do(time.sleep, 100, timeout_s=0.2))
    assert error.kind is ErrorKind.TIMEOUT


async def test_a_job_can_be_cancelled_while_its_process_imports(make: Make) -> None:
    runner = await make("time.sleep(0.3)", start_method="spawn", spares=0)
    running = asyncio.create_task(runner.do(time.sleep, 100))
    await asyncio.sleep(0.1)
    runner.stop("j1", "cancel")

    assert (await running).outcome == "cancelled"


async def test_a_module_that_no_longer_imports_is_named(make: Make, tmp_path: Path) -> None:
    runner = await make(start_method="spawn", spares=0)
    (tmp_path / "spawned_tasks.py").write_text("import no_such_thing")

    error = failure(await runner.do(None, ref="spawned_tasks:where"))

    assert error.kind is ErrorKind.CRASH
    assert "No module named 'no_such_thing'" in error.traceback


async def test_an_import_that_hangs_ends_the_job(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = await make("time.sleep(100)", start_method="spawn", spares=0)
    monkeypatch.setattr("jobkit.run.process.process_attempt.START_LIMIT_S", 0.3)

    error = failure(await runner.do(None, ref="spawned_tasks:where", timeout_s=0.1))

    assert error.message == "the job's process was not ready within 0.3 s: it hung while it imported the tasks"


needs_new_pythons = pytest.mark.skipif(not PORTABLE, reason="a system without forks: see `make portable`")


@needs_new_pythons
async def test_libraries_of_other_jobs_that_end_a_process_end_no_job(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "deadly.py").write_text("import os; os.abort()")
    runner = await make(spares=1)
    await until(lambda: [spare for spare in runner._waiting if spare.is_ready], "a spare without it")
    runner._import_later(["deadly"])

    for _ in range(2):
        assert (await runner.do(None, ref="spawned_tasks:where")).outcome == "succeeded"

    assert [text[:14] for text in caplog.messages] == ["a process died"]


@needs_new_pythons
async def test_variables_of_a_job_are_there_before_a_library_of_other_jobs_is_imported(
    make: Make, tmp_path: Path
) -> None:
    (tmp_path / "reading.py").write_text("import os; THREADS = os.environ.get('THREADS')")
    runner = await make(spares=1)
    await until(lambda: [spare for spare in runner._waiting if spare.is_ready], "a spare without it")
    runner._import_later(["reading"])

    def threads() -> tuple[str | None, bool]:
        import importlib
        import sys

        is_there = "reading" in sys.modules
        return importlib.import_module("reading").THREADS, is_there

    first = await runner.do(threads)
    second = await runner.do(threads, environ={"THREADS": "4"})

    assert (first.summary, second.summary) == ("(None, True)", "('4', False)")


async def test_jobs_that_import_many_libraries_in_turn_replace_no_spares(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobkit.run.process.runner.MOST", 2)
    runner = await make(start_method="spawn")
    await until(lambda: len(runner._waiting) == 2 and all(p.is_ready for p in runner._waiting), "the spares")
    spares = set(runner._waiting)

    for libraries in (["a", "b", "c"], ["d", "e", "f"], ["a", "b"]):
        runner._import_later(libraries)

    assert set(runner._waiting) == spares
    assert list(runner._libraries) == ["a", "b"]
    runner._libraries.clear()
    runner._import_later(["a"])
    assert not spares & set(runner._waiting)
