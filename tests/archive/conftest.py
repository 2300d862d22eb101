"""The store of `tests/store` with an archive in a directory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobkit.archive import Archive
from jobkit.archive.writer import Archiver
from jobkit.files.storage import Directory
from jobkit.store.redis import RedisStore
from tests.store.conftest import lease_s, redis_url, settings_for, store

__all__ = ["lease_s", "redis_url", "store"]

pytest.importorskip("pyarrow")


@pytest.fixture
def archive(store: RedisStore, tmp_path: Path) -> Archive:
    return Archive(Directory(tmp_path / "archive", "archive"), store.settings.namespace)


@pytest.fixture
async def archiver(store: RedisStore, archive: Archive) -> AsyncIterator[Archiver]:
    made = Archiver(store, archive)
    await made.begin()
    yield made
    await write_all(store, archive)


async def write_all(store: RedisStore, archive: Archive) -> None:
    """Archive all jobs that wait, by another worker."""
    other = Archiver(store, archive)
    other.every_s = 0.0
    await other.append()
    while (await store.outbox.state()).waiting:
        await other.append()


__all__ += ["settings_for"]
