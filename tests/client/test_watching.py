"""A job as a param object: watchers of every kind, isolated from each other, and reactive expressions."""

from __future__ import annotations

import asyncio
from typing import Any

import param
import pytest

import jobkit
from jobkit.client.kit import Kit
from jobkit.testing import MemoryKit
from tests.support import wait_until


def waiting(kit: Kit) -> jobkit.Job:
    """Submit a job that can be watched before it changes."""
    return kit.options(delay=0.2).submit(len, "abc")


def test_a_watcher_that_raises_does_not_affect_others_and_is_reported_once(
    queued: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    other, job, seen, calls = waiting(queued), waiting(queued), [], []

    def bad(event: Any) -> None:
        calls.append(event.new)
        raise ValueError("of the watcher")

    job.param.watch(bad, ["state"])
    job.param.watch(lambda event: seen.append(str(event.new)), "state")
    job.param.watch(lambda event: seen.append("kwargs"), ["finished_at"])
    of_other: list[str] = []
    other.param.watch(lambda event: of_other.append(str(event.new)), "state")

    assert job.result(60) == other.result(60) == 3
    wait_until(lambda: of_other[-1:] == ["succeeded"], what="the watcher of another job")
    wait_until(lambda: seen[-2:] in (["succeeded", "kwargs"], ["kwargs", "succeeded"]), what="the other watchers")
    assert len(calls) == 3
    assert caplog.text.count("a watcher of <Job") == 1


def test_coroutines_and_methods_that_depend_on_a_job_are_called(queued: Kit) -> None:
    job, seen = waiting(queued), []

    async def later(event: Any) -> None:
        await asyncio.sleep(0)
        seen.append(f"async {event.new}")

    class View(param.Parameterized):
        job = param.Parameter()

        @param.depends("job.state", watch=True)
        def moved(self) -> None:
            seen.append(f"method {self.job.state}")

    job.param.watch(later, "state")
    view = View(job=job)

    assert view.job.result(60) == 3
    wait_until(lambda: "async succeeded" in seen and "method succeeded" in seen, what="both")


def test_bound_functions_and_reactive_expressions_follow(queued: Kit) -> None:
    job = waiting(queued)
    words = job.param.state.rx().rx.pipe(lambda state: f"is {state}")
    bound = param.bind(lambda state, progress: (str(state), progress), job.param.state, job.param.progress)

    assert job.result(60) == 3

    assert words.rx.value == "is succeeded"
    assert bound() == ("succeeded", 1.0)  # type: ignore[call-arg]  # param gives them


def test_watchers_of_a_batch_are_guarded_too(queued: Kit, caplog: pytest.LogCaptureFixture) -> None:
    batch, seen = queued.options(delay=0.2).map(len, ["a", "b"]), []
    batch.param.watch(lambda event: {}[1], "counts")
    batch.param.watch(lambda event: seen.append(event.new), "counts")

    assert batch.wait(60)
    wait_until(lambda: seen and seen[-1] == {"succeeded": 2}, what="the other watcher")
    assert caplog.text.count("a watcher of <Batch") == 1


def test_watchers_of_the_queue_are_called_when_a_job_is_moved() -> None:
    with MemoryKit(at_once=False) as kit:
        job, seen = kit.submit(len, "abc"), []
        job.param.watch(lambda event: seen.append(event.new), "queue")

        assert kit.move(job.id, queue="gpu") == {}

        wait_until(lambda: seen == ["gpu"], what="the watcher")
