"""Bars of tqdm and rich are progress of their job."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from jobkit.features.bars import patches
from jobkit.run.inside.context import CURRENT, Context
from jobkit.run.inside.patches import install
from jobkit.run.inside.recorder import Recorder
from tests.run.conftest import Heard, Runner
from tests.support import by_default, until


@pytest.mark.parametrize("flavour", by_default(["std", "auto", "notebook", "trange", "update", "before", "asyncio"], 2))
async def test_any_tqdm_bar_is_progress_and_not_a_log_line(runner: Runner, heard: Heard, flavour: str) -> None:
    def job(flavour: str) -> None:
        import time

        def step() -> None:
            time.sleep(0.01)

        if flavour == "update":
            from tqdm import tqdm

            with tqdm(total=20, desc="bar") as bar:
                for _ in range(20):
                    step()
                    bar.update(1)
            return
        if flavour == "trange":
            from tqdm import trange

            loop = trange(20, desc="bar")
        else:
            import importlib

            module = "std" if flavour == "before" else flavour
            loop = importlib.import_module(f"tqdm.{module}").tqdm(range(20), desc="bar")
        for _ in loop:
            step()

    if flavour == "before":
        await runner.close()
        runner._preload = ("tqdm", "tqdm.auto")
        await runner.start()
    outcome = await runner.do(job, flavour)

    assert outcome.outcome == "succeeded", outcome.error
    assert heard.news[-1] == (20, 20, "bar")
    assert len(heard.news) >= 2
    assert heard.log == []


async def test_a_tqdm_bar_of_threads_shows_all_steps_that_are_done(
    runner: Runner, heard: Heard, tmp_path: Path
) -> None:
    pytest.importorskip("tqdm", minversion="4.70")  # earlier ones count results in their order

    def job(sign: str) -> None:
        import os
        import time

        from tqdm.contrib.concurrent import thread_map

        def step(i: int) -> None:
            while i == 4 and not os.path.exists(sign):
                time.sleep(0.01)

        thread_map(step, range(5), max_workers=5, desc="bar")

    running = asyncio.ensure_future(runner.do(job, str(tmp_path / "sign")))
    await until(lambda: heard.news and heard.news[-1] == (4, 5, "bar"), "the steps that are done")
    (tmp_path / "sign").touch()

    assert (await running).outcome == "succeeded"
    assert heard.news[-1] == (5, 5, "bar")


async def test_a_tqdm_bar_counts_as_it_does_outside_a_job(runner: Runner, heard: Heard) -> None:
    def job() -> list[int]:
        from tqdm import tqdm, trange

        left = tqdm(range(100))
        for i in left:
            if i == 30:
                break
        twice = tqdm([1, 2, 3], total=6, initial=0)
        for _ in twice:
            twice.update(1)
        failing = trange(10)
        try:
            for i in failing:
                if i == 4:
                    raise KeyError
        except KeyError:
            pass
        off = trange(5, disable=True)
        assert list(off) == [0, 1, 2, 3, 4]
        assert list(tqdm(iter("ab"))) == ["a", "b"]
        later = trange(3)
        first = [next(iter(later)) for _ in range(2)]
        assert first == [0, 0]
        return [left.n, twice.n, failing.n]

    outcome = await runner.do(job)

    assert outcome.summary == "[30, 3, 4]", outcome.error
    assert heard.log == []


async def test_a_rich_bar_is_progress(runner: Runner, heard: Heard) -> None:
    def job() -> None:
        import time

        from rich.progress import Progress, track

        for _ in track(range(20), description="[red]steps[/] [1/2]"):
            time.sleep(0.02)
        time.sleep(0.5)
        with Progress() as bars:
            first, second = bars.add_task("load", total=3), bars.add_task("fit")
            bars.update(second, total=4)
            bars.advance(first, 2)
            time.sleep(0.5)
            bars.advance(first)
            bars.console.print("between")
            for _ in range(4):
                bars.advance(second)
                time.sleep(0.15)

    outcome = await runner.do(job)

    assert outcome.outcome == "succeeded", outcome.error
    steps = [news for news in heard.news if news[2].startswith("steps [1/2]")]
    assert len(steps) > 2
    assert steps[-1][:2] == (20, 20)
    assert (2, 3, "load · fit 0/4") in heard.news
    assert heard.news[-1] == (4, 4, "fit")
    assert [line.text for line in heard.log if "%" not in line.text] == ["between"]


async def test_pandas_with_tqdm_is_progress(runner: Runner, heard: Heard) -> None:
    pytest.importorskip("pandas")

    def job() -> int:
        import pandas as pd
        from tqdm import tqdm

        tqdm.pandas(desc="rows")
        return int(pd.Series(range(50)).progress_apply(lambda x: x + 1).sum())  # type: ignore[operator]

    outcome = await runner.do(job)

    assert outcome.summary == "1275", outcome
    assert heard.news[-1][0] == 50
    assert heard.log == []


async def test_tqdm_write_is_a_line_and_a_stalled_bar_moves_again(runner: Runner, heard: Heard) -> None:
    def job() -> None:
        import time

        from tqdm import tqdm

        for i in tqdm(range(200_003)):
            if i >= 200_000:
                time.sleep(0.25)
        tqdm.write("said")

    await runner.do(job)

    assert heard.texts == ["said"]
    assert {200_001, 200_002} & {news[0] for news in heard.news}


def test_the_end_of_a_rich_bar_is_shown_though_it_comes_while_the_recorder_looks_at_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import rich.progress

    looks, go_on = threading.Event(), threading.Event()

    def slow(markup: str) -> str:
        if threading.current_thread() is ticking:
            looks.set()
            assert go_on.wait(60)
        return markup

    last = Heard()
    recorder = Recorder(last, lambda: None)
    ticking = threading.Thread(target=recorder.tick)
    monkeypatch.setattr(patches, "_plain", slow)
    install()
    token = CURRENT.set(Context("j1", 1, "task", recorder))
    with rich.progress.Progress(auto_refresh=False) as shown:
        task = shown.add_task("steps", total=20)
        shown.update(task, completed=19)
        ticking.start()
        assert looks.wait(60)
        shown.update(task, completed=20)
        go_on.set()
        ticking.join()
    CURRENT.reset(token)
    recorder.close()

    assert last.news[-1] == (20, 20, "steps")
