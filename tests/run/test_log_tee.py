"""A job's whole log written from a loop, while the disk is slow."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobkit.files.log import LogFile, Portion
from jobkit.run.inside import log_tee
from jobkit.run.inside.log_tee import LoopLog
from tests.support import wait_until


class SlowDisk:
    """Holds up each write to a file named "slow" until the test lets go of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_free = threading.Event()
        self.waiting = 0
        write = LogFile.write

        def slow(log: LogFile, portion: Portion) -> None:
            if log.path.name == "slow":
                self.waiting += 1
                self.is_free.wait()
            write(log, portion)

        monkeypatch.setattr(LogFile, "write", slow)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    disk = SlowDisk(monkeypatch)
    yield disk
    disk.is_free.set()


async def test_one_slow_log_holds_up_neither_the_others_nor_its_job_for_long(
    tmp_path: Path, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_tee, "_CLOSE_LIMIT_S", 0.05)
    slow, other = LoopLog(str(tmp_path / "slow"), "a 1\n"), LoopLog(str(tmp_path / "other"), "b 1\n")
    for i in range(2_000):
        slow.add([f"line {i}"])
        slow.flush()
        other.add([f"line {i}"])
    await slow.close((b"the end\n", b"\0" * 8))
    await other.close()

    everything = "".join(f"line {i}\n" for i in range(2_000))
    assert (tmp_path / "other").read_text() == everything
    assert disk.waiting == 1
    disk.is_free.set()
    wait_until(lambda: (tmp_path / "slow").exists() and (tmp_path / "slow").read_text() == everything + "the end\n")


async def test_a_flood_that_is_faster_than_the_disk_keeps_its_end(
    tmp_path: Path, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_tee, "_WAITING_BYTES", 10_000)
    log = LoopLog(str(tmp_path / "slow"), "a 1\n")
    log.add(f"first {i}" for i in range(600))
    log.flush()
    wait_until(lambda: disk.waiting)
    for i in range(5_000):
        log.add([f"line {i}"])
    disk.is_free.set()
    await log.close()

    lines = (tmp_path / "slow").read_text().splitlines()
    assert (lines[0], lines[599], lines[-1]) == ("first 0", "first 599", "line 4999")
    assert lines[600] == f"… {5_000 - len(lines) + 601:,} lines left out …"
    assert (tmp_path / "slow.marks").stat().st_size == len(lines) * 8


async def test_a_file_that_would_miss_its_beginning_is_not_begun(tmp_path: Path) -> None:
    """A child died with the first lines of its log, which only the store has."""
    log = LoopLog(str(tmp_path / "log"), "a 1\n")
    log.add(f"line {i}" for i in range(2_000))
    await log.close(None)

    assert not (tmp_path / "log").exists()
