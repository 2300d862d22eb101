"""Names of other libraries are answered with jobkit's."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Iterator
from typing import Any

import pytest

import jobkit
from jobkit.client.kit import Kit
from jobkit.model.neighbours import NAMES
from jobkit.tasks.task import TaskDef
from jobkit.testing import MemoryKit


def work(n: int = 1) -> int:
    return 10 // n


@pytest.fixture(scope="module")
def kit() -> Iterator[Kit]:
    with MemoryKit() as kit:
        yield kit


@pytest.fixture(scope="module")
def objects(kit: Kit) -> dict[str, Any]:
    return {
        "Job": kit.submit(work), "Batch": kit.map(work, [1]), "TaskDef": TaskDef(work), "Kit": kit,
        "BoundKit": kit.options(),
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, (_, names) in NAMES.items() for name in names])
def test_a_name_of_another_library_is_answered_with_one_that_exists(
    objects: dict[str, Any], kind: str, name: str
) -> None:
    what, names = NAMES[kind]
    with pytest.raises(AttributeError) as caught:
        getattr(objects[kind], name)

    assert str(caught.value) == f"{what} has no `{name}`: use `{names[name]}`"
    things = {**{each.lower(): found for each, found in objects.items()}, "task": objects["TaskDef"], "jobkit": jobkit}
    uses = re.findall(r"\b(job|batch|task|kit|jobkit)\.([A-Za-z_]+)", names[name])
    assert uses or names[name] == "task(...)"
    for thing, attribute in uses:
        assert hasattr(things[thing], attribute), names[name]


def test_the_best_job_of_a_sweep_is_found_as_the_answer_to_best_params_says(kit: Kit) -> None:
    batch = kit.sweep(work, n=[1, 2, 5])

    assert eval(NAMES["Batch"][1]["best_params_"], {"batch": batch}) == {"n": 1}


def test_other_names_are_missing_as_usual(objects: dict[str, Any]) -> None:
    for each in objects.values():
        kind = type(each).__name__
        with pytest.raises(AttributeError, match=f"'{kind}' object has no attribute 'nonsense'"):
            _ = each.nonsense
        assert not hasattr(each, "get" if kind in ("Job", "Batch") else "delay" if kind == "TaskDef" else "enqueue")
        assert getattr(each, "_repr_html_", None) is None
        assert not hasattr(each, "_ipython_canary_method_should_not_exist_")
        assert not hasattr(each, "")


def test_an_error_of_a_property_stays_its_own() -> None:
    class Odd(TaskDef):
        @property
        def odd(self) -> None:
            raise AttributeError("from inside")

    with pytest.raises(AttributeError, match="from inside"):
        _ = Odd(work).odd


def test_copies_pickles_and_watchers_work_as_before(objects: dict[str, Any]) -> None:
    task = objects["TaskDef"]
    assert pickle.loads(pickle.dumps(task))(2) == 5
    assert copy.copy(task)(2) == 5
    seen: list[Any] = []
    watcher = objects["Job"].param.watch(seen.append, "state")
    objects["Job"].param.unwatch(watcher)
    assert inspect.signature(task) == inspect.signature(work)


def test_a_job_has_the_exception_that_its_result_raises(kit: Kit) -> None:
    assert kit.submit(work).exception() is None
    error = kit.submit(work, 0).exception("1m")
    assert isinstance(error, jobkit.JobFailed)
    assert isinstance(error.__cause__, ZeroDivisionError)
    with MemoryKit(at_once=False) as waiting, pytest.raises(TimeoutError, match="is still queued after 0 ms"):
        waiting.submit(work).exception(0)


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        ("Job", "resutl", "a Job has no `resutl`: did you mean `result`?"),
        ("Batch", "as_complted", "a Batch has no `as_complted`: did you mean `as_completed`?"),
        ("TaskDef", "sumbit", "a task has no `sumbit`: did you mean `submit`?"),
        ("Kit", "worker", "a Kit has no `worker`: did you mean `workers`?"),
        ("Job", "qqqqq", "'Job' object has no attribute 'qqqqq'"),
        ("Job", "_resul", "'Job' object has no attribute '_resul'"),
    ],
)
def test_a_typing_error_is_answered_with_the_name_that_was_meant(
    objects: dict[str, Any], kind: str, name: str, sentence: str
) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(objects[kind], name)

    assert str(caught.value) == sentence


def test_a_typing_error_in_a_verb_of_coroutines_is_answered_too(kit: Kit) -> None:
    with pytest.raises(AttributeError, match=r"kit\.aio has no verb 'sumbit': did you mean `submit`\?"):
        kit.aio.sumbit  # noqa: B018
