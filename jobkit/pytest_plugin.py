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
    """The default kit of the test: jobs run at once.

    Example:
        >>> def test_a_report_is_ordered(jobkit_kit):
        ...     report.submit(day="monday")
        ...     jobkit_kit.assert_submitted(report, day="monday")
    """
    with import_module("jobkit.testing").default_memory_kit(at_once=True) as kit:
        yield kit


@pytest.fixture
def jobkit_queue() -> Iterator[Any]:
    """The default kit of the test: jobs wait for `jobkit_queue.run()`, and time for `jobkit_queue.clock.tick()`.

    Example:
        >>> def test_the_reminder_comes_after_a_day(jobkit_queue):
        ...     report.options(delay="1d").submit()
        ...     jobkit_queue.clock.tick(days=1)
        ...     assert len(jobkit_queue.run()) == 1
    """
    with import_module("jobkit.testing").default_memory_kit(at_once=False) as kit:
        yield kit
