"""Batches come with their jobs from an export: counts, places and rule; what did not come counts as deleted."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from jobkit.features.batches import moved as batches
from jobkit.features.batches.store import BatchStore
from jobkit.features.moving.dump import read_dumps, restore
from jobkit.model import InvalidParams
from jobkit.store.redis import RedisStore
from tests.features.batches.test_store import info, members, submit
from tests.store.support import claim, ending, job, keys, structure


async def moved(store: RedisStore, *left_out: str) -> bytes:
    """Export all jobs of a batch and the batch, delete them, and import all but some."""
    ids = await members(store)
    dumps = [dump for dump in await read_dumps(store, ids) if dump is not None]
    content = await batches.read(store, "b1")
    assert content is not None
    await store.cancel(ids)
    await store.delete(ids)
    assert await batches.read(store, "b1") is None
    await restore(store, [dump for dump in dumps if dump.snapshot.is_terminal and dump.id not in left_out])
    return content


async def ended(store: RedisStore) -> None:
    """A batch of four: succeeded, failed, cancelled, and one that is open."""
    await submit(store, "a", "b", "c", "d")
    first, second = await claim(store, free=2)
    await store.finish([ending(first), ending(second, "failed")])
    await store.cancel(["c"])


async def test_a_batch_moves_with_its_jobs(store: RedisStore) -> None:
    await ended(store)
    await store.cancel(["d"])
    await store.part(BatchStore).set_rule("b1", "stops when 9 jobs have failed", "failed 9")
    before = await info(store)

    assert await batches.restore(store, "b1", await moved(store))

    after = await info(store)
    for name in ("spec", "counts", "made", "came", "deleted", "submitted_at", "started_at", "ended_at", "rule", "us"):
        assert getattr(after, name) == getattr(before, name), name
    assert await members(store) == ["a", "b", "c", "d"]
    assert [batch.id for batch in await store.part(BatchStore).newest()] == ["b1"]
    assert (await store.part(BatchStore).folded(9))[0] == [after]
    await structure(store)

    await store.submit([job("again", batch="b1", retry_of="b")])
    assert await members(store) == ["a", "again", "c", "d"]
    assert (await info(store)).counts["queued"] == 1
    await store.cancel(["again"])
    await store.delete(["a", "again", "c", "d", "b"])
    assert not [key for key in await keys(store) if "batch" in key]


async def test_jobs_that_did_not_come_count_as_deleted_and_open_ones_as_none(store: RedisStore) -> None:
    await ended(store)

    assert await batches.restore(store, "b1", await moved(store, "a"))

    found = await info(store)
    assert found.counts == {"succeeded": 1, "failed": 1, "cancelled": 1}
    assert (found.made, found.deleted, found.open, await members(store)) == (3, 1, 0, ["b", "c"])
    await store.submit([job("d", batch="b1")])  # which waited, and is submitted again
    assert ((await info(store)).counts["queued"], await members(store)) == (1, ["b", "c", "d"])
    await store.cancel(["d"])
    await store.delete(["b", "c", "d"])


async def test_a_batch_that_exists_or_has_no_job_here_is_left_alone(store: RedisStore) -> None:
    await ended(store)
    content = await moved(store)
    assert await batches.restore(store, "b1", content)
    assert not await batches.restore(store, "b1", content)
    assert (await info(store)).made == 3

    await store.delete(["a", "b", "c"])
    assert not await batches.restore(store, "b1", content)
    await store.submit([job("a"), job("b", batch="other")])  # other jobs have taken their ids
    assert not await batches.restore(store, "b1", content)
    assert await store.part(BatchStore).infos(["b1"]) == [None]


@pytest.mark.parametrize(
    "change", [{"jobs": [["a"]]}, {"record": {}}, {"record": {"spec": "{}", "us": "1"}}, {"record": {"us": "x"}}, None]
)
async def test_a_batch_that_cannot_be_read_is_refused(store: RedisStore, change: dict[str, object] | None) -> None:
    await submit(store, "a")
    content = json.loads(await batches.read(store, "b1") or b"")
    assert batches.check("b1", json.dumps(content).encode())[1].id == "b1"

    with pytest.raises(InvalidParams, match="batch 'b1' cannot be read"):
        batches.check("b1", json.dumps({**content, **change}).encode() if change is not None else b"no JSON")
    with pytest.raises(InvalidParams, match="cannot be read"):
        batches.check("b2", json.dumps(content).encode())
    with pytest.raises(InvalidParams):
        batches.check("b\n1", json.dumps(content).encode())


def test_the_batch_of_a_job_is_exported_before_the_batch_that_it_leads() -> None:
    spec = SimpleNamespace(batch="b1")
    dump = SimpleNamespace(id="study", snapshot=SimpleNamespace(spec=spec), record={"leads": "study"})
    assert batches.names(dump) == ["b1", "study"]
