"""Two homes, as two machines have: one shares its embedded server, the other joins."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobkit.features.sharing import hosting
from jobkit.features.sharing.joining import join
from jobkit.features.sharing.rights import MemberRole
from jobkit.joined import Membership
from jobkit.settings import Settings
from tests.embedded.conftest import home_of_test
from tests.support import free_port


@pytest.fixture(scope="module")
def shared() -> Iterator[Settings]:
    """Settings of a machine that shares its home on 127.0.0.1."""
    with home_of_test() as settings:
        hosting.share(settings, "127.0.0.1", free_port())
        yield settings


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Home of another machine, empty."""
    return tmp_path / "other"


def member_of(shared: Settings, home: Path, role: MemberRole = MemberRole.WORKER) -> Membership:
    """Let the machine with this home join."""
    return join(hosting.new_word(shared, role), home)[0]


def environ_of(home: Path, **more: str) -> dict[str, str]:
    """Return the environment of a command on the machine with this home."""
    return {key: value for key, value in os.environ.items() if not key.startswith("JOBKIT_")} | {
        "JOBKIT_HOME": str(home),
        **{name: value for name, value in os.environ.items() if name.startswith("JOBKIT_TEST")},
        **more,
    }


def run(*command: str, home: Path, input: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command of jobkit to its end, on the machine with this home."""
    return subprocess.run(
        [sys.executable, "-m", "jobkit", *command],
        env=environ_of(home, **environ),
        input=input,
        capture_output=True,
        text=True,
        timeout=60,
    )


@contextmanager
def running(*command: str, home: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of jobkit during the block, then ask it to stop. Its output is in `log_of(home)`."""
    home.mkdir(exist_ok=True)
    home.chmod(0o700)
    with log_of(home).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobkit", *command], env=environ_of(home, **environ), stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()


def log_of(home: Path) -> Path:
    """Return the file with the output of `running`."""
    return home / "output.log"
