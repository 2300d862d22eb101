"""Fixtures of the tests of bars: those of processes of jobs."""

from __future__ import annotations

from tests.run.conftest import _nothing_left, heard, runner

__all__ = ["_nothing_left", "heard", "runner"]
