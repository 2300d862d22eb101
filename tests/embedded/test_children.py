"""Pauses before a child process is started again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys

import psutil
import pytest

from jobkit.embedded.children import KILLED_PAUSE_S, LONGEST_PAUSE_S, Child
from tests.support import ROOT

from .conftest import wait_until


def ended(how: str, failures: int = 2_000) -> tuple[Child, list[str]]:
    """Return a child of a shell script that has ended, and what it said."""
    said: list[str] = []
    child = Child("worker", ["sh", "-c", how], say=said.append, failures=failures)
    child.tend()
    wait_until(lambda: not child.is_running)
    return child, said


def test_a_worker_that_fails_again_and_again_is_started_after_growing_pauses() -> None:
    child, said = ended("exit 1")

    assert child.tend() == pytest.approx(LONGEST_PAUSE_S)
    assert said[-1].endswith(f"restarting in {LONGEST_PAUSE_S:.1f} s")


def test_a_worker_that_is_killed_again_and_again_is_started_each_two_seconds_at_most() -> None:
    child, _ = ended("kill -9 $$")
    child._started_at += 60  # in which nothing has passed, however slow this machine is

    assert 60 < child.tend() <= 60 + KILLED_PAUSE_S


#: Dies between the start of a child and the moment at which the guard hears of it.
DIES = """
import os, signal, sys
from jobkit.embedded import children
children._guard.add = lambda *of: os.kill(os.getpid(), signal.SIGKILL)
children.start(["sleep", sys.argv[1]], log=None, death_signal=signal.SIGKILL)
"""


def test_a_child_ends_with_its_parent_whenever_that_dies_on_a_system_without_death_signals() -> None:
    mark = f"{600 + random.random():.9f}"
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'tests' / 'portable'}:{ROOT}"}

    died = subprocess.run([sys.executable, "-c", DIES, mark], env=environment, check=False)

    assert died.returncode == -signal.SIGKILL
    wait_until(lambda: not [each for each in psutil.process_iter(["cmdline"]) if mark in (each.info["cmdline"] or ())])


@pytest.mark.parametrize("failures", [0, 20])
def test_a_worker_that_is_killed_after_some_seconds_is_started_again_at_once(failures: int) -> None:
    child, said = ended("kill -9 $$", failures)
    child._started_at -= KILLED_PAUSE_S

    child.tend()

    assert "restarting in 0.0 s" in said[1]
    assert "started" in said[2]
    child.kill()
