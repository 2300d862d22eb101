"""Both stores, each with a namespace of its own, checked and emptied after every test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from jobkit.settings import Settings
from jobkit.store.hub import RedisHub
from jobkit.store.memory import MemoryHub, MemoryStore
from jobkit.store.redis import RedisStore

from .server import Server
from .support import AnyStore, check_keys, check_laws, clear


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    server = Server()
    server.start()
    yield server.url
    server.stop()


def settings_for(url: str, **changes: object) -> Settings:
    usual = {"lease": 30.0, "heartbeat": 0.1, "max_losses": 3, "namespace": f"t{secrets.token_hex(4)}"}
    return Settings(url=url, **(usual | changes)).checked()  # type: ignore[arg-type]


@pytest.fixture
def lease_s() -> float:
    """Longer than any test: a lease ends where a test lets it (`lapse`), not because the machine is busy. Tests of time
    itself take a short one (`support.short_lease`)."""
    return 30.0


@pytest.fixture(params=["memory", "redis"])
def store_url(request: pytest.FixtureRequest) -> str:
    return "sync://" if request.param == "memory" else str(request.getfixturevalue("redis_url"))


@pytest.fixture
async def store(store_url: str, lease_s: float) -> AsyncIterator[AnyStore]:
    settings = settings_for(store_url, lease=lease_s)
    store: AnyStore = MemoryStore(settings) if settings.scheme == "sync" else RedisStore(settings)
    yield store
    await check_laws(store)
    if isinstance(store, RedisStore):
        await check_keys(store)
    await clear(store)
    await store.close()


@pytest.fixture
async def redis_store(redis_url: str) -> AsyncIterator[RedisStore]:
    store = RedisStore(settings_for(redis_url))
    yield store
    await check_laws(store)
    await check_keys(store)
    await clear(store)
    await store.close()


@pytest.fixture
async def hub(store: AnyStore) -> AsyncIterator[RedisHub | MemoryHub]:
    hub = MemoryHub(store) if isinstance(store, MemoryStore) else RedisHub(store)
    await hub.start()
    yield hub
    await hub.close()


@pytest.fixture
def heard() -> list:  # type: ignore[type-arg]
    """Events that `heard.append` was called with."""
    return []
