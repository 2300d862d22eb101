"""Submits of one task share what they have in common, and nothing else."""

from __future__ import annotations

import gc
from typing import Any

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
