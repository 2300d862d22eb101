"""`kit.executor()`: an executor of `concurrent.futures` whose calls are jobs."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import jobkit
from jobkit.client.kit import Kit
from jobkit.features.executors.executor import JobExecutor
from jobkit.tasks.task import TaskDef
from tests.client.calls import double, fail, hold, plus
from tests.support import wait_until


def test_a_call_becomes_a_job_and_a_future(kit: Kit) -> None:
    with kit.executor(tags=["here"]) as executor:
        assert isinstance(executor, cf.Executor)
        future = executor.submit(double, 21)
        assert isinstance(future, cf.Future)
        assert future.result("1m") == 42
        assert future.done()
        assert not future.running()
        assert not future.cancel()
        assert (future.job.task, future.job.tags, future.job.result()) == ("double", ["here"], 42)
        assert executor.submit(lambda text, *, times: text * times, "ab", times=2).result() == "abab"
        assert executor.submit(plus, 1, 2).result() == 3
        assert executor.submit(double, future).result() == 84  # it waits for the first job
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(double, 1)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.map(double, [1])


def test_an_error_is_that_of_the_function_with_the_remote_traceback(kit: Kit) -> None:
    with kit.executor() as executor:
        future = executor.submit(fail, "no such thing")
        with pytest.raises(LookupError, match="no such thing") as caught:
            future.result()
        assert isinstance(caught.value.__cause__, jobkit.JobFailed)
        assert "in fail" in str(caught.value.__cause__)
        assert future.exception() is caught.value


def test_map_keeps_the_order(kit: Kit) -> None:
    with kit.executor() as executor:
        assert list(executor.map(double, range(7))) == [double(n) for n in range(7)]
        assert list(executor.map(pow, [2, 3, 4], [5, 2, 3, 9], chunksize=2)) == [32, 9, 64]
        assert list(executor.map(plus, [1, 2], [3, 4], chunksize=2)) == [4, 6]
        assert list(executor.map(double, [])) == []
        assert {job.task for job in kit.jobs()} == {"double", "pow", "plus"}
        assert len(kit.jobs(task="pow")) == 2
        values = executor.map(divmod, [1, 1, 1], [2, 0, 5])
        assert next(values) == (0, 1)
        with pytest.raises(ZeroDivisionError):
            next(values)


def test_the_process_of_several_calls_does_not_import_the_client() -> None:
    """Its import takes a second, in each job."""
    code = "import sys, jobkit.joblib, jobkit.features.executors.chunk; sys.exit('jobkit.client.kit' in sys.modules)"

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_calls_of_a_task_are_jobs_with_its_options_whatever_the_chunks(kit: Kit) -> None:
    task = TaskDef(plus).options(timeout="1h")
    with kit.executor() as executor:
        assert list(executor.map(task, [1, 2, 3], [4, 5, 6], chunksize=2)) == [5, 7, 9]
    assert [job.snapshot.spec.timeout_s for job in kit.jobs()] == [3600] * 3


def test_a_callback_may_shut_down_while_other_jobs_go_on(kit: Kit) -> None:
    executor = kit.executor(max_workers=1)
    futures = [executor.submit(double, n) for n in range(3)]
    futures[0].add_done_callback(lambda _: executor.shutdown())
    assert [future.result(30) for future in futures] == [0, 2, 4]


def test_the_same_work_twice_gives_two_futures(kit: Kit) -> None:
    with kit.executor(unique=60) as executor:
        assert list(executor.map(double, [1, 2, 1])) == [2, 4, 2]
        assert len(kit.jobs()) == 2


def test_map_submits_no_more_than_its_buffer(kit: Kit) -> None:
    taken = []
    with kit.executor() as executor:
        values = executor.map(double, (taken.append(n) or n for n in range(100)), buffersize=3)
        assert len(taken) == 3
        assert next(values) == 0
        assert len(taken) == 4
        del values


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_workers": 0}, "max_workers must be greater than 0"),
        ({"max_workers": True}, "max_workers must be greater than 0"),
        ({"quee": "gpu"}, "unknown option 'quee'"),
    ],
)
def test_wrong_options_are_refused(kit: Kit, given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kit.executor(**given)


@pytest.mark.parametrize("name", ["chunksize", "buffersize"])
def test_wrong_sizes_are_refused(kit: Kit, name: str) -> None:
    with kit.executor() as executor, pytest.raises(ValueError, match=f"{name} must be >= 1"):
        executor.map(double, [1], **{name: 0})


def test_a_program_that_forgets_an_executor_keeps_no_thread(queued: Kit, tmp_path: Path) -> None:
    executor = queued.executor(max_workers=1)
    assert executor.submit(double, 1).result() == 2
    running = executor.submit(hold, str(tmp_path / "started"), str(tmp_path / "go"))
    wait_until(running.running)
    executor.abort()
    executor.shutdown(wait=False)

    wait_until(lambda: "jobkit-executor" not in {thread.name for thread in threading.enumerate()})
    with pytest.raises(jobkit.JobCancelled):
        running.result("1m")


def test_asyncio_takes_it(kit: Kit) -> None:
    async def main(executor: JobExecutor) -> list:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, double, n) for n in range(3)))

    with kit.executor() as executor:
        assert asyncio.run(main(executor)) == [0, 2, 4]


def test_a_callback_may_submit(kit: Kit) -> None:
    more: list[cf.Future] = []
    called = threading.Event()

    def then(future: cf.Future) -> None:
        more.append(executor.submit(double, future.result()))
        called.set()

    with kit.executor() as executor:
        executor.submit(double, 1).add_done_callback(then)
        assert called.wait(60)
        assert more[0].result() == 4


def test_cancel_takes_what_waits_and_leaves_what_runs(queued: Kit, tmp_path: Path) -> None:
    go = str(tmp_path / "go")
    with queued.executor(max_workers=1) as executor:
        first = executor.submit(hold, str(tmp_path / "started"), go)
        second, third = executor.submit(double, 1), executor.submit(double, 2)
        wait_until(first.running)
        assert [first.cancel(), second.cancel(), second.cancel()] == [False, True, True]
        assert second.cancelled()
        with pytest.raises(cf.CancelledError):
            second.result()
        done, not_done = cf.wait([first, second, third], 0.05)
        assert (done, not_done) == ({second}, {first, third})
        assert not third.running()  # `max_workers`
        Path(go).touch()
        assert [future.result() for future in cf.as_completed([first, third])] == ["held", 4]
        assert second.job.wait(60)
        assert second.job.state == "cancelled"


def test_shutdown_cancels_what_has_not_started(queued: Kit, tmp_path: Path) -> None:
    executor = queued.executor(max_workers=1)
    first = executor.submit(hold, str(tmp_path / "started"), str(tmp_path / "go"))
    others = [executor.submit(double, n) for n in range(20)]
    wait_until(first.running)
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in others)
    assert first.running()
    assert all(future.job.wait(60) and future.job.state == "cancelled" for future in others)
    (tmp_path / "go").touch()
    executor.shutdown()
    assert first.result(0) == "held"


def test_a_job_that_is_cancelled_elsewhere_ends_its_future(queued: Kit, tmp_path: Path) -> None:
    with queued.executor(max_workers=1) as executor:
        first = executor.submit(hold, str(tmp_path / "started"), str(tmp_path / "go"))
        second = executor.submit(double, 1)
        wait_until(first.running)
        second.job.cancel()
        with pytest.raises(cf.CancelledError):
            second.result("1m")
        first.job.cancel()
        with pytest.raises(jobkit.JobCancelled):
            first.result("1m")


def test_a_deleted_job_ends_its_future(queued: Kit) -> None:
    queued.queues.pause("default")
    try:
        with queued.executor() as executor:
            future = executor.submit(double, 1)
            queued.cancel(future.job.id)
            queued.delete(future.job.id)
            with pytest.raises((jobkit.JobNotFound, cf.CancelledError)):
                future.result("1m")
    finally:
        queued.queues.resume("default")


def test_a_kit_that_is_closed_ends_the_futures_of_its_jobs(queued: Kit, place: dict[str, str]) -> None:
    queued.queues.pause("default")
    try:
        with jobkit.connect(**place) as other:
            future = other.executor().submit(double, 1)
            called = threading.Event()
            future.add_done_callback(lambda _: called.set())
        assert isinstance(future.exception(60), jobkit.JobkitError)
        assert "is closed; connect again" in str(future.exception())
        assert called.wait(60)
        queued.cancel(future.job.id)
    finally:
        queued.queues.resume("default")


def test_a_timeout_ends_the_wait_and_cancels_what_map_had_left(queued: Kit, tmp_path: Path) -> None:
    go = str(tmp_path / "go")
    with queued.executor(max_workers=1) as executor:
        values = executor.map(hold, [str(tmp_path / f"started{n}") for n in range(3)], [go] * 3, timeout="0.3s")
        with pytest.raises(TimeoutError):
            next(values)
        wait_until(lambda: [str(job.state) for job in queued.jobs()].count("cancelled") >= 2)
        Path(go).touch()


def test_one_thread_serves_all_futures(kit: Kit) -> None:
    with kit.executor() as executor:
        before = threading.active_count()
        futures = [executor.submit(double, n) for n in range(30)]
        assert [future.result() for future in futures] == [2 * n for n in range(30)]
        assert threading.active_count() <= before + 2  # its own, and that of watchers
    began = time.monotonic()
    executor.shutdown()
    assert time.monotonic() - began < 5
