"""Metrics and pictures of jobs on cards, in rows and over each other."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from jobkit.features.batches.batch_curves import BatchCurves, charts_text, without_shared
from jobkit.model import EventType, JobEvent, JobSnapshot, JobSpec, JobState
from jobkit.model.metrics import Curves, Point
from jobkit.run.inside.pictures import PICTURE, TooLarge, drawn
from jobkit.ui.access.actions import Actions
from jobkit.ui.card.card_html import card_html
from jobkit.ui.card.card_model import CardModel
from jobkit.ui.card.curves import charts_of
from jobkit.ui.card.downloads import answer, pictures_of
from jobkit.ui.card.job_feed import CardControl
from jobkit.ui.jobs.board import row
from jobkit.ui.live.shared_feed import CALM_S, CURVES_S
from tests.support import ROOT, wait_until
from tests.ui.conftest import Serve, Window
from tests.ui.stage import Stage
from tests.ui.test_card_files import PNG
from tests.ui.test_card_in_browser import card

ONE_PIXEL = base64.b64encode(PNG).decode()


def points(start: int, stop: int, by: float = 1.0) -> list[Point]:
    return [(step, step, by * step) for step in range(start, stop)]


@pytest.fixture
def running(stage: Stage) -> str:
    return stage.running("train", {"lr": 0.1})


class Told:
    """Texts that a card's browser gets."""

    def __init__(self, stage: Stage, job: str) -> None:
        self.whole: dict[str, str] = {}
        self.parts: list[str] = []
        self.control = CardControl(Actions(stage.kit), self._put)
        self.control.follow(job)
        wait_until(lambda: self.control.model is not None, what="the job")

    def _put(self, whole: Any, parts: Any) -> None:
        self.whole |= whole
        self.parts += parts.get("metrics_append", "") and [parts["metrics_append"]]

    @property
    def curves(self) -> dict[str, list[list[Any]]]:
        return json.loads(self.whole["metrics"])["curves"]  # type: ignore[no-any-return]  # JSON


@pytest.fixture
def told(stage: Stage, running: str) -> Iterator[Told]:
    told = Told(stage, running)
    yield told
    told.control.stop()


def test_curves_come_as_a_whole_and_then_in_parts(stage: Stage, running: str) -> None:
    curves = Curves()
    stage.measure(running, curves, loss=points(0, 5))
    told = Told(stage, running)
    wait_until(lambda: told.whole.get("metrics"), what="the curves")
    assert told.curves == {"loss": [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [], []]}

    stage.measure(running, curves, loss=points(5, 7), acc=[(0, 0, math.nan), (1, 1, math.inf)])
    wait_until(lambda: told.parts, what="a part")

    assert json.loads(told.parts[0]) == [
        {"n": 2, "curves": {"loss": [[5, 6], [5, 6], [], []], "acc": [[0, 1], [None, "inf"], [], []]}}
    ]
    told.control.stop()


def test_curves_that_many_sessions_show_move_once_a_second(stage: Stage, running: str, told: Told) -> None:
    curves = Curves()
    stage.measure(running, curves, loss=points(0, 3))
    wait_until(lambda: told.whole.get("metrics") or told.parts, what="the first line")
    feed = told.control._subscriber.feed  # type: ignore[union-attr]  # it follows a job
    assert feed._calm.window_s == CURVES_S

    others = [Told(stage, running) for _ in range(12)]
    stage.measure(running, curves, loss=points(3, 6))

    wait_until(lambda: all(each.parts or each.curves["loss"][0][-1] == 5 for each in others), what="the second line")
    assert feed._calm.window_s == CALM_S
    for each in others:
        each.control.stop()


def test_a_card_that_missed_a_line_reads_the_curves_again(stage: Stage, running: str, told: Told) -> None:
    curves = Curves()
    stage.measure(running, curves, loss=points(0, 3))
    wait_until(lambda: told.whole.get("metrics") or told.parts, what="the first line")
    feed = told.control._subscriber.feed  # type: ignore[union-attr]  # it follows a job
    feed.model.curves.curves.n -= 1  # as if the next one were another one
    stage.measure(running, curves, loss=points(3, 6))

    wait_until(lambda: told.whole.get("metrics") and len(told.curves["loss"][0]) == 6, what="all points")


