"""Pause, resume and move from Python, in each place where jobs run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import jobkit
from jobkit.client.kit import Kit
from tests.support import wait_until


@pytest.fixture(autouse=True)
def resumed(kit: Kit) -> Iterator[None]:
    """Resume everything afterwards: the tests of a place share a namespace."""
    yield
    for noun in (kit.queues, kit.tasks):
        for pause in noun.paused():
            noun.resume(pause.name)


def double(n: int) -> int:
    return 2 * n


def test_a_paused_task_waits_while_others_run_until_it_is_resumed(kit: Kit) -> None:
    assert kit.tasks.pause("double", by="ada")
    held = [kit.submit(double, n) for n in (1, 2)]

    assert kit.submit(len, "abc").result(60) == 3
    assert [job.state for job in held] == ["queued", "queued"]
    assert [(pause.kind, pause.name, pause.by) for pause in kit.tasks.paused()] == [("task", "double", "ada")]

    assert kit.tasks.resume("double")
    assert [job.result(60) for job in held] == [2, 4]


def test_a_paused_queue_accepts_submits_and_starts_none(kit: Kit) -> None:
    assert kit.queues.pause("default")
    assert not kit.queues.pause("default")
    held = kit.submit(len, "abc")

    assert kit.snapshot(held.id).state == "queued"
    assert kit.queues.resume("default")
    assert held.result(60) == 3
    assert not kit.queues.resume("default")


def test_a_moved_handle_shows_its_new_queue_live(kit: Kit) -> None:
    kit.queues.pause("elsewhere")
    job = kit.options(queue="elsewhere").submit(len, "abc")

    assert kit.move(job.id, queue="default", priority=3) == {}

    assert job.result(60) == 3
    wait_until(lambda: (job.queue, job.snapshot.spec.priority) == ("default", 3), what="the handle to follow")
    assert kit.move([job.id, "missing"], queue="gpu") == {
        job.id: f"job {job.id} has already succeeded; only waiting jobs can be moved",
        "missing": "no job 'missing' is kept here: it was never submitted, was removed, or has expired",
    }


async def test_the_same_verbs_are_coroutines(kit: Kit) -> None:
    assert await kit.aio.queues.pause("quiet")
    assert [pause.name for pause in await kit.aio.queues.paused()] == ["quiet"]
    assert await kit.aio.queues.resume("quiet")


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda kit: kit.queues.pause("my queue"), "queue must be 1 to 200 characters"),
        (lambda kit: kit.tasks.pause(""), "name"),
        (lambda kit: kit.move("a"), "give a queue or a priority to move to"),
        (lambda kit: kit.move("a", queue="my queue"), "queue must be 1 to 200 characters"),
        (lambda kit: kit.move("a", priority="high"), "priority must be a whole number"),
        (lambda kit: kit.move("a", priority=5000), "priority must be a whole number"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(kit: Kit, act: Any, sentence: str) -> None:
    with pytest.raises(jobkit.InvalidParams, match=sentence):
        act(kit)
    assert kit.queues.paused() == kit.tasks.paused() == []
