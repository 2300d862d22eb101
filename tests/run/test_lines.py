"""Conversion of raw output to clean, complete, bounded lines."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkit.model import LogLine
from jobkit.model.terminal import clean
from jobkit.run.inside.lines import BURST_CHARS, BURST_LINES, LINE_LIMIT, TAIL_LINES, LineBuffer, Splitter
from jobkit.run.process.output import OutputPipe


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]0;never ended", ""),
        ("\x9b31mc1", "c1"),
        ("a\x00b\x08c\x7fd", "abcd"),
        ("user\u202etxt.exe", "usertxt.exe"),
        ("two\u2028lines", "twolines"),
        ("a\tb", "a       b"),
        ("naïve — 漢字 🙂", "naïve — 漢字 🙂"),
        ("\udcff", "\\udcff"),
        ("👨\u200d👩", "👨\u200d👩"),
    ],
)
def test_clean(raw: str, shown: str) -> None:
    if "\u200d" in raw:  # joins emoji and letters of several scripts; harmless
        assert raw.replace("\u200d", "") in (clean(raw).replace("\u200d", ""), clean(raw))
        return
    assert clean(raw) == shown


@given(st.text())
def test_cleaned_text_is_stable_and_has_no_control_characters(text: str) -> None:
    once = clean(text)

    assert clean(once) == once
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0x202A <= ord(c) <= 0x202E for c in once)
    once.encode()


@given(st.lists(st.text(alphabet="ab\n\r", max_size=6)))
def test_lines_do_not_depend_on_how_the_text_was_split(portions: list[str]) -> None:
    def lines(texts: list[str]) -> list[str]:
        splitter = Splitter()
        found = [line for text in texts for line in splitter.feed(text, 0)]
        last = splitter.flush()
        return found if last in (None, "") else [*found, last]

    assert lines(portions) == lines(["".join(portions)])


def test_a_partial_line_is_due_after_its_time_and_a_redrawn_one_later() -> None:
    splitter = Splitter()
    splitter.feed("load", 1_000)

    assert splitter.flush(1_010) is None
    assert splitter.flush(1_100) == "load"
    splitter.feed("\r1 %", 2_000)
    splitter.feed("\r2 %", 2_050)
    assert splitter.flush(2_200) is None
    assert splitter.flush(3_100) == "2 %"


def test_the_newline_of_a_partial_line_that_was_shown_makes_no_empty_line() -> None:
    splitter = Splitter()
    splitter.feed("step 1", 1_000)
    assert splitter.flush(1_100) == "step 1"

    assert splitter.feed("\n", 1_200) == []
    assert splitter.feed("\nstep 2\n", 1_300) == ["", "step 2"]


def test_an_endless_line_is_cut_and_takes_no_memory() -> None:
    splitter = Splitter()
    for _ in range(1_000):
        splitter.feed("x" * 10_000, 0)
    (line,) = splitter.feed("\n", 0)

    assert line.startswith("x" * LINE_LIMIT)
    assert line.endswith("(9,992,000 more characters)")


def test_bytes_are_decoded_across_portions() -> None:
    lines = LineBuffer(0)
    pipe = OutputPipe("stdout", lines, None)
    for byte in "é🙂\n".encode() + b"\xff\xfe\n\xe2\x82":
        pipe.add(bytes([byte]))
    pipe.flush(is_last=True)

    assert [line.text for line in lines.take(0)] == ["é🙂", "\\xff\\xfe", "\\xe2\\x82"]


def test_a_burst_passes_whole_and_a_flood_keeps_head_and_tail() -> None:
    buffer = LineBuffer(0)
    for i in range(BURST_LINES):
        buffer.add(LogLine(str(i)))
    assert len(buffer.take(0)) == BURST_LINES

    for i in range(100_000):
        buffer.add(LogLine(str(i)))
    kept = buffer.take(50)

    assert len(kept) < TAIL_LINES + 20
    assert (kept[0].text, kept[-1].text) == ("0", "99999")
    assert [line.text for line in kept if line.source == "jobkit"] == [
        f"… {100_000 - len(kept) + 1:,} lines left out …"
    ]


def test_long_lines_keep_head_and_tail_too() -> None:
    buffer = LineBuffer(0)
    for i in range(1_000):
        buffer.add(LogLine(f"{i} " + "x" * 7_000))
    kept = buffer.take(0)

    assert sum(len(line.text) for line in kept) <= BURST_CHARS + 100
    assert (kept[0].text[:2], kept[-1].text[:4]) == ("0 ", "999 ")
    assert sum(line.count for line in kept) == 1_000


def test_lines_that_one_buffer_dropped_are_counted_by_the_next() -> None:
    first, second = LineBuffer(0), LineBuffer(0)
    for _ in range(20):
        for i in range(10_000):
            first.add(LogLine(str(i)))
        for line in first.take(0):
            second.add(line)

    assert sum(line.count for line in second.take(0)) == 200_000


def test_the_last_lines_of_a_flood_are_whole_whenever_it_ends() -> None:
    first, second, now = LineBuffer(0), LineBuffer(0), 0
    rng, texts, n = random.Random(7), [], 0
    for _ in range(200):
        now += 50
        for _ in range(rng.randrange(0, 2_000)):
            first.add(LogLine(str(n), now))
            n += 1
        for line in first.take(now):
            second.add(line)
        texts += [line.text for line in second.take(now)]

        assert texts[-TAIL_LINES:] == [str(i) for i in range(max(0, n - TAIL_LINES), n)]


def test_the_last_lines_of_a_flood_that_comes_in_small_portions_are_whole() -> None:
    buffer = LineBuffer(0)
    pipe = OutputPipe("stdout", buffer, None)
    for n in range(0, 20_000, 10):
        pipe.add(b"".join(b"%d\n" % i for i in range(n, n + 10)))
    pipe.flush(is_last=True)

    lines = buffer.take(0)
    assert [line.text for line in lines][-TAIL_LINES:] == [str(i) for i in range(20_000 - TAIL_LINES, 20_000)]
    assert sum(line.count for line in lines) == 20_000


def test_the_allowance_refills_after_a_pause() -> None:
    buffer, now = LineBuffer(0), 0
    rng = random.Random(5)
    total = 0
    for _ in range(200):
        now += 50
        for _ in range(rng.randrange(0, 2_000)):
            buffer.add(LogLine("x", now))
        total += len(buffer.take(now))

    assert total <= BURST_LINES + 10 * 2_000 + 200 * (TAIL_LINES + 11)


def test_colours_last_until_they_are_ended_also_in_later_lines() -> None:
    splitter, lines = Splitter(), LineBuffer(0)
    for text in ("\x1b[31mred\n", "still", " red\nplain\x1b[0m again\nplain\n"):
        for line in splitter.feed(text, 0):
            lines.add(LogLine(line))

    taken = lines.take(0)

    assert [line.text for line in taken] == ["red", "still red", "plain again", "plain"]
    assert [bool(line.styled) for line in taken] == [True, True, True, False]
