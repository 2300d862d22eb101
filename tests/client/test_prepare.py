"""Submits of one task share what they have in common, and nothing else."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

import jobkit
from jobkit.client.submit import SubmitOrigin, prepare
from jobkit.codec import Codec
from jobkit.model import JobSpec
from jobkit.settings import Settings
from jobkit.tasks.options import check_submit_options
from jobkit.tasks.registry import registry
from tests.worker import jobs


def made(origin: SubmitOrigin, task: Any = jobs.count_up, /, *args: Any, **options: Any) -> JobSpec:
    return prepare(registry.task_of(task), args or (3,), {}, check_submit_options(options), origin).spec


def origin_of(owner: str, **settings: Any) -> SubmitOrigin:
    return SubmitOrigin(Settings(url="sync://", **settings), Codec([b"key of these tests"]), owner)


def test_kits_with_other_settings_and_owners_submit_the_same_task_in_their_own_way() -> None:
    ada, bob = origin_of("ada", routing={"count_*": "gpu"}), origin_of("bob")

    specs = [made(origin) for origin in (ada, bob, ada, bob)]

    assert [(spec.owner, spec.queue) for spec in specs] == [("ada", "gpu"), ("bob", "default")] * 2
    assert len({spec.id for spec in specs}) == 4


def test_options_of_one_submit_do_not_stay_for_the_next() -> None:
    origin = origin_of("ada")

    specs = [made(origin), made(origin, priority=7, tags=["a"]), made(origin), made(origin, jobs.count_up, 4)]

    assert [(spec.priority, spec.tags) for spec in specs] == [(0, ()), (7, ("a",)), (0, ()), (0, ())]
    assert [list(spec.params.values()) for spec in specs][-2:] == [[3], [4]]


def test_a_submitted_task_with_options_can_be_freed() -> None:
    origin = origin_of("ada")
    task = registry.task_of(jobs.count_up)
    made(origin, task.options(priority=7))

    gc.collect()

    assert len(origin.templates) == 0


_factor = 1


def test_functions_of_one_definition_share_their_description_and_keep_their_closures_and_globals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pickle is made for each submit."""

    def added(n: int) -> Any:
        return lambda x: (x + n) * _factor

    inner = [added(n) for n in (11, 12)]
    tasks = [registry.task_of(each) for each in inner]
    assert tasks[0].pattern is tasks[1].pattern is not None
    assert [task.function for task in tasks] == inner

    with jobkit.connect("sync://") as kit:
        assert [kit.submit(each, 1).result() for each in inner] == [12, 13]
        monkeypatch.setitem(globals(), "_factor", 2)
        assert [kit.submit(each, 1).result() for each in inner] == [24, 26]


def test_a_changed_default_hint_name_or_docstring_is_seen_by_the_next_submit() -> None:
    origin = origin_of("ada")

    def made_of(x: int = 1) -> int:
        return x

    assert made(origin, made_of).params == {"x": 3}
    made_of.__defaults__ = (5,)
    assert prepare(registry.task_of(made_of), (), {}, check_submit_options({}), origin).spec.params == {"x": 5}

    plain = lambda x: x  # noqa: E731  # its names change
    assert made(origin, plain, "7").params == {"x": "7"}
    plain.__doc__, plain.__name__ = "A title", "other"
    assert (made(origin, plain, "7").title, made(origin, plain, "7").task) == ("A title", "other")
    plain.__annotations__["x"] = int
    with pytest.raises(jobkit.InvalidParams, match="x must be a whole number, not '7'"):
        made(origin, plain, "7")


def test_a_closure_over_large_data_is_freed_after_its_submit() -> None:
    class Large:
        pass

    def over(data: Large) -> Any:
        return lambda x: (x, data)

    origin, large = origin_of("ada"), Large()
    freed = weakref.ref(large)
    made(origin, over(large))
    del large
    gc.collect()

    assert freed() is None
