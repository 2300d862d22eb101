"""Processes that wait for jobs: spares, and warm processes that run several jobs in turn (`reuse=`)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from jobkit.model import ErrorKind
from jobkit.run.attempt import Outcome
from tests.support import PORTABLE, is_alive, until, weaker_without

from .conftest import Heard, Runner, assign, pid_in
from .test_process import failure


async def warm(
    runner: Runner, function: Callable[..., Any], *args: Any, heard: Heard | None = None, **options: Any
) -> Outcome:
    return await runner.run(assign(function, *args, **({"reuse": 100} | options)), heard or Heard())


async def pid_of(runner: Runner, **options: Any) -> int:
    return int((await warm(runner, os.getpid, **options)).summary)


@pytest.mark.skipif(PORTABLE, reason="spares of spawned processes wait always")
async def test_spares_wait_after_the_first_job_and_their_number_is_bounded(runner: Runner) -> None:
    assert not runner._waiting

    await asyncio.gather(*(runner.do(os.getpid, job_id=f"j{i}") for i in range(6)))

    await until(lambda: all(place.is_ready for place in runner._waiting), "the spares to be ready")
    assert len(runner._waiting) == 2
    zygote = psutil.Process(runner.pid)
    await until(lambda: len(zygote.children()) == 2, "the end of all but the spares")


@pytest.mark.skipif(PORTABLE, reason="spares of spawned processes wait always")
async def test_spares_end_without_jobs_and_start_again_with_the_next(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobkit.run.process.runner._IDLE_S", 0.05)
    monkeypatch.setattr("jobkit.run.process.runner._SAMPLE_S", 0.05)
    await runner.do(os.getpid)

    zygote = psutil.Process(runner.pid)
    await until(lambda: not runner._waiting and zygote.children() == [], "the end of the spares")
    await runner.do(os.getpid)
    assert len(runner._waiting) == 2


async def test_a_job_takes_a_spare(runner: Runner) -> None:
    await runner.do(os.getpid)
    await until(lambda: all(place.is_ready for place in runner._waiting), "the spares to be ready")
    waiting = {place.pid for place in runner._waiting}

    outcome = await runner.do(os.getpid)

    assert int(outcome.summary) in waiting


async def test_a_spare_that_died_fails_no_job(runner: Runner) -> None:
    await runner.do(os.getpid)
    await until(lambda: all(place.is_ready and place.pid for place in runner._waiting), "the spares to be ready")
    for place in runner._waiting:
        os.kill(place.pid, signal.SIGKILL)  # without a turn of the loop in which the worker could notice

    outcomes = await asyncio.gather(*(runner.do(lambda: 7, job_id=f"j{i}") for i in range(3)))

    assert [outcome.summary for outcome in outcomes] == ["7"] * 3


async def test_a_warm_process_ends_after_its_number_of_jobs(runner: Runner) -> None:
    pids = [await pid_of(runner, reuse=3) for _ in range(7)]

    assert len(set(pids[:3])) == len(set(pids[3:6])) == 1
    assert len(set(pids)) == 3
    await until(lambda: not is_alive(pids[0]), "the end of the first")


async def test_concurrent_jobs_have_separate_processes(runner: Runner, tmp_path: Path) -> None:
    def both(path: Path, own: str, other: str) -> int:
        (path / own).touch()
        while not (path / other).exists():
            time.sleep(0.005)
        return os.getpid()

    for round_ in range(2):
        path = tmp_path / str(round_)
        path.mkdir()
        pair = (warm(runner, both, path, a, b, job_id=a) for a, b in (("a", "b"), ("b", "a")))
        first, second = await asyncio.gather(*pair)
        assert first.summary != second.summary


async def test_tasks_and_directories_do_not_share_a_process(runner: Runner, tmp_path: Path) -> None:
    pids = [
        await pid_of(runner, task="one"),
        await pid_of(runner, task="two"),
        await pid_of(runner, task="one", head={"cwd": str(tmp_path)}),
        await pid_of(runner, task="one", head={"path": [str(tmp_path)]}),
        await pid_of(runner, task="one", reuse=1),
    ]

    assert len(set(pids)) == 5
    assert await pid_of(runner, task="one") == pids[0]


def _disturb() -> None:
    """Change all state of a process that a job can change."""
    import logging
    import random
    import resource
    import sys
    import warnings

    os.environ["LEAKED"] = "1"
    os.environ.pop("HOME", None)
    os.environ["PATH"] += ":/leaked"
    os.chdir("/")
    sys.path.insert(0, "/leaked")
    os.umask(0)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(9))
    signal.alarm(1)
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("noisy").addHandler(logging.FileHandler("/dev/full", delay=True))
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("error")
    random.seed(1)
    sys.setrecursionlimit(5_000)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    assert resource


def _look() -> dict[str, Any]:
    import logging
    import random
    import sys
    import warnings

    print("shown")
    logging.getLogger("noisy").info("told")
    warnings.warn("warned", stacklevel=1)
    umask = os.umask(0o77)
    return {
        "leaked": os.environ.get("LEAKED"),
        "home": os.environ.get("HOME"),
        "path": os.environ["PATH"].endswith("leaked"),
        "cwd": os.getcwd(),
        "import": sys.path[0],
        "umask": umask,
        "usr1": str(signal.getsignal(signal.SIGUSR1)),
        "alarm": [str(signal.getsignal(signal.SIGALRM)), signal.getitimer(signal.ITIMER_REAL)[0]],
        "handlers": [str(handler) for handler in logging.getLogger("noisy").handlers],
        "limit": sys.getrecursionlimit(),
        "random": random.random(),
        "pid": os.getpid(),
    }


async def test_changes_of_process_state_do_not_reach_the_next_job(runner: Runner, tmp_path: Path) -> None:
    first, second = Heard(), Heard()
    clean = await warm(runner, _look, heard=first)

    await warm(runner, _disturb)
    after = await warm(runner, _look, heard=second)

    seen, again = (msgspec.msgpack.decode(outcome.body) for outcome in (clean, after))
    assert seen.pop("pid") == again.pop("pid")
    assert seen.pop("random") != again.pop("random")
    assert seen == again
    assert [text.rpartition(": ")[2] for text in second.texts] == ["shown", "told", "warned"]
    assert first.texts == second.texts


async def test_random_numbers_do_not_depend_on_the_seed_of_the_previous_job(runner: Runner) -> None:
    def draw() -> str:
        import random

        import numpy

        value = f"{random.random()} {numpy.random.random()}"
        random.seed(1)
        numpy.random.seed(1)
        return value

    values = [(await warm(runner, draw)).summary.split() for _ in range(3)]

    assert len({value[0] for value in values}) == len({value[1] for value in values}) == 3


async def test_output_progress_and_artifacts_belong_to_their_job(runner: Runner) -> None:
    def say(word: str) -> int:
        import ctypes
        import logging
        import subprocess

        from jobkit.run.inside.context import current
        from jobkit.run.inside.progress import progress

        print(word)
        ctypes.CDLL(None).puts(f"c {word}".encode())
        subprocess.run(["echo", f"sub {word}"], check=True)
        logging.getLogger("x").warning("log %s", word)
        for _ in progress(range(3), desc=word):
            pass
        current().save(word, word)
        print(f"{word} without an end", end="")
        return os.getpid()

    heards = {f"w{i}": Heard() for i in range(4)}
    pids = [(await warm(runner, say, word, job_id=word, heard=heard)).summary for word, heard in heards.items()]

    assert len(set(pids)) == 1
    for word, heard in heards.items():
        expected = {word, f"c {word}", f"sub {word}", f"log {word}", f"{word} without an end"}
        assert set(heard.texts) == expected
        assert heard.news[-1][:2] == (3, 3)
        assert word in heard.news[-1][2]
        assert list(heard.artifacts) == [word]


async def test_a_process_with_live_threads_children_or_files_gets_no_further_job(
    runner: Runner, tmp_path: Path
) -> None:
    def thread() -> int:
        import threading
        import time

        threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
        return os.getpid()

    def process(path: Path) -> int:
        import subprocess

        child = subprocess.Popen(["sleep", "100"], start_new_session=True)
        path.write_text(f"{child.pid}\n")
        return os.getpid()

    def descriptor() -> int:
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
        return os.getpid()

    for left, args in ((thread, ()), (process, (tmp_path / "pid",)), (descriptor, ())):
        pid = int((await warm(runner, left, *args)).summary)
        assert await pid_of(runner) != pid
        await until(lambda pid=pid: not is_alive(pid), "the end of the process")
    left_behind = pid_in(tmp_path / "pid")
    assert left_behind is not None
    assert not is_alive(left_behind)


@weaker_without("a subreaper")
async def test_a_daemon_of_a_warm_job_ends_with_it(runner: Runner, tmp_path: Path) -> None:
    def daemon(path: Path) -> None:
        import subprocess
        import sys

        code = "import os, sys, time\nif os.fork(): os._exit(0)\nos.setsid()\n"
        code += "open(sys.argv[1], 'w').write(f'{os.getpid()}\\n')\ntime.sleep(100)"
        subprocess.run([sys.executable, "-c", code, path], check=True, env={})
        while not path.exists() or not path.read_text().endswith("\n"):
            time.sleep(0.005)

    await warm(runner, daemon, tmp_path / "pid")

    pid = pid_in(tmp_path / "pid")
    assert pid is not None
    await until(lambda: not is_alive(pid), "the daemon's end")


async def test_a_crash_fails_only_the_running_job(runner: Runner) -> None:
    pid = await pid_of(runner)

    error = failure(await warm(runner, lambda: os._exit(3)))

    assert error.message == "the job's process ended with exit status 3 before its result was there"
    assert not is_alive(pid)
    assert (await warm(runner, lambda: 1)).summary == "1"


async def test_an_error_leaves_the_process_warm(runner: Runner) -> None:
    pid = await pid_of(runner)

    assert failure(await warm(runner, lambda: 1 / 0)).type == "ZeroDivisionError"
    assert await pid_of(runner) == pid


async def test_a_warm_process_that_died_while_idle_fails_no_job(runner: Runner) -> None:
    pid = await pid_of(runner)
    os.kill(pid, signal.SIGKILL)  # without a turn of the loop in which the worker could notice

    assert await pid_of(runner) != pid


async def test_timeout_and_cancel_stop_only_the_running_job(runner: Runner, tmp_path: Path) -> None:
    def wait(path: Path) -> None:
        path.touch()
        time.sleep(100)

    error = failure(await warm(runner, wait, tmp_path / "a", timeout_s=0.2))
    assert error.kind is ErrorKind.TIMEOUT
    assert (await warm(runner, lambda: 1)).summary == "1"

    running = asyncio.create_task(warm(runner, wait, tmp_path / "b"))
    await until((tmp_path / "b").exists, "the start")
    runner.stop("j1", "cancel")
    assert (await running).reason == "stopped on request; its clean-up ran"
    assert (await warm(runner, lambda: 1)).summary == "1"


async def test_a_cancel_at_the_end_of_a_job_never_stops_the_next(runner: Runner) -> None:
    """A race: the job ends while the request is on its way. In every case the next job is not stopped."""
    for i in range(60):
        running = asyncio.create_task(warm(runner, time.sleep, 0.001, job_id=f"a{i}"))
        await asyncio.sleep(0.0005 + i * 0.00005)
        runner.stop(f"a{i}", "cancel")
        after = await warm(runner, time.sleep, 0.002, job_id=f"b{i}")
        assert after.outcome == "succeeded", (i, after)
        assert (await running).outcome in ("succeeded", "cancelled")


async def test_usage_is_counted_for_each_job(runner: Runner) -> None:
    def burn() -> int:
        started = time.process_time()
        while time.process_time() - started < 0.2:
            pass
        return os.getpid()

    first = await warm(runner, burn)
    second = await warm(runner, os.getpid)

    assert first.summary == second.summary
    assert first.usage["cpu_s"] >= 0.2
    assert second.usage["cpu_s"] < 0.1
    assert second.usage["peak_rss_bytes"] > 1_000_000


async def test_idle_warm_processes_end(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobkit.run.process.runner._IDLE_MOST", 3)
    pids = [await pid_of(runner, task=f"t{i}") for i in range(5)]
    await until(lambda: sum(map(is_alive, pids)) == 3, "the end of two")
    assert is_alive(pids[-1])

    monkeypatch.setattr("jobkit.run.process.runner._IDLE_S", 0.05)
    pid = await pid_of(runner, task="last")
    await until(lambda: not is_alive(pid), "the end of the idle process")


async def test_a_large_call_and_result_and_a_flood_pass_through_a_warm_process(runner: Runner, heard: Heard) -> None:
    def flood(data: bytes) -> bytes:
        for i in range(20_000):
            print(i)
        return data

    for _ in range(2):
        outcome = await warm(runner, flood, bytes(9_000_000), heard=heard)
        assert len(outcome.body) >= 9_000_000
        assert heard.texts[-1] == "19999"
