"""The store of `tests/store` with an index."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from jobkit.features.search.index import Index
from jobkit.store.hub import EventHub
from jobkit.store.redis import RedisStore
from tests.store.conftest import hub, lease_s, redis_url, store

__all__ = ["hub", "lease_s", "redis_url", "store"]


@pytest.fixture
async def index(store: RedisStore, hub: EventHub) -> AsyncIterator[Index]:
    made = Index(store, hub)
    yield made
    await made.close()
