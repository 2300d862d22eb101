"""A separate registry for tasks that tests define."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobkit.tasks.registry import registry


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    before = dict(registry._tasks)
    registry._tasks.clear()
    yield
    registry._tasks.clear()
    registry._tasks.update(before)
