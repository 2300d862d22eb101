"""A server for each module, and a store on it that is empty after each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from jobkit.store.redis import RedisStore
from tests.store.conftest import settings_for
from tests.store.server import Server


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Server() as server:
        yield server.url


@pytest.fixture
async def store(url: str) -> AsyncIterator[RedisStore]:
    store = RedisStore(settings_for(url))
    yield store
    await store.redis.flushall()
    await store.close()
