"""The independent record: a file to which jobs append their starts and ends, one line each, whatever the store says.

Times are of the machine's monotonic clock, which all its processes share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil


def append(path: str | Path, **facts: Any) -> None:
    """Append a line in one write, so that lines of several processes never mix."""
    line = json.dumps({"t": time.monotonic(), "pid": os.getpid(), **facts}).encode() + b"\n"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, line)
    finally:
        os.close(fd)


#: Argument of the programs (`sleep`) that jobs start, by which they are known.
PROGRAM_S = "98765"


@dataclass(slots=True)
class Run:
    """One execution of user code, from its own lines.

    Attributes:
        nonce: identifies it. end: its recorded end, or "". program: id of the process that it started, or 0.
        first: of a job with checkpoints, its first step. saved: when it had stored a checkpoint, and the next step.
    """

    name: str
    job_id: str
    attempt: int
    nonce: str
    began: float
    ended: float | None = None
    end: str = ""
    program: int = 0
    first: int | None = None
    saved: list[tuple[float, int]] = field(default_factory=list)

    @property
    def has_program(self) -> bool:
        """True if its program lives."""
        try:
            return bool(self.program) and PROGRAM_S in psutil.Process(self.program).cmdline()
        except psutil.Error:
            return False


def runs(path: Path) -> dict[str, list[Run]]:
    """Return the runs by name of the submission, in order of their starts."""
    found: dict[str, list[Run]] = {}
    by_nonce: dict[str, Run] = {}
    for line in lines(path):
        if line["word"] == "start":
            run = Run(line["name"], line["job"], line["attempt"], line["nonce"], line["t"])
            by_nonce[run.nonce] = run
            found.setdefault(run.name, []).append(run)
        elif line["word"] == "step":
            run = by_nonce[line["nonce"]]
            run.first = line["step"] if run.first is None else run.first
        elif line["word"] == "saved":
            by_nonce[line["nonce"]].saved.append((line["t"], line["step"]))
        elif line["word"] == "program":
            by_nonce[line["nonce"]].program = line["program"]
        else:
            run = by_nonce[line["nonce"]]
            run.ended, run.end = line["t"], line["word"]
    return found


def lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        for line in path.read_text().splitlines():
            yield json.loads(line)
