"""Previews of values, which pages show."""

from __future__ import annotations

import base64
import json
import math
import sys
from typing import Any

import pytest

from jobkit.run.inside.shown_values import CELL, COLUMNS, ROWS, SUMMARY_LIMIT, TEXT_LIMIT, preview_of, safe_repr


@pytest.mark.parametrize(
    ("value", "summary"),
    [
        (None, "None"),
        (True, "True"),
        (3, "3"),
        (3.14159, "3.14159"),
        (1 / 3, "0.333333"),
        (float("nan"), "nan"),
        ("text", "text"),
        ("", "''"),
        ("0.5", "'0.5'"),
        ("True", "'True'"),
        ([1, 2], "[1, 2]"),
        (list(range(100)), "list of 100"),
        ({"a": 1, "b": 2, "c": 3, "d": 4, "e": "x" * 60}, "dict of 5: a, b, c, …"),
        ({}, "empty dict"),
        (b"abc", "bytes of 3"),
        pytest.param(10**5000, "an integer of about 5,001 digits", id="huge"),
    ],
)
def test_summaries(value: Any, summary: str) -> None:
    preview, text = preview_of(value)

    assert text == summary
    json.dumps(preview, allow_nan=False)


def test_plain_values_are_kept_in_previews() -> None:
    assert preview_of(2.5)[0] == {"type": "float", "text": "2.5", "json": 2.5, "number": 2.5}
    assert preview_of({"a": [1, None]})[0]["json"] == {"a": [1, None]}
    assert "json" not in preview_of({1, 2})[0]


def test_numbers_of_numpy_and_those_that_json_lacks_are_kept_in_previews() -> None:
    np = pytest.importorskip("numpy")
    value = {"loss": float("nan"), "low": [-math.inf, np.float64("inf")], "acc": np.float32(0.5), "ok": np.bool_(True)}

    assert preview_of(value)[0]["json"] == {"loss": "nan", "low": ["-inf", "inf"], "acc": 0.5, "ok": True}
    assert "json" not in preview_of({"a": np.complex64(1)})[0]
    assert preview_of(np.complex64(1))[1] == "np.complex64(1+0j)"


def test_tables_are_bounded() -> None:
    pd = pytest.importorskip("pandas")
    np = pytest.importorskip("numpy")
    frame = pd.DataFrame(np.zeros((120, 40)), columns=[f"c{i}" for i in range(40)])
    frame["c0"] = "x" * 500

    preview, summary = preview_of(frame)

    assert summary == "DataFrame 120 × 40"  # the sign is meant
    table = preview["table"]
    assert (len(table["rows"]), len(table["columns"]), table["shape"]) == (ROWS, COLUMNS, [120, 40])
    assert all(isinstance(cell, str) and len(cell) <= CELL for row in table["rows"] for cell in row)
    json.dumps(preview)
    assert "html" not in preview


def test_an_index_with_values_is_a_column() -> None:
    pd = pytest.importorskip("pandas")
    preview, _ = preview_of(pd.DataFrame({"n": [1, 2]}, index=pd.Index(["a", "b"], name="key")))

    assert preview["table"]["columns"] == ["key", "n"]
    assert preview["table"]["rows"] == [["a", "1"], ["b", "2"]]
    series, summary = preview_of(pd.Series([1.5, 2], name="s"))
    assert summary == "Series of 2: s"
    assert series["table"]["rows"][0] == ["0", "1.5"]


def test_arrays() -> None:
    np = pytest.importorskip("numpy")

    assert preview_of(np.zeros((3, 4)))[1] == "array 3 × 4 of float64"  # the sign is meant
    assert preview_of(np.float64(2.5))[0]["number"] == 2.5
    assert preview_of(np.array(7))[1] == "7"


def test_a_figure_is_previewed_as_an_image() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib.figure import Figure

    figure = Figure()
    figure.add_subplot().plot([1, 3, 2])
    preview, summary = preview_of(figure)

    assert base64.b64decode(preview["png"]).startswith(b"\x89PNG")
    assert summary == "Figure"


def test_html_is_kept_separately() -> None:
    class Rich:
        def _repr_html_(self) -> str:
            return "<b>bold</b>"

        def __repr__(self) -> str:
            return "rich"

    assert preview_of(Rich())[0] == {"type": "Rich", "text": "rich", "html": "<b>bold</b>"}


class Nasty:
    def __repr__(self) -> str:
        raise SystemExit(3)

    def _repr_html_(self) -> str:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError


def test_a_value_whose_methods_all_raise_has_a_preview() -> None:
    assert preview_of(Nasty())[1] == "<Nasty object>"
    assert "Nasty" in preview_of([Nasty()])[0]["text"] or preview_of([Nasty()])[0]["type"] == "list"
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    preview_of(deep)


def test_text_is_bounded_and_clean() -> None:
    preview, summary = preview_of("\x1b[31m" + "y" * 100_000 + "\u202e")

    assert len(preview["text"]) <= TEXT_LIMIT
    assert "\x1b" not in preview["text"]
    assert len(summary) <= SUMMARY_LIMIT
    assert len(safe_repr("z" * 100_000)) < TEXT_LIMIT + 50


def test_no_library_is_imported_for_a_preview() -> None:
    import subprocess

    code = (
        "import sys; from jobkit.run.inside.shown_values import preview_of; preview_of([1]); preview_of(object());"
        "print([m for m in ('numpy', 'pandas', 'matplotlib', 'PIL', 'polars') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_a_bokeh_figure_is_kept_as_json_for_pages_with_bokeh() -> None:
    """Not as HTML with BokehJS, which takes 1 MB for each job."""
    from bokeh.plotting import figure

    plot = figure(title="Some title")
    plot.line([1, 2, 3], [3, 1, 2])

    preview, summary = preview_of(plot)

    assert summary == 'Bokeh figure "Some title": 1 glyph'
    assert preview["text"] == summary
    assert preview["bokeh"]["item"]["doc"]["roots"]
    assert len(json.dumps(preview)) < 400_000  # with what Panel adds if it is loaded


def test_a_bokeh_figure_with_many_points_is_a_drawing_of_some_of_them() -> None:
    from bokeh.plotting import figure

    plot = figure()
    plot.line(list(range(100_000)), list(range(100_000)))

    preview, _ = preview_of(plot)

    assert set(preview) == {"type", "text", "picture"}
    assert len(preview["picture"]) < 60_000
    assert "too large to be shown here" in preview["text"]


def test_arrays_and_nested_values_show_a_sample() -> None:
    np = pytest.importorskip("numpy")

    vector, summary = preview_of(np.arange(1_000_000))
    nested, _ = preview_of({"a": {"b": [1, {"c": None}]}})
    odd, _ = preview_of({"a": {"b": [object()]}})

    assert summary == "array 1,000,000 of int64"
    assert vector["table"]["shape"] == [1_000_000, 1]
    assert len(vector["table"]["rows"]) == ROWS
    assert nested["json"] == {"a": {"b": [1, {"c": None}]}}
    assert "json" not in odd
    assert "object object" in odd["text"]


def test_the_text_of_a_frame_of_polars_names_its_whole_shape() -> None:
    polars = pytest.importorskip("polars")

    preview, _ = preview_of(polars.DataFrame({"x": range(1_000)}))

    assert "shape: (1_000, 1)" in preview["text"]
