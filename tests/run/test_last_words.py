"""Last output of a dying process: all of it is reported, whether its end or its pipes are noticed first."""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkit.model import LogLine
from jobkit.run.attempt import Outcome
from jobkit.run.process import frames
from jobkit.run.process.child_process import ChildProcess
from jobkit.run.process.last_words import SIZE, LastWords, taken, unsent
from jobkit.run.process.process_attempt import ProcessAttempt
from jobkit.system.memory import KernelKills, counter_file
from tests.support import until

from .conftest import Heard, Runner, assign, started

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


WAYS = "segfault", "exit", "kill", "timeout"


def die(count: int, way: str, printed: str = "") -> None:
    """Print lines faster than they are sent, then die at once, or create a file and wait for the timeout."""
    import ctypes
    import pathlib
    import time

    for i in range(count):
        print(f"line {i}")
    print("last words")
    if way == "segfault":
        ctypes.string_at(0)
    elif way == "exit":
        os._exit(3)
    elif way == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif way == "timeout":
        pathlib.Path(printed).touch()
        time.sleep(60)


@pytest.mark.parametrize("way", WAYS)
async def test_quick_lines_before_a_death_are_reported(runner: Runner, heard: Heard, way: str, tmp_path: Path) -> None:
    printed = tmp_path / "printed"
    job = asyncio.create_task(runner.do(die, 2_000, way, str(printed), timeout_s=60.0))
    if way == "timeout":
        await until(printed.exists, "its last line")
        runner.stop("j1", "timeout")
    outcome = await job

    assert outcome.outcome == "failed"
    assert heard.texts == [*(f"line {i}" for i in range(2_000)), "last words"]


async def test_a_flood_before_a_death_keeps_its_end_and_counts_the_rest(runner: Runner, heard: Heard) -> None:
    await runner.do(die, 30_000, "kill")

    assert (heard.texts[0], heard.texts[-1]) == ("line 0", "last words")
    assert sum(line.count for line in heard.log) == 30_001


async def test_lines_of_a_job_are_not_reported_with_the_next_one_in_its_process(runner: Runner, heard: Heard) -> None:
    for way in ("return", "return", "exit"):
        await runner.do(die, 100, way, reuse=5)

    assert heard.texts.count("last words") == heard.texts.count("line 99") == 3


@given(st.lists(st.text(alphabet=st.characters(blacklist_characters="\n"), max_size=8_000), max_size=40))
def test_memory_keeps_the_newest_lines(texts: list[str]) -> None:
    with mmap.mmap(-1, SIZE) as memory:
        words = LastWords(memory)
        words.hold([LogLine(text, 5, "log", "INFO", "lab") for text in texts])
        found = unsent(taken(memory))
        words.release()
        assert not taken(memory)

    assert sum(line.count for line in found) == len(texts)
    kept = [line for line in found if line.source != "jobkit"]
    shown = [text.encode("utf-8", "backslashreplace").decode() for text in texts]
    assert [line.text for line in kept] == shown[len(shown) - len(kept) :]
    assert all((line.at_ms, line.source, line.level, line.logger) == (5, "log", "INFO", "lab") for line in kept)
    assert kept or not texts


def test_lines_that_are_longer_as_bytes_fit_into_the_memory() -> None:
    binary, named = LogLine("\udc80" * 8_000, 5), LogLine("named", 5, "log", "INFO", "n" * 70_000)
    with mmap.mmap(-1, SIZE) as memory:
        words = LastWords(memory)
        for _ in range(9):
            words.hold([LogLine("x" * 7_000, 5), binary, named])
        words.hold([binary])
        found = unsent(taken(memory))

    assert b"\\udc80" * 8_000 > found[-1].text.encode() > b"\\udc80" * 5_000
    assert sum(line.count for line in found) == 9 * 3 + 1


def test_damaged_memory_is_read_without_an_error() -> None:
    assert unsent(b"\xff" * 100) == [LogLine.left_out(0xFFFFFFFF, ANY)]
    assert unsent(bytes(4) + b"x\t\n5\tstdout\t\t\thello\n\xfe\n") == [LogLine("hello", 5)]


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

    def start_unheard(child: ChildProcess, *libraries: Any) -> None:
        start(child, *libraries)
        for pipe in (child._control, *child._outputs):
            assert pipe is not None
            asyncio.get_running_loop().remove_reader(pipe)

    monkeypatch.setattr(ChildProcess, "start", start_unheard)


@pytest.mark.usefixtures("only_at_the_end")
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
async def test_pipes_are_read_to_their_end_before_the_outcome_is_reported(heard: Heard, start_method: str) -> None:
    async with started(start_method=start_method, spares=0, heard=heard) as runner:
        outcome = await runner.do(crash)

    assert outcome.error is not None
    assert outcome.error.where.endswith("in crash")
    assert (heard.texts.count("last words"), heard.texts.count("from C")) == (1, 3_000)


@pytest.mark.usefixtures("only_at_the_end")
async def test_output_of_a_coroutine_before_a_crash_is_reported(heard: Heard) -> None:
    async def speak() -> None:
        print("last words")
        os.kill(os.getpid(), signal.SIGKILL)

    async with started(spares=0, heard=heard) as runner:
        outcome = await runner.do(speak, isolation="async")

    assert outcome.error is not None
    assert outcome.error.type == "SIGKILL"
    assert heard.texts == ["last words"]
