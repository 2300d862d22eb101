"""Selections of jobs: kept under short names, bounded, and gone without harm."""

from __future__ import annotations

import pytest

from jobkit.features.compare import store as selections
from jobkit.features.compare.store import SelectionStore
from jobkit.store.redis import RedisStore


async def test_a_selection_is_found_by_its_short_name(store: RedisStore) -> None:
    ids = [f"{n:032x}" for n in range(200)]

    first, second = await store.part(SelectionStore).keep(ids), await store.part(SelectionStore).keep(ids[:2])

    assert first != second
    assert len(first) <= 12
    assert await store.part(SelectionStore).read(first) == ids
    assert await store.part(SelectionStore).read(second) == ids[:2]


@pytest.mark.parametrize("name", ["", "zz", "0", "../x", "a" * 40, "1-1-1", "é"])
async def test_a_name_that_was_never_given_names_no_jobs(store: RedisStore, name: str) -> None:
    assert await store.part(SelectionStore).read(name) == []


async def test_the_newest_selections_of_a_bounded_number_of_jobs_are_kept(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selections, "_KEPT_MOST", 3)

    names = [await store.part(SelectionStore).keep([str(n)] * 2_000) for n in range(5)]

    assert [len(await store.part(SelectionStore).read(name)) for name in names] == [0, 0, 1000, 1000, 1000]
    assert await store.redis.pttl(f"{store.prefix}selections") > 0


async def test_texts_that_are_no_ids_are_not_kept(store: RedisStore) -> None:
    name = await store.part(SelectionStore).keep(["a", "x" * 100_000, "ü" * 150, "b"])
    assert await store.part(SelectionStore).read(name) == ["a", "b"]
