"""A separate registry for tasks that tests define."""

from __future__ import annotations

import pytest

from jobkit.tasks.registry import registry


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_tasks", {})
