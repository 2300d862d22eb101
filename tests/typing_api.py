"""Code of users with the types that mypy and pyright must give it. Checked, not run: see `test_typing_api.py`.

A line with `# type: ignore` is one that both must refuse.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from datetime import datetime, timedelta
from typing import Any, NoReturn, assert_type

import param

import jobkit
from jobkit import Batch, Job, JobState
from jobkit.features.studies.study import BestTrial


@jobkit.task
def simulate(n: int = 1000, *, method: str = "rk4") -> float:
    """Simulate the pendulum."""
    return float(n)


@jobkit.task(queue="io", retries=3, retry_on=OSError, timeout="90s")
async def fetch(url: str) -> bytes | None:
    return url.encode()


def log_curves() -> None:
    jobkit.log_metrics(3, loss=0.5)
    jobkit.log_metrics(step=3, loss=0.5)
    jobkit.log_metrics({"train/loss": 0.5}, step=3, acc=0.9)
    jobkit.log_metrics({"train/loss": 0.5}, 3)
    jobkit.log_metrics([3], loss=0.5)  # type: ignore


class Train(jobkit.Task, queue="gpu", name="train"):
    """Train a model."""

    epochs = param.Integer(10)

    def run(self) -> list[float]:
        return [1.0] * self.epochs


class Crawl(jobkit.Task):
    async def run(self) -> str:
        return ""


def plain(a: int, b: str = "") -> dict[str, int]:
    return {b: a}


async def coroutine(a: int) -> str:
    return str(a)


def a_task() -> None:
    assert_type(simulate(3), float)
    assert_type(simulate.submit(n=10, method="euler"), Job[float])
    assert_type(simulate.submit(3).result(timeout="5m"), float)
    assert_type(simulate.options(queue="gpu", delay=30).submit(3), Job[float])
    assert_type(simulate.options(queue="gpu").options(at=datetime.now()).submit(), Job[float])
    assert_type(simulate.map([{"n": 1}, {"n": 2}]), Batch[float])
    assert_type(simulate.sweep(n=[1, 2], method=["euler"]), Batch[float])
    simulate("3")  # type: ignore
    simulate.submit("3")  # type: ignore
    simulate.submit(steps=3)  # type: ignore
    simulate.submit(3, "euler")  # type: ignore


async def an_async_task() -> None:
    assert_type(await fetch("x"), bytes | None)
    assert_type(fetch.submit("x"), Job[bytes | None])
    assert_type(fetch.submit(url="x").result(), bytes | None)
    assert_type(await fetch.submit("x"), bytes | None)
    assert_type(fetch.map(["x", "y"]), Batch[bytes | None])
    fetch.submit()  # type: ignore


def a_task_class() -> None:
    assert_type(Train(epochs=3).run(), list[float])
    assert_type(Train.submit(epochs=3), Job[list[float]])
    assert_type(Train.options(queue="big").submit(epochs=3), Job[list[float]])
    assert_type(Train.map([{"epochs": 1}]), Batch[list[float]])
    assert_type(Train.sweep(epochs=[1, 2]), Batch[list[float]])
    assert_type(Crawl.submit(), Job[str])
    assert_type(Crawl.options(tags=["x"]).map([{}]), Batch[str])
    Train.options(queu="big")  # type: ignore


@jobkit.task
def steps(n: int) -> Generator[int, None, None]:
    yield n


def a_generator() -> NoReturn:
    """A submit of one raises, because a call of it runs nothing."""
    steps.submit(3)


def a_kit(kit: jobkit.Kit) -> None:
    assert_type(jobkit.connect("sync://"), jobkit.Kit)
    assert_type(kit.submit(simulate, 3, method="euler"), Job[float])
    assert_type(kit.submit(fetch, "x"), Job[bytes | None])
    assert_type(kit.submit(plain, 3, b="x"), Job[dict[str, int]])
    assert_type(kit.submit(coroutine, 3), Job[str])
    assert_type(kit.submit(len, "abc"), Job[int])
    assert_type(kit.submit(functools.partial(plain, 3)), Job[dict[str, int]])
    assert_type(kit.submit("simulate", 3, method="euler"), Job[Any])
    assert_type(kit.submit(Train, epochs=3), Job[Any])
    assert_type(kit.submit(simulate.options(queue="gpu"), 3), Job[float])
    assert_type(kit.options(queue="gpu", tags=["demo"]).submit(plain, 3), Job[dict[str, int]])
    assert_type(kit.options(queue="gpu").options(retries=1).map(simulate, [1, 2]), Batch[float])
    assert_type(kit.map(fetch, ["x"]), Batch[bytes | None])
    assert_type(kit.map(coroutine, [1], stop_when="failed"), Batch[str])
    assert_type(kit.map("simulate", [1]), Batch[Any])
    assert_type(kit.sweep(simulate, n=[1, 2]), Batch[float])
    assert_type(kit.sweep(coroutine, a=[1, 2]), Batch[str])
    kit.submit(simulate, "3")  # type: ignore
    kit.submit(plain, 3, c=3)  # type: ignore
    kit.options(queu="gpu")  # type: ignore
    kit.options(timeout=[3]).submit(plain, 3)  # type: ignore
    kit.map(simulate, [1], stop_wen="failed")  # type: ignore
    kit.schedule(simulate, {"n": 3}, every=30, queu="gpu")  # type: ignore


async def a_kit_of_coroutines(kit: jobkit.Kit) -> None:
    job = await kit.aio.submit(simulate, 3)
    assert_type(job, Job[float])
    assert_type(await job, float)
    assert_type(await kit.aio.submit(fetch, "x"), Job[bytes | None])
    assert_type(await kit.aio.submit(coroutine, 3), Job[str])
    assert_type(await kit.aio.submit("simulate"), Job[Any])
    assert_type(await kit.aio.map(simulate, [1]), Batch[float])
    assert_type(await kit.aio.sweep(coroutine, a=[1]), Batch[str])
    assert_type(await kit.aio.options(queue="gpu").submit(simulate, 3), Job[float])
    await kit.aio.submit(simulate, "3")  # type: ignore
    kit.aio.options(queu="gpu")  # type: ignore


def jobs_and_batches(job: Job[float], batch: Batch[float], any_job: Job, any_batch: Batch) -> None:
    assert_type(job.result(), float)
    assert_type(job.rerun(n=3), Job[float])
    assert_type(job.retry(), Job[float])
    assert_type(job.state, JobState)
    assert_type(job.id, str)
    assert_type(job.progress, float | None)
    assert_type(job.error, jobkit.JobError | None)
    assert_type(job.finished_at, datetime | None)
    assert_type(job.elapsed, timedelta | None)
    assert_type(batch[0], Job[float])
    assert_type(batch.jobs, list[Job[float]])
    assert_type([each.result() for each in batch], list[float])
    assert_type(batch.retry_failed(), Batch[float])
    assert_type(batch.stop_when(lambda job: job.result() < 0.1), Batch[float])
    assert_type(next(jobkit.as_completed(batch)), Job[float])
    assert_type(jobkit.wait([job]), tuple[list[Job[float]], list[Job[float]]])
    assert_type(any_job.result(), Any)
    assert_type(any_batch[0].result(), Any)
    wider: Job[float | str] = job
    narrower: Job[int] = job  # type: ignore
    job.results()  # type: ignore
    batch.stop_when("fail")  # a text is only known at run time
    print(wider, narrower)


def studies(kit: jobkit.Kit) -> None:
    study = kit.study(simulate, trials=20, space={"n": (1, 100)})
    assert_type(study, jobkit.Study)
    assert_type(kit.options(queue="gpu").study(simulate, space=plain), jobkit.Study)
    assert_type(study.batch, Batch[Any])
    assert_type(study.result(), BestTrial | None)
    assert_type(study.best, BestTrial | None)
    kit.study(simulate, trails=20)  # type: ignore


def options(task: Callable[..., Any]) -> None:
    many: dict[str, Any] = {"queue": "gpu"}
    simulate.options(**many)
    simulate.options(
        timeout=timedelta(minutes=1), backoff=jobkit.Backoff(base=2), retry_on=(OSError, "requests.Timeout")
    )
    simulate.options(unique=True, cache="7d", resources={"gpu": 1}, limit_key="{n}", memory_limit="2GB")
    jobkit.task(schedule={"cron": "0 6 * * *", "tz": "Europe/Berlin"})(task)
    simulate.options(tmeout=3)  # type: ignore
    simulate.options(timeout=[3])  # type: ignore
    simulate.options(isolation="docker")  # type: ignore
    simulate.options(tags=3)  # type: ignore
    simulate.options(schedule="@daily")  # type: ignore

    @jobkit.task(queu="x")  # type: ignore
    def misspelt() -> None: ...

    @jobkit.task(retries="3")  # type: ignore
    def wrongly_typed() -> None: ...

    @jobkit.task(delay=3)  # type: ignore
    def of_a_submission() -> None: ...

    class Misspelt(jobkit.Task, queu="x"):  # pyright: ignore  # mypy skips keywords of a class with a metaclass
        def run(self) -> None: ...
