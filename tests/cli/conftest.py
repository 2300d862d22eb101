"""The command line as a user runs it: a process, its two streams, its exit status."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import jobkit
from jobkit.embedded import shutdown
from jobkit.settings import Settings
from tests.cli import prepared
from tests.support import processes_of as processes_of
from tests.support import wait_until as wait_until

TASKS = '''
"""Tasks for the tests of the command line."""
import sys
import time
from pathlib import Path
from typing import Annotated

import jobkit


@jobkit.task
def count(n: Annotated[int, jobkit.Range(1, 1000)] = 3, pause: float = 0.0) -> int:
    """Count to n."""
    for i in jobkit.progress(range(n), desc="counting"):
        print(f"line {i}")
        time.sleep(pause)
    return n * 2


@jobkit.task
def count_until(path: str) -> int:
    """Count until a file exists, and say so in a title that would fill a whole line of a terminal by itself."""
    n = 0
    while not Path(path).exists():
        print(f"line {n}")
        n += 1
        jobkit.current().report(n % 20, 20)  # each differs from the one before: a late watcher sees one, too
        time.sleep(0.05)
    return n


@jobkit.task
def keep_on() -> int:
    """Write checkpoints until it is stopped; the job that goes on from one returns its step."""
    begun = step = jobkit.resume({"step": 0})["step"]
    while not begun:
        step += 1
        jobkit.checkpoint({"step": step})
        time.sleep(0.01)
    return begun


def question(n: Annotated[int, jobkit.Range(1, 9)]) -> None:
    """Parameters of a choice.

    Args:
        n: how many to take
    """


@jobkit.task
def choose() -> int:
    """Ask for a number."""
    return jobkit.ask(question, "How many?")["n"]


@jobkit.task
def fail(text: str = "no") -> None:
    """Fail."""
    raise ValueError(text)


@jobkit.task
def paint() -> str:
    """Print what a terminal would on_request."""
    print("\\x1b[31mred\\x1b[0m\\x1b]0;a title\\x07 \\x9b2J end")
    return "\\x1b[2Jcleared"
'''


@dataclass
class Terminal:
    """A directory with tasks, and the command line in it."""

    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def settings(self) -> Settings:
        return Settings(home=self.home)

    def env(self, **more: str) -> dict[str, str]:
        package = str(Path(jobkit.__file__).parent.parent)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("JOBKIT_")}
        path = os.pathsep.join(filter(None, (package, inherited.get("PYTHONPATH", ""))))
        return {
            **inherited,
            "PYTHONPATH": path,
            "JOBKIT_HOME": str(self.home),
            "JOBKIT_TASKS": "cli_tasks",
            **self.environ,
            **more,
        }

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "jobkit", *arguments],
            cwd=self.cwd or self.folder,
            env=self.env(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; its output must not have a traceback of jobkit."""
        with tempfile.TemporaryDirectory() as scratch:
            done = prepared.run(arguments, self.env(**more), self.cwd or self.folder, Path(scratch))
        assert "jobkit/cli/" not in done.stderr, done.stderr
        return done

    def ok(self, *arguments: str, **more: str) -> str:
        done = self.run(*arguments, **more)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout.strip()


def open_terminal() -> Iterator[Terminal]:
    terminal = Terminal(Path(tempfile.mkdtemp(prefix="jk-", dir="/tmp")))
    (terminal.folder / "cli_tasks.py").write_text(TASKS)
    with prepared.running():
        yield terminal
    shutdown(terminal.settings, now=True)
    try:
        wait_until(lambda: not processes_of(terminal.home), what="all processes of the home to end")
    finally:
        for process in processes_of(terminal.home):
            process.kill()
        shutil.rmtree(terminal.folder, ignore_errors=True)


@pytest.fixture(scope="package")
def terminal() -> Iterator[Terminal]:
    """Shared home for tests that only submit and read: a server and a worker for each test would take minutes."""
    yield from open_terminal()


@pytest.fixture
def fresh() -> Iterator[Terminal]:
    """A home in which nothing runs."""
    yield from open_terminal()
