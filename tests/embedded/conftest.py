"""A home with a short path, and the certainty that nothing of it is left."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from jobkit.embedded import shutdown
from jobkit.settings import Settings

#: A worker that does nothing until it is told to end.
IDLE_WORKER = [sys.executable, "-c", "import signal; signal.pause()"]


def wait_until(is_so: Callable[[], object], timeout_s: float = 15.0, what: str = "") -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what or is_so}"
        time.sleep(0.01)


def processes_of(home: Path) -> list[psutil.Process]:
    """Every process that was started for a home: it is named in the command line or in JOBKIT_HOME."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != psutil.Process().pid and process.status() != psutil.STATUS_ZOMBIE:
                named = str(home) in " ".join(process.cmdline())
                if named or process.environ().get("JOBKIT_HOME") == str(home):
                    found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.fixture
def settings() -> Iterator[Settings]:
    """Settings for a fresh home; afterwards its server is down and no process of it lives."""
    home = Path(tempfile.mkdtemp(prefix="jk-", dir="/tmp"))
    yield replace(Settings(), home=home, drain=1.0)
    shutdown(Settings(home=home), now=True)
    try:
        wait_until(lambda: not processes_of(home), 5, "all processes of the home to end")
    finally:
        for process in processes_of(home):
            process.kill()
        shutil.rmtree(home, ignore_errors=True)
