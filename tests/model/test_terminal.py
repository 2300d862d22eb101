"""Colours of terminals as data, with enough contrast in both themes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkit.model import LogLine
from jobkit.model.terminal import CONTRAST, clean, clean_styled, contrast, drawn, open_style, parts_of, without_styles


@pytest.mark.parametrize(
    ("written", "text", "flags"),
    [
        ("\x1b[1;4mbold\x1b[0m plain", ["bold", " plain"], ["b u", ""]),
        ("\x1b[3mone\x1b[23mtwo", ["one", "two"], ["i", ""]),
        ("\x1b[4:3mcurly\x1b[4:0m no more", ["curly", " no more"], ["u", ""]),
        ("\x1b[mplain\x1b[999mstill", ["plain", "still"], ["", ""]),
    ],
)
def test_a_text_comes_in_parts_of_one_style(written: str, text: list[str], flags: list[str]) -> None:
    parts = parts_of(clean_styled(written))

    assert [part[0] for part in parts] == text
    assert [part[1] if len(part) > 1 else "" for part in parts] == flags


@pytest.mark.parametrize("code", [*range(30, 38), *range(90, 98), *(f"38;5;{n}" for n in range(0, 256, 5))])
@pytest.mark.parametrize("more", ["", "2;", "7;", "41;", "48;2;120;120;120;"])
def test_every_colour_can_be_read_in_both_themes(code: object, more: str) -> None:
    ((_, _, color, background),) = parts_of(f"\x1b[{more}{code}mtext")

    for i, below in enumerate(("#ffffff", "#0f1216")):
        shown = re.findall("#[0-9a-f]{6}", color)
        behind = re.findall("#[0-9a-f]{6}", background) or [below, below]
        assert contrast(_rgb(shown[i % len(shown)]), _rgb(behind[i % len(behind)])) >= CONTRAST


def test_a_colour_of_each_way_to_write_it_is_the_same() -> None:
    written = ["\x1b[38;2;255;0;0mx", "\x1b[38:2::255:0:0mx", "\x1b[38;5;196mx"]

    assert len({parts_of(text)[0] for text in written}) == 1


@given(st.text(alphabet=st.sampled_from(list("ab\x1b[]0123456789;:mKJ\x07\r\t\x9b<é")), max_size=40))
def test_of_any_text_only_colours_are_kept_beside_what_clean_leaves(text: str) -> None:
    styled = clean_styled(text)

    assert "\x1b" not in without_styles(styled)
    assert clean(without_styles(styled)) == without_styles(styled)
    assert "".join(part[0] for part in parts_of(styled)) == without_styles(styled)
    assert clean_styled(styled) == styled


def test_a_line_keeps_its_colours_through_the_store() -> None:
    line = LogLine.read("\x1b[31mred\x1b[0m\x1b]0;title\x07 \x1b[2J<b>", source="stderr")

    assert line.text == "red <b>"
    assert LogLine.from_wire(line.to_wire()) == line
    assert "styled" not in line.to_json()


@pytest.mark.parametrize(
    ("line", "shown"),
    [("abc\rde\rf", "fec"), ("10 %\r100 %", "100 %"), ("long text\r\x1b[2Kend", "end"), ("abc\r", "abc")],
)
def test_a_carriage_return_draws_over_the_line(line: str, shown: str) -> None:
    assert clean(drawn(line)) == shown


def test_the_style_at_the_end_of_a_text_is_one_sequence() -> None:
    text = "\x1b[31m" * 100 + "\x1b[1m\x1b[48;2;1;2;3m"

    assert open_style(text) == "\x1b[1;38;5;1;48;2;1;2;3m"
    assert parts_of(open_style(text) + "x") == parts_of(text + "x")
    assert open_style(text + "\x1b[0m") == ""


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def test_a_huge_line_with_returns_is_drawn_from_its_last_parts() -> None:
    assert drawn("x" * 300_000 + "\ra") == "a" + "x" * 99_999
    assert drawn("long" + "\rab" * 5_000) == "ab"
