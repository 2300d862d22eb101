"""The card in a notebook, without one: what is displayed, and what the widget sends and obeys."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from ipywidgets.widgets.widget import _instances  # type: ignore[import-untyped]

import jobkit
from jobkit.client.batch import Batch
from jobkit.client.found import Jobs
from jobkit.run.inside.shown_values import PLOTLY
from jobkit.tasks.info import TaskInfo
from jobkit.ui.form.task_form import TaskForm
from jobkit.ui.live.shared_feed import _feeds
from jobkit.ui.notebook import FormDisplay, chart_bundle
from jobkit.ui.widgets import JobWidget, TextWidget
from tests.support import wait_until
from tests.ui.stage import Stage


class Output:
    """One output of a cell, with all that it has shown; also its handle."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.shown = [data]

    @property
    def now(self) -> dict[str, Any]:
        return self.shown[-1]

    def update(self, data: dict[str, Any], *, raw: bool, metadata: dict[str, Any] | None = None) -> None:
        self.shown.append(data)


class Display:
    """IPython's `display`, as far as a card uses it."""

    def __init__(self) -> None:
        self.outputs: list[Output] = []
        self.metadata: list[Any] = []

    def __call__(self, data: dict[str, Any], *, raw: bool, display_id: bool = False, metadata: Any = None) -> Output:
        self.outputs.append(Output(data))
        self.metadata.append(metadata)
        return self.outputs[-1]


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Display:
    made = Display()
    monkeypatch.setattr("IPython.display.display", made)
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: type("Shell", (), {"kernel": object()})())
    return made


@pytest.fixture
def widget(stage: Stage) -> Iterator[JobWidget]:
    job = stage.running("train", {"n": 3}, title="Train")
    made = JobWidget(stage.kit, job)
    wait_until(lambda: made.snapshot, what="the first snapshot")
    yield made
    made.close()


def shown(widget: JobWidget) -> dict[str, Any]:
    card: dict[str, Any] = json.loads(widget.snapshot)
    return card


def test_a_widget_follows_its_job(stage: Stage, widget: JobWidget) -> None:
    job = shown(widget)["id"]
    assert shown(widget)["state"] == "running"

    stage.progress(job, 3, 10, "fold 3")
    stage.log(job, "hello")

    wait_until(lambda: shown(widget)["count"].startswith("3 / 10"), what="the progress")
    wait_until(lambda: "hello" in widget.log_append, what="the line")


def test_a_page_that_is_loaded_again_gets_the_whole_log(stage: Stage, widget: JobWidget) -> None:
    job = shown(widget)["id"]
    stage.log(job, "one")
    wait_until(lambda: "one" in widget.log_append, what="the line")
    stage.log(job, "two")
    wait_until(lambda: "two" in widget.log_append, what="the line")

    state = widget.get_state()

    assert [line["text"] for line in json.loads(state["log"])["lines"]] == ["one", "two"]


def test_the_widget_cancels_and_obeys_nothing_else(stage: Stage, widget: JobWidget) -> None:
    job = shown(widget)["id"]
    for text in ("", "no json", "[]", '{"action": "retry"}', '{"action": "delete"}'):
        widget.request = text
    assert stage.kit.snapshot(job).cancel_requested_at is None

    widget.request = '{"action": "cancel", "n": 1}'

    wait_until(lambda: stage.kit.snapshot(job).is_cancelling, what="the request")
    wait_until(lambda: shown(widget)["cancel_requested_at"], what="the card")


def test_a_job_is_shown_live_and_its_output_becomes_static_at_its_end(stage: Stage, display: Display) -> None:
    job_id = stage.running("train", {"n": 3}, title="Train")
    job = stage.kit.get(job_id)

    job._ipython_display_()

    saved, live = display.outputs
    assert set(live.now) == {"application/vnd.jupyter.widget-view+json", "text/plain"}
    assert "shows it live" in saved.now["text/html"]  # what a saved notebook shows, and a viewer without widgets
    stage.log(job_id, "the last words")
    stage.succeed(job_id, {"type": "int", "text": "42"})
    wait_until(lambda: live.now == {"text/plain": ""}, what="the output to be replaced")
    assert set(saved.now) == {"text/html", "text/plain"}
    assert "the last words" in saved.now["text/html"]
    assert "42" in saved.now["text/html"]
    assert "shows it live" not in saved.now["text/html"]


