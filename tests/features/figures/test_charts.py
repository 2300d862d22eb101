"""Charts of Plotly and Altair as `jobkit.show` keeps them: a specification, and a picture if it can be drawn here."""

from __future__ import annotations

import base64
import importlib.util
import json
import subprocess
import sys
from typing import Any

import pytest

from jobkit.features.figures.drawing import ChartAxis, drawing_of
from jobkit.run.ended import succeeded
from jobkit.run.inside import shown_values
from jobkit.run.inside.pictures import drawn


class PlotlyFigure:
    """A figure of Plotly without Plotly."""

    data = ("trace",)

    def __init__(self, error: Exception) -> None:
        self._error = error

    def to_plotly_json(self) -> dict[str, Any]:
        return {"data": [{"y": [1, 2]}]}

    def to_json(self) -> str:
        return json.dumps(self.to_plotly_json())

    def to_image(self, **how: Any) -> bytes:
        raise self._error


PlotlyFigure.__module__ = "plotly.graph_objs"

NO_CHROME = "\n\nKaleido requires Google Chrome to be installed.\n\nEither download and install Chrome yourself ..."
SAYS = "To see it here: kaleido needs Chrome or Chromium on this machine; plotly_get_chrome installs it"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RuntimeError(NO_CHROME), SAYS),
        (ValueError("Failed to draw.\nSee the log."), "kaleido could not draw it: Failed to draw"),
        (TimeoutError(), "kaleido could not draw it: TimeoutError"),
    ],
)
def test_a_chart_that_cannot_be_drawn_says_why_in_one_sentence_and_keeps_its_specification(
    error: Exception, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())

    preview = json.loads(drawn(PlotlyFigure(error)))

    assert preview["text"].split("\n") == ["Plotly figure, 1 trace", sentence]
    assert preview["spec"] == {"data": [{"y": [1, 2]}]}
    assert "png" not in preview


def test_without_its_renderer_a_chart_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    assert json.loads(drawn(PlotlyFigure(ValueError())))["text"].endswith("To see it here: pip install kaleido")


ALTAIR = """
import altair
made = altair.Chart(altair.Data(values=[{"x": 1, "y": 2}])).mark_bar().encode(x="x:Q", y="y:Q")
"""
MADE_PLOTLY = """
import plotly.graph_objects as graphs
made = graphs.Figure(graphs.Scatter(x=[1, 2], y=[3, 4]))
"""


@pytest.mark.parametrize(
    ("program", "libraries", "key"),
    [
        (ALTAIR, ["altair", "vl_convert"], "mark"),
        pytest.param(MADE_PLOTLY, ["plotly", "kaleido"], "data", marks=pytest.mark.nightly),  # it starts a browser
    ],
    ids=["altair", "plotly"],
)
def test_a_chart_has_a_picture_and_a_specification(program: str, libraries: list[str], key: str) -> None:
    """In another process: the renderers leave threads and open files behind."""
    if missing := [name for name in libraries if importlib.util.find_spec(name) is None]:
        pytest.skip(f"{missing[0]} is not installed")
    program += "from jobkit.run.inside.pictures import drawn\nprint(drawn(made).decode())"
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
    preview = json.loads(told.stdout)
    if preview["text"].endswith(SAYS):
        pytest.skip("there is no Chrome")

    assert base64.b64decode(preview["png"]).startswith(b"\x89PNG")
    assert key in preview["spec"]
    assert "\n" not in preview["text"]


def test_a_figure_as_a_result_keeps_its_specification_and_then_gets_its_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    stages: list[Any] = []

    last = succeeded(PlotlyFigure(ValueError("no browser")), allow_pickle=True).last(stages.append)

    assert stages[1].preview["mime"] == shown_values.PLOTLY
    assert stages[1].preview["text"] == "Plotly figure, 1 trace"
    assert last.preview["spec"] == {"data": [{"y": [1, 2]}]}
    assert last.preview["text"].endswith("kaleido could not draw it: no browser")
    assert last.summary == "Plotly figure, 1 trace"


def bokeh_figure(**options: Any) -> Any:
    from bokeh.plotting import figure

    return figure(title="<Losses>", x_axis_label="epoch", **options)


def test_a_figure_of_lines_points_and_bars_has_a_drawing() -> None:
    plot = bokeh_figure()
    plot.line([1, 2, 3], [3.0, float("nan"), 1], legend_label="train", line_color="#123456")
    plot.scatter("a", "b", source={"a": [1, 2], "b": [2, 4]}, legend_label="val")
    bars = bokeh_figure(x_range=["one", "two"])
    bars.vbar(x=["one", "two"], top=[3, 1], width=0.5)

    svg, columns = drawing_of(plot), drawing_of(bars)

    assert "&lt;Losses&gt;" in svg
    assert 'stroke="#123456"' in svg
    assert (svg.count("<circle"), svg.count("<polyline")) == (2, 1)
    assert all(f">{text}<" in svg for text in ("epoch", "1", "2", "3"))
    assert columns.count("<rect") == 3
    assert ">two<" in columns


def test_a_figure_with_anything_else_has_no_drawing() -> None:
    plot = bokeh_figure()
    plot.line([1, 2], [1, 2])
    plot.wedge(x=1, y=1, radius=1, start_angle=0, end_angle=1)

    assert drawing_of(plot) == ""
    assert drawing_of(object()) == ""


def test_times_logarithms_and_categories_have_ticks() -> None:
    times, logs, names = ChartAxis(), ChartAxis(is_log=True), ChartAxis()

    first, last = times.read(["2026-01-01", "2026-01-11"])
    low, high = logs.read([0.001, 1000])
    names.read(["a", "b", "a"])

    assert times.ticks(first, last)[0][1] == "2026-01-02"
    assert [text for _, text in logs.ticks(low, high)][::3] == ["0.001", "1", "1000"]
    assert names.ticks(0, 1) == [(0, "a"), (1, "b")]
    assert [text for _, text in ChartAxis().ticks(0.0, 1.0)] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]


def test_a_plotly_figure_has_a_drawing() -> None:
    graphs = pytest.importorskip("plotly.graph_objects")
    bars = [graphs.Bar(x=["a", "b"], y=[1, 2]), graphs.Bar(x=["a", "b"], y=[2, 1])]

    svg = drawing_of(graphs.Figure([graphs.Scatter(x=["a", "b"], y=[1, 2]), *bars], {"title": "Both"}))

    assert svg.count("<rect") == 5
    assert "Both" in svg
    assert drawing_of(graphs.Figure(graphs.Heatmap(z=[[1]]))) == ""
