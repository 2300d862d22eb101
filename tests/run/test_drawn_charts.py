"""Charts of Plotly and Altair as `jobkit.show` keeps them: a specification, and a picture if it can be drawn here."""

from __future__ import annotations

import base64
import importlib.util
import json
from typing import Any

import pytest

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


def test_a_chart_of_altair_has_a_picture_and_a_specification() -> None:
    altair = pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    chart = altair.Chart(altair.Data(values=[{"x": 1, "y": 2}])).mark_bar().encode(x="x:Q", y="y:Q")

    check(json.loads(drawn(chart)), "mark")


@pytest.mark.nightly
def test_a_figure_of_plotly_has_a_picture_and_a_specification() -> None:
    graphs = pytest.importorskip("plotly.graph_objects")
    pytest.importorskip("kaleido")
    preview = json.loads(drawn(graphs.Figure(graphs.Scatter(x=[1, 2], y=[3, 4]))))
    if preview["text"].endswith(SAYS):
        pytest.skip("there is no Chrome")

    check(preview, "data")


def check(preview: dict[str, Any], key: str) -> None:
    assert base64.b64decode(preview["png"]).startswith(b"\x89PNG")
    assert key in preview["spec"]
    assert "\n" not in preview["text"]
