"""Artifacts: their names, formats and sizes."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobkit.model import InvalidParams
from jobkit.run.inside.context import current
from jobkit.run.inside.shown_values import Bounds, checked_name, render


@pytest.mark.parametrize("name", ["a", "plan 2.txt", "größe – ½", "x" * 200, "..a", "a.b.c"])
def test_a_name_may_have_any_printable_characters(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 201,
        "a/b",
        "a\\b",
        "..",
        ".",
        "a\nb",
        "a\x00",
        "\u202eexe.txt",
        "a\u2028b",
        " a",
        "a ",
        None,
        3,
        b"a",
        "\ud800",
    ],
)
def test_other_names_are_refused_with_what_is_allowed(name: Any) -> None:
    with pytest.raises(InvalidParams, match="must be 1 to 200 printable characters without / and"):
        checked_name(name)
    with pytest.raises(InvalidParams, match="must be 1 to 200"):
        current().save(name, b"also outside a job")


@pytest.mark.parametrize(
    ("name", "value", "media", "body"),
    [
        ("a", b"\x00", "application/octet-stream", b"\x00"),
        ("a.png", bytearray(b"x"), "image/png", b"x"),
        ("a", "hällo \udcff", "text/plain", "hällo \\udcff".encode()),
        ("a.csv", "a,b", "text/csv", b"a,b"),
        ("a.png", "no picture", "text/plain", b"no picture"),
        ("a", {"b": [1, None]}, "application/json", b'{"b": [1, null]}'),
        ("a", 3, "application/json", b"3"),
        ("a", {"loss": math.nan, "low": -math.inf}, "application/json", b'{"loss": null, "low": "-inf"}'),
        ("a", {"loss": np.float32(0.5), "n": [np.int64(3)]}, "application/json", b'{"loss": 0.5, "n": [3]}'),
        ("a", np.float64("nan"), "application/json", b"null"),
        ("a", "NaN", "text/plain", b"NaN"),
        ("a", ["NaN"], "application/json", b'["NaN"]'),
    ],
)
def test_text_bytes_and_json_are_kept_unchanged(name: str, value: Any, media: str, body: bytes) -> None:
    assert render(name, value) == (media, body)


@pytest.mark.parametrize("value", [object(), {1, 2}, lambda: None, 1j, np.complex64(1)])
def test_values_that_need_a_pickle_are_refused(value: Any) -> None:
    with pytest.raises(InvalidParams, match=r"cannot be kept; allowed are bytes, str, a pathlib\.Path"):
        render("a", value)


def test_the_refusal_of_a_container_says_what_is_in_it() -> None:
    with pytest.raises(InvalidParams, match=r"type dict cannot be kept \(.* a value of type ndarray\);"):
        render("a", {"b": [np.zeros(3)]})


def test_a_path_is_saved_as_its_file(tmp_path: Path) -> None:
    (tmp_path / "model.csv").write_text("1")

    assert render("m", tmp_path / "model.csv") == ("text/csv", tmp_path / "model.csv")
    with pytest.raises(InvalidParams, match="is not a file"):
        render("m", tmp_path)
    with pytest.raises(InvalidParams, match="is not a file"):
        render("m", tmp_path / "none")


def test_tables_arrays_and_figures_are_saved_in_standard_formats() -> None:
    pd = pytest.importorskip("pandas")
    import panel  # noqa: F401  # it adds files to Bokeh's output
    from bokeh.plotting import figure
    from matplotlib.figure import Figure

    plot = figure()
    plot.line([1, 2], [1, 2])
    drawn = Figure()
    drawn.add_subplot().plot([1, 2])

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
    media, png = render("m", drawn)
    assert (media, png[:4]) == ("image/png", b"\x89PNG")  # type: ignore[index]
    media, html = render("b", plot)
    assert media == "text/html"
    assert isinstance(html, bytes)
    assert b"<script" in html
    assert not re.findall(rb"<script[^>]*\ssrc=|<link\s", html)  # it loads nothing from the network


@pytest.mark.parametrize(
    ("name", "media", "begin"),
    [
        ("loss.pdf", "application/pdf", b"%PDF"),
        ("loss.SVG", "image/svg+xml", b"<?xml"),
        ("loss.jpg", "image/jpeg", b"\xff\xd8"),
        ("loss.png", "image/png", b"\x89PNG"),
        ("loss.txt", "image/png", b"\x89PNG"),
        ("loss.svgz", "image/png", b"\x89PNG"),
    ],
)
def test_figures_are_saved_in_the_format_of_their_suffix(name: str, media: str, begin: bytes) -> None:
    from matplotlib.figure import Figure

    for drawn in (figure := Figure(), figure.add_subplot()):
        found, body = render(name, drawn)

        assert found == media
        assert isinstance(body, bytes)
        assert body.startswith(begin)


@pytest.mark.parametrize(
    ("name", "mode", "media", "begin"),
    [
        ("a.jpg", "RGB", "image/jpeg", b"\xff\xd8"),
        ("a.jpg", "RGBA", "image/png", b"\x89PNG"),  # JPEG has no alpha
        ("a.gif", "P", "image/gif", b"GIF8"),
        ("a.svg", "RGB", "image/png", b"\x89PNG"),
        ("a", "RGB", "image/png", b"\x89PNG"),
    ],
)
def test_images_are_saved_in_the_format_of_their_suffix(name: str, mode: str, media: str, begin: bytes) -> None:
    images = pytest.importorskip("PIL.Image")

    found, body = render(name, images.new(mode, (4, 4)))

    assert (found, body[: len(begin)]) == (media, begin)  # type: ignore[index]


def test_bounds_include_kept_artifacts_and_allow_replacing_one() -> None:
    bounds = Bounds(count=2, each_bytes=10, total_bytes=15)

    bounds.check({"a": 10}, "b", 5)
    bounds.check({"a": 10, "b": 5}, "a", 10)
    for kept, name, size, sentence in (
        ({}, "a", 11, "at most 10 are kept"),
        ({"a": 10}, "b", 6, "would make 16 bytes"),
        ({"a": 1, "b": 1}, "c", 1, "a job may keep 2"),
    ):
        with pytest.raises(InvalidParams, match=sentence):
            bounds.check(kept, name, size)


def test_saving_outside_a_job_has_no_effect() -> None:
    current().save("a", json)
