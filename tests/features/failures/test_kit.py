"""Groups of failures from Python: their contents, and running many jobs again, also with changed arguments."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, Literal

import pytest

import jobkit
from jobkit.client.kit import Kit
from jobkit.features.failures.commands import _changes as of_command_line
from jobkit.features.failures.group import FailureGroup
from jobkit.tasks.registry import registry


@pytest.fixture(autouse=True)
def own_tasks() -> Iterator[None]:
    before = dict(registry._tasks)
    yield
    registry._tasks.clear()
    registry._tasks.update(before)


@pytest.fixture(autouse=True)
def nothing_remembered(kit: Kit) -> Iterator[None]:
    """Delete verdicts, which outlive their jobs: the tests of a place share a namespace."""
    yield
    for group in kit.failures(limit=1000):
        kit.failures.drop(group.id)


def divide(a: Annotated[int, jobkit.Range(0, 100)], b: int = 0, how: Literal["exact", "whole"] = "exact") -> float:
    """Divide."""
    return a / b if how == "exact" else a // b


def day(when: date, extra: object = None) -> str:
    """Fail on the first of April."""
    if (when.month, when.day) == (4, 1):
        raise ValueError("no joking")
    return when.isoformat()


def only(kit: Kit) -> FailureGroup:
    [group] = kit.failures()
    return group


def failed(kit: Kit, task: Any, *calls: dict[str, Any]) -> list[jobkit.Job]:
    """Submit jobs and wait until they have ended, in this order."""
    jobs = []
    for call in calls:
        jobs.append(kit.submit(task, **call))
        assert jobs[-1].wait(60), f"{jobs[-1]} does not end"
    return jobs


def results(kit: Kit, ids: Any) -> list[Any]:
    return [kit.get(job_id).result(60) for job_id in ids]


def test_failed_jobs_are_grouped_and_described(kit: Kit) -> None:
    task = jobkit.task(name="divide")(divide)

    failed(kit, task, {"a": 1}, {"a": 2}, {"a": 4, "b": 2})

    group = only(kit)
    assert (group.task, group.type, group.title) == (
        "divide",
        "ZeroDivisionError",
        "ZeroDivisionError: division by zero",
    )
    assert (group.count, group.jobs, group.state) == (2, 2, "open")
    assert group.where.endswith("in divide")
    assert [job.spec.params["a"] for job in kit.failures.snapshots(group.id)] == [2, 1]
    assert kit.failures(task="other") == []
    assert kit.failures("muted") == []


def test_a_group_is_run_again_only_once(kit: Kit) -> None:
    task = jobkit.task(name="divide")(divide)
    old = failed(kit, task, {"a": 1}, {"a": 2})

    came = kit.failures.retry(only(kit).id)

    assert list(came.jobs) == [job.id for job in old]
    assert [kit.snapshot(new).spec.retry_of for new in came.jobs.values()] == [job.id for job in old]
    for new in came.jobs.values():
        kit.get(new).wait(60)
    assert only(kit).jobs == 4
    assert set(kit.failures.jobs(only(kit).id, is_repeated=False)) == set(came.jobs.values())
    assert len(list(kit.failures.jobs(only(kit).id, newer_than="2000w"))) == 4
    assert not list(kit.failures.jobs(only(kit).id, older_than="2000w"))


@pytest.mark.parametrize("is_importable", [True, False], ids=["a task", "a function that travels by value"])
def test_changed_arguments_are_checked_and_applied_in_the_jobs_process(kit: Kit, is_importable: bool) -> None:
    task = jobkit.task(name="divide")(divide)

    def by_value(a: int, b: int = 0, how: str = "exact") -> float:
        return a / b

    by_value.__name__ = "divide"
    failed(kit, task if is_importable else by_value, {"a": 6}, {"a": 9})

    came = kit.failures.retry(only(kit).id, changes={"b": 3})

    assert results(kit, came.jobs.values()) == [2.0, 3.0]
    assert [kit.snapshot(new).spec.params for new in came.jobs.values()] == [
        {"a": a, "b": 3, "how": "exact"} for a in (6, 9)
    ]
    assert only(kit).healed == 2


def test_changes_are_kept_when_a_job_is_run_again(kit: Kit) -> None:
    """By a retry, by further changes, and by `rerun`, which reads the arguments."""
    task = jobkit.task(name="divide")(divide)
    [first] = failed(kit, task, {"a": 6})
    [second] = kit.retry_many([first.id], changes={"a": 8}).jobs.values()
    kit.get(second).wait(60)

    [third] = kit.retry_many([second], changes={"b": 3}).jobs.values()

    assert results(kit, [third]) == [8 / 3]
    assert kit.get(third).retry().result(60) == 8 / 3
    assert kit.get(third).rerun(how="whole").result(60) == 2


def test_a_date_is_changed_as_text_and_arrives_as_a_date(kit: Kit) -> None:
    task = jobkit.task(name="day")(day)
    failed(kit, task, {"when": date(2026, 4, 1), "extra": {1, 2}})  # a set needs a pickle

    came = kit.failures.retry(only(kit).id, changes={"when": "2026-04-02"})

    assert results(kit, came.jobs.values()) == ["2026-04-02"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"a": 101}, "a must be a whole number from 0 to 100, not 101"),
        ({"a": "many"}, "a must be a whole number from 0 to 100, not 'many'"),
        ({"how": "wild"}, "how must be one of exact, whole"),
        ({"aa": 1}, "unexpected argument 'aa'"),
    ],
)
def test_a_change_that_does_not_fit_is_refused_before_anything_is_submitted(
    kit: Kit, changes: dict[str, Any], sentence: str
) -> None:
    task = jobkit.task(name="divide")(divide)
    failed(kit, task, {"a": 1})
    before = len(kit.jobs(limit=1000))

    with pytest.raises(jobkit.InvalidParams, match=sentence):
        kit.failures.retry(only(kit).id, changes=changes)

    assert len(kit.jobs(limit=1000)) == before
    assert only(kit).repeated == 0


def test_arguments_of_a_function_that_travels_by_value_are_changed_without_a_task(kit: Kit) -> None:
    def mean_price(table: object, column: str = "cost", n: int = 1) -> float:
        return {"price": 4.0}[column] / n  # only "price" is there

    jobs = failed(kit, mean_price, {"table": {1, 2}}, {"table": {3}})
    group = only(kit).id

    with pytest.raises(jobkit.InvalidParams, match="unexpected argument 'colum'"):
        kit.failures.retry(group, changes={"colum": "price"})
    texts = of_command_line(kit, [job.id for job in jobs], [only(kit)], ["column=price", "n=2"])
    came = kit.failures.retry(group, changes=texts)

    assert texts == {"column": "price", "n": 2}
    assert results(kit, came.jobs.values()) == [2.0, 2.0]
    assert kit.checked_changes("mean_price", ["column=5"], [jobs[0].id]) == {"column": "5"}


@pytest.mark.parametrize("is_importable", [True, False], ids=["of another module", "by value"])
def test_changes_are_those_of_the_function_that_failed_even_if_a_task_has_its_name(
    kit: Kit, is_importable: bool
) -> None:
    def by_value(text: object, prefix: str = "- ") -> str:
        return prefix + text.upper()  # type: ignore[attr-defined]

    by_value.__name__ = "indent"
    jobkit.task(name="indent")(divide if is_importable else lambda a=1: a)
    [job] = failed(kit, textwrap.indent if is_importable else by_value, {"text": 1, "prefix": "- "})

    assert kit.runs_other_code(job.id)
    with pytest.raises(jobkit.UnknownTask, match="there is no form for job"):
        job.form()
    with pytest.raises(jobkit.InvalidParams, match="unexpected argument 'a'"):
        kit.failures.retry(only(kit).id, changes={"a": 3})
    with pytest.raises(jobkit.InvalidParams, match="unexpected argument 'a'"):
        kit.rerun_with(job.id, {"a": 3})
    texts = of_command_line(kit, [job.id], [only(kit)], ["prefix=+ "])
    came = kit.failures.retry(only(kit).id, changes={**texts, "text": "ABC"})
    assert results(kit, came.jobs.values()) == ["+ ABC"]


def test_a_job_that_runs_the_task_of_its_name_is_known_as_such(kit: Kit) -> None:
    task = jobkit.task(name="divide")(divide)

    assert not kit.runs_other_code(kit.submit(task, 4, 2).id)
    assert not kit.runs_other_code(kit.submit("divide", a=4, b=2).id)
    assert not kit.runs_other_code(kit.submit(len, "abc").id)  # no task has its name


def test_a_change_that_the_function_of_a_call_refuses_fails_the_new_job(kit: Kit) -> None:
    def halve(n: int = 0) -> float:
        return 1 / n

    failed(kit, halve, {})

    [new] = kit.failures.retry(only(kit).id, changes={"n": "many"}).jobs.values()

    assert "n must be a whole number, not 'many'" in str(kit.get(new).exception(60))


def test_changes_for_jobs_of_several_tasks_are_refused(kit: Kit) -> None:
    jobs = failed(kit, jobkit.task(name="divide")(divide), {"a": 1})
    jobs += failed(kit, jobkit.task(name="day")(day), {"when": date(2026, 4, 1)})

    with pytest.raises(jobkit.InvalidParams, match="jobs of one task, not of day, divide"):
        kit.retry_many([job.id for job in jobs], changes={"a": 2})


def test_jobs_that_cannot_be_run_again_are_named_and_the_others_run(kit: Kit) -> None:
    task = jobkit.task(name="divide")(divide)
    [job] = failed(kit, task, {"a": 1})

    came = kit.retry_many([job.id, "gone"])

    assert list(came.jobs) == [job.id]
    assert "no job 'gone' is kept here" in came.refused["gone"]


def test_a_job_without_its_needed_result_is_run_again_with_its_parent(kit: Kit) -> None:
    task = jobkit.task(name="divide")(divide)
    need = kit.submit(task, 1)
    after = kit.submit(divide, need, 1)
    assert after.wait(60)
    groups = {group.kind: group.id for group in kit.failures()}

    came = kit.failures.retry(groups["dependency"])

    again = kit.snapshot(came.jobs[after.id])
    assert again.spec.needs != after.snapshot.spec.needs
    assert kit.snapshot(again.spec.needs[0]).spec.retry_of == need.id


def test_groups_are_muted_resolved_and_reopened(kit: Kit) -> None:
    failed(kit, divide, {"a": 1})
    group = only(kit).id

    for verb, state in (("mute", "muted"), ("resolve", "resolved"), ("reopen", "open")):
        getattr(kit.failures, verb)(group, by="ada")
        assert (kit.failures.get(group).state, kit.failures.get(group).changed_by) == (state, "ada")
    kit.failures.resolve(group)
    failed(kit, divide, {"a": 2})

    assert kit.failures.get(group).state == "regressed"


def test_dropping_deletes_the_jobs_and_the_group(kit: Kit) -> None:
    jobs = failed(kit, divide, {"a": 1}, {"a": 2})
    kit.failures.mute(only(kit).id)

    assert kit.failures.drop(only(kit).id) == 2

    assert kit.failures() == []
    with pytest.raises(jobkit.JobNotFound):
        kit.snapshot(jobs[0].id)


def test_unknown_groups_and_states_are_refused_by_name(kit: Kit) -> None:
    with pytest.raises(jobkit.JobNotFound, match="there is no group of failures 'missing'"):
        kit.failures.mute("missing")
    with pytest.raises(jobkit.InvalidParams, match="state must be one of open, muted, resolved, regressed, not 'bad'"):
        kit.failures("bad")
    with pytest.raises(jobkit.InvalidParams, match="limit must be a whole number"):
        kit.failures(limit=0)


async def test_the_same_verbs_are_coroutines(kit: Kit) -> None:
    failed(kit, divide, {"a": 1})

    [group] = await kit.aio.failures()

    assert len((await kit.aio.failures.retry(group.id)).jobs) == 1
