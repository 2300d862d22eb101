"""The stores of `tests/store`, each with an index beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from jobkit.index import Index
from jobkit.store.hub import RedisHub
from jobkit.store.memory import MemoryHub
from tests.store.conftest import hub, lease_s, redis_url, store, store_url
from tests.store.support import AnyStore

__all__ = ["hub", "lease_s", "redis_url", "store", "store_url"]


@pytest.fixture
async def index(store: AnyStore, hub: RedisHub | MemoryHub) -> AsyncIterator[Index]:
    made = Index(store, hub)
    yield made
    await made.close()
