"""Tables and arrays as pages show them, and as files."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest

from jobkit.features.tables.values import CELL
from jobkit.run.inside.shown_values import COLUMNS, ROWS, preview_of, render


def test_numbers_of_numpy_and_those_that_json_lacks_are_kept_in_previews() -> None:
    value = {"loss": float("nan"), "low": [-math.inf, np.float64("inf")], "acc": np.float32(0.5), "ok": np.bool_(True)}

    assert preview_of(value)[0]["json"] == {"loss": "nan", "low": ["-inf", "inf"], "acc": 0.5, "ok": True}
    assert "json" not in preview_of({"a": np.complex64(1)})[0]
    assert preview_of(np.complex64(1))[1] == "np.complex64(1+0j)"


def test_tables_are_bounded() -> None:
    pd = pytest.importorskip("pandas")
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
    assert preview_of(np.zeros((3, 4)))[1] == "array 3 × 4 of float64"  # the sign is meant
    assert preview_of(np.float64(2.5))[0]["number"] == 2.5
    assert preview_of(np.array(7))[1] == "7"


def test_arrays_and_nested_values_show_a_sample() -> None:
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


def test_tables_and_arrays_are_saved_in_standard_formats() -> None:
    pd = pytest.importorskip("pandas")

    media, body = render("t", pd.DataFrame({"a": [1, 2]}))
    if media == "text/csv":
        assert body == b",a\n0,1\n1,2\n"
    else:
        assert isinstance(body, bytes)
        assert body.startswith(b"PAR1")
    media, array = render("n", np.arange(3))
    assert media == "application/x-npy"
    assert isinstance(array, bytes)
    assert np.load(io.BytesIO(array)).tolist() == [0, 1, 2]
