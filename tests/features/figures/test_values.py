"""Figures and images as pages show them, and as files."""

from __future__ import annotations

import base64
import json
import re

import pytest

from jobkit.run.inside.shown_values import preview_of, render


def test_a_figure_is_previewed_as_an_image() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib.figure import Figure

    figure = Figure()
    figure.add_subplot().plot([1, 3, 2])
    preview, summary = preview_of(figure)

    assert base64.b64decode(preview["png"]).startswith(b"\x89PNG")
    assert summary == "Figure"


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


def test_figures_are_saved_in_standard_formats() -> None:
    import panel  # noqa: F401  # it adds files to Bokeh's output
    from bokeh.plotting import figure
    from matplotlib.figure import Figure

    plot = figure()
    plot.line([1, 2], [1, 2])
    drawn = Figure()
    drawn.add_subplot().plot([1, 2])

    media, png = render("m", drawn)
    assert (media, png[:4]) == ("image/png", b"\x89PNG")  # type: ignore[index]
    media, html = render("b", plot)
    assert media == "text/html"
    assert isinstance(html, bytes)
    assert b"<script" in html
    assert not re.findall(rb"<script[^>]*\ssrc=|<link\s", html)  # it loads nothing from the network
