"""A real Redis, a kit with a separate namespace, a worker that the test plays, and the API on a server."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import redis

from jobkit.client.kit import Kit
from jobkit.settings import Settings
from jobkit.tasks.registry import registry
from tests.http import tasks
from tests.http.site import Site
from tests.store.server import Server, running_server
from tests.ui.stage import Stage

redis_server = pytest.fixture(running_server, name="redis_server", scope="package")


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    before = dict(registry._tasks)
    registry._tasks.clear()
    registry._tasks.update({"double": tasks.double, "train_model": tasks.train_model})  # type: ignore[dict-item]
    yield
    registry._tasks.clear()
    registry._tasks.update(before)


@pytest.fixture
def kit(redis_server: Server) -> Iterator[Kit]:
    # The played worker sends heartbeats only at the test's request: a short lease would expire on a slow machine.
    namespace = f"t{secrets.token_hex(4)}"
    settings = Settings(url=redis_server.url, namespace=namespace, secret="of these tests", lease=3600.0)
    made = Kit(settings)
    yield made
    made.close()
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        for key in client.scan_iter(f"jk:{settings.namespace}:*"):
            client.delete(key)


@pytest.fixture
def stage(kit: Kit) -> Stage:
    return Stage(kit)


@pytest.fixture
def serve(kit: Kit) -> Iterator[Callable[..., Site]]:
    """Factory of sites with options."""
    sites: list[Site] = []

    def start(kind: str = "tornado", **options: Any) -> Site:
        sites.append(Site(kind, options.pop("kit", kit), **options))
        return sites[-1]

    yield start
    for site in sites:
        site.close()


@pytest.fixture(params=["tornado", "asgi"])
def site(request: pytest.FixtureRequest, serve: Callable[..., Site]) -> Site:
    """The API, open to this machine."""
    return serve(request.param)


@pytest.fixture
def http(site: Site) -> Iterator[httpx.Client]:
    with site.client() as client:
        yield client


@pytest.fixture
def guarded(serve: Callable[..., Site]) -> Site:
    """The API as other machines see it."""
    return serve(is_open_on_loopback=False)


def other(kit: Kit, **changes: Any) -> Settings:
    return replace(kit.settings, **changes)
