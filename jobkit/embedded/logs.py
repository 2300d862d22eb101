"""Log files of a home: append a line, read the last line, rotate."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path


def say(line: str) -> None:
    """Write one line to the log of this process."""
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}", file=sys.stderr, flush=True)


def last_line(log: Path) -> str:
    """Return the last line that is not empty, or ""."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 8192))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def rotate(log: Path, limit_bytes: int) -> None:
    """Copy a log to `NAME.1` and truncate it if it is larger than the limit.

    The writers are other processes that keep their descriptors open. Lines written during the copy are lost.
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
