"""Names that `dir` and completion list of kits, jobs and batches; and the text of each."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

import jobkit
from jobkit.client.forms import Noun
from jobkit.client.kit import Kit

#: Modules of what users have no use for.
SERVICES = re.compile(r"jobkit\.(store|codec|client\.(connection|live|reader|repeat|limits|failures|verbs))\b")


def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture(scope="module")
def kit() -> Iterator[Kit]:
    with jobkit.connect("sync://", namespace="names") as made:
        yield made


@pytest.fixture(scope="module")
def objects(kit: Kit) -> dict[str, Any]:
    job, batch = kit.submit(add, 1), kit.map(add, [1, 2])
    schedule = kit.schedule(add, {"a": 1}, every=300, name="names")
    return {
        "kit": kit,
        "job": job,
        "batch": batch,
        "schedule": schedule,
        "jobs": kit.jobs(),
        "task": jobkit.task(name="of_names")(add),
    }


def test_dir_lists_no_services_and_nothing_private(objects: dict[str, Any]) -> None:
    for what, each in objects.items():
        names = dir(each)
        assert names == sorted(set(names)), what
        for name in names:
            value = getattr(each, name)
            assert not name.startswith("_"), f"{what}.{name}"
            assert not SERVICES.match(type(value).__module__), f"{what}.{name} is a service"


def test_every_hidden_name_exists_and_every_listed_method_has_help(objects: dict[str, Any]) -> None:
    for what, each in objects.items():
        for name in each._internal:
            assert hasattr(each, name), f"{what}.{name} is gone: remove it from _internal"
        for name in dir(each):
            value = getattr(each, name)
            assert not inspect.isroutine(value) or inspect.getdoc(value), f"{what}.{name} has no docstring"


def test_dir_lists_what_users_type(objects: dict[str, Any]) -> None:
    kit, job, batch = objects["kit"], objects["job"], objects["batch"]

    assert {"submit", "map", "sweep", "options", "get", "jobs", "aio", "schedule"} <= set(dir(kit))
    assert {"result", "wait", "cancel", "state", "progress", "param", "logs"} <= set(dir(job))
    assert {"results", "jobs", "cancel", "counts", "view"} <= set(dir(batch))
    assert {"submit", "map", "get", "jobs", "options"} <= set(dir(kit.aio)) <= {*dir(kit)}
    assert dir(kit.options(queue="gpu")) == ["executor", "map", "notebook", "options", "study", "submit", "sweep"]
    for name in ("submit", "get"):
        assert callable(getattr(kit.aio, name))
    assert all(map(inspect.iscoroutinefunction, (kit.aio.submit, kit.aio.map, kit.aio.sweep)))  # as callbacks


def test_a_kit_has_at_most_40_names_beside_its_nouns(kit: Kit) -> None:
    nouns = [name for name in dir(kit) if isinstance(getattr(kit, name), Noun)]

    assert {"batches", "queues", "schedules", "tasks", "workers"} <= set(nouns)
    assert len(dir(kit)) - len(nouns) <= 40


def test_text_says_what_an_object_is(objects: dict[str, Any]) -> None:
    kit, job, schedule = objects["kit"], objects["job"], objects["schedule"]
    whole = "<Kit sync:// namespace=names open>"

    assert repr(kit.aio) == f"{whole}.aio"
    assert repr(kit.options(queue="gpu", timeout="1m")) == f"{whole}.options(queue='gpu', timeout=60.0)"
    assert repr(kit.aio.options(tags=["a"])) == f"{whole}.aio.options(tags=('a',))"
    assert repr(job) == f"<Job {job.id} add(a=1, b=2) succeeded>"
    assert repr(job.snapshot) == f"<JobSnapshot {job.id} add(a=1, b=2) succeeded, seq {job.seq}>"
    batch = objects["batch"]
    assert repr(batch) == f"<Batch {batch.id[:8]} of 2 jobs, 100%: 2 succeeded>"
    assert repr(schedule).startswith("<Schedule names add: Every 5 min; next in ")
    assert re.fullmatch(r"<ScheduleSnapshot names add, next at \S+, fired 0>", repr(schedule.snapshot))


async def test_options_of_coroutines_are_those_of_blocking_submits(kit: Kit) -> None:
    bound = kit.aio.options(tags=["a"]).options(queue="other")

    job, batch = await bound.submit(add, 1, b=3), await bound.map(add, [1, 2])

    assert (await job, job.queue, job.tags) == (4, "other", ["a"])
    assert [each.queue for each in batch] == ["other", "other"]
    assert len(await bound.sweep(add, a=[1, 2], b=[3, 4])) == 4
