"""CPython's own tests of executors with `kit.executor`, in Pythons that ship them."""

from __future__ import annotations

import unittest
from importlib import import_module
from typing import Any

import pytest

from jobkit.client.kit import Kit

pytestmark = pytest.mark.nightly

_ALL = "test.test_concurrent_futures"

pytest.importorskip(_ALL, reason="this Python does not ship its tests of concurrent.futures")

_OWN_PROCESS = "starts a program with an executor of the standard library, whose calls print to its terminal"

#: Tests that do not apply.
_NOT_OURS = {
    "test_interpreter_shutdown": _OWN_PROCESS,
    "test_submit_after_interpreter_shutdown": _OWN_PROCESS,
    "test_hang_gh83386": _OWN_PROCESS,
}


def mixin(module: str, name: str) -> Any:
    """Return a class of their tests: one file in Python 3.11, a package later."""
    whole = import_module(_ALL)
    return getattr(whole if hasattr(whole, name) else import_module(f"{_ALL}.{module}"), name)


class Case(
    mixin("executor", "ExecutorTest"),  # type: ignore[misc]
    mixin("test_wait", "WaitTests"),
    mixin("test_as_completed", "AsCompletedTests"),
    mixin("test_shutdown", "ExecutorShutdownTest"),
    unittest.TestCase,
):
    worker_count = 4

    def __init__(self, name: str, kit: Kit) -> None:
        super().__init__(name)
        self.executor_type = kit.executor

    def setUp(self) -> None:
        self.executor = self.executor_type(max_workers=self.worker_count)

    def tearDown(self) -> None:
        self.executor.shutdown()


# Only the functions here are to be collected.
Case.__test__ = False


@pytest.mark.parametrize("name", unittest.defaultTestLoader.getTestCaseNames(Case))
def test_passes(name: str, queued: Kit) -> None:
    if name in _NOT_OURS:
        pytest.skip(_NOT_OURS[name])
    result = Case(name, queued).run()
    assert result is not None
    if result.skipped:
        pytest.skip(result.skipped[0][1])
    for _, problem in result.failures + result.errors:
        pytest.fail(problem)
