"""Batches that another process submitted: found, live, whole after retries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import jobkit
from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.client.stop_rules import apply_rule
from jobkit.features.batches.rows import GROUPS
from jobkit.model import JobSpec
from jobkit.model.batch import BatchSpec
from jobkit.store.values import Submission
from tests.support import wait_until
from tests.ui.stage import Stage


def test_a_batch_is_found_again_with_its_name_axes_and_values(kit: Kit) -> None:
    def area(a: float, b: float) -> float:
        return a * b

    made = kit.sweep(area, a=[1, 2], b=[3, 4], name="areas")
    made.wait(60)

    found = kit.batches.get(made.id)

    assert (found.id, found.name, found.axes, found.owner) == (made.id, "areas", ("a", "b"), made[0].owner)
    assert found.values() == [3, 4, 6, 8]
    assert found.counts == {"succeeded": 4}
    assert list(found.results()["value"]) == [3, 4, 6, 8]
    assert "areas" in repr(found)
    assert [batch.id for batch in kit.batches()] == [made.id]
    assert [batch.id for batch in kit.batches(name="others")] == []
    assert kit.batches()[0].counts == {"succeeded": 4}
    assert kit.batches()[0].values() == [3, 4, 6, 8]


def test_a_name_finds_its_newest_batch(kit: Kit) -> None:
    older, newer = (kit.map(len, ["a"], name="two of a name") for _ in range(2))
    older.wait(60), newer.wait(60)

    assert kit.batches.get("two of a name").id == newer.id
    with pytest.raises(jobkit.JobNotFound, match="no such name"):
        kit.batches.get("no such name")


def test_a_found_batch_moves_with_its_jobs(queued: Kit) -> None:
    made = queued.options(delay=600).map(len, ["a", "b", "c"])
    found = queued.batches.get(made.id)
    assert found.counts == {"scheduled": 3}

    made[0].cancel()
    wait_until(lambda: found.counts == {"scheduled": 2, "cancelled": 1})
    assert found.cancel() == 2
    assert found.wait(60)


def test_a_found_batch_has_the_jobs_that_replace_its_failed_ones(kit: Kit) -> None:
    made = kit.map(int, ["1", "x"])
    made.wait(60)
    found = kit.batches.get(made.id)

    again = made[1].retry()

    wait_until(lambda: [job.id for job in found] == [made[0].id, again.id])
    again.wait(60)
    assert kit.batches.info(made.id).counts == {"succeeded": 1, "failed": 1}
    assert kit.batches.get(made.id)[1].id == again.id


def test_a_rule_is_kept_when_the_process_that_gave_it_has_ended(
    place: dict[str, str], queued: Kit, tmp_path: Path
) -> None:
    def waits(n: int, go: str) -> int:
        import pathlib
        import time

        while n and not pathlib.Path(go).exists():
            time.sleep(0.02)
        return n

    go = tmp_path / "go"
    with jobkit.connect(**place) as other:
        made = other.map(waits, [(n, str(go)) for n in range(30)], stop_when=lambda job: job.result() == 0)

    found = queued.batches.get(made.id)
    assert found.wait(60)
    assert found.stopped_by is not None
    assert found.stopped_by.result() == 0
    assert found.counts == {"succeeded": 1, "cancelled": 29}


def test_a_rule_that_holds_when_all_jobs_have_ended_has_stopped_nothing(kit: Kit) -> None:
    made = kit.map(int, ["1", "2"])
    made.wait(60)
    made.stop_when(lambda job: job.result() == 2)
    jobkit.wait(kit.jobs(task="apply_rule"), 60)  # of sync:// there is none: the rule has been applied here

    info = kit.batches.info(made.id)
    assert (made.stopped_by, kit.batches.get(made.id).stopped_by) == (None, None)
    assert (info.is_stopped, info.stopped_by, GROUPS.cells(info)["note"]) == (False, "", "2 succeeded")


def test_a_rule_can_be_given_later_and_counts(kit: Kit) -> None:
    made = kit.map(int, ["1", "x", "y", *["2"] * 40])
    made.stop_when("2 failed")
    assert made.wait(60)
    info = kit.batches.info(made.id)
    assert info.rule == "stops when 2 jobs have failed"
    assert info.is_stopped == ("cancelled" in info.counts)  # of sync:// all had ended
    assert kit.batches.delete(made.id) == 43
    assert kit.batches() == []


def test_a_batch_that_is_not_kept_is_named(kit: Kit) -> None:
    with pytest.raises(jobkit.JobNotFound, match="no batch 'nothing' is kept here"):
        kit.batches.get("nothing")
    with pytest.raises(jobkit.InvalidParams, match="batch_id must be text"):
        kit.batches.get(3)  # type: ignore[arg-type]
    with pytest.raises(jobkit.InvalidParams, match="name must be one line"):
        kit.map(len, ["a"], name="two\nlines")
    with pytest.raises(jobkit.InvalidParams, match="name must be text"):
        kit.sweep(len, obj=["a"], name=3)
    assert kit.batches() == []


def test_a_batch_is_cancelled_and_retried_without_its_handles(kit: Kit) -> None:
    made = kit.options(delay=0 if kit.settings.scheme == "sync" else 600).map(int, ["x", "y"])
    if kit.settings.scheme == "sync":
        assert kit.batches.cancel(made.id) == 0
        assert len(kit.batches.retry(made.id).jobs) == 2
    else:
        assert kit.batches.cancel(made.id, "enough") == 2
        assert kit.batches.info(made.id).counts == {"cancelled": 2}
        assert kit.batches.retry(made.id).jobs == {}


def test_jobs_that_join_a_batch_while_it_is_read_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    store: Any = stage.kit.verbs.store
    spec = BatchSpec("b1", "train", 3)
    jobs = [JobSpec(f"j{n}", "train", batch="b1") for n in range(3)]
    background.call(store.submit([Submission(jobs[0], b"")], "", spec, 0))

    async def read(ids: Sequence[str], old: Any = store.snapshots) -> Any:
        found = await old(ids)
        for place in (1, 2) if ids == ["j0"] else ():  # as soon as the first is known
            await store.submit([Submission(jobs[place], b"")], "", spec, place)
            await asyncio.sleep(0.3)  # longer than the pause before the batch is read again
        return found

    monkeypatch.setattr(store, "snapshots", read)

    batch = stage.kit.batches.get("b1")

    wait_until(lambda: [job.id for job in batch] == ["j0", "j1", "j2"], what="the further jobs")
    stage.close()


@pytest.mark.usefixtures("by_events_alone")
def test_progress_of_a_found_batch_moves_without_a_look_at_its_jobs() -> None:
    stage = Stage()
    batch_id, job, _ = stage.batch({"n": 1}, {"n": 2})
    found = stage.kit.batches.get(batch_id)

    stage.start(job)
    stage.progress(job, 1, 4)

    wait_until(lambda: found.progress == 0.125, what="the progress")
    stage.close()


def test_a_rule_is_applied_to_jobs_that_come_after_all_known_ones_have_ended() -> None:
    stage = Stage()
    spec, jobs = BatchSpec("b1", "train", 4), [JobSpec(f"j{n}", "train", batch="b1") for n in range(4)]
    judged: list[str] = []

    def rule(job: Any) -> bool:
        judged.append(job.id)
        return bool(job.id == "j2")

    def submit(place: int) -> None:
        background.call(stage.store.submit([Submission(jobs[place], b"")], "", spec, place))

    with ThreadPoolExecutor() as pool:
        found = pool.submit(apply_rule, stage.kit, "b1", rule)
        for place in range(3):
            submit(place)
            stage.start(f"j{place}")
            stage.succeed(f"j{place}")
            if place == 0:
                wait_until(lambda: judged == ["j0"], what="the first job to be judged")
        assert found.result(30) == "j2"
    assert sorted(judged) == ["j0", "j1", "j2"]
    submit(3)
    assert stage.kit.batches.info("b1").counts == {"succeeded": 3, "cancelled": 1}
    stage.close()
