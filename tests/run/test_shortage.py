"""Jobs for which there is no descriptor, process, memory or thread are given back. They do not fail."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from jobkit.attempts import NeedMissing, needed
from jobkit.codec import Codec
from jobkit.model import JobSpec, ResultExpired
from jobkit.run.shared import ThreadRunner
from jobkit.run.shortage import Shortage, Threads, first_file_limit, patiently, raise_file_limit, shortage
from tests.support import until

from .conftest import Heard, Runner, assign, started


@contextlib.contextmanager
def file_limit(soft: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def limit_for(more: int) -> int:
    """The limit that lets this process open `more` descriptors, with those in the gaps that others left."""
    fds = [os.dup(0) for _ in range(more)]
    for fd in fds:
        os.close(fd)
    return fds[-1] + 1


def wait_for(sign: str, path: str) -> str:
    import os
    import time

    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")
    while not os.path.exists(sign):
        time.sleep(0.01)
    return "done"


async def test_jobs_beyond_the_limit_of_descriptors_are_given_back_and_the_others_run(
    heard: Heard, tmp_path: Path
) -> None:
    sign, notes = tmp_path / "sign", tmp_path / "notes"
    async with started(spares=0, heard=heard) as runner:
        assigned = [assign(wait_for, str(sign), str(notes), job_id=f"j{n}") for n in range(8)]
        with file_limit(limit_for(12)):
            running = [asyncio.create_task(runner.run(assigned[0], heard))]
            await until(notes.exists, "the first job")  # of many at once, each could be in the way of the others
            running += [asyncio.create_task(runner.run(each, heard)) for each in assigned[1:]]
            await until(lambda: any(task.done() for task in running), "a job to be given back")

        def settled() -> int:
            return sum(task.done() for task in running) + len(notes.read_text().split())

        await until(lambda: settled() == 8, "the others")
        given_back = [task.result() for task in running if task.done()]
        sign.touch()
        outcomes = await asyncio.gather(*running)
        assert {outcome.outcome for outcome in given_back} == {"unstarted"}
        assert "limit of open files" in given_back[0].reason
        assert [outcome.outcome for outcome in outcomes].count("succeeded") == 8 - len(given_back) >= 1
        assert (await runner.do(len, "abc")).summary == "3"


NO_FORK = """
import errno, os
fork, refused = os.fork, []
def refuse():
    if len(refused) < 2:
        refused.append(1)
        raise OSError(errno.{name}, os.strerror(errno.{name}))
    return fork()
os.fork = refuse
"""


@pytest.mark.parametrize(("name", "why"), [("EAGAIN", "limit of processes"), ("ENOMEM", "not enough memory")])
async def test_a_job_whose_process_cannot_be_forked_is_given_back(
    heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    (tmp_path / f"no_fork_{name}.py").write_text(NO_FORK.format(name=name))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    async with started(f"no_fork_{name}", spares=0, start_method="fork", heard=heard) as runner:
        outcomes = [await runner.do(len, "abc") for _ in range(3)]

    assert [outcome.outcome for outcome in outcomes] == ["unstarted", "unstarted", "succeeded"]
    assert why in outcomes[0].reason


async def test_a_zygote_that_cannot_be_started_gives_its_jobs_back(heard: Heard) -> None:
    async with started(spares=0, heard=heard, is_lazy=True) as runner:
        with file_limit(limit_for(1)):
            outcome = await runner.do(len, "abc")
        assert (outcome.outcome, shortage(OSError(errno.EMFILE, ""))) == ("unstarted", outcome.reason)
        assert (await runner.do(len, "abc")).summary == "3"


def no_thread(*args: Any) -> None:
    raise RuntimeError("can't start new thread")


async def test_a_job_whose_thread_cannot_be_started_is_given_back(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = ThreadRunner()
    await runner.start()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            outcome = await runner.run(assign(len, "abc", isolation="thread"), heard)
        assert (outcome.outcome, runner.running) == ("unstarted", {})
        assert "limit of processes and threads" in outcome.reason
        assert (await runner.run(assign(len, "abc", isolation="thread"), heard)).summary == "3"
    finally:
        await runner.close()


def test_work_waits_for_the_threads_that_there_are_if_no_further_one_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Threads(4) as threads:
        go = threading.Event()
        first = threads.submit(go.wait)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            second = threads.submit(len, "abc")
        go.set()
        assert (first.result(60), second.result(60)) == (True, 3)


async def test_a_job_that_prints_needs_no_thread(heard: Heard, runner: Runner) -> None:
    def speak() -> None:
        import threading

        start = threading.Thread.start

        def refuse(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        threading.Thread.start = refuse  # type: ignore[method-assign]
        try:
            for n in range(100):
                print("line", n)
        finally:
            threading.Thread.start = start  # type: ignore[method-assign]

    outcome = await runner.do(speak)

    assert outcome.outcome == "succeeded"
    assert heard.texts == [f"line {n}" for n in range(100)]


async def test_jobs_have_the_limit_of_open_files_that_their_worker_was_started_with() -> None:
    def limit() -> int:
        import resource

        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    with file_limit(first_file_limit() - 100):
        raise_file_limit()
        assert limit() >= first_file_limit()
        async with started(spares=0) as runner:
            assert (await runner.do(limit)).summary == str(first_file_limit())


def test_what_needs_a_descriptor_waits_for_one() -> None:
    refused: list[int] = []

    def read(fail: Callable[[], BaseException]) -> str:
        if len(refused) < 2:
            refused.append(1)
            raise fail()
        return "read"

    assert patiently(read, lambda: OSError(errno.EMFILE, "")) == "read"
    refused.clear()
    with pytest.raises(FileNotFoundError):
        patiently(read, FileNotFoundError)


@pytest.mark.parametrize(("number", "raised"), [(errno.EMFILE, Shortage), (errno.ENOENT, NeedMissing)])
async def test_a_needed_result_that_cannot_be_opened_for_lack_of_descriptors_is_not_missing(
    number: int, raised: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = SimpleNamespace(result_id="a", spec=SimpleNamespace(task="add"), cached_from="")
    store = SimpleNamespace(snapshots=AsyncMock(return_value=[snapshot]), result=AsyncMock(return_value=b"sealed"))

    def opened(*_: Any) -> None:
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise ResultExpired(f"it cannot be read ({error})") from None

    monkeypatch.setattr("jobkit.attempts.is_reference", lambda sealed: True)
    monkeypatch.setattr("jobkit.attempts.opened", opened)

    with pytest.raises(raised):
        await needed(store, JobSpec(id="b", task="add", needs=("a",)), Codec())
