"""The card of many jobs as data: rows, columns, plot, and what a saved notebook keeps of it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from jobkit.features.batches.batch_html import BATCH_ROWS, batch_html
from jobkit.features.batches.batch_model import BatchModel, direction_of
from jobkit.features.batches.batch_plot import MAX_POINTS, Point, layout
from jobkit.model import ErrorKind, JobError, JobSnapshot, JobSpec, JobState
from jobkit.model.batch import BatchSpec
from jobkit.model.format import local_time
from jobkit.model.metrics import MetricsSummary
from jobkit.model.result import told
from jobkit.ui.card.curves import COLOURS
from tests.ui.conftest import CANARY
from tests.ui.test_look import contrast

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)


def job(n: int, state: str = "queued", summary: str = "", **more: Any) -> JobSnapshot:
    started = AT if state not in ("queued", "scheduled") else None
    finished = AT + timedelta(seconds=n) if JobState(state).is_terminal else None
    spec = JobSpec(f"{n:08x}job", "train", params=more.pop("params", {"n": n, "method": "rk4"}))
    return JobSnapshot(
        spec, 3, JobState(state), started_at=started, finished_at=finished, summary=summary, **more
    )  # fmt: skip


@pytest.mark.parametrize(
    ("summary", "values"),
    [
        ("42", {"value": 42}),
        ("0.25", {"value": 0.25}),
        ("True", {"value": True}),
        ("None", {"value": "None"}),
        ("DataFrame 10 × 3", {"value": "DataFrame 10 × 3"}),
        ("{'loss': 0.5, 'model': 'a', 'rows': [1]}", {"loss": 0.5, "model": "a"}),
        ("dict of 9: a, b, c, …", None),
        ("{'x': nan}", None),
    ],
)
def test_a_result_line_tells_its_scalars_or_asks_for_the_preview(summary: str, values: dict[str, Any] | None) -> None:
    assert told(summary) == values


def test_arguments_that_differ_are_columns_and_the_others_are_said_once() -> None:
    model = BatchModel([job(1), job(2)])

    assert model.args == ["n"]
    assert model.fixed == "method=rk4"


def test_arguments_of_jobs_that_come_later_get_columns_and_stand_in_labels() -> None:
    model = BatchModel([job(1), job(2)])
    model.table()
    assert model.label_of(0) == "n=1"

    model.take(2, job(3, params={"n": 3, "method": "euler"}))

    assert (model.args, model.fixed) == (["n", "method"], "")
    assert model.label_of(0) == "n=1, method=rk4"
    assert model.changes()[0] == "table"


def test_jobs_of_a_list_are_called_by_task_and_arguments() -> None:
    model = BatchModel([job(1), job(2)], is_list=True)

    assert [model.label_of(i).partition(", ")[2] for i in range(2)] == ["n=1, method=rk4", "n=2, method=rk4"]


def cell(model: BatchModel, i: int, name: str) -> Any:
    return model.row(i)[2][[each for each, _ in model.columns()].index(name)]


def test_a_result_with_a_new_number_sends_the_whole_table_and_other_changes_only_their_rows() -> None:
    model = BatchModel([job(1), job(2)])
    assert model.changes()[0] == "table"  # the first time: all
    assert model.changes() == ("delta", {})

    model.take(0, job(1, "running"))
    kind, data = model.changes()
    assert (kind, [row[:2] for row in data["rows"]]) == ("delta", [[0, "running"]])

    model.take(0, job(1, "succeeded", "7"))
    kind, data = model.changes()
    assert (kind, cell(model, 0, "value"), data["rows"][0]) == ("table", 7, model.row(0))
    assert [name for name, _ in data["columns"]] == ["n", "state", "value", "duration", "note", "id"]


def test_previews_are_asked_for_once_and_become_columns() -> None:
    model = BatchModel([job(1, "succeeded", "dict of 7: a, b, c, …"), job(2, "succeeded", "dict of 7: a, b, c, …")])

    assert model.wanting() == [0, 1]
    assert model.wanting() == []
    model.show(0, {"json": {"a": 1, "b": 2.5, "c": [1]}})
    model.show(1, None)

    assert model.values == ["a", "b", "value"]
    assert [cell(model, 0, name) for name in model.values] == [1, 2.5, None]


def test_the_head_counts_and_tells_rate_and_time_left() -> None:
    model = BatchModel([job(n) for n in range(10)])
    model.head(AT)
    for n in range(5):
        model.take(n, job(n, "succeeded", "1"))

    head = model.head(AT + timedelta(seconds=10))

    assert (head["ended"], head["open"], head["progress"]) == (5, 5, 0.5)
    assert head["rate"] == "30 jobs/min"
    assert head["eta_s"] == pytest.approx(10, rel=0.3)
    assert head["counts"] == [["succeeded", "Succeeded", 5], ["queued", "Queued", 5]]


def test_chosen_jobs_are_counted_in_their_title_and_have_the_longest_time_left_of_each() -> None:
    ended = [job(n, "succeeded", "1") for n in range(3)]
    slow, fast = (job(n, "running", completed=done, total=100.0) for n, done in ((3, 1.0), (4, 50.0)))
    titled = replace(slow, spec=replace(slow.spec, title="running long"))

    head = BatchModel([*ended, titled, fast]).head(AT + timedelta(seconds=10))
    unknown = BatchModel([*ended, titled, replace(fast, total=None)]).head(AT + timedelta(seconds=10))
    alike = BatchModel([*ended, slow, fast]).head(AT + timedelta(seconds=10))

    assert (head["title"], head["eta_s"]) == ("5 jobs of train", pytest.approx(990))
    assert unknown["eta_s"] is None
    assert (alike["title"], alike["eta_s"]) == ("5 jobs of train", pytest.approx(990))


def words(plot: dict[str, Any], **where: Any) -> list[tuple[str, str]]:
    """Place and text of the words in a plot."""
    found = [(attributes, *rest) for tag, attributes, *rest in plot["shapes"] if tag == "text"]
    return [(at["x"], text) for at, text in found if where.items() <= at.items()]


def points(rows: list[tuple[dict[str, Any], float]]) -> list[Point]:
    return [Point(i, args, {"y": y}) for i, (args, y) in enumerate(rows)]


def test_a_plot_puts_the_longest_numeric_axis_below_and_the_other_into_colours() -> None:
    plot = layout(points([({"n": n, "m": m}, n * 2.0) for n in (1, 2, 3) for m in ("a", "b")]), ["m", "n"], ["y"])

    assert plot is not None
    assert (plot["x"], plot["y"], plot["by"], plot["series"]) == ("n", "y", "m", ["a", "b"])
    seeded = [Point(k, {"n": k % 3, "seed": k}, {"y": float(k)}) for k in range(9)]
    assert (layout(seeded, ["seed", "n"], ["y"]) or {})["x"] == "n"
    assert [len(line["points"].split()) for _, line in plot["shapes"][-1][2:]] == [3, 3]
    assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y, *_ in plot["dots"])


def test_a_plot_goes_logarithmic_over_two_decades_and_takes_words_as_categories() -> None:
    wide = layout(points([({"n": 10**k}, 10.0**-k) for k in range(5)]), ["n"], ["y"])
    named = layout(points([({"m": "a"}, 1.0), ({"m": "b"}, 2.0)]), ["m"], ["y"])

    assert wide is not None
    assert named is not None
    assert [text for _, text in words(wide, dy=18)] == ["1", "10", "100", "1,000", "10,000"]
    assert words(named, dy=18) == [("25.00%", "a"), ("75.00%", "b")]
    assert named["shapes"][-1][2:] == []


@pytest.mark.parametrize(
    ("values", "texts", "middle"),
    [
        ([1e-4, 1e-3, 1e-2, 1e-1], ["0.0001", "0.001", "0.01", "0.1"], 1e-3),
        ([0.001, 0.003, 0.01, 0.03], ["0.001", "0.003", "0.01", "0.03"], 0.003),
        ([1, 2, 4, 8, 16, 32, 64], ["1", "2", "5", "10", "20", "50"], 8),
    ],
)
def test_an_argument_whose_values_go_by_size_has_a_logarithmic_axis(
    values: list[float], texts: list[str], middle: float
) -> None:
    plot = layout(points([({"lr": lr}, 1.0 + i) for i, lr in enumerate(values)]), ["lr"], ["y"])

    assert plot is not None
    assert [text for _, text in words(plot, dy=18)] == texts
    assert 0.3 < plot["dots"][values.index(middle)][0] < 0.6


@pytest.mark.parametrize("values", [[0, 1, 10, 50], [*range(1, 21)], [10, 20, 30, 80], [1, 10], [-1, 1, 10]])
def test_the_axis_of_other_arguments_is_linear(values: list[float]) -> None:
    plot = layout(points([({"n": n}, 1.0 + i) for i, n in enumerate(values)]), ["n"], ["y"])

    assert plot is not None
    ends = min(dot[0] for dot in plot["dots"]), max(dot[0] for dot in plot["dots"])
    share = (values[1] - values[0]) / (values[-1] - values[0])
    assert plot["dots"][1][0] == pytest.approx(ends[0] + share * (ends[1] - ends[0]), abs=0.001)


def test_points_that_would_cover_each_other_stand_side_by_side() -> None:
    points = [Point(i, {"n": 1 if i < 3 else 2}, {"loss": 0.5}) for i in range(4)]

    plot = layout(points, ["n"], ["loss"])

    assert plot is not None
    places = [dot[0] for dot in plot["dots"]]
    assert len(set(places)) == 4
    assert max(places[:3]) - min(places[:3]) < 0.03
    assert {dot[1] for dot in plot["dots"]} == {0.5}


def test_metrics_are_columns_beside_the_results_and_a_name_tells_which_is_the_best() -> None:
    newest = MetricsSummary(n=1, newest={"loss": 0.25, "lr now": 0.1})
    model = BatchModel([job(1, "succeeded", "{'loss': 0.5}", metrics=newest), job(2, "running", metrics=newest)])

    assert [name for name, kind in model.columns() if kind == "value"] == ["loss", "lr now"]
    assert [cell(model, i, "loss") for i in (0, 1)] == [0.5, 0.25]  # the result, before it the metric
    assert model.better() == ["loss", "lowest"]
    assert [
        words for words, *_ in BatchModel([job(1, "succeeded", "0.5"), job(2, "succeeded", "0.25")]).best()[1:]
    ] == [
        "lowest",
        "highest",
    ]
    losses = [job(n, "succeeded", f"{{'loss': {loss}}}") for n, loss in ((1, 0.5), (2, 0.25))]
    assert BatchModel(losses).best() == ["loss", ["best", 0.25, "n=2"], ["highest", 0.5, "n=1"]]
    assert [direction_of(name) for name in ("val/Accuracy", "test_rmse", "f1", "glossary", "n")] == [
        "highest",
        "lowest",
        "highest",
        "",
        "",
    ]


def test_colours_follow_the_order_of_the_jobs_not_that_in_which_their_results_arrive() -> None:
    args = [{"n": n, "method": method} for method in ("rk4", "euler") for n in (1, 2)]
    jobs = [job(i, "succeeded", "dict of 2: loss, model", params=params) for i, params in enumerate(args)]
    model = BatchModel(jobs)

    for i in reversed(range(len(jobs))):
        model.show(i, {"json": {"loss": 0.5}})

    assert (model.plot() or {})["series"] == ["rk4", "euler"]


def test_a_measure_of_validation_is_better_than_one_of_training_and_its_plot_comes_first() -> None:
    found = [MetricsSummary(n=1, newest={"train/acc": 0.99 - n / 100, "val/acc": 0.9 + n / 100}) for n in (1, 2)]
    model = BatchModel([job(n, "succeeded", "None", metrics=newest) for n, newest in enumerate(found, 1)])

    assert model.better() == ["val/acc", "highest"]
    assert model.best() == ["val/acc", ["best", 0.92, "n=2"], ["lowest", 0.91, "n=1"]]
    assert (model.plot() or {})["y"] == "val/acc"


def test_jobs_of_several_tasks_have_their_task_as_the_first_argument() -> None:
    other = job(2, "succeeded", "2", params={"depth": 3, "method": "rk4"})
    model = BatchModel([job(1, "succeeded", "1"), replace(other, spec=replace(other.spec, task="fit"))])

    assert model.args == ["task", "n", "depth"]
    assert model.fixed == "method=rk4"
    assert [cell(model, i, "task") for i in (0, 1)] == ["train", "fit"]
    assert model.title == "2 jobs of 2 tasks"


def test_a_plot_without_numbers_is_none_and_a_large_one_is_thinned() -> None:
    many = layout(points([({"n": n}, float(n)) for n in range(5000)]), ["n"], ["y"])

    assert layout([], ["n"], ["y"]) is None
    assert layout(points([({"n": 1}, 1.0)]), [], ["y"]) is None
    assert many is not None
    assert len(many["dots"]) == MAX_POINTS
    assert many["note"] == "1,500 of 5,000 points shown, chosen evenly"


def test_one_value_only_and_odd_numbers_are_plotted_too() -> None:
    for rows in ([({"n": 1}, 0.0)], [({"n": -5}, -1e-9), ({"n": -4}, -2e-9)], [({"n": 1e12}, 5.0), ({"n": 2}, 5.0)]):
        plot = layout(points(rows), ["n"], ["y"])
        assert plot is not None
        assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y, *_ in plot["dots"])


@pytest.mark.parametrize("ground", ["#ffffff", "#0f1216"])
def test_every_colour_of_a_plot_can_be_seen_on_both_grounds(ground: str) -> None:
    assert {colour: contrast(colour, ground) for colour in COLOURS if contrast(colour, ground) < 3} == {}


def test_a_saved_batch_holds_bar_plot_and_rows_and_no_markup_of_a_user() -> None:
    error = JobError(ErrorKind.EXCEPTION, "ValueError", f"bad {CANARY}")
    model = BatchModel(
        [job(1, "succeeded", "0.5"), job(2, "succeeded", "0.25"), replace(job(3, "failed"), error=error),
         job(4, "cancelled", params={"n": 4, "method": CANARY})]
    )  # fmt: skip
    model.stopped_by = "00000002"
    model.rule_problem = f"TypeError: {CANARY}"

    html = batch_html(model)

    assert "<svg" in html
    assert "✓ 2 succeeded · ✗ 1 failed · ⊘ 1 cancelled" in html
    assert "stopped by the rule at job <code>00000002</code>" in html
    assert "Its stop rule failed: TypeError" in html
    assert "batch.retry_failed()" in html
    assert CANARY not in html
    assert "<img" not in html
    assert html.count("<script>") == 1
    assert len(html) < 16_000


def test_a_saved_batch_keeps_so_many_rows_and_says_where_the_rest_is() -> None:
    model = BatchModel([job(n, "succeeded", f"{n / 7}") for n in range(1, 3000)])

    html = batch_html(model)

    assert len(re.findall("<tr>", html)) == BATCH_ROWS + 1
    assert "200 of 2,999 rows; <code>batch.results()</code> has all" in html
    assert len(html) < 120_000


def test_a_saved_plot_shows_points_of_the_whole_sweep_and_says_how_many() -> None:
    html = batch_html(BatchModel([job(n, "succeeded", f"{n / 7}") for n in range(1, 3000)]))

    across = [float(each) for each in re.findall(r'<circle cx="([\d.]+)%"', html)]
    assert "(500 of 2,999 points shown, chosen evenly)" in html
    assert len(across) == 500
    assert max(across) > 95


def test_the_note_of_a_job_is_its_message_until_it_succeeds() -> None:
    states = ("running", "succeeded", "cancelled")
    model = BatchModel([job(n, state, message="epochs") for n, state in enumerate(states)])

    assert [model.note_of(n) for n in range(3)] == ["epochs", "", "epochs"]


def test_a_list_of_jobs_says_why_each_has_not_succeeded() -> None:
    error = JobError(ErrorKind.EXCEPTION, "ValueError", "lr must be > 0")
    model = BatchModel([job(1, "succeeded", "0.5"), job(2, "failed", error=error), job(3, "cancelled")], is_list=True)

    assert [name for name, _ in model.columns()] == [
        "Task", "Arguments", "State", "Result", "Duration", "Reason", "Id",
    ]  # fmt: skip
    assert [cell(model, i, "Reason") for i in range(3)] == ["", "ValueError: lr must be > 0", ""]
    assert "<th>Reason</th>" in batch_html(model)


def test_a_list_of_jobs_that_succeeded_or_go_on_has_no_column_of_reasons() -> None:
    model = BatchModel([job(1, "succeeded", "0.5"), job(2, "running")], is_list=True)

    assert "Reason" not in dict(model.columns())


def test_a_batch_that_is_saved_while_it_runs_says_of_when_it_is() -> None:
    html = batch_html(BatchModel([job(1, "running"), job(2)]), AT)

    assert f"as of {local_time(AT, seconds=True)}; " in html


def test_a_batch_says_why_jobs_wait_quietly_while_others_run_and_keeps_its_id() -> None:
    reason = {"level": "info", "text": "2 wait for a free slot: the one slot is busy"}
    jobs = [job(1, "running"), job(2), job(3)]
    model = BatchModel(jobs, spec=BatchSpec("0123456789abcdef", "train", 3))
    model.alert = reason

    head = model.head(AT)
    assert (head["waits"], head["alert"]) == (reason["text"], None)
    html = batch_html(model, AT)
    assert f'<p class="m">{reason["text"]} · as of' in html
    assert ' · <code title="0123456789abcdef">01234567</code></p>' in html

    model.alert = {"level": "warning", "text": "Queue default is paused"}
    assert (model.head(AT)["waits"], model.head(AT)["alert"]) == ("", model.alert)

    model.alert = reason
    model.take(0, job(1, "succeeded", "0.5"))
    assert (model.head(AT)["waits"], model.head(AT)["alert"]) == ("", reason)
    assert reason["text"] in batch_html(model, AT)
    for n in (2, 3):
        model.take(n - 1, job(n, "succeeded", "0.5"))
    assert model.head(AT)["alert"] is None


def test_a_saved_batch_marks_its_best_row_as_the_live_card_does() -> None:
    losses = [job(n, "succeeded", f"{{'loss': {loss}}}") for n, loss in ((1, 0.5), (2, 0.25), (3, 0.5))]
    failed = job(4, "failed", metrics=MetricsSummary(n=1, newest={"loss": 0.1}))

    html = batch_html(BatchModel([*losses, failed]), AT)

    assert html.count("★") == 1
    assert '★ <b class="y"><data value="0.25">0.25</data></b>' in html
    assert "★" not in batch_html(BatchModel([losses[0], losses[2]]), AT)  # all are alike
    assert "★" not in batch_html(BatchModel([job(1, "succeeded", "1"), job(2, "succeeded", "2")]), AT)


def marks(*values: float) -> list[str]:
    points = [Point(i, {"x": value}, {"y": float(i)}) for i, value in enumerate(values)]
    plot = layout(points, ["x"], ["y"])
    assert plot is not None
    return [shape[2] for shape in plot["shapes"] if shape[0] == "text" and shape[1].get("dy") == 18]


def test_an_axis_marks_the_values_of_a_sweep_if_they_have_room() -> None:
    assert marks(0.001, 0.003, 0.01, 0.03, 0.1) == ["0.001", "0.003", "0.01", "0.03", "0.1"]
    assert marks(0, 1, 2, 3, 4, 5) == ["0", "1", "2", "3", "4", "5"]
    assert marks(1, 1.01, 2) == ["1", "1.5", "2"]
