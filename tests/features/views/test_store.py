"""Saved views of users: kept under names, and bounded."""

from __future__ import annotations

import pytest

from jobkit.features.views.store import MOST, SavedView, ViewStore
from jobkit.model import InvalidParams
from jobkit.store.redis import RedisStore


async def test_views_are_saved_replaced_renamed_and_deleted_by_user(store: RedisStore) -> None:
    saved = store.part(ViewStore)
    night = SavedView("night", "state:failed since:22:00", "-took", "queue,worker")
    await saved.put("ada", night)
    await saved.put("ada", SavedView("A first", "task:train"))
    await saved.put("bob", SavedView("night", "owner:bob"))
    assert await saved.of("ada") == [SavedView("A first", "task:train"), night]

    await saved.put("ada", SavedView("night", "state:failed"))
    await saved.rename("ada", "night", "late")
    assert await saved.of("ada") == [SavedView("A first", "task:train"), SavedView("late", "state:failed")]
    assert await saved.delete("ada", "late")
    assert not await saved.delete("ada", "late")
    assert await saved.of("ada") == [SavedView("A first", "task:train")]
    assert await saved.of("bob") == [SavedView("night", "owner:bob")]


@pytest.mark.parametrize(
    ("view", "sentence"),
    [
        (SavedView(" "), "the name of a view must have 1 to 60 characters, not ' '"),
        (SavedView("x" * 61), "the name of a view must have 1 to 60"),
        (SavedView("a\nb"), "the name of a view must have"),
        (SavedView("a", "x" * 501), "the search of a view has at most 500 characters"),
        (SavedView("a", "", "size"), "the order of a view must be one of submitted, .* not 'size'"),
        (SavedView("a", hidden="x" * 201), "the hidden columns of a view"),
    ],
)
async def test_a_view_that_is_not_allowed_is_refused_with_a_sentence(
    store: RedisStore, view: SavedView, sentence: str
) -> None:
    with pytest.raises(InvalidParams, match=sentence):
        await store.part(ViewStore).put("ada", view)
    assert await store.part(ViewStore).of("ada") == []


async def test_a_user_has_a_bounded_number_of_views_and_no_two_of_one_name(store: RedisStore) -> None:
    for n in range(MOST):
        await store.part(ViewStore).put("ada", SavedView(f"v{n}"))

    with pytest.raises(InvalidParams, match=f"a user has at most {MOST} views; delete one first"):
        await store.part(ViewStore).put("ada", SavedView("one more"))
    await store.part(ViewStore).put("ada", SavedView("v0", "changed"))
    with pytest.raises(InvalidParams, match="there is a view 'v1' already"):
        await store.part(ViewStore).rename("ada", "v0", "v1")
    with pytest.raises(InvalidParams, match="there is no view 'x' any more"):
        await store.part(ViewStore).rename("ada", "x", "y")
