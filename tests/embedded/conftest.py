"""Home with a short path; afterwards no process of it may be left."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from jobkit.embedded import shutdown
from jobkit.embedded.home import Home
from jobkit.settings import Settings
from tests.support import processes_of as processes_of
from tests.support import wait_until as wait_until

#: A worker that does nothing until a signal ends it.
IDLE_WORKER = [sys.executable, "-c", "import signal; signal.pause()"]


@contextmanager
def home_of_test() -> Iterator[Settings]:
    """Yield settings with a new home; afterwards its server is stopped and no process of it lives."""
    home = Path(tempfile.mkdtemp(prefix="jk-", dir="/tmp"))
    try:
        yield replace(Settings(), home=home, drain=1.0)
    finally:
        shutdown(Settings(home=home), now=True)
    try:
        wait_until(lambda: not processes_of(home), what="all processes of the home to end")
    finally:
        for process in processes_of(home):
            process.kill()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def settings() -> Iterator[Settings]:
    """Settings with a new home; see `home_of_test`."""
    with home_of_test() as settings:
        yield settings


def supervisor_of(settings: Settings) -> int:
    """Return the process id of the supervisor of a home."""
    return int(Home(settings.home).status()["pid"])
