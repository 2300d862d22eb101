"""Output and progress of a job: order, sources, floods."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from jobkit.model.plain import now_ms
from jobkit.run.inside.lines import BURST_LINES, LINES_PER_S
from tests.support import until

from .conftest import Heard, Runner


async def test_print_logging_and_warnings_keep_their_order(runner: Runner, heard: Heard) -> None:
    def job() -> None:
        import logging
        import sys
        import warnings

        for i in range(300):
            print("out", i)
            logging.getLogger("lab.x").info("log %d", i)
            print("err", i, file=sys.stderr)
        warnings.warn("careful\nnow", UserWarning, stacklevel=1)
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError:
            logging.exception("it broke")

    await runner.do(job)

    assert heard.texts[:900] == [text for i in range(300) for text in (f"out {i}", f"log {i}", f"err {i}")]
    first = heard.log[:3]
    assert [(line.source, line.level, line.logger) for line in first] == [
        ("stdout", "", ""),
        ("log", "INFO", "lab.x"),
        ("stderr", "", ""),
    ]
    assert abs(first[0].at_ms - time.time() * 1000) < 60_000
    warning = heard.log[900]
    assert warning.source == "warning"
    assert warning.text.endswith(": UserWarning: careful now")
    assert heard.texts[901] == "it broke"
    assert heard.texts[-1] == "ZeroDivisionError: division by zero"
    assert {line.level for line in heard.log[901:]} == {"ERROR"}


async def test_a_traceback_that_a_job_writes_names_the_file_of_its_code(runner: Runner, heard: Heard) -> None:
    def job() -> None:
        import logging
        import traceback

        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError:
            logging.exception("logged")
            traceback.print_exc()

    await runner.do(job)

    named = [text.strip() for text in heard.texts if text.endswith(", in job")]
    assert [text.partition(", line")[0] for text in named] == 2 * [f'File "{__file__}"'], heard.texts


async def test_output_of_c_code_and_grandchildren_is_captured(runner: Runner, heard: Heard) -> None:
    def job() -> None:
        import ctypes
        import os
        import subprocess
        import sys

        os.write(1, "écrit\n".encode())
        os.write(2, b"\xffraw")
        ctypes.CDLL(None).puts(b"put")
        subprocess.run([sys.executable, "-c", "print('from below')"], check=True)
        subprocess.run(["echo", "to my stdout"], stdout=sys.stdout, check=True)
        sys.stdout.buffer.write(b"bytes\n")

    outcome = await runner.do(job)

    assert outcome.outcome == "succeeded", outcome.error
    assert sorted(heard.texts) == ["\\xffraw", "bytes", "from below", "put", "to my stdout", "écrit"]
    assert {line.text: line.source for line in heard.log}["\\xffraw"] == "stderr"


async def test_a_forked_process_prints_too_and_leaves_the_control_channel_alone(runner: Runner, heard: Heard) -> None:
    def job() -> int:
        import multiprocessing

        def below(i: int) -> int:
            print("below", i)
            return i

        context = multiprocessing.get_context("fork")
        children = [context.Process(target=below, args=(i,)) for i in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join(60)
        return sum(child.exitcode or 0 for child in children)

    outcome = await runner.do(job)

    assert outcome.summary == "0", outcome
    assert sorted(heard.texts) == ["below 0", "below 1", "below 2"]


async def test_a_partial_line_shows_while_the_job_runs_and_is_not_lost_at_the_end(
    runner: Runner, heard: Heard, tmp_path: Path
) -> None:
    def job(go: Path) -> None:
        import time

        print("loading", end="")
        while not go.exists():
            time.sleep(0.005)
        print("rest", end="")

    running = asyncio.create_task(runner.do(job, tmp_path / "go"))
    await until(lambda: heard.texts == ["loading"], "the partial line")
    (tmp_path / "go").touch()
    await running

    assert heard.texts == ["loading", "rest"]


async def test_a_return_redraws_the_line(runner: Runner, heard: Heard) -> None:
    def job() -> None:
        for i in range(101):
            print(f"\r{i} %", end="")
        print()

    await runner.do(job)

    assert heard.texts == ["100 %"]


@pytest.mark.nightly
async def test_a_million_lines_are_thinned_without_slowing_other_jobs(runner: Runner, heard: Heard) -> None:
    def job() -> None:
        for i in range(1_000_000):
            print("line", i)

    assert (await runner.do(job)).outcome == "succeeded"
    assert heard.texts[0] == "line 0"
    assert heard.texts[-1] == "line 999999"
    seconds = (heard.log[-1].at_ms - heard.log[0].at_ms) / 1000
    assert len(heard.log) < 1.1 * (BURST_LINES + LINES_PER_S * seconds)
    dropped = [line for line in heard.log if line.source == "jobkit"]
    assert dropped
    counted = sum(int(line.text.split()[1].replace(",", "")) for line in dropped)
    # On a busy machine a line may be shown in two parts, since partial lines are shown after a while.
    assert 0 <= counted + len(heard.log) - len(dropped) - 1_000_000 <= 5


async def test_a_flood_from_child_processes_is_thinned_too(runner: Runner, heard: Heard) -> None:
    def job() -> None:
        import subprocess

        subprocess.run("yes | head -n 3000000; echo last", shell=True, check=True)

    began_ms = now_ms()
    await runner.do(job)

    assert heard.texts[-1] == "last"
    seconds = (heard.log[-1].at_ms - began_ms) / 1000
    assert len(heard.log) < 1.1 * (BURST_LINES + 2 * LINES_PER_S * seconds)  # at least `TAIL_LINES` each time


async def test_hostile_output_is_cleaned(runner: Runner, heard: Heard) -> None:
    def job() -> None:
        print("\x1b[31mred\x1b[0m \x1b]0;title\x07bell\x08 \u202eevil")
        print("x" * 100_000)

    await runner.do(job)

    assert heard.texts[0] == "red bell evil"
    assert len(heard.texts[1]) < 8_100


async def test_basic_config_of_the_task_sets_the_level_and_shows_nothing_twice(runner: Runner, heard: Heard) -> None:
    def job() -> None:
        import logging

        logging.basicConfig(level=logging.DEBUG, format="%(message)s!")
        logging.getLogger("a").debug("once")

    await runner.do(job)

    assert [(line.level, line.text) for line in heard.log] == [("DEBUG", "once")]


def last(heard: Heard) -> Any:
    return heard.news[-1]


async def test_progress_is_throttled_and_its_last_value_arrives(runner: Runner, heard: Heard) -> None:
    def job() -> None:
        from jobkit.run.inside.progress import progress

        for _ in progress(range(3_000_000), desc="steps"):
            pass

    started = time.monotonic()
    await runner.do(job)
    took = time.monotonic() - started

    assert heard.news[0] == (0, 3_000_000, "steps")
    assert last(heard) == (3_000_000, 3_000_000, "steps")
    assert len(heard.news) <= took * 10 + 2


async def test_a_slow_step_after_fast_ones_is_seen(runner: Runner, heard: Heard, tmp_path: Path) -> None:
    def job(go: Path) -> None:
        import time

        from jobkit.run.inside.progress import progress

        for i in progress(range(100_100)):
            if i >= 100_000:
                time.sleep(0.15)
            if i == 100_003:
                while not go.exists():
                    time.sleep(0.005)

    running = asyncio.create_task(runner.do(job, tmp_path / "go"))
    await until(lambda: any(news[0] == 100_003 for news in heard.news), "the third slow step")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_the_outermost_bar_is_the_jobs_progress(runner: Runner, heard: Heard) -> None:
    def job() -> None:
        import time

        from jobkit.run.inside.progress import progress

        for _ in progress(range(3), desc="epochs"):
            for _ in progress(range(10), desc="batches"):
                time.sleep(0.02)

    await runner.do(job)

    assert {news[1] for news in heard.news} == {3}
    assert any(news[2].startswith("epochs · batches ") for news in heard.news)
    assert last(heard) == (3, 3, "epochs")


async def test_invalid_reports_are_sanitized(runner: Runner, heard: Heard) -> None:
    def job() -> None:
        import time

        from jobkit.run.inside.context import current

        for done, total in ((float("nan"), 10), (-5, 10), (50, 10), ("x", None), (3, 0), (10**400, float("inf"))):
            current().report(done, total, "m")  # type: ignore[arg-type]
            time.sleep(0.12)
        current().report(1, 2, "a\n\x1b[2J" + "b" * 1_000_000)

    await runner.do(job)

    figures = [(None, 10), (0, 10), (10, 10), (None, None), (3, None), (None, None), (1, 2)]
    assert [news[:2] for news in heard.news] == figures
    message = heard.news[-1][2]
    assert (message[:4], len(message) < 550) == ("a bb", True)


async def test_a_job_without_a_bar_does_not_import_tqdm(runner: Runner) -> None:
    def job() -> list[str]:
        import sys

        from jobkit.run.inside.progress import progress

        list(progress([1, 2]))
        return [name for name in ("tqdm", "numpy", "pandas", "IPython", "redis", "arq", "panel") if name in sys.modules]

    assert (await runner.do(job)).summary == "empty list"


async def test_artifacts_reach_the_sink(runner: Runner, heard: Heard) -> None:
    def job() -> None:
        from jobkit.run.inside.context import current

        current().save("notes.txt", "hällo")
        current().save("numbers", {"a": 1})
        current().log("kept both")

    await runner.do(job)

    assert heard.artifacts == {
        "notes.txt": ("text/plain", "hällo".encode()),
        "numbers": ("application/json", b'{"a": 1}'),
    }
    assert heard.texts == ["kept both"]


async def test_output_of_threads_belongs_to_their_job(runner: Runner, heard: Heard) -> None:
    def job() -> None:
        import threading

        from jobkit.run.inside.context import current

        def work() -> None:
            print("in a thread of", current().job_id)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    await runner.do(job)

    assert heard.texts == ["in a thread of j1"]


@pytest.mark.parametrize("dies", [True, False])
async def test_the_log_has_the_tasks_output_and_no_report_of_its_crash(
    runner: Runner, tmp_path: Path, dies: bool
) -> None:
    def job(dies: bool) -> None:
        import ctypes
        import os

        for i in range(1_000):
            os.write(2, f"line {i}\n".encode())
        if dies:
            ctypes.string_at(0)
        os.write(2, b"Fatal Python error: said by the task\nand more\n")

    path = tmp_path / "log"
    await runner.do(job, dies, log_path=str(path), log_owner="x")

    said = path.read_text().splitlines()
    assert said[:1_000] == [f"line {i}" for i in range(1_000)]
    assert said[1_000:] == ([] if dies else ["Fatal Python error: said by the task", "and more"])
