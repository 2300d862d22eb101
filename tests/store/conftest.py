"""The store in a separate namespace, checked and emptied after every test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from jobkit.settings import Settings
from jobkit.store.hub import EventHub
from jobkit.store.redis import RedisStore

from .server import Server
from .support import check_keys, check_laws, clear


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with Server() as server:
        yield server.url


def settings_for(url: str, **changes: object) -> Settings:
    usual = {"lease": 30.0, "heartbeat": 0.1, "max_losses": 3, "namespace": f"t{secrets.token_hex(4)}"}
    return Settings(url=url, **(usual | changes)).checked()  # type: ignore[arg-type]


@pytest.fixture
def lease_s() -> float:
    """Longer than any test: a lease expires when a test says so (`lapse`), not because the machine is busy. Tests of
    leases use a short one (`support.short_lease`)."""
    return 30.0


@pytest.fixture
async def store(redis_url: str, lease_s: float) -> AsyncIterator[RedisStore]:
    store = RedisStore(settings_for(redis_url, lease=lease_s))
    yield store
    await check_laws(store)
    await check_keys(store)
    await clear(store)
    await store.close()


@pytest.fixture
async def hub(store: RedisStore) -> AsyncIterator[EventHub]:
    hub = EventHub(store)
    await hub.start()
    yield hub
    await hub.close()


@pytest.fixture
def heard() -> list:  # type: ignore[type-arg]
    """Events passed to `heard.append`."""
    return []
