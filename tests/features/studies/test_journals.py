"""Journals of studies: written by the attempt that runs, kept with the job; and trials that end with their study."""

from __future__ import annotations

import pytest

from jobkit.features.batches.store import BatchStore
from jobkit.features.studies.store import JournalStore
from jobkit.model import JobState
from jobkit.model.batch import BatchSpec
from jobkit.store.redis import RedisStore
from tests.store.support import claim, ending, error_of, job, lapse, snapshot, started, submit, worker

STUDY = BatchSpec("study", "train", 20, kind="study", direction="minimize")


async def trials(store: RedisStore, count: int, first: int = 0) -> None:
    await store.submit([job(f"t{n}", batch="study") for n in range(first, first + count)], "", STUDY, first)


async def test_only_the_running_attempt_appends(store: RedisStore) -> None:
    journals = JournalStore(store)
    assert await journals.append("study", "w1:1", 0, ["a"]) == -1
    await started(store, "study")

    assert await journals.append("study", "w1:1", 0, ["a", "b"]) == 2
    assert await journals.append("study", "w1:1", 2, ["c"]) == 3
    assert await journals.append("study", "w2:2", 3, ["d"]) == -1
    assert await journals.append("study", "w2:1", 3, ["d"]) == -1, "the first attempt of a job that had this id"
    await lapse(store, "study")
    [again] = await claim(store, by=worker("w2"))
    assert again.attempt == 2
    assert await journals.append("study", "w1:1", 3, ["d"]) == -1
    assert await journals.append("study", "w2:2", 3, ["e"]) == 4

    assert await journals.entries("study") == [b"a", b"b", b"c", b"e"]
    assert await journals.entries("study", 3) == [b"e"]


async def test_a_journal_expires_by_itself(store: RedisStore) -> None:
    await started(store, "study")
    await JournalStore(store).append("study", "w1:1", 0, ["a"])

    assert 0 < await store.redis.pttl(f"{store.prefix}journal:study") <= 90 * 86_400_000


async def test_an_append_whose_reply_was_lost_can_be_repeated(store: RedisStore) -> None:
    journals = JournalStore(store)
    await started(store, "study")
    for _ in range(2):
        assert await journals.append("study", "w1:1", 0, ["a", "b"]) == 2
    assert await journals.append("study", "w1:1", 5, ["f"]) == 2, "entries are missing between"
    assert await journals.entries("study") == [b"a", b"b"]


async def lose_after(store: RedisStore, known: int, *entries: str) -> None:
    """Let the job of a study append entries and lose its worker."""
    [claimed] = await claim(store, by=worker(f"w{known}"))
    if entries:
        await JournalStore(store).append("study", claimed.token, known, entries)
    await lapse(store, "study")
    await store.claim(worker("w0", "other"), 0)


async def test_a_study_whose_journal_has_grown_has_all_its_losses_before_it_again(store: RedisStore) -> None:
    await submit(store, "study")
    for known in range(50):
        await lose_after(store, known, f"entry {known}")
    await lose_after(store, 50)
    assert (await snapshot(store, "study")).state is JobState.QUEUED
    await lose_after(store, 51)

    error = await error_of(store, "study")
    assert error.message.startswith(
        "its workers died 3 times while running it, each time after entry 50 of its journal; last, worker w51"
    )


async def test_a_journal_goes_with_its_job(store: RedisStore) -> None:
    claimed = await started(store, "study")
    await JournalStore(store).append("study", "w1:1", 0, ["a"])
    await store.finish([ending(claimed, ttl_ms=60_000)])
    assert 0 < await store.redis.pttl(f"{store.prefix}journal:study") <= 60_000
    assert await store.delete(["study"]) == [True]
    assert not await store.redis.exists(f"{store.prefix}journal:study")


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
async def test_trials_end_with_a_study_that_does_not_succeed(store: RedisStore, outcome: str) -> None:
    claimed = await started(store, "study")
    await JournalStore(store).append("study", "w1:1", 0, ["a"])
    await trials(store, 130)
    [running] = await claim(store, by=worker("w2"))

    await store.finish([ending(claimed, outcome)])

    assert (await snapshot(store, running.spec.id)).is_cancelling
    await store.finish([ending(running, "cancelled")])
    [info] = await store.part(BatchStore).infos(["study"])
    assert info is not None
    assert (info.counts, info.stopped_by) == ({"cancelled": 130}, "study")
    assert (await snapshot(store, "t129")).history[-1].data["reason"] == "its study has ended"
    await trials(store, 1, 130)  # of an attempt that was frozen meanwhile
    assert (await snapshot(store, "t130")).state is JobState.CANCELLED


async def test_trials_end_with_a_study_that_waits_and_is_cancelled(store: RedisStore) -> None:
    await started(store, "study")
    await JournalStore(store).append("study", "w1:1", 0, ["a"])
    await trials(store, 2)
    await lapse(store, "study")
    await store.claim(worker("w2", "other"), 0)

    assert await store.cancel(["study"]) == ["cancelled"]

    assert {(await snapshot(store, id)).state for id in ("t0", "t1")} == {JobState.CANCELLED}


async def test_trials_outlive_a_study_that_succeeds(store: RedisStore) -> None:
    claimed = await started(store, "study")
    await JournalStore(store).append("study", "w1:1", 0, ["a"])
    await trials(store, 1)
    await store.finish([ending(claimed)])
    assert (await snapshot(store, "t0")).state is JobState.QUEUED
