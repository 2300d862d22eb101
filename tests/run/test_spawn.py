"""Processes that import the task modules themselves, if forking from a process with them is unsafe."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobkit.model import ErrorKind
from jobkit.run.process.runner import ProcessRunner
from tests.support import PORTABLE, until

from .conftest import Heard, assign
from .test_process import failure

TASKS = """
import os, threading, time
WHERE = os.getpid()
{more}
def where(): return WHERE
def alive(): return [thread.name for thread in threading.enumerate()]
"""


@pytest.fixture
async def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[object]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    runners = []

    async def make(more: str = "", **options: object) -> ProcessRunner:
        (tmp_path / "spawned_tasks.py").write_text(TASKS.format(more=more))
        runner = ProcessRunner(["spawned_tasks"], **options)  # type: ignore[arg-type]
        runners.append(runner)
        await runner.start()
        return runner

    yield make
    for runner in runners:
        await runner.close()


async def test_a_spawned_process_imports_the_tasks_itself_and_spares_wait_from_the_start(
    make: object, heard: Heard
) -> None:
    runner = await make(start_method="spawn")  # type: ignore[operator]
    await until(lambda: len(runner._waiting) == 2 and all(p.is_ready for p in runner._waiting), "the spares")
    waiting = {place.pid for place in runner._waiting}

    outcome = await runner.run(assign(None, ref="spawned_tasks:where"), heard)

    assert int(outcome.summary) in waiting


async def test_a_coroutine_runs_in_a_process_that_imports_the_tasks_itself(make: object, heard: Heard) -> None:
    runner = await make("async def later(): return WHERE == os.getpid()", start_method="spawn")  # type: ignore[operator]

    outcome = await runner.run(assign(None, ref="spawned_tasks:later", isolation="async"), heard)

    assert outcome.summary == "True"


async def test_a_forked_process_has_the_tasks_from_the_zygote(make: object, heard: Heard) -> None:
    runner = await make(start_method="fork")  # type: ignore[operator]

    outcome = await runner.run(assign(None, ref="spawned_tasks:where"), heard)

    assert int(outcome.summary) == runner.pid


@pytest.mark.skipif(PORTABLE, reason="does not fork")
async def test_a_module_that_starts_a_thread_is_not_forked_from(
    make: object, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    thread = "threading.Thread(target=time.sleep, args=(100,), name='its own', daemon=True).start()"
    with caplog.at_level(logging.WARNING, "jobkit.worker"):
        runner = await make(thread)  # type: ignore[operator]

    outcome = await runner.run(assign(None, ref="spawned_tasks:alive"), heard)

    assert caplog.messages == [
        "jobs are spawned and not forked, because the task modules have started a thread (its own)"
    ]
    assert "its own" in outcome.summary
    assert os.listdir(f"/proc/{runner.pid}/task") == [str(runner.pid)]
    large = await runner.run(assign(bytes, 3_000_000), heard)  # its file goes to the directory of the second zygote
    assert len(large.body) >= 3_000_000


async def test_the_time_of_the_import_is_told_and_does_not_count_for_the_timeout(make: object, heard: Heard) -> None:
    runner = await make("time.sleep(0.7)", start_method="spawn", spares=0)  # type: ignore[operator]

    outcome = await runner.run(assign(None, ref="spawned_tasks:where", timeout_s=0.3), heard)
    assert outcome.outcome == "succeeded"
    assert [message for *_, message in heard.news] == ["starting its process", ""]

    error = failure(await runner.run(assign(time.sleep, 100, timeout_s=0.2), heard))
    assert error.kind is ErrorKind.TIMEOUT


async def test_a_job_can_be_cancelled_while_its_process_imports(make: object, heard: Heard) -> None:
    runner = await make("time.sleep(0.3)", start_method="spawn", spares=0)  # type: ignore[operator]
    running = asyncio.create_task(runner.run(assign(time.sleep, 100), heard))
    await asyncio.sleep(0.1)
    runner.stop("j1", "cancel")

    assert (await running).outcome == "cancelled"


async def test_a_module_that_no_longer_imports_is_named(make: object, heard: Heard, tmp_path: Path) -> None:
    runner = await make(start_method="spawn", spares=0)  # type: ignore[operator]
    (tmp_path / "spawned_tasks.py").write_text("import no_such_thing")

    error = failure(await runner.run(assign(None, ref="spawned_tasks:where"), heard))

    assert error.kind is ErrorKind.CRASH
    assert "No module named 'no_such_thing'" in error.traceback


async def test_an_import_that_hangs_ends_the_job(make: object, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = await make("time.sleep(100)", start_method="spawn", spares=0)  # type: ignore[operator]
    monkeypatch.setattr("jobkit.run.process.attempt.START_LIMIT_S", 0.3)

    error = failure(await runner.run(assign(None, ref="spawned_tasks:where", timeout_s=0.1), heard))

    assert error.message == "the job's process was not ready within 0.3 s: it hung while it imported the tasks"


needs_new_pythons = pytest.mark.skipif(not PORTABLE, reason="a system without forks: see `make portable`")


@needs_new_pythons
async def test_libraries_of_other_jobs_that_end_a_process_end_no_job(
    make: object, heard: Heard, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "deadly.py").write_text("import os; os.abort()")
    runner = await make(spares=1)  # type: ignore[operator]
    await until(lambda: [spare for spare in runner._waiting if spare.is_ready], "a spare without it")
    runner._import_later(["deadly"])

    for _ in range(2):
        assert (await runner.run(assign(None, ref="spawned_tasks:where"), heard)).outcome == "succeeded"

    assert [text[:14] for text in caplog.messages] == ["a process died"]


@needs_new_pythons
async def test_variables_of_a_job_are_there_before_a_library_of_other_jobs_is_imported(
    make: object, heard: Heard, tmp_path: Path
) -> None:
    (tmp_path / "reading.py").write_text("import os; THREADS = os.environ.get('THREADS')")
    runner = await make(spares=1)  # type: ignore[operator]
    await until(lambda: [spare for spare in runner._waiting if spare.is_ready], "a spare without it")
    runner._import_later(["reading"])

    def threads() -> tuple[str | None, bool]:
        import importlib
        import sys

        is_there = "reading" in sys.modules
        return importlib.import_module("reading").THREADS, is_there

    first = await runner.run(assign(threads), heard)
    second = await runner.run(assign(threads, environ={"THREADS": "4"}), heard)

    assert (first.summary, second.summary) == ("(None, True)", "('4', False)")


async def test_jobs_that_import_many_libraries_in_turn_replace_no_spares(
    make: object, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobkit.run.process.runner.MOST", 2)
    runner = await make(start_method="spawn")  # type: ignore[operator]
    await until(lambda: len(runner._waiting) == 2 and all(p.is_ready for p in runner._waiting), "the spares")
    spares = set(runner._waiting)

    for libraries in (["a", "b", "c"], ["d", "e", "f"], ["a", "b"]):
        runner._import_later(libraries)

    assert set(runner._waiting) == spares
    assert list(runner._libraries) == ["a", "b"]
    runner._libraries.clear()
    runner._import_later(["a"])
    assert not spares & set(runner._waiting)
