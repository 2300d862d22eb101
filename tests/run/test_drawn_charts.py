"""Charts of Plotly and Altair as `jobkit.show` keeps them: a specification, and a picture if it can be drawn here."""

from __future__ import annotations

import base64
import importlib.util
import json
import subprocess
import sys
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


ALTAIR = """
import altair
made = altair.Chart(altair.Data(values=[{"x": 1, "y": 2}])).mark_bar().encode(x="x:Q", y="y:Q")
"""
PLOTLY = """
import plotly.graph_objects as graphs
made = graphs.Figure(graphs.Scatter(x=[1, 2], y=[3, 4]))
"""


@pytest.mark.parametrize(
    ("program", "libraries", "key"),
    [
        (ALTAIR, ["altair", "vl_convert"], "mark"),
        pytest.param(PLOTLY, ["plotly", "kaleido"], "data", marks=pytest.mark.nightly),  # it starts a browser
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