def test_a_card_has_the_curves_of_an_earlier_attempt(stage: Stage) -> None:
    job = stage.running("train", retries=1)
    stage.measure(job, Curves(), loss=points(0, 3))
    stage.retry_later(job)
    stage.start(job)

    told = Told(stage, job)

    wait_until(lambda: told.whole.get("metrics"), what="the curves")
    assert told.curves["loss"][0] == [0, 1, 2]
    told.control.stop()


def test_lines_that_are_no_metrics_change_nothing(stage: Stage, running: str) -> None:
    model = CardModel(stage.kit.snapshot(running))
    for line in ({}, [], {"n": 1}, {"n": 1, "curves": {"a": 1}}, "x", {"n": 1, "curves": {"a": [[[1]], [], 0]}}):
        assert not model.take(JobEvent(running, 2, EventType.LOGGED, 0, {"lines": [], "metrics": line}))
    assert not model.take(JobEvent(running, 2, EventType.LOGGED, 0, {"lines": [], "kept": {"name": 3}}))


def test_a_row_has_a_small_curve_of_the_first_metric(stage: Stage, running: str) -> None:
    assert "spark" not in row(stage.kit.snapshot(running))

    stage.measure(running, Curves(), loss=points(0, 100), acc=points(0, 100))

    cells = row(stage.kit.snapshot(running))
    assert (cells["metric"], len(cells["spark"]), cells["spark"][-1]) == ("loss 99", 25, 99.0)


def test_a_saved_card_draws_its_metrics_and_escapes_their_names(stage: Stage, running: str) -> None:
    curves, name = Curves(), "<script>boom()</script>"
    stage.measure(running, curves, **{name: points(0, 3_000), "train/loss": points(0, 2), "val/loss": points(0, 2)})
    model = CardModel(stage.kit.snapshot(running))
    model.curves.load(stage.kit.metric_lines([running])[0])

    html = card_html(model)

    assert html.count("<svg") == 2  # both losses share one
    assert html.count("<path") == 3
    assert "<script" not in html
    assert len(html) < 12_000


def test_metrics_of_the_training_and_test_data_share_a_chart_whichever_part_comes_first() -> None:
    for names, charts in json.loads((ROOT / "tests" / "ui" / "esm" / "charts.json").read_text("utf-8")):
        found = charts_of({name: points(0, 1) for name in names})

        assert [[title, [label for label, _ in lines]] for title, lines in found.items()] == [
            [title, labels] for title, labels in charts.items()
        ]


def test_curves_of_several_jobs_are_drawn_over_each_other(stage: Stage) -> None:
    jobs = [stage.submit("train", {"lr": lr, "n": 3}) for lr in (0.1, 0.2)]
    stage.start(jobs[1])
    for job in jobs:
        stage.measure(job, Curves(), loss=points(0, 3, by=2.0))
    snapshots = [stage.kit.snapshot(job) for job in jobs]
    curves = BatchCurves()

    wanted = curves.wanting(snapshots)
    assert wanted == dict.fromkeys(jobs, 1)
    curves.learn(wanted, stage.kit.metric_lines(jobs))

    assert curves.wanting(snapshots) == {}
    assert json.loads(charts_text(curves.charts(snapshots, lambda i: f"lr={snapshots[i].spec.params['lr']}"))) == {
        "loss": [["lr=0.1", [0, 1, 2], [0, 2, 4]], ["lr=0.2", [0, 1, 2], [0, 2, 4]]]
    }


def test_a_saved_artifact_is_pushed_to_the_card(stage: Stage, running: str, told: Told) -> None:
    stage.save(running, "a.txt", "text/plain", b"one")
    stage.save(running, "a.txt", "text/plain", b"three")

    wait_until(lambda: '"size_bytes":5' in told.whole.get("artifacts", ""), what="the artifact")
    assert [file["name"] for file in json.loads(told.whole["artifacts"])] == ["a.txt"]


def test_a_saved_card_has_the_pictures_of_its_job(stage: Stage, running: str) -> None:
    evil = {"type": "X", "text": "", "picture": 'data:image/png;base64,"><script>', "png": '"><script>'}
    for name, content in {"a": drawn(b"\x89PNG"), "<script>": drawn({"b": 3}), "c": json.dumps(evil).encode()}.items():
        stage.save(running, f"show:{name}", PICTURE, content)
    stage.save(running, "file.txt", "text/plain", b"x")
    model = CardModel(stage.kit.snapshot(running), pictures=pictures_of(stage.kit, running))
    model.keep([artifact.to_json() for artifact in stage.kit.artifacts(running)])

    html = card_html(model)

    assert html.count("<img") == 1
    assert "1 artifact" in html
    assert "<script" not in html


