"""The card of a study: as data, in a saved notebook, and live in a browser."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from jobkit.client.batch import Batch
from jobkit.client.loop import background
from jobkit.client.outputs import Artifact
from jobkit.features.batches.batch_card import BatchCard
from jobkit.features.batches.batch_feed import BatchControl, BatchFeed
from jobkit.features.batches.batch_html import batch_html
from jobkit.features.batches.batch_plot import MAX_POINTS
from jobkit.features.studies.led_card import StudyModel, facts_of
from jobkit.features.studies.plot import MARKS, TrialMark, history
from jobkit.features.studies.study import Study
from jobkit.model import ErrorKind, EventType, JobError, JobEvent, JobSnapshot, JobSpec, JobState
from jobkit.model.batch import BatchSpec, part_id
from jobkit.model.metrics import Curves, MetricsSummary
from jobkit.model.plain import dumps
from jobkit.store.values import WorkerInfo
from jobkit.ui.access.actions import Actions
from tests.support import wait_until
from tests.ui.conftest import CANARY, Serve, Window, text_of
from tests.ui.stage import Stage
from tests.ui.test_look import contrast

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)


def trial(n: int, value: float | None = None, state: str = "", **more: Any) -> JobSnapshot:
    """A trial that has succeeded with a value, or one in another state."""
    state = state or ("queued" if value is None else "succeeded")
    params = more.pop("params", {"lr": 0.123456 / (n + 1), "depth": n % 3})
    finished = AT + timedelta(seconds=n + 1) if JobState(state).is_terminal else None
    return JobSnapshot(
        JobSpec(f"{n:08x}trial", "train", params=params, batch="0s"), 3, JobState(state),
        started_at=AT, finished_at=finished, **{"summary": "" if value is None else repr(value)} | more,
    )  # fmt: skip


def pruned(n: int, value: float | None = None) -> JobSnapshot:
    newest = {} if value is None else {"loss": value}
    reason = {"reason": "pruned at step 5: loss 3.2"}
    history = (JobEvent(f"{n:08x}trial", 3, EventType.CANCELLED, 0, reason),)
    return trial(n, state="cancelled", metrics=MetricsSummary(1, newest), history=history)


def failed(n: int, message: str = "bad") -> JobSnapshot:
    return trial(n, state="failed", error=JobError(ErrorKind.EXCEPTION, "ValueError", message))


def study(*trials: JobSnapshot, direction: str = "minimize", state: str = "running", total: float = 20) -> StudyModel:
    finished = AT + timedelta(minutes=1) if JobState(state).is_terminal else None
    spec = JobSpec("0s", "study", "Study of train", params={"parallel": 8})
    controller = JobSnapshot(spec, 3, JobState(state), started_at=AT, finished_at=finished, completed=0, total=total)
    return StudyModel(trials, controller, spec=BatchSpec("0s", "train", 20, kind="study", direction=direction))


@pytest.mark.parametrize(
    ("content", "read"),
    [
        ({"best": {"value": 1.5}, "importance": {"lr": 1.0}}, {"best": {"value": 1.5}, "importance": {"lr": 1.0}}),
        (
            {"best": {"value": "x"}, "importance": {"lr": "x", "d": [1], "e": 0.5}},
            {"best": None, "importance": {"e": 0.5}},
        ),
        ({"best": 3, "importance": [1]}, {"best": None, "importance": {}}),
        ([1], {}),
        ({"best": {"value": 1.5}, "more": "x" * 1_000_000}, {}),
    ],
)
def test_a_card_reads_of_an_artifact_what_it_can_show(content: Any, read: Any) -> None:
    body = dumps(content).encode()
    kit: Any = SimpleNamespace(artifact=lambda id, name: Artifact(name, "", len(body), AT, lambda: body))
    assert facts_of(kit, "0s") == read


def test_a_study_is_in_the_state_of_its_controller_and_counts_towards_all_of_its_trials() -> None:
    head = study(trial(0, 2.0), trial(1, 1.0), failed(2)).head(AT)

    assert (head["face"], head["ended"], head["size"], head["open"]) == ("running", 3, 20, 17)
    assert (head["direction"], head["fixed"]) == ("minimize", "direction=minimize, parallel=8")


def test_a_study_without_trials_is_not_over_before_its_controller() -> None:
    begun, ended = study(), study(state="succeeded")

    assert (begun.is_terminal, begun.head(AT)["progress"], begun.plot()) == (False, 0.0, None)
    assert (ended.is_terminal, ended.head(AT)["progress"]) == (True, 1.0)


@pytest.mark.parametrize(("state", "size"), [("cancelled", 20), ("failed", 20), ("succeeded", 2)])
def test_a_study_that_did_not_come_to_its_end_says_how_many_trials_were_wanted(state: str, size: int) -> None:
    head = study(trial(0, 2.0), trial(1, 1.0), state=state).head(AT)

    assert (head["ended"], head["size"], head["open"], head["rate"], head["eta_s"]) == (2, size, 0, "", None)


def test_the_trials_of_a_study_outlive_its_controller() -> None:
    model = StudyModel(
        [trial(0, 2.0), trial(1, 1.0)], None, spec=BatchSpec("0s", "train", 2, kind="study", direction="minimize")
    )

    assert (model.face, model.is_terminal, model.head(AT)["size"]) == ("succeeded", True, 2)


@pytest.mark.parametrize(("direction", "number"), [("minimize", 1), ("maximize", 2)])
def test_the_best_trial_is_the_lowest_or_the_highest_with_four_digits_of_its_arguments(
    direction: str, number: int
) -> None:
    model = study(trial(0, 2.0), trial(1, -1.5), trial(2, 8.25), failed(3), pruned(4, -9.0), direction=direction)

    [name, [word, value, at]] = model.best() or []

    assert (name, word, value) == ("best value", "", [-1.5, 8.25][number - 1])
    assert at == f"trial {number}: lr={[0.06173, 0.04115][number - 1]}, depth={number}"


def test_what_failed_or_was_pruned_is_never_the_best_and_has_its_own_mark() -> None:
    plot = study(trial(0, 2.0), pruned(1, 0.5), failed(2), pruned(3), trial(4, 1.0)).plot()

    assert plot is not None
    assert plot["series"] == ["value", "pruned (last metric)", "failed", "best so far"]
    assert [series for _, _, series, _ in plot["dots"]] == [0, 1, 2, 0]  # a trial without any number is not shown
    assert [y for _, y, series, _ in plot["dots"] if series == 2] == [0]  # on the axis
    [[colour, points]] = [(line["stroke"], line["points"]) for _, line in plot["shapes"][-1][2:]]
    assert colour == plot["colours"][-1]
    assert len({point.split(",")[1] for point in points.split()}) == 2  # 2.0 until trial 4


def test_arguments_that_only_later_trials_have_become_columns() -> None:
    model = study(trial(0, 2.0, params={"kind": "linear"}))
    model.table()
    model.take(1, trial(1, params={"kind": "tree", "depth": 3}))

    kind, data = model.changes()

    assert kind == "table"
    assert [name for name, _ in data["columns"]] == [
        "trial",
        "kind",
        "depth",
        "state",
        "value",
        "duration",
        "note",
        "id",
    ]
    assert [row[2][:3] for row in data["rows"]] == [[0, "linear", None], [1, "tree", 3]]


def test_what_is_the_same_in_all_trials_is_said_once() -> None:
    model = study(*(trial(n, float(n), params={"lr": n / 8, "epochs": 25}) for n in range(3)))

    assert model.args == ["lr"]
    assert model.head(AT)["fixed"] == "direction=minimize, parallel=8, epochs=25"
    assert (model.best() or [])[1][2] == "trial 0: lr=0"


def test_a_value_can_be_plotted_over_an_argument_without_lines_between_trials() -> None:
    model = study(*(trial(n, float(n)) for n in range(9)))

    plot = model.plot({"x": "lr", "y": "value"})

    assert plot is not None
    assert (plot["x"], plot["y"], plot["choices"]["x"]) == ("lr", "value", ["trial", "lr", "depth"])
    assert plot["shapes"][-1][2:] == []


def test_ten_thousand_trials_send_a_bounded_picture_with_the_exact_best() -> None:
    trials = [TrialMark(n, n, "succeeded", float(10_000 - n)) for n in range(10_000)]  # each is better

    plot = history(trials, "value", is_maximized=False)

    assert plot is not None
    assert len(plot["dots"]) == MAX_POINTS
    assert plot["note"] == "1,500 of 10,000 trials shown, chosen evenly"
    assert len(dumps(plot)) < 100_000
    [[_, line]] = plot["shapes"][-1][2:]
    low = min(y for _, y, *_ in plot["dots"])
    assert float(line["points"].split()[-1].split(",")[1]) >= 100 - 100 * low - 0.1


@pytest.mark.parametrize("values", [[0.0], [1.7e308, -1.7e308, 3.0], [5e-324, 1e300], [7.0, 7.0]])
def test_odd_values_are_drawn_inside_of_the_history(values: list[float]) -> None:
    plot = study(*(trial(n, value) for n, value in enumerate(values))).plot()

    assert plot is not None
    assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y, *_ in plot["dots"])


def test_what_its_job_knows_exactly_decides_between_values_that_look_equal() -> None:
    model = study(trial(0, 0.3), trial(1, 0.3), trial(2, 0.5))
    model.facts = {"best": {"value": 0.30000004, "job": trial(1).id}, "importance": {"lr": 0.25, "depth": 0.75}}

    assert (model.best() or [])[1][1:] == [0.30000004, "trial 1: lr=0.06173, depth=1"]
    assert model.head(AT)["importance"] == [("depth", 0.75), ("lr", 0.25)]


@pytest.mark.parametrize("summary", ["good", "'0.5'", "None", "nan", "dict of 9: a, b, c, …"])
def test_a_trial_without_a_number_has_failed_and_says_why(summary: str) -> None:
    model = study(trial(0, state="succeeded", summary=summary), trial(1, 1.0))

    assert model.head(AT)["counts"] == [["succeeded", "Succeeded", 1], ["failed", "Failed", 1]]
    assert model.note_of(0) == f"the objective must return a finite number, not {summary}"
    assert model.wanting() == []


def test_a_trial_that_raised_that_it_is_pruned_has_not_failed() -> None:
    error = JobError(ErrorKind.EXCEPTION, "optuna.exceptions.TrialPruned", "")

    assert study(trial(0, state="failed", error=error)).counts() == {"pruned": 1}
    assert study(pruned(0)).row(0)[2][-2] == "pruned at step 5: loss 3.2"
    assert study(trial(0, state="cancelled")).counts() == {"cancelled": 1}


def test_a_trial_keeps_its_number_if_an_earlier_one_has_no_job() -> None:
    job = trial(0, 1.0)
    job = replace(job, spec=replace(job.spec, id=part_id("0s", 7)))

    assert study(job).row(0)[2][0] == 7


def test_a_saved_study_shows_best_history_importance_and_reasons_and_no_markup_of_users() -> None:
    model = study(trial(0, 2.0), pruned(1, 1.5), failed(2, CANARY), trial(3, 1.0), state="succeeded")
    model.facts = {"importance": {"lr": 0.75, CANARY: 0.25}}

    html = batch_html(model, AT)

    assert "best value: 1 at trial 3: lr=0.03086, depth=0" in html
    assert "best so far" in html
    assert "75 %" in html
    assert "ValueError" in html
    assert "<img" not in html
    assert "retry_failed" not in html


def test_a_study_displays_itself_before_its_first_trial_while_it_runs_and_in_a_report(
    stage: Stage, tmp_path: Path
) -> None:
    shown = Study(stage.kit, stage.kit.get(stage.study("Study of train", trials=2, direction="minimize")))

    def html() -> str:
        return str(shown._repr_mimebundle_()[0]["text/html"])

    assert "Study of train" in html()
    assert "0 / 2" in html()

    _, *ids = stage.batch({"x": 1}, {"x": 2}, id=shown.id, kind="study", direction="minimize")
    for n, job_id in enumerate(ids):
        stage.start(job_id)
        stage.succeed(job_id, {"type": "float", "text": f"{n}.5", "number": n + 0.5}, summary=f"{n}.5")
    wait_until(lambda: "2 / 2" in html(), what="the trials")
    assert f'<code>jobkit.connect().study(id="{shown.id}")' in html()

    stage.tell(shown.id, best={"value": 0.5, "job": ids[0]}, importance={"x": 1.0})
    stage.succeed(shown.id)
    shown.wait()
    report = shown.report(tmp_path / "study.html").read_text("utf-8")
    for words in ("best value: 0.5 at trial 0: x=1", "100 %", "best so far"):
        assert words in report
        assert words in html()


@pytest.mark.parametrize("ground", ["#ffffff", "#0f1216"])
def test_every_mark_of_a_history_can_be_seen_on_both_grounds(ground: str) -> None:
    assert {word: colour for word, colour, _ in MARKS.values() if contrast(colour, ground) < 3} == {}


def test_the_card_of_a_study_says_why_none_of_its_trials_starts(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BatchFeed, "LOOK_S", 0.05)
    study = stage.study("Study of train", trials=2, direction="minimize")
    stage.batch({"x": 1}, {"x": 2}, id=study, size=2, kind="study", direction="minimize", owner="ada")
    stage.kit.tasks.pause("train", by="ada")
    stage.beat()
    background.call(stage.store.claim(WorkerInfo("gpu-1", slots=8), 8))
    told: dict[str, str] = {}

    control = BatchControl(Actions(stage.kit), lambda whole, _: told.update(whole), stage.kit.study(id=study).batch)

    reason = "2 wait: task train is paused by ada since"
    wait_until(lambda: reason in told.get("head", ""), what="the reason")
    assert json.loads(told["head"])["alert"]["level"] == "warning"
    control.stop()


def begun(stage: Stage, trials: int = 10, *, with_importance: bool = False) -> Batch[Any]:
    """A running study, whose worker the test plays: the fourth trial is pruned, the fifth fails, the last two run."""
    params = ({"lr": 0.1 / (n + 1), "depth": n % 3} for n in range(trials))
    study_id, *ids = stage.batch(*params, id=stage.study(parallel=4), size=20, kind="study", direction="minimize")
    for n, job_id in enumerate(ids):
        stage.start(job_id)
        if n == 3:
            stage.measure(job_id, Curves(), loss=[(0, 0.0, 4.0)])
            stage.kit.cancel(job_id, "pruned at step 0: loss 4")
            stage.cancelled(job_id)
        elif n == 4:
            stage.fail(job_id, "ValueError", f"bad {CANARY}")
        elif n < trials - 2:
            end(stage, job_id, 2.0 / (n + 1))
    if with_importance:
        stage.tell(study_id, importance={"lr": 0.75, "depth": 0.25})
    return stage.kit.batches.get(study_id)


def end(stage: Stage, job_id: str, value: float) -> None:
    stage.succeed(job_id, {"type": "float", "text": repr(value), "number": value}, summary=f"{value:.6g}")


@pytest.mark.browser
def test_a_study_shows_its_best_trial_and_history_goes_on_by_itself_and_is_cancelled(
    stage: Stage, serve: Serve, window: Window
) -> None:
    batch = begun(stage)
    page = window.open(serve(lambda: BatchCard(batch)), width=1000, height=900)

    best = "best value: 0.25 at trial 7: lr=0.0125, depth=1"
    wait_until(lambda: text_of(page, ".jk-batch .best") == best, what="the best trial")
    wait_until(lambda: page.locator(".plot > svg circle").count() == 6, what="the values")
    assert page.locator(".plot > svg > svg:has(> path)").count() == 2  # the pruned and the failed one
    assert "8 / 20" in text_of(page, ".jk-batch .below")
    assert page.locator(".plot > svg").get_attribute("aria-label") == "value over trial, 8 points"
    assert [row.get_attribute("data-face") for row in page.locator(".rows .row").all()][3:5] == ["pruned", "failed"]
    assert "bad <img src=x" in text_of(page, ".rows .row[data-face=failed]")
    assert page.locator(".importance").is_hidden()

    end(stage, batch[8].id, 0.125)
    stage.tell(batch.id, importance={"lr": 0.75, "depth": 0.25})

    wait_until(lambda: "0.125 at trial 8" in text_of(page, ".jk-batch .best"), what="the new best")
    wait_until(lambda: text_of(page, ".importance dl").split() == ["lr", "75", "%", "depth", "25", "%"], what="shares")
    page.get_by_role("button", name="Parallel").click()
    assert page.locator(".lines polyline").count() == 7

    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the study").click()
    wait_until(lambda: stage.kit.snapshot(batch.id).is_cancelling, what="the request")
    wait_until(lambda: "Cancelling" in text_of(page, ".jk-batch .chip"), what="the request on the card")
    stage.cancelled(batch[9].id)
    stage.cancelled(batch.id)
    wait_until(lambda: "Cancelled" in text_of(page, ".jk-batch .chip"), what="the end")
    assert page.evaluate("window.boom") is None
