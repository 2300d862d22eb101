"""Questions that a team asks every day: the answer is two clicks away from home at most."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from jobkit.client.loop import background
from jobkit.model.metrics import Curves
from jobkit.store.values import AttemptNews
from jobkit.ui.app.dashboard import Dashboard
from tests.support import ROOT
from tests.ui.conftest import Window
from tests.ui.page_server import PageServer
from tests.ui.questions import QUESTIONS, Walk, why_it_waits
from tests.ui.stage import Stage

pytestmark = pytest.mark.browser


def play(stage: Stage) -> dict[str, str]:
    """Play what `docs/team_place.py` has with real workers; return `Walk.ids`."""
    batch, *jobs = stage.batch(*({"lr": lr} for lr in (0.1, 0.01, 0.001)), owner="ben")
    for n, job in enumerate(jobs):
        stage.start(job)
        stage.succeed(job, summary=str({"accuracy": 0.8 + n / 100}))
    runs = [stage.submit("train", {"lr": lr}) for lr in (0.1, 0.01)]
    for job in runs:
        stage.start(job)
        stage.succeed(job, summary="{'accuracy': 0.9}")
    failed = stage.running("report", {"region": "Lisbon"}, owner="chen", retries=1)
    stage.retry_later(failed)
    stage.start(failed)
    stage.fail(failed, "KeyError", "'orders'")
    again = stage.running("report", {"region": "Lisbon"}, owner="chen", retry_of=failed)
    stage.succeed(again)
    cancelled, running = stage.submit("train", owner="ben"), stage.submit("train", {"epochs": 100})
    background.call(stage.kit.aio.cancel(cancelled, "wrong learning rate", by="chen"))
    curves, token = Curves(), stage.start(running).token
    stage.measure(running, curves, loss=[(step, step, 1 / (1 + step)) for step in range(37)])
    more = {"metrics": curves.summary().to_wire()}
    background.call(stage.store.progress([AttemptNews(running, token, True, typical_s=600.0, more=more)]))
    stage.beat()
    waits = stage.submit("solve", {"model": "grid-8"}, queue="gpu")
    found = {
        "job": running,
        "waits": waits,
        "why": "no worker serves queue gpu",
        "takes": "usually",
        "batch": batch,
        "ended": runs[1],
    }
    return {**found, "failed": failed, "cancelled": cancelled}


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[str, dict[str, str]]]:
    stage = Stage()
    ids = play(stage)
    server = PageServer(lambda: Dashboard(stage.kit).__panel__())
    yield f"http://localhost:{server.port}/page", ids
    server.close()
    stage.close()


ANSWERS = {
    "why_it_waits": "no worker serves queue gpu",
    "whose_jobs_failed": "2 attempts · KeyError: 'orders'",
    "what_changed": "lr 0.1 → 0.01",
    "how_long_it_takes": "usually 10 m",
    "the_loss": "step 36",
    "the_best_arguments": "best 0.82 at lr=0.001",
    "who_cancelled": "Cancelled by chen: wrong learning rate",
    "the_results": "lr,state,accuracy,duration_s",
}


@pytest.mark.parametrize(
    "question",
    [each for each in QUESTIONS.values() if each.__name__ in ANSWERS],
    ids=lambda question: question.__name__,
)
def test_the_answer_is_at_most_two_clicks_away(
    place: tuple[str, dict[str, str]], window: Window, question: Callable[[Walk], str]
) -> None:
    url, ids = place
    walk = Walk(window.open(url, width=1440, height=900), ids)

    said = question(walk)

    assert ANSWERS[question.__name__] in said
    assert walk.clicks + walk.searches <= 2


def test_a_measurement_of_the_answers_names_the_question_that_has_none(
    place: tuple[str, dict[str, str]],
    browser: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def lost(walk: Walk) -> str:
        raise LookupError(f"not on {walk.page.url}")

    monkeypatch.syspath_prepend(ROOT / "docs")
    made = importlib.import_module("make_screenshots")
    monkeypatch.setattr(made, "opened", lambda: nullcontext(browser))
    monkeypatch.setattr("tests.ui.questions.QUESTIONS", {"Where is it?": lost, "Why does it wait?": why_it_waits})

    with pytest.raises(SystemExit, match=r"^no answer to: Where is it\?$"):
        made.answer(*place, tmp_path)

    said = capsys.readouterr().out
    assert "| Where is it? | 0 | 0 |" in said
    assert "no worker serves queue gpu" in said
