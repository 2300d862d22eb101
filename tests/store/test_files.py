"""Artifacts and folders of a job's files: kept with the job, orphaned afterwards."""

from __future__ import annotations

from msgspec.structs import replace

from jobkit.model import JobEvent
from jobkit.store.hub import EventHub
from jobkit.store.redis import RedisStore
from jobkit.store.values import ArtifactInfo, Claimed, Kept
from tests.support import until

from .support import claim, ending, keys, lapse, started, submit


def kept(claimed: Claimed, name: str = "a.txt", body: bytes = b"sealed", folder: str = "", at_ms: int = 1) -> Kept:
    return Kept(claimed.spec.id, claimed.token, ArtifactInfo(name, "text/plain", len(body), at_ms), body, folder)


async def test_artifacts_are_listed_oldest_first_and_read_by_name(store: RedisStore) -> None:
    claimed = await started(store, "a")

    answers = await store.keep([kept(claimed, "z", b"1"), kept(claimed, "ä b", b"\xff\x00", at_ms=2)])

    assert answers == [True, True]
    assert await store.artifacts("a") == [
        ArtifactInfo("z", "text/plain", 1, 1),
        ArtifactInfo("ä b", "text/plain", 2, 2),
    ]
    assert [await store.artifact("a", name) for name in ("z", "ä b", "no")] == [b"1", b"\xff\x00", None]
    assert (await store.artifacts("no"), await store.artifact("no", "z")) == ([], None)


async def test_an_artifact_replaces_the_one_of_the_same_name(store: RedisStore) -> None:
    claimed = await started(store, "a")
    await store.keep([kept(claimed, body=b"old")])

    await store.keep([kept(claimed, body=b"newer", at_ms=2)])

    assert [info.size_bytes for info in await store.artifacts("a")] == [5]
    assert await store.artifact("a", "a.txt") == b"newer"


async def test_an_artifact_that_is_sent_again_is_published_once_and_replaces_no_newer_one(
    store: RedisStore, hub: EventHub
) -> None:
    heard: list[JobEvent] = []
    hub.listen(heard.append, "a")
    await hub.ready("a")
    claimed = await started(store, "a")
    first, second = (replace(kept(claimed, body=b"%d" % n), number=n) for n in (1, 2))

    # The worker never saw a reply to the first message, and sends it again; then the network delivers it late.
    for sent in ([first], [first, second], [first]):
        assert await store.keep(sent) == [True] * len(sent)
    await store.finish([ending(claimed)])

    await until(lambda: "succeeded" in [str(event.type) for event in heard], "the last event")
    assert [str(event.type) for event in heard].count("logged") == 2
    assert await store.artifact("a", "a.txt") == b"2"


async def test_an_attempt_that_lost_its_lease_keeps_nothing(store: RedisStore) -> None:
    claimed = await started(store, "a")
    await lapse(store, "a")
    await claim(store)

    assert await store.keep([kept(claimed, folder="x"), replace(kept(claimed), job_id="no")]) == [False, False]
    assert (await store.artifacts("a"), await store.folder("a")) == ([], "")


async def test_artifacts_of_an_earlier_attempt_stay(store: RedisStore) -> None:
    claimed = await started(store, "a")
    await store.keep([kept(claimed)])
    await store.finish([ending(claimed, "retried")])
    [again] = await claim(store)
    await store.keep([kept(again, "b.txt")])

    await store.finish([ending(again, ttl_ms=60_000)])

    assert [info.name for info in await store.artifacts("a")] == ["a.txt", "b.txt"]


async def test_files_of_a_deleted_job_are_listed_until_they_are_removed(store: RedisStore) -> None:
    claimed = await started(store, "a")
    await store.keep([kept(claimed)])
    await store.finish([ending(claimed, ttl_ms=60_000, folder="base/xx/one")])
    assert (await store.folder("a"), await store.orphaned()) == ("base/xx/one", [])

    await store.delete(["a"])

    assert (await store.artifacts("a"), await store.artifact("a", "a.txt"), await store.folder("a")) == ([], None, "")
    assert await store.orphaned() == ["base/xx/one"]
    await store.cleaned_up(["base/xx/one", "base/xx/other"])
    assert await store.orphaned() == []
    assert [key for key in await keys(store) if key.endswith(":a")] == []


async def test_files_of_an_expired_job_are_listed_once_it_is_pruned(store: RedisStore) -> None:
    claimed = await started(store, "a")
    await store.finish([ending(claimed, "failed", ttl_ms=1, folder="one")])
    await until(lambda: store.prune(), "something to prune")

    assert await store.orphaned() == ["one"]
    await store.cleaned_up(["one"])


async def test_an_id_that_is_used_again_does_not_inherit_files(store: RedisStore) -> None:
    claimed = await started(store, "a")
    await store.keep([kept(claimed, folder="one")])
    await store.finish([ending(claimed, ttl_ms=1)])

    async def is_new() -> bool:
        await submit(store, "a")
        [found] = await store.snapshots(["a"])
        return found is not None and not found.is_terminal

    await until(is_new, "the id to be free")

    assert (await store.artifacts("a"), await store.folder("a"), await store.orphaned()) == ([], "", ["one"])
    [again] = await claim(store)
    assert again.us != claimed.us
    await store.cleaned_up(["one"])


async def test_the_store_knows_which_submissions_it_keeps(store: RedisStore) -> None:
    claimed = await started(store, "a")

    assert await store.owned([("a", claimed.us), ("a", claimed.us + 1), ("b", 1)]) == [True, False, False]
    assert await store.owned([]) == []


async def test_the_file_folder_of_a_namespace_stays(store: RedisStore) -> None:
    place = await store.place()

    assert len(place) == 16
    assert int(place, 16) >= 0
    assert await store.place() == place


async def test_orphaned_files_are_listed_in_portions(store: RedisStore) -> None:
    for n in range(5):
        await store.finish([ending(await started(store, f"j{n}"), ttl_ms=60_000, folder=f"f{n}")])
    await store.delete([f"j{n}" for n in range(5)])

    found = set(await store.orphaned(3))

    assert len(found) == 3
    await store.cleaned_up(sorted(found))
    assert len(await store.orphaned(3)) == 2
    await store.cleaned_up([f"f{n}" for n in range(5)])
