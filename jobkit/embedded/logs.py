"""The log files of a home: one line in, the last line out, and a bound on their size."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path


def say(line: str) -> None:
    """One line for the log of this process."""
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}", file=sys.stderr, flush=True)


def last_line(log: Path) -> str:
    """The last line that says something, or ""."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 8192))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def rotate(log: Path, limit_bytes: int) -> None:
    """Moves what a log holds to `NAME.1` when it has grown over the limit; its writers append and go on.

    A copy, since the writers are other processes that keep their descriptors; lines written while it is made are lost.
    """
    try:
        if log.stat().st_size <= limit_bytes:
            return
        fd = os.open(f"{log}.1", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as copy, log.open("r+b") as stream:
            copy.write(stream.read())
            stream.truncate(0)
    except OSError as error:
        say(f"{log} could not be rotated ({error})")
