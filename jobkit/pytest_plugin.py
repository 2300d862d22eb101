"""The fixtures of `jobkit.testing`, for every run of pytest in an environment with jobkit.

pytest loads this module by the entry point `pytest11`, also for tests that have nothing to do with jobkit. So it
imports the rest of jobkit when a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest


@pytest.fixture
def jobkit_kit() -> Iterator[Any]:
    """The default kit of the test: jobs run at once."""
    with import_module("jobkit.testing").default_memory_kit(at_once=True) as kit:
        yield kit


@pytest.fixture
def jobkit_queue() -> Iterator[Any]:
    """The default kit of the test: jobs wait for `jobkit_queue.run()`, and time for `jobkit_queue.clock.tick()`."""
    with import_module("jobkit.testing").default_memory_kit(at_once=False) as kit:
        yield kit
