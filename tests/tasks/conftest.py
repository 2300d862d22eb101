"""A separate registry for tasks that tests define."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _own_registry(no_tasks: None) -> None:
    """Each test starts without tasks."""
