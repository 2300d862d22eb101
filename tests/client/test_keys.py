"""`key=`: the same job for the same key and task, as long as it is kept."""

from __future__ import annotations

import pytest

from jobkit.client.kit import Kit
from tests.support import wait_until


def one(n: int = 0) -> int:
    return n


def other(n: int = 0) -> int:
    return n


def test_a_key_gives_the_same_job_while_it_waits_runs_and_when_it_has_ended(kit: Kit) -> None:
    first = kit.options(key="nightly").submit(one, 1)
    again = kit.options(key="nightly").submit(one, 2)
    assert first.wait(60)
    after = kit.options(key="nightly").submit(one, 3)

    assert first.id == again.id == after.id
    assert after.result(60) == 1
    assert [job.id for job in kit.jobs()] == [first.id]


def test_keys_of_another_task_are_separate(kit: Kit) -> None:
    first, second = (kit.options(key="nightly").submit(task, 5) for task in (one, other))

    assert first.id != second.id
    assert second.result(60) == 5


@pytest.mark.usefixtures("by_events_alone")
@pytest.mark.parametrize("way", ["expired", "deleted"])
def test_a_key_is_free_again_when_its_job_is_gone(kit: Kit, way: str) -> None:
    first = kit.options(key="nightly", result_ttl=0.2 if way == "expired" else None).submit(one, 1)
    assert first.result(60) == 1
    if way == "deleted":
        kit.delete([first.id])
    wait_until(lambda: first.id not in [job.id for job in kit.jobs()], what="the job to be forgotten")

    again = kit.options(key="nightly").submit(one, 2)

    assert again.id == first.id
    assert again.result(60) == 2
    assert first.result() == 1  # the old handle does not change
