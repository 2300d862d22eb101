"""A job or batch as an argument: the second job waits, gets the result instead, or fails with the reason."""

from __future__ import annotations

import param
import pytest

import jobkit
from jobkit.client.kit import Kit
from jobkit.client.repeat import _renamed
from jobkit.model import JobFailed

from .calls import second_time


def add(a: int, b: int = 1) -> int:
    return a + b


def failing(kit: Kit, job: jobkit.Job) -> str:
    with pytest.raises(JobFailed):
        job.result(60)
    assert job.error.kind == "dependency"
    return str(job.error)


def test_a_chain_passes_results_on(kit: Kit) -> None:
    first = kit.submit(add, 1)
    second = kit.submit(add, first, b=first)
    third = kit.submit(lambda value: value * 10, second)

    assert third.result(60) == 40
    assert third.params == {"value": f"result of job {second.id}"}
    assert third.snapshot.spec.needs == (second.id,)


def test_jobs_and_batches_may_be_nested_in_the_arguments(kit: Kit) -> None:
    def collect(values: list, table: dict, *more: int) -> dict:
        return {"values": values, "table": table, "more": more}

    one, two = kit.submit(add, 1), kit.submit(add, 2)
    batch = kit.map(add, [10, 20])

    job = kit.submit(collect, [one, [two, 5]], {"k": (one, "x"), 3: batch}, two)

    assert job.result(60) == {"values": [2, [3, 5]], "table": {"k": (2, "x"), 3: [11, 21]}, "more": (3,)}
    assert job.snapshot.spec.needs == (one.id, two.id, *(each.id for each in batch))


def test_fan_out_and_fan_in(kit: Kit) -> None:
    squares = kit.map(lambda n: n * n, [1, 2, 3, 4])
    added = kit.map(add, squares)  # one job for each job

    total = kit.submit(sum, added)

    assert total.result(60) == 34


def test_a_failure_ends_downstream_jobs_with_the_reason(kit: Kit) -> None:
    broken = kit.submit(int, "x")
    second = kit.submit(add, broken)
    third = kit.submit(add, 1, b=second)

    assert "invalid literal for int" in failing(kit, second)
    reason = failing(kit, third)
    assert f"job {second.id} (add), whose result it needs, cannot run" in reason
    assert f"job {broken.id} (int)" in reason


def test_a_result_of_the_wrong_type_is_refused_by_the_worker(kit: Kit) -> None:
    text = kit.submit(str, "no number")

    job = kit.submit(add, text)

    with pytest.raises(JobFailed, match="a must be a whole number, not 'no number'"):
        job.result(60)
    assert job.error.kind == "rejected"


def test_cancelling_a_waiting_job_cancels_its_followers_only(queued: Kit) -> None:
    slow = queued.options(delay=60).submit(add, 1)
    waiting = queued.submit(add, slow)
    follower = queued.submit(add, waiting)
    assert (waiting.state, follower.state) == ("scheduled", "scheduled")

    assert waiting.cancel()

    assert waiting.wait(60)
    assert waiting.state == "cancelled"
    assert "was cancelled" in failing(queued, follower)
    assert slow.state == "scheduled"


def test_a_retried_parent_keeps_its_children_waiting(kit: Kit, tmp_path: object) -> None:
    parent = kit.options(retries=2, backoff=0.01).submit(second_time, f"{tmp_path}/flag")

    assert kit.submit(add, parent).result(60) == 8


def test_a_retry_runs_failed_upstream_jobs_again_once(kit: Kit, tmp_path: object) -> None:
    root = kit.submit(second_time, f"{tmp_path}/flag")
    middle = kit.submit(add, root)
    batch = kit.map(add, [(middle, 10), (middle, 20)])
    assert batch.wait(60)
    assert batch.counts == {"failed": 2}

    again = batch.retry_failed(replace=True)

    assert [job.result(60) for job in again] == [18, 28]
    assert batch.wait(60)
    assert batch.counts == {"succeeded": 2}
    assert again[0].snapshot.spec.needs == again[1].snapshot.spec.needs
    assert again[0].params["a"] == f"result of job {again[0].snapshot.spec.needs[0]}"
    retried = kit.get(again[0].snapshot.spec.needs[0])
    assert retried.snapshot.spec.retry_of == middle.id
    assert kit.get(retried.snapshot.spec.needs[0]).snapshot.spec.retry_of == root.id


def test_a_missing_parent_is_named(kit: Kit) -> None:
    parent = kit.submit(add, 1)
    parent.wait(60)
    kit.delete([parent.id])

    assert "is not kept: it was removed" in failing(kit, kit.submit(add, parent))


def test_a_rerun_keeps_its_parents_or_gets_other_ones(kit: Kit) -> None:
    one, two = kit.submit(add, 1), kit.submit(add, 10)
    job = kit.submit(add, one, b=5)
    assert job.result(60) == 7

    assert job.rerun(b=100).result(60) == 102
    again = job.rerun(a=two)
    assert again.result(60) == 16
    assert again.snapshot.spec.needs == (two.id,)
    assert job.retry().result(60) == 7


def test_large_and_pickled_results_are_passed_between_workers(kit: Kit) -> None:
    big = kit.submit(lambda: b"x" * 3_000_000)
    odd = kit.submit(lambda: {1, 2, 3})

    assert kit.submit(lambda a, b: (len(a), sorted(b)), big, odd).result(60) == (3_000_000, [1, 2, 3])


def test_coroutines_and_classes_take_results_too(kit: Kit) -> None:
    async def later(a: int) -> int:
        return a + 1

    class Doubled(jobkit.Task):
        n = param.Integer(0)

        def run(self) -> int:
            return self.n * 2

    assert kit.submit(Doubled, n=kit.submit(later, kit.submit(later, 1))).result(60) == 6


def test_a_job_inside_an_object_is_refused_with_advice(kit: Kit) -> None:
    class Box:
        pass

    box = Box()
    box.job = kit.submit(add, 1)  # type: ignore[attr-defined]

    with pytest.raises(
        jobkit.InvalidParams, match=r"argument 1 cannot be sent: .*give it as an argument itself, or in"
    ):
        kit.submit(len, box)
    box.job = kit.map(add, [1])  # type: ignore[attr-defined]
    with pytest.raises(jobkit.InvalidParams, match="a batch cannot travel inside of another object"):
        kit.submit(len, box)


def test_a_job_of_another_kit_is_refused(kit: Kit) -> None:
    with jobkit.connect("sync://", namespace="elsewhere") as other:
        job = other.submit(add, 1)
        with pytest.raises(jobkit.InvalidParams, match="a job of another kit"):
            kit.submit(add, job)


def test_new_ids_of_needed_jobs_replace_only_texts_of_shown_arguments() -> None:
    shown = {"x": "result of job 1", "n": 1, "1": [True, "1"]}

    assert _renamed(shown, {"1": "2"}) == {"x": "result of job 2", "n": 1, "1": [True, "2"]}