def test_an_output_that_became_static_keeps_neither_widget_nor_feed(stage: Stage, display: Display) -> None:
    job_id = stage.submit("train", {"n": 3}, title="Train")
    job = stage.kit.get(job_id)
    job._ipython_display_()
    batch = Batch(stage.kit, [job])
    batch._ipython_display_()
    shown = [display.outputs[i].now["application/vnd.jupyter.widget-view+json"]["model_id"] for i in (1, 3)]
    assert all(model in _instances for model in shown)

    stage.start(job_id)
    stage.succeed(job_id, {"type": "int", "text": "42"})

    wait_until(lambda: not any(model in _instances for model in shown), what="the widgets to close")
    wait_until(lambda: not _feeds.get(stage.kit), what="the feeds to end")


def test_the_live_card_of_a_closed_kit_becomes_static(stage: Stage, display: Display) -> None:
    job_id = stage.running("train", {"n": 3}, title="Train")
    job = stage.kit.get(job_id)
    Batch(stage.kit, [job])._ipython_display_()
    job._ipython_display_()
    wait_until(lambda: "Running" in display.outputs[2].now["text/html"], what="the running job")

    stage.kit.close()

    for live in (display.outputs[1], display.outputs[3]):
        wait_until(lambda live=live: live.now == {"text/plain": ""}, what="the output to be replaced")  # type: ignore[misc]
    assert "shows it live" in display.outputs[2].now["text/html"]
    job._ipython_display_()
    assert "Running" in display.outputs[-1].now["text/html"]
    with pytest.raises(jobkit.JobkitError, match="is closed; connect again"):
        job.widget()


def test_the_widget_of_a_closed_kit_says_so_and_beats_no_more(stage: Stage, widget: JobWidget) -> None:
    stage.kit.close()

    wait_until(lambda: widget.beat == "", what="the last beat")
    assert "is closed; connect again" in shown(widget)["connection"]


def test_the_widget_of_a_task_ends_with_its_card(stage: Stage) -> None:
    column = FormDisplay(lambda: stage.kit, {}, "nothing").widget()
    form, card = column.children
    card.follow(stage.kit, stage.submit("train"))
    wait_until(lambda: card.snapshot, what="the first snapshot")

    column.close()

    assert [each.comm for each in (form, card)] == [None, None]
    wait_until(lambda: not _feeds.get(stage.kit), what="the feed to end")


