"""Jobs in separate processes: outcomes, errors and output."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import stat
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

import jobkit
from jobkit.codec import HEAD_BYTES, decode
from jobkit.files.file_store import PASSING
from jobkit.model import ErrorKind, JobkitError
from jobkit.run.attempt import Outcome
from jobkit.run.inside.shown_values import Bounds
from jobkit.run.process.runner import ProcessRunner
from tests.support import by_default, is_alive, until

from .conftest import Heard, Runner, assign, pid_in, started

#: Room for large artifacts, as with a directory for files.
MANY = Bounds(each_bytes=10_000_000, total_bytes=10_000_000)


def failure(outcome: Outcome) -> Any:
    assert outcome.outcome == "failed", outcome
    assert outcome.error is not None
    return outcome.error


async def test_the_value_comes_back_with_a_line_of_it_and_usage(runner: Runner) -> None:
    def add(a: int, b: int) -> int:
        return a + b

    outcome = await runner.do(add, 1, 2)

    assert (outcome.outcome, outcome.body, outcome.summary) == ("succeeded", b"\x03", "3")
    assert outcome.preview is None  # who shows so small a value makes one
    assert outcome.usage["exit"] == 0
    assert outcome.usage["cpu_s"] >= 0
    assert outcome.usage["peak_rss_bytes"] > 1_000_000


async def test_a_job_between_two_short_ones_has_threads_as_if_they_ran(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would start threads for a moment in which the next job has not come yet."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("jobkit.run.process.runner.share", lambda jobs: 8 // jobs)
    monkeypatch.setattr("jobkit.run.process.runner._MOMENT_S", 60.0)

    async def threads(job_id: str) -> str:
        outcome = await runner.do(os.getenv, "OMP_NUM_THREADS", job_id=job_id)
        return outcome.summary

    assert await asyncio.gather(threads("j1"), threads("j2")) == ["'8'", "'4'"]
    assert await threads("j3") == "'4'"
    monkeypatch.setattr("jobkit.run.process.runner._MOMENT_S", 0.0)
    assert await threads("j4") == "'8'"


async def test_a_coroutine_function_runs_in_the_child(runner: Runner) -> None:
    async def later() -> int:
        import asyncio

        await asyncio.sleep(0.001)
        return os.getpid()

    outcome = await runner.do(later)

    assert int(outcome.summary) != os.getpid()


@pytest.mark.parametrize("method", by_default(["fork", "spawn"]))
async def test_pools_of_processes_in_a_job_take_functions_and_classes_of_its_submitter(
    runner: Runner, method: str
) -> None:
    def job(method: str) -> bool:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        class Point:
            def __init__(self, x: int) -> None:
                self.x = x

        def move(point: Point) -> Point:
            return Point(point.x + 1)

        with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
            assert pool.submit(lambda: 3).result() == 3
            moved = list(pool.map(move, [Point(1), Point(2)]))
        with multiprocessing.get_context(method).Pool(1) as pool:
            moved += pool.map(move, [Point(3)])
        return all(type(point) is Point for point in moved) and [point.x for point in moved] == [2, 3, 4]

    outcome = await runner.do(job, method)

    assert outcome.summary == "True", outcome.error


async def test_a_function_of_a_module_is_sent_by_reference(runner: Runner) -> None:
    outcome = await runner.do(None, "a/b", ref="posixpath:basename")

    assert outcome.summary == "b"


async def test_a_missing_module_is_named_with_the_host_and_a_fix(runner: Runner) -> None:
    error = failure(await runner.do(None, ref="no_such_module_x:f", task="train"))

    assert error.kind is ErrorKind.REJECTED
    assert "'train'" in error.message
    assert "'no_such_module_x'" in error.message
    assert os.uname().nodename in error.message
    assert "install it there" in error.message
    assert error.traceback == ""


async def test_an_unknown_task_says_how_to_start_the_worker(runner: Runner) -> None:
    error = failure(await runner.do(None, task="missing"))

    assert error.kind is ErrorKind.REJECTED
    assert "does not know task 'missing'" in error.message


async def test_code_by_value_from_another_python_version_is_refused(
    runner: Runner, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def typed() -> None: ...

    with monkeypatch.context() as patch:
        old = SimpleNamespace(version_info=SimpleNamespace(major=3, minor=2))
        patch.setattr("jobkit.tasks.call.sys", old)
        assignment = assign(typed)

    error = failure(await runner.run(assignment, heard))

    assert error.kind is ErrorKind.REJECTED
    assert "Python 3.2" in error.message


async def test_an_exception_has_the_users_frames_and_its_base_types(runner: Runner) -> None:
    def outer() -> None:
        def inner() -> None:
            raise FileNotFoundError(2, "gone")

        inner()

    outcome = await runner.do(outer)

    error = failure(outcome)
    assert (error.kind, error.type, error.message) == (ErrorKind.EXCEPTION, "FileNotFoundError", "[Errno 2] gone")
    assert error.where.endswith("in inner")
    assert "in outer" in error.traceback
    assert "jobkit" not in error.traceback
    assert outcome.error_types[:2] == ("FileNotFoundError", "OSError")
    assert pickle.loads(outcome.error_body).errno == 2


async def test_an_exception_that_cannot_be_rebuilt_is_text_only(runner: Runner) -> None:
    def bad() -> None:
        class OddError(Exception):
            def __init__(self, a: int, b: int) -> None:
                super().__init__("one argument")

            def __str__(self) -> str:
                raise RuntimeError

        raise OddError(1, 2)

    outcome = await runner.do(bad)

    assert failure(outcome).type == "OddError"
    assert "raised an error itself" in failure(outcome).message
    assert outcome.error_body == b""


async def test_a_retry_is_returned_as_a_retry(runner: Runner) -> None:
    def again() -> None:
        from jobkit.model import Retry

        raise Retry(7.5)

    outcome = await runner.do(again)

    assert outcome.retry is not None
    assert outcome.retry.after == 7.5


async def test_a_result_that_cannot_be_pickled_is_a_success_with_the_reason(runner: Runner) -> None:
    def lock() -> Any:
        import threading

        return {"lock": threading.Lock()}

    outcome = await runner.do(lock)

    assert (outcome.outcome, outcome.body) == ("succeeded", b"")
    assert outcome.preview is not None
    assert "cannot pickle" in outcome.preview["unavailable"]
    assert "lock" in outcome.preview["text"]


async def test_a_result_that_is_nested_too_deep_is_a_success_with_the_reason(runner: Runner) -> None:
    def nest() -> Any:
        deep: Any = []
        for _ in range(100_000):
            deep = [deep]
        return deep

    outcome = await runner.do(nest)

    assert (outcome.outcome, outcome.body) == ("succeeded", b"")
    assert outcome.preview is not None
    assert "recursion" in outcome.preview["unavailable"]


async def test_without_a_key_a_result_that_needs_a_pickle_is_shown_but_not_kept(
    heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set_tasks.py").write_text("import jobkit\n\n@jobkit.task\ndef a_set() -> set:\n    return {1, 2}\n")
    async with started("set_tasks", heard=heard) as runner:
        outcome = await runner.do(None, task="a_set", ref="set_tasks:a_set", allow_pickle=False)

    assert outcome.outcome == "succeeded"
    assert outcome.body == b""
    assert outcome.preview is not None
    assert "JOBKIT_SECRET" in outcome.preview["unavailable"]


@pytest.mark.parametrize("value", [["\udcff.txt"], {"\udcff": 1}, [10**30], [[-(10**30)]]])
async def test_a_result_that_no_preview_can_carry_is_kept(runner: Runner, value: Any) -> None:
    """For instance a file name from `os.listdir` that is not UTF-8."""

    outcome = await runner.do(lambda: value)

    assert outcome.outcome == "succeeded"
    assert outcome.body
    assert "json" not in (outcome.preview or {})


async def test_large_calls_and_results_arrive(runner: Runner) -> None:
    outcome = await runner.do(lambda data: data + b"!", bytes(40_000_000))

    assert len(outcome.body) >= 40_000_001
    assert outcome.body.endswith(b"!")


async def test_a_result_above_its_limit_is_not_sent(runner: Runner) -> None:
    outcome = await runner.do(lambda: b"x" * 3_000_000, result_bytes=2_000_000)

    assert (outcome.outcome, outcome.body) == ("succeeded", b"")
    assert outcome.preview is not None
    assert outcome.preview["unavailable"].startswith(
        "the result takes 3.0 MB, more than the 2.0 MB that are kept in Redis"
    )
    assert outcome.summary == "(not kept) bytes of 3,000,000"


async def test_a_process_that_sends_more_than_its_result_may_be_is_stopped(runner: Runner) -> None:
    def flood() -> None:
        from jobkit.run.process import child, frames

        while True:
            child._send(frames.PART, bytes(1_000_000))

    error = failure(await runner.do(flood, result_bytes=2_000_000))

    assert error.type == "protocol"
    assert "larger than its result may be" in error.message


async def test_no_directory_is_needed_for_a_large_result(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    async with started(heard=heard) as runner:
        outcome = await runner.do(lambda: b"x" * 3_000_000, log_path="/proc/none/log")

    assert len(outcome.body) > 3_000_000


async def test_a_large_result_goes_through_a_file_in_the_folder_of_its_job(runner: Runner, tmp_path: Path) -> None:
    """The worker never has it in memory."""
    folder = tmp_path / "of" / "the job"

    outcome = await runner.do(lambda: b"x" * 3_000_000, log_path=str(folder / "log"), log_owner="a 1\n")

    path = Path(outcome.file)
    assert (outcome.outcome, outcome.body, path.parent) == ("succeeded", b"", folder)
    assert (folder / "job").read_text() == "a 1\n"  # else a sweep would take the folder for that of no job
    assert path.name.startswith(PASSING)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = path.read_bytes()
    assert written[:HEAD_BYTES] == bytes(HEAD_BYTES)
    assert decode(outcome.form, written[HEAD_BYTES:]) == b"x" * 3_000_000


async def test_a_large_result_that_no_disk_takes_goes_to_the_worker(runner: Runner, tmp_path: Path) -> None:
    def limited() -> bytes:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
        return b"x" * 3_000_000

    outcome = await runner.do(limited, log_path=str(tmp_path / "log"))

    assert outcome.file == ""
    assert decode(outcome.form, outcome.body) == b"x" * 3_000_000
    assert list(tmp_path.iterdir()) == []


async def test_no_file_stays_of_a_result_whose_process_dies_before_it_is_told(runner: Runner, tmp_path: Path) -> None:
    def dies() -> bytes:
        import os

        from jobkit.run.process import child

        child._send = lambda kind, content: os._exit(7)  # type: ignore[assignment]
        return b"x" * 3_000_000

    outcome = await runner.do(dies, log_path=str(tmp_path / "log"))

    assert (outcome.outcome, outcome.file) == ("failed", "")
    assert list(tmp_path.iterdir()) == []


async def test_a_process_cannot_name_the_file_of_its_result(runner: Runner, tmp_path: Path) -> None:
    def forges(path: str) -> bytes:
        from msgspec.structs import replace

        from jobkit.run.process import child

        before = child._send

        def send(kind: bytes, content: Any) -> None:
            before(kind, replace(content, outcome=replace(content.outcome, file=path)))

        child._send = send
        return b"x"

    other = tmp_path / "of another"
    other.touch()

    error = failure(await runner.do(forges, str(other), log_path=str(tmp_path / "log")))

    assert error.type == "protocol"
    assert other.exists()


async def test_the_folder_of_large_artifacts_is_made_anew(
    runner: Runner, heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []

    def keep(name: str, media: str, body: Any) -> None:
        assert isinstance(body, Path)
        seen.append((stat.S_IMODE(body.stat().st_mode), body.stat().st_size))
        body.unlink()

    def save(path: Path) -> None:
        import shutil

        from jobkit.run.inside.context import current

        for _ in range(2):
            shutil.rmtree(path, ignore_errors=True)
            current().save("a.bin", b"x" * 3_000_000)
            while list(path.iterdir()):  # until the worker has it
                pass

    monkeypatch.setattr(heard, "artifact", keep)
    folder = tmp_path / "of" / "the job"

    outcome = await runner.do(save, folder, log_path=str(folder / "log"), bounds=MANY)

    assert outcome.outcome == "succeeded", outcome
    assert seen == [(0o600, 3_000_000)] * 2


async def test_a_large_artifact_that_no_disk_takes_is_an_error_in_the_job(runner: Runner, tmp_path: Path) -> None:
    def save() -> None:
        import resource
        import signal

        from jobkit.run.inside.context import current

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
        current().save("a.bin", b"x" * 3_000_000)

    error = failure(await runner.do(save, log_path=str(tmp_path / "log"), bounds=MANY))

    assert (error.type, error.message) == ("OSError", "[Errno 27] artifact 'a.bin' cannot be kept: File too large")
    assert list(tmp_path.iterdir()) == []


async def test_a_segfault_is_named_with_its_line(runner: Runner, heard: Heard) -> None:
    def crash() -> None:
        import ctypes

        print("last words")
        ctypes.string_at(0)

    outcome = await runner.do(crash)

    error = failure(outcome)
    assert error.kind is ErrorKind.CRASH
    assert error.type == "SIGSEGV"
    assert error.message == "the job's process died: signal 11 (SIGSEGV)"
    assert error.where.endswith("in crash")
    assert "jobkit" not in error.traceback
    assert error.traceback.endswith("The last lines of its log:\n  last words")
    assert outcome.usage["exit"] == "SIGSEGV"
    assert heard.texts == ["last words"]


@pytest.mark.parametrize(("is_scarce", "how"), [(False, "sent from outside of jobkit"), (True, "likely out of memory")])
async def test_a_sigkill_from_elsewhere_is_likely_out_of_memory_if_memory_was_short(
    runner: Runner, is_scarce: bool, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobkit.run.process.process_attempt.was_scarce", lambda used: is_scarce)
    error = failure(await runner.do(lambda: os.kill(os.getpid(), signal.SIGKILL)))

    assert error.kind is ErrorKind.CRASH
    assert f"signal 9 (SIGKILL), {how}" in error.message


async def test_the_child_has_its_name_directory_and_environment(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("VALUE = 5\n")

    def look() -> dict[str, Any]:
        import beside  # type: ignore[import-not-found]

        return {
            "group": os.getpgrp() == os.getpid(),
            "stdin": os.read(0, 1),
            "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
            "oom": int(open("/proc/self/oom_score_adj").read()),
            "cwd": os.getcwd(),
            "beside": beside.VALUE,
            "secret": [name for name in os.environ if name in ("JOBKIT_SECRET", "JOBKIT_URL")],
        }

    head = {"cwd": str(tmp_path), "path": [str(tmp_path), "/no/such/directory"]}
    outcome = await runner.do(look, head=head)

    assert outcome.outcome == "succeeded", outcome
    seen = pickle.loads(outcome.body) if outcome.form == b"p" else __import__("msgspec").msgpack.decode(outcome.body)
    assert seen["group"]
    assert seen["stdin"] == b""
    assert set(seen["fds"]) <= {0, 1, 2, 3, 4, 5}
    assert seen["cwd"] == str(tmp_path)
    assert seen["beside"] == 5
    assert seen["secret"] == []


async def test_the_key_is_not_in_the_environment_of_the_zygote(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBKIT_SECRET", "hunter2-hunter2")
    async with started(heard=heard) as runner:
        outcome = await runner.do(lambda: b"hunter2" in Path(f"/proc/{os.getppid()}/environ").read_bytes())

    assert outcome.summary == "False"


async def test_two_jobs_do_not_draw_the_same_random_numbers() -> None:
    def draw() -> str:
        import random

        import numpy

        return f"{random.random()} {numpy.random.random()}"

    async with started("numpy", "random") as runner:
        one, two = [await runner.do(draw) for _ in range(2)]

    for a, b in zip(one.summary.split(), two.summary.split(), strict=True):
        assert a != b


async def test_a_module_that_cannot_be_imported_fails_the_start_with_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_tasks.py").write_text("import no_such_thing\n")
    runner = ProcessRunner(preload=["broken_tasks"], start_method="fork")

    with pytest.raises(JobkitError, match=r"broken_tasks.*No module named 'no_such_thing'"):
        await runner.start()
    await runner.close()


async def test_a_zygote_that_still_imports_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow_tasks.py").write_text("import pathlib, time\npathlib.Path('began').touch()\ntime.sleep(3)\n")
    runner = ProcessRunner(preload=["slow_tasks"], start_method="fork")
    runner.prepare()
    process = runner._prepared[0]  # type: ignore[index]
    starting = asyncio.create_task(runner.start())
    await until((tmp_path / "began").exists, "its imports")

    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await runner.close()

    assert process.returncode == -signal.SIGKILL


async def test_a_prepared_zygote_of_a_worker_that_does_not_serve_is_ended() -> None:
    runner = ProcessRunner()
    runner.prepare()
    process = runner._prepared[0]  # type: ignore[index]

    runner.abandon()

    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("deaths", "outcome"), [(2, "succeeded"), (3, "unstarted")])
async def test_a_zygote_that_is_killed_during_its_imports_is_restarted_twice(
    deaths: int, outcome: str, heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deadly_tasks.py").write_text(
        "import os, pathlib, signal\n"
        "died = pathlib.Path(__file__).with_suffix('.died')\n"
        "before = len(died.read_text()) if died.exists() else 0\n"
        f"if 0 < before <= {deaths}:\n"
        "    died.write_text('x' * (before + 1))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    async with started("deadly_tasks", start_method="fork", heard=heard) as runner:
        (tmp_path / "deadly_tasks.died").write_text("x")
        os.kill(runner._zygote.pid, signal.SIGKILL)  # type: ignore[union-attr]
        await until(lambda: not runner._zygote.is_alive, "its death to be noticed")  # type: ignore[union-attr]

        ended = await runner.do(lambda: 1)

    assert ended.outcome == outcome, ended
    assert not ended.reason or "imports the task modules died" in ended.reason


async def test_a_grandchild_that_outlives_its_job_is_killed(runner: Runner, tmp_path: Path) -> None:
    def leave(path: Path) -> None:
        import subprocess

        for name in ("same", "own"):
            child = subprocess.Popen(["sleep", "100"], start_new_session=name == "own")
            (path / name).write_text(f"{child.pid}\n")

    outcome = await runner.do(leave, tmp_path)

    assert outcome.outcome == "succeeded"
    for name in ("same", "own"):
        pid = pid_in(tmp_path / name)
        assert pid is not None
        await until(lambda pid=pid: not is_alive(pid), f"the end of {name}")


async def test_the_death_of_the_zygote_loses_its_jobs_and_the_next_job_starts_another(
    runner: Runner, tmp_path: Path
) -> None:
    def wait(path: Path) -> None:
        path.write_text(f"{os.getpid()}\n")
        time.sleep(100)

    running = asyncio.create_task(runner.do(wait, tmp_path / "pid"))
    pid = await until(lambda: pid_in(tmp_path / "pid"), "the job's start")
    zygote = runner.pid
    assert zygote is not None
    os.kill(zygote, signal.SIGKILL)

    outcome = await running
    assert outcome.outcome == "lost"
    assert f"zygote (process {zygote})" in outcome.reason
    await until(lambda: not is_alive(pid), "the job's end")
    assert (await runner.do(lambda: 1)).summary == "1"
    assert runner.pid != zygote


async def test_all_processes_of_jobs_end_when_their_worker_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(
        "import asyncio, sys\n"
        "from jobkit.run.process.runner import ProcessRunner\n"
        "from tests.run.conftest import Heard, assign\n"
        "from tests.run.test_process import family\n"
        "async def main():\n"
        "    runner = ProcessRunner()\n"
        "    await runner.start()\n"
        "    await runner.run(assign(family(), sys.argv[1]), Heard())\n"
        "asyncio.run(main())\n"
    )
    (tmp_path / "tmp").mkdir()
    path = os.pathsep.join(entry for entry in sys.path if entry)
    env = os.environ | {"PYTHONPATH": path, "TMPDIR": str(tmp_path / "tmp")}
    worker = await asyncio.create_subprocess_exec(sys.executable, str(script), str(tmp_path), env=env)
    names = ("job", "grandchild", "setsid")
    try:
        pids = [await until(lambda name=name: pid_in(tmp_path / name), name) for name in names]
        zygote = psutil.Process(pids[0]).ppid()
    finally:
        worker.kill()
        await worker.wait()

    for pid in (*pids, zygote):
        await until(lambda pid=pid: not is_alive(pid), f"the end of process {pid}")
    assert list((tmp_path / "tmp").iterdir()) == []


def family() -> Any:
    """Return a job that ignores SIGTERM, as do its child process and another one in a new session."""

    def job(directory: str) -> None:
        import signal
        import subprocess
        import sys
        import time
        from pathlib import Path

        code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(100)"
        for name in ("grandchild", "setsid"):
            child = subprocess.Popen(
                [sys.executable, "-c", code], start_new_session=name == "setsid", stdout=subprocess.PIPE
            )
            assert child.stdout is not None
            child.stdout.readline()
            (Path(directory) / name).write_text(f"{child.pid}\n")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (Path(directory) / "job").write_text(f"{os.getpid()}\n")
        time.sleep(100)

    return job


async def test_a_python_with_another_version_of_jobkit_runs_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobkit, "__version__", "99.1")  # of this worker alone
    runner = ProcessRunner(executable=sys.executable)

    with pytest.raises(JobkitError, match=r"has jobkit [\d.]+, and this worker 99\.1: install the same version"):
        await runner.start()
    await runner.close()
