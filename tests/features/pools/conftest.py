"""Fixtures of the tests of pools: the store of the store's tests, and an engine that is made up."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from jobkit.features.pools import launcher, launchers
from tests.features.pools.fakes import MadeUpLauncher
from tests.store.conftest import lease_s, redis_url, store

__all__ = ["lease_s", "redis_url", "store"]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[MadeUpLauncher]]:
    """An engine "made_up" with no units."""
    module: Any = types.ModuleType(f"{launchers.__name__}.made_up")
    module.MadeUpLauncher = MadeUpLauncher
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(launcher.ENGINES, "made_up", "MadeUpLauncher")
    for name, value in (("units", {}), ("orders", {}), ("stopped", []), ("refuses", ""), ("is_away", False)):
        monkeypatch.setattr(MadeUpLauncher, name, value)
    monkeypatch.setattr(MadeUpLauncher, "dies", "")
    return MadeUpLauncher
