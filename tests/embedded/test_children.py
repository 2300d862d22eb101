"""Pauses before a child process is started again."""

from __future__ import annotations

import pytest

from jobkit.embedded.children import KILLED_PAUSE_S, LONGEST_PAUSE_S, Child

from .conftest import wait_until


@pytest.mark.parametrize(("how", "pause_s"), [("kill -9 $$", KILLED_PAUSE_S), ("exit 1", LONGEST_PAUSE_S)])
def test_a_worker_that_jobs_kill_again_and_again_is_awaited_for_less_long_than_one_that_fails(
    how: str, pause_s: float
) -> None:
    said: list[str] = []
    child = Child("worker", ["sh", "-c", how], say=said.append, failures=2_000)
    child.tend()

    wait_until(lambda: not child.is_running)
    assert child.tend() == pytest.approx(pause_s)

    assert said[-1].endswith(f"restarting in {pause_s:.1f} s")
