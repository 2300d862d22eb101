"""Last output of a dying process: all of it is reported, whether its end or its pipes are noticed first."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from jobkit.run.attempt import Outcome
from jobkit.run.process import frames
from jobkit.run.process.attempt import ChildProcess, ProcessAttempt
from jobkit.run.process.runner import ProcessRunner
from jobkit.run.process.tree import KernelKills, counter_file

from .conftest import Heard, assign

REPORT = b"""Fatal Python error: Segmentation fault

Current thread 0x00007f (most recent call first):
  File "/home/ada/lab.py", line 7 in crash
  File "/home/ada/lab.py", line 9 in <module>
"""

SAID = [[1, "stdout", "", "", "last words"]]


class Ending:
    """Attempt for which a test decides when pipes are read and when the end is noticed."""

    def __init__(self, heard: Heard) -> None:
        self.attempt = ProcessAttempt(assign(len, "abc"), heard, "/nowhere", KernelKills(counter_file()))

    def write(self, data: bytes) -> None:
        self.attempt.on_output("stderr", data)

    def say(self) -> None:
        self.attempt.on_frame(frames.LINES, SAID)

    def flush(self) -> None:
        """Let the timer for partial lines expire."""
        for pipe in self.attempt._pipes.values():
            pipe._splitter._since_ms = 0
        self.attempt._flush()

    async def die(self, code: int = -signal.SIGSEGV) -> Outcome:
        self.attempt.on_exit(code, 0.0, 0)
        return await self.attempt.outcome()


@pytest.fixture
async def ending(heard: Heard) -> Any:
    return Ending(heard)


def write_and_flush(ending: Ending, at: int) -> None:
    ending.write(REPORT[at : at + 1])
    ending.flush()


ORDERS: dict[str, list[Callable[[Ending], None]]] = {
    "words first": [Ending.say, lambda it: it.write(REPORT)],
    "report first": [lambda it: it.write(REPORT), Ending.say],
    "report first, shown between": [lambda it: it.write(REPORT), Ending.flush, Ending.say],
    "in the middle of a word": [
        Ending.say, lambda it: it.write(REPORT[:10]), Ending.flush, lambda it: it.write(REPORT[10:]),
    ],
    "in the middle of a frame": [
        Ending.say, lambda it: it.write(REPORT[:120]), Ending.flush, lambda it: it.write(REPORT[120:]),
    ],
    "byte by byte": [Ending.say, *(partial(write_and_flush, at=at) for at in range(len(REPORT)))],
}  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
async def test_report_and_last_words_are_separated_in_every_order(ending: Ending, heard: Heard, order: str) -> None:
    for step in ORDERS[order]:
        step(ending)
    outcome = await ending.die()

    assert outcome.error is not None
    assert outcome.error.where == "lab.py:7 in crash"
    assert outcome.error.traceback.startswith("Fatal Python error: Segmentation fault\n")
    assert outcome.error.traceback.endswith("The last lines of its log:\n  last words")
    assert heard.texts == ["last words"]


async def test_a_task_that_prints_such_a_report_and_survives_keeps_it_in_its_log(ending: Ending, heard: Heard) -> None:
    ending.write(REPORT)
    ending.say()
    ending.attempt.stop("cancel")
    await ending.die(0)

    assert sorted(heard.texts) == sorted([*REPORT.decode().splitlines(), "last words"])


def crash() -> None:
    import ctypes
    import sys

    print("last words")
    os.write(2, b"from C\n" * 3_000)
    sys.stdout.flush()
    ctypes.string_at(0)


@pytest.fixture
def only_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a busy worker: it notices the end of a process before it reads the pipes."""
    start = ChildProcess.start

    def start_unheard(child: ChildProcess) -> None:
        start(child)
        for pipe in (child._control, *child._outputs):
            assert pipe is not None
            asyncio.get_running_loop().remove_reader(pipe)

    monkeypatch.setattr(ChildProcess, "start", start_unheard)


@pytest.mark.usefixtures("only_at_the_end")
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
async def test_pipes_are_read_to_their_end_before_the_outcome_is_reported(heard: Heard, start_method: str) -> None:
    runner = ProcessRunner(start_method=start_method, spares=0)
    await runner.start()
    try:
        outcome = await runner.run(assign(crash), heard)
    finally:
        await runner.close()

    assert outcome.error is not None
    assert outcome.error.where.endswith("in crash")
    assert (heard.texts.count("last words"), heard.texts.count("from C")) == (1, 3_000)


@pytest.mark.usefixtures("only_at_the_end")
async def test_output_of_a_coroutine_before_a_crash_is_reported(heard: Heard) -> None:
    async def speak() -> None:
        print("last words")
        os.kill(os.getpid(), signal.SIGKILL)

    runner = ProcessRunner(spares=0)
    await runner.start()
    try:
        outcome = await runner.run(assign(speak, isolation="async"), heard)
    finally:
        await runner.close()

    assert outcome.error is not None
    assert outcome.error.type == "SIGKILL"
    assert heard.texts == ["last words"]
