"""The protocol between child and parent."""

from __future__ import annotations

import contextlib
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkit.run.attempt import Assignment
from jobkit.run.process import frames


@given(st.lists(st.tuples(st.sampled_from([b"l", b"p", b"e"]), st.lists(st.integers(0, 99)))), st.integers(1, 40))
def test_frames_survive_any_split_of_the_stream(sent: list[tuple[bytes, list[int]]], step: int) -> None:
    raw = b"".join(frames.frame(kind, content) for kind, content in sent)
    reader = frames.Frames()
    got = [each for i in range(0, len(raw), step) for each in reader.feed(raw[i : i + step])]

    assert got == sent


@given(st.binary(max_size=200))
def test_noise_is_refused_or_taken_for_an_incomplete_frame(noise: bytes) -> None:
    reader = frames.Frames()
    with contextlib.suppress(frames.FrameError):
        list(reader.feed(noise))


def test_a_frame_above_the_limit_is_refused_on_both_sides() -> None:
    with pytest.raises(frames.FrameError, match="above the limit"):
        frames.frame(b"a", bytes(frames.FRAME_LIMIT))
    with pytest.raises(frames.FrameError, match="claims"):
        list(frames.Frames().feed(b"\xff\xff\xff\xffl"))


def test_an_order_has_a_call_of_50_mb() -> None:
    call = os.urandom(1_000) * 50_000
    read, write = os.pipe()

    def send() -> None:
        for part in frames.written(frames.JobOrder(Assignment("j", "task", 1, call), "/spool", True)):
            view = memoryview(part)
            while view:
                view = view[os.write(write, view) :]
        os.close(write)

    thread = threading.Thread(target=send)
    thread.start()
    orders = list(frames.Inbox(read).orders())
    thread.join()

    assert orders == [frames.JobOrder(Assignment("j", "task", 1, call), "/spool", True)]
    os.close(read)