def test_a_saved_card_has_a_figure_that_was_shown_and_returned_once() -> None:
    figure = {"type": "Figure", "text": "", "png": ONE_PIXEL}
    job = JobSnapshot(JobSpec("a", "b"), 1, JobState.SUCCEEDED)

    pictures = {"figure 1": figure, "figure 2": {**figure, "png": "AAAA"}}
    html = card_html(CardModel(job, preview=figure, pictures=pictures))

    assert html.count("<img") == 2
    assert "figure 1" not in html


class Markup:
    def _repr_html_(self) -> str:
        return "<b>bold</b>"


class Drawing:
    def _repr_svg_(self) -> str:
        return "<svg></svg>"


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("obj", "key"),
    [
        (b"\x89PNG....", "picture"), (Markup(), "html"), (Drawing(), "html"), ({"a": 1}, "json"), (Broken(), "text"),
        (object(), "text"), (b"bytes", "text"),
    ],
)  # fmt: skip
def test_anything_can_be_drawn(obj: Any, key: str) -> None:
    assert msgspec.json.decode(drawn(obj))[key]


def test_a_picture_that_is_too_large_is_refused_with_a_sentence() -> None:
    with pytest.raises(TooLarge, match="more than the 750 kB that a card shows"):
        drawn(b"\x89PNG" + b"x" * 2_000_000)


def test_a_picture_is_shown_as_its_preview_and_is_no_artifact_of_the_job(stage: Stage, running: str) -> None:
    stage.save(running, "show:samples", PICTURE, drawn(Markup()))

    told = json.loads(answer(stage.kit, running, {"action": "show", "name": "show:samples"}))

    assert told["preview"]["html"] == "<b>bold</b>"
    assert stage.kit.get(running).artifacts() == []


@pytest.mark.browser
def test_a_card_draws_metrics_and_pictures_as_they_come(
    stage: Stage, serve: Serve, window: Window, running: str
) -> None:
    curves = Curves()
    page = window.open(serve(card(stage, running)))
    page.wait_for_selector(".chip:has-text('Running')")
    assert page.locator(".metrics").is_hidden()

    stage.measure(running, curves, **{"train/loss": points(0, 10), "val/loss": points(0, 10), "lr": [(0, 0, math.nan)]})
    page.wait_for_selector(".chart:has-text('loss') .keys span:has-text('val') b:has-text('9')")
    stage.measure(running, curves, **{"val/loss": points(10, 20)})
    page.wait_for_selector(".chart:has-text('loss') .keys span:has-text('val') b:has-text('19')")
    assert page.locator(".chart").count() == 2
    path = page.locator(".chart path.line").nth(1).get_attribute("d") or ""
    assert path.count("L") == 19

    for text in ("first", "second"):
        stage.save(running, "show:note", PICTURE, drawn(f"{text} look"))
        page.wait_for_selector(f".pictures .show:has-text('{text} look')")
    stage.save(running, "show:table", PICTURE, drawn({"a": 3}))
    page.wait_for_selector(".pictures .show:has-text('table') dd:has-text('3')")
    assert page.locator(".artifacts").is_hidden()

    figure = {"type": "Figure", "text": "", "png": ONE_PIXEL}
    stage.save(running, "show:figure 1", PICTURE, json.dumps(figure).encode())
    page.wait_for_selector(".pictures .show:has-text('figure 1') img")
    stage.succeed(running, figure)
    page.wait_for_selector(".result img")
    page.wait_for_selector(".pictures .show:has-text('figure 1')", state="hidden")
    assert page.locator(".pictures .show:has-text('note')").is_visible()


def test_labels_of_many_curves_leave_out_what_all_of_them_share() -> None:
    assert without_shared(["task=train, lr=0.1, seed=1", "task=train, lr=0.1, seed=2"]) == ["seed=1", "seed=2"]
    assert without_shared(["lr=0.1", "lr=0.1"]) == ["lr=0.1", "lr=0.1"]
    assert without_shared(["lr=0.1, n=2", "n=2"]) == ["lr=0.1, n=2", "n=2"]
    assert without_shared([]) == []
