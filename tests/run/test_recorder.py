"""Progress of one attempt, combined from `report` and progress bars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobkit.run.inside.context import CURRENT, Context, current
from jobkit.run.inside.progress import progress
from jobkit.run.inside.recorder import Bar, Recorder
from jobkit.run.shared import run_here

from .conftest import Heard, assign

Shown = tuple[float | None, float | None, str]


def shown_after(*steps: Callable[[Context, Recorder], Any]) -> Shown:
    last = Heard()
    recorder = Recorder(last, lambda: None)
    context = Context("j1", 1, "task", recorder)
    for step in steps:
        step(context, recorder)
    recorder.close()
    return last.news[-1]


def bar(done: float, total: float, desc: str = "steps") -> Callable[[Context, Recorder], None]:
    def step(_: Context, recorder: Recorder) -> None:
        opened = Bar(desc, total)
        recorder.open_bar(opened)
        opened.completed = done
        recorder.moved()

    return step


def report(*args: Any, **kwargs: Any) -> Callable[[Context, Recorder], None]:
    return lambda context, _: context.report(*args, **kwargs)


def move(done: float) -> Callable[[Context, Recorder], None]:
    def step(_: Context, recorder: Recorder) -> None:
        recorder._bars[0].completed = done
        recorder.moved()

    return step


def close(_: Context, recorder: Recorder) -> None:
    recorder.close_bar(recorder._bars[-1])


@pytest.mark.parametrize(
    ("steps", "shown"),
    [
        ([report(3, 10, "a"), report(message="b")], (3, 10, "b")),
        ([report(3, 10, "a"), report(4)], (4, 10, "a")),
        ([report(3, 10, "a"), report(total=20)], (3, 20, "a")),
        ([report(3, 10, "a"), report()], (3, 10, "a")),
        ([report(3, 10, "a"), report(total=None)], (3, None, "a")),
        ([report(3, 10, "a"), report(completed=None, message="")], (None, 10, "")),
        ([bar(2, 5), report(message="loss 0.3")], (2, 5, "steps · loss 0.3")),
        ([bar(2, 5, ""), report(message="loss 0.3")], (2, 5, "loss 0.3")),
        ([bar(2, 5), report(message="loss 0.3"), move(3)], (3, 5, "steps · loss 0.3")),
        ([bar(2, 5), report(message="loss 0.3"), report(message="")], (2, 5, "steps")),
        ([bar(2, 5), bar(1, 4, "batches"), report(message="loss 0.3")], (2, 5, "steps · batches 1/4 · loss 0.3")),
        ([bar(5, 5), report(message="loss 0.3"), close], (5, 5, "steps · loss 0.3")),
        ([report(message="loading"), bar(1, 5)], (1, 5, "steps")),
        ([report(message="loading"), bar(1, 5, "")], (1, 5, "loading")),
    ],
)
def test_a_report_and_a_bar_keep_each_others_values(steps: list[Any], shown: Shown) -> None:
    assert shown_after(*steps) == shown


def test_steps_before_a_slow_one_are_shown() -> None:
    last = Heard()
    recorder = Recorder(last, lambda: None)
    token = CURRENT.set(Context("j1", 1, "task", recorder))
    try:
        steps = iter(progress(range(4), desc="steps"))
        next(steps), next(steps), next(steps)  # two steps are done, and the third takes an hour
        recorder._sent_at = 0.0
        recorder.tick()
    finally:
        CURRENT.reset(token)

    assert last.news[-1] == (2, 4, "steps")


def test_a_message_inside_a_loop_does_not_change_the_bar(heard: Heard) -> None:
    def train() -> None:
        for step in progress(range(4), desc="steps"):
            current().report(message=f"loss {1 / (step + 1):.2f}")

    run_here(assign(train), heard)

    assert heard.news[-1] == (4, 4, "steps · loss 0.25")
