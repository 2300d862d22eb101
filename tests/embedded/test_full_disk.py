"""Home on a full disk: the server stays, and everything can be looked at; what needs space says so in a sentence."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import jobkit
from jobkit.client.kit import Kit
from jobkit.embedded import demand, ensure_running, home, shutdown
from jobkit.embedded.demand import request_workers
from jobkit.embedded.home import Home
from jobkit.embedded.launch import want_workers
from jobkit.model import JobkitError, StoreUnavailable
from jobkit.settings import Settings

from .conftest import home_of_test, processes_of, wait_until

#: A worker that says when it is asked to stop, and takes a moment for it.
POLITE = (
    "import os, signal, sys, time\n"
    "def stop(*_):\n    time.sleep(0.3); open(sys.argv[1] + '/stopped', 'w').close(); sys.exit()\n"
    "signal.signal(signal.SIGTERM, stop)\nopen(sys.argv[1] + '/ready', 'w').close()\nsignal.pause()"
)


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_status_that_cannot_be_replaced_is_written_over_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Home.open(tmp_path / "home")
    here.write_status({"state": "ready", "problems": {"default": "a long text"}})
    monkeypatch.setattr(home, "write_private", no_space)

    here.write_status({"state": "stopped"})

    assert here.status() == {"state": "stopped"}


def test_reading_needs_no_request_and_a_submit_that_needs_one_says_why_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path / "home")
    here = Home.open(settings.home)
    monkeypatch.setattr(demand, "write_private", no_space)

    assert not request_workers(here, settings, only_looks=True)
    with pytest.raises(JobkitError, match=r"home cannot be used \(No space left on device\): free space"):
        want_workers(settings)


def test_a_supervisor_that_cannot_write_its_status_stops_its_workers_in_order(
    settings: Settings, tmp_path: Path
) -> None:
    ensure_running(settings, worker_command=[sys.executable, "-c", POLITE, str(tmp_path)])
    wait_until((tmp_path / "ready").exists, what="the worker")
    here = Home(settings.home)
    supervisor = int(here.status()["pid"])
    here.status_file.unlink()
    here.status_file.mkdir()

    os.kill(supervisor, signal.SIGTERM)
    wait_until(lambda: not processes_of(settings.home), what="all processes of the home to end")

    assert (tmp_path / "stopped").exists()
    here.status_file.rmdir()


@pytest.fixture
def small_disk() -> Iterator[Settings]:
    """Settings with a home on a small file system, which only root can mount."""
    with home_of_test() as settings:
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(settings.home)]
        may_mount = os.geteuid() == 0 and shutil.which("mount") and shutil.which("umount")
        if not may_mount or subprocess.run(mount, capture_output=True).returncode != 0:
            pytest.skip("needs the right to mount a file system")
        settings.home.chmod(0o700)
        try:
            yield settings
            shutdown(settings, now=True)
        finally:
            subprocess.run(["umount", "-l", str(settings.home)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (65_536, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)


def refuses(kit: Kit) -> bool:
    try:
        kit.submit(len, "abcd")
    except StoreUnavailable:
        return True
    return False


def test_with_a_full_disk_all_can_be_read_and_down_refuses_to_lose_outcomes(small_disk: Settings) -> None:
    filler = small_disk.home / "filler"
    with jobkit.connect(home=small_disk.home) as kit:
        assert kit.submit(len, "abc").result(60) == 3
        fill(filler)
        wait_until(lambda: refuses(kit), what="the server to notice")

        assert kit.jobs()
        with jobkit.connect(home=small_disk.home, namespace="other") as other:
            assert other.jobs() == []
        with pytest.raises(JobkitError, match="is full or fails, so the server cannot store how jobs ended: free"):
            shutdown(replace(small_disk, drain=1.0))

        filler.unlink()
        wait_until(lambda: not kit.refused(), what="the server to write again")
        wait_until(lambda: all(job.state == "succeeded" for job in kit.jobs()))
        assert shutdown(small_disk)
