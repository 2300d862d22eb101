"""Names of other libraries are answered with jobkit's."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import jobkit
from jobkit.client.kit import Kit
from jobkit.model.neighbours import OPTIONS
from jobkit.tasks.options import OPTIONS as OPTIONS_HERE
from jobkit.tasks.task import TaskDef
from jobkit.testing import MemoryKit

#: The classes that answer names of other libraries, by the word for one of their objects in the answers.
CLASSES: dict[str, Any] = {"job": jobkit.Job, "batch": jobkit.Batch, "task": TaskDef, "kit": Kit}
NAMES: dict[str, tuple[str, Mapping[str, str]]] = {word: each._OTHER_NAMES for word, each in CLASSES.items()}


def work(n: int = 1) -> int:
    return 10 // n


@pytest.fixture(scope="module")
def kit() -> Iterator[Kit]:
    with MemoryKit() as kit:
        yield kit


@pytest.fixture(scope="module")
def objects(kit: Kit) -> dict[str, Any]:
    return {
        "job": kit.submit(work), "batch": kit.map(work, [1]), "task": TaskDef(work), "kit": kit,
        "options": kit.options(),
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, (_, names) in NAMES.items() for name in names])
def test_a_name_of_another_library_is_answered_with_one_that_exists(
    objects: dict[str, Any], kind: str, name: str
) -> None:
    what, names = NAMES[kind]
    with pytest.raises(AttributeError) as caught:
        getattr(objects[kind], name)

    assert str(caught.value) == f"{what} has no `{name}`: use `{names[name]}`"
    assert_exists(names[name], objects)


@pytest.mark.parametrize("name", jobkit._OTHER_NAMES)
def test_a_name_of_another_librarys_module_is_answered_with_one_that_exists(objects: dict[str, Any], name: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(jobkit, name)

    ours = jobkit._OTHER_NAMES[name]
    assert str(caught.value) == f"module 'jobkit' has no attribute {name!r}: use `{ours}`"
    assert_exists(ours, objects)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_of_another_library_is_answered_with_one_that_exists(objects: dict[str, Any], name: str) -> None:
    with pytest.raises(jobkit.InvalidParams) as caught:
        objects["kit"].options(**{name: 1})

    assert str(caught.value) == f"unknown option {name!r}: write {OPTIONS[name]}"
    if option := re.match(r"([a-z_]+)=", OPTIONS[name]):
        assert option[1] in OPTIONS_HERE["submission"]
    else:
        assert_exists(OPTIONS[name], objects)


def assert_exists(expression: str, objects: dict[str, Any]) -> None:
    """Assert that each object in an expression of an answer has the attribute that follows."""
    uses = re.findall(r"\b(job|batch|task|kit|jobkit)\.([A-Za-z_]+)", expression)
    assert uses or expression == "task(...)"
    for thing, attribute in uses:
        assert hasattr({**objects, "jobkit": jobkit}[thing], attribute), expression


def test_the_best_job_of_a_sweep_is_found_as_the_answer_to_best_params_says(kit: Kit) -> None:
    batch = kit.sweep(work, n=[1, 2, 5])

    assert eval(NAMES["batch"][1]["best_params_"], {"batch": batch}) == {"n": 1}


def test_other_names_are_missing_as_usual(objects: dict[str, Any]) -> None:
    for each in objects.values():
        kind = type(each).__name__
        with pytest.raises(AttributeError, match=f"'{kind}' object has no attribute 'nonsense'"):
            _ = each.nonsense
        assert not any(hasattr(each, name) for name in each._OTHER_NAMES[1])
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
    task = objects["task"]
    assert pickle.loads(pickle.dumps(task))(2) == 5
    assert copy.copy(task)(2) == 5
    seen: list[Any] = []
    watcher = objects["job"].param.watch(seen.append, "state")
    objects["job"].param.unwatch(watcher)
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
        ("job", "resutl", "a Job has no `resutl`: did you mean `result`?"),
        ("batch", "as_complted", "a Batch has no `as_complted`: did you mean `as_completed`?"),
        ("task", "sumbit", "a task has no `sumbit`: did you mean `submit`?"),
        ("kit", "worker", "a Kit has no `worker`: did you mean `workers`?"),
        ("job", "qqqqq", "'Job' object has no attribute 'qqqqq'"),
        ("job", "_resul", "'Job' object has no attribute '_resul'"),
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