def test_the_saved_output_is_renewed_while_the_job_runs(
    stage: Stage, display: Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = stage.submit("train", {"n": 3}, title="Train")
    stage.kit.get(job_id)._ipython_display_()
    saved, live = display.outputs
    wait_until(lambda: "Queued" in saved.now["text/html"], what="the queued job")

    stage.start(job_id)

    wait_until(lambda: "Running" in saved.now["text/html"], what="the running job")
    monkeypatch.setattr("jobkit.ui.notebook._KEEP_S", 0.0)
    stage.progress(job_id, 3, 10, "fold 3")
    wait_until(lambda: "30 % · 3 / 10 · fold 3" in saved.now["text/html"], what="the progress")
    assert len(live.shown) == 1  # the widget goes on


def test_an_ended_job_is_static_from_the_start(stage: Stage, display: Display) -> None:
    job_id = stage.running("train")
    stage.log(job_id, *[f"line {n}" for n in range(50)])
    stage.fail(job_id, "KeyError", "'f1'")

    stage.kit.get(job_id)._ipython_display_()

    (only,) = display.outputs
    assert set(only.now) == {"text/html", "text/plain"}
    assert "KeyError" in only.now["text/html"]
    assert "last 12 of 50 lines" in only.now["text/html"]


def test_a_chart_is_shown_once_below_the_card_for_front_ends_that_draw_it(stage: Stage, display: Display) -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><rect fill="#fff"/></svg>'
    picture = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
    chart = {"type": "Figure", "text": "Plotly figure, 1 trace", "mime": PLOTLY, "spec": {"data": []}, "note": "Simple"}
    job_id = stage.running("train")
    job = stage.kit.get(job_id)
    job._ipython_display_()
    stage.succeed(job_id, {**chart, "picture": picture})
    live = display.outputs[-1]
    wait_until(lambda: PLOTLY in live.now, what="the chart in place of the widget")
    job._ipython_display_()

    for card, below in (display.outputs[:2], display.outputs[2:]):
        assert "<img" not in card.now["text/html"]
        assert below.now == {PLOTLY: {"data": []}, "text/plain": "Plotly figure, 1 trace", "image/svg+xml": svg}
    assert picture in job._repr_mimebundle_()[0]["text/html"]
    assert chart_bundle({**chart, "mime": "text/html"}) is None


@pytest.mark.parametrize(
    "drawing",
    [
        "<svg><script/></svg>",
        '<svg/onload="alert(1)"></svg>',
        '<svg width="1"onload="alert(1)"></svg>',
        '<svg><rect fill="url(//example.com)"/></svg>',
        '<svg style="position:fixed;top:0"></svg>',
        '<svg><a href="javascript:alert(1)"/></svg>',
    ],
)
def test_markup_that_no_drawing_has_is_not_put_into_a_notebook(drawing: str) -> None:
    picture = f"data:image/svg+xml;base64,{base64.b64encode(drawing.encode()).decode()}"

    bundle = chart_bundle({"text": "", "mime": PLOTLY, "spec": {"data": []}, "picture": picture})

    assert "image/svg+xml" not in (bundle or {"image/svg+xml": ""})


def test_a_terminal_shows_the_line_of_a_job_and_a_program_without_ipython_its_static_card(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = stage.submit("train", {"n": 3})
    job = stage.kit.get(job_id)
    line = {"text/plain": f"<Job {job_id} train(n=3) queued>"}
    with pytest.raises(NotImplementedError):  # IPython takes the next representation
        job._ipython_display_()

    bundle, _ = job._repr_mimebundle_()

    assert bundle.items() > line.items()
    assert "shows it live" in bundle["text/html"]
    assert "application/vnd.jupyter.widget-view+json" not in bundle

    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: type("Terminal", (), {"kernel": None})())
    assert job._repr_mimebundle_() == (line, {})


def test_a_front_end_that_asks_for_a_bundle_gets_the_widget_and_the_static_card(stage: Stage, display: Display) -> None:
    job_id = stage.submit("train", {"n": 3})
    job = stage.kit.get(job_id)
    stage.start(job_id)

    bundle, metadata = job._repr_mimebundle_(include=None, exclude=None)

    assert set(bundle) == {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"}
    assert "shows it live" in bundle["text/html"]
    assert (metadata, display.outputs) == ({}, [])  # it is returned, not displayed

    stage.succeed(job_id)
    wait_until(lambda: job.is_terminal, what="the end")
    assert set(job._repr_mimebundle_()[0]) == {"text/html", "text/plain"}


def test_ipython_displays_a_job_once(stage: Stage, display: Display) -> None:
    from IPython.core.formatters import DisplayFormatter

    job = stage.kit.get(stage.submit("train"))

    assert DisplayFormatter().format(job) == ({}, {})  # it has shown itself
    assert len(display.outputs) == 2


def test_colab_gets_the_address_of_its_loader_of_widgets(
    stage: Stage, display: Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Colab shows a widget of another package only with this metadata, which anywidget gives."""
    colab = SimpleNamespace(enable_custom_widget_manager=lambda: None, _widgets=SimpleNamespace(_installed_url="/here"))
    monkeypatch.setitem(sys.modules, "google.colab.output", colab)
    job = stage.kit.get(stage.submit("train"))

    job._ipython_display_()

    told = {"application/vnd.jupyter.widget-view+json": {"colab": {"custom_widget_manager": {"url": "/here"}}}}
    assert display.metadata == [{}, told]
    assert job._repr_mimebundle_()[1] == told


def test_marimo_gets_widgets_and_before_them_what_its_export_shows(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []

    def as_html(widget: Any) -> Any:
        shown.append(widget)
        return SimpleNamespace(text=f"<live-{len(shown)}>")

    marimo = SimpleNamespace(as_html=as_html, Html=str, plain_text=repr)
    monkeypatch.setitem(sys.modules, "marimo", marimo)

    @jobkit.task(name="formed")
    def formed(n: int = 3) -> int:
        return n * 10

    job_id = stage.submit("train")
    html = stage.kit.get(job_id)._display_()
    assert re.search(rf'<div id="{shown[0].saved}">.*shows it live.*</div><live-1></div>$', html, re.S)

    html = FormDisplay(lambda: stage.kit, {"formed": formed.info()}, "formed").marimo()
    form, card = shown[1:]
    assert re.search(rf'<div id="{form.saved}">.*<live-2><live-3></div>$', html, re.S)
    form.request = '{"action": "submit", "task": "formed", "fields": {"n": {"text": "4"}}, "k": 1}'
    wait_until(lambda: "40" in card.preview, what="the job's card below the form")

    form.request = '{"action": "submit", "task": "formed", "fields": {"n": {"text": "5"}}, "k": 2}'
    wait_until(lambda: "50" in card.preview, what="the card of the next job")
    assert Jobs(stage.kit, ())._display_() == "'No jobs.'"


@pytest.mark.parametrize("is_closed", [False, True], ids=["open", "closed"])
def test_a_kit_shows_its_address_and_its_jobs(stage: Stage, display: Display, is_closed: bool, capsys: Any) -> None:
    stage.submit("train", {"n": 3})
    if is_closed:
        stage.kit.close()
        with pytest.raises(NotImplementedError):  # the bundle follows
            stage.kit._ipython_display_()
        assert stage.kit._repr_mimebundle_() == ({"text/plain": repr(stage.kit)}, {})
    else:
        stage.kit._ipython_display_()
        assert capsys.readouterr().out == f"{stage.kit!r}\n"
        assert "n=3" in display.outputs[0].now["text/html"]
        stage.kit.close()
        wait_until(lambda: display.outputs[1].now == {"text/plain": ""}, what="its card to end before the next test")


def test_a_kit_whose_server_is_away_says_so(stage: Stage, display: Display, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: object) -> None:
        raise jobkit.StoreUnavailable("Redis does not answer")

    monkeypatch.setattr(type(stage.kit), "jobs", unavailable)

    with pytest.raises(NotImplementedError):  # the bundle follows
        stage.kit._ipython_display_()
    assert stage.kit._repr_mimebundle_() == ({"text/plain": f"{stage.kit!r}\nRedis does not answer"}, {})


def test_a_widget_for_other_widgets_rests_while_no_page_shows_it(stage: Stage) -> None:
    job_id = stage.submit("train")
    widget = stage.kit.get(job_id).widget()
    wait_until(lambda: widget.snapshot, what="the first snapshot")
    widget._view_count = 2
    widget._view_count = 0  # its parent was closed

    assert widget.beat == ""
    stage.start(job_id)
    assert shown(widget)["state"] == "queued"

    widget._view_count = 1
    wait_until(lambda: widget.snapshot and shown(widget)["state"] == "running" and widget.beat, what="it to go on")
    widget.close()


def test_a_widget_whose_comm_was_closed_by_the_front_end_follows_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobkit.ui.widgets._BEAT_S", 0.01)
    widget = JobWidget(stage.kit, stage.submit("train"))
    wait_until(lambda: widget.snapshot, what="the first snapshot")

    widget.comm._closed = True

    wait_until(lambda: widget.shown is None, what="the widget to close")


def test_a_job_that_ends_between_two_cells_is_shown_again_by_the_next(
    stage: Stage, display: Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs that run notebooks drop what arrives between two cells; the saved card would stay the live one."""

    class Events:
        def __init__(self) -> None:
            self.waiting: list[Any] = []

        def register(self, event: str, function: Any) -> None:
            assert event == "pre_run_cell"
            self.waiting.append(function)

        def unregister(self, event: str, function: Any) -> None:
            self.waiting.remove(function)

    events = Events()
    shell = type("Shell", (), {"kernel": object(), "events": events})()
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: shell)
    job_id = stage.running("train")
    stage.kit.get(job_id)._ipython_display_()
    saved, live = display.outputs
    ready: list[int] = []
    update = live.update
    monkeypatch.setattr(live, "update", lambda data, raw: (ready.append(len(events.waiting)), update(data, raw=raw)))
    stage.succeed(job_id)
    wait_until(lambda: live.now == {"text/plain": ""} and events.waiting, what="the output to be replaced")
    assert ready == [1]  # it waits for the next cell before it speaks: no cell can begin between the two

    events.waiting[0](None)  # the next cell begins

    assert live.shown[-2:] == [{"text/plain": ""}] * 2
    assert saved.shown[-1] == saved.shown[-2]
    assert events.waiting == []


def test_an_update_belongs_to_the_running_cell(stage: Stage, display: Display, monkeypatch: pytest.MonkeyPatch) -> None:
    """ipykernel keeps the cell of an output in a context variable; the background loop has that of an earlier cell."""
    cell: ContextVar[str] = ContextVar("cell")
    cells: list[str] = []
    cell.set("one that has ended")
    job_id = stage.submit("train")
    stage.kit.get(job_id)._ipython_display_()
    saved, live = display.outputs
    for output in (saved, live):
        monkeypatch.setattr(output, "update", lambda data, raw: cells.append(cell.get("the running cell")))

    stage.start(job_id)
    stage.succeed(job_id)

    wait_until(lambda: len(cells) >= 3, what="the saved output twice and the empty one")
    assert set(cells) == {"the running cell"}


def test_a_kernel_beats_until_its_job_has_ended(stage: Stage, widget: JobWidget) -> None:
    """A browser that misses the beats says that the kernel is gone. A busy kernel beats: a thread of ours does."""
    assert int(widget.beat) > 0
    job = shown(widget)["id"]

    stage.succeed(job)

    wait_until(lambda: widget.beat == "", what="the last beat")


def test_a_task_shows_its_form_and_below_it_the_job_that_it_submits(stage: Stage, display: Display) -> None:
    from jobkit.ui.widgets import FormWidget

    @jobkit.task(name="formed")
    def formed(n: Annotated[int, jobkit.Range(1, 9)] = 3) -> int:
        """Multiply <b>it</b>.

        Args:
            n: how much
        """
        return n * 10

    widgets: list[FormWidget] = []
    original = FormWidget.__init__

    def noted(self: FormWidget, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        widgets.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FormWidget, "__init__", noted)
        FormDisplay(lambda: stage.kit, {"formed": formed.info()}, "formed").show()
    (saved, form, below, _), fields = (
        display.outputs,
        '{"action": "submit", "task": "formed", "fields": {"n": {"text": "%s"}}, "k": %d}',
    )
    assert "application/vnd.jupyter.widget-view+json" in form.now
    assert "Multiply &lt;b&gt;it&lt;/b&gt;" in saved.now["text/html"]
    assert "how much" in saved.now["text/html"]

    widgets[0].request = fields % (77, 1)
    wait_until(lambda: "n must be a whole number from 1 to 9, not 77" in widgets[0].reply, what="the refusal")
    assert stage.kit.jobs() == []

    widgets[0].request = fields % (4, 2)
    wait_until(lambda: "40" in below.now.get("text/html", ""), what="the job's card below the form")
    assert [job.result() for job in stage.kit.jobs()] == [40]


def test_the_end_of_an_earlier_job_leaves_the_card_of_the_next_one_below_a_form(
    stage: Stage, display: Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobkit.ui.notebook._KEEP_S", 0.0)
    submitted: list[Any] = []

    class FormWidget(TextWidget):
        def __init__(self, *_: object, on_submit: Any, **__: object) -> None:
            super().__init__({})
            submitted.append(on_submit)

    monkeypatch.setattr("jobkit.ui.widgets.FormWidget", FormWidget)
    first, second = stage.submit("train", {"n": 1}), stage.submit("train", {"n": 2})
    stage.start(second)
    FormDisplay(lambda: stage.kit, {"train": TaskInfo(name="train")}, "formed").show()
    _, _, below, card = display.outputs
    for i, job in enumerate((first, second)):
        submitted[0](job)
        wait_until(lambda i=i: len(card.shown) == i + 2, what="the job's card below the form")  # type: ignore[misc]

    stage.succeed(first)
    stage.kit.get(first).wait(5)
    stage.log(second, "goes on")
    wait_until(lambda: "goes on" in str(below.now), what="news of the second job")

    assert second in str(below.now)
    assert len(card.shown) == 3


def test_a_form_without_tasks_says_so(stage: Stage, display: Display) -> None:
    form = TaskForm(stage.kit, names=["unknown"])

    with pytest.raises(NotImplementedError):
        form._ipython_display_()
    assert form._repr_mimebundle_()[0] == {"text/plain": "No tasks yet. Write a function with @jobkit.task."}
