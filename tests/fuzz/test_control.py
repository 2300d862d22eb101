"""The control pipe of a job's process: whatever comes out of it, the worker lives, and the job ends with a reason."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jobkit
from jobkit.run import frames
from jobkit.run.channel import Channel
from tests.support import examples
from tests.worker import jobs
from tests.worker.conftest import Bench, bench, shared_server

__all__ = ["bench", "shared_server"]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def reads_like_a_worker(kind: bytes, content: Any) -> None:
    """The shapes that a frame may have, taken apart as `hosted` and `supervised` do."""
    key, *rest = content
    {1: 2}.get(key)
    if kind == frames.LINES:
        [line[0] for line in rest[0]]
    elif kind == frames.PROGRESS:
        _, _, _ = rest
    elif kind == frames.ARTIFACT:
        name, _, body, _ = rest
        str(name), bytes(body[:10])
    elif kind == frames.ENDED:
        rest[0].get("file")


@settings(max_examples=examples(500), deadline=None)
@given(kind=st.sampled_from([frames.LINES, frames.PROGRESS, frames.ARTIFACT, frames.ENDED, b"?"]), content=values)
def test_a_frame_that_makes_no_sense_closes_the_channel_with_a_reason(kind: bytes, content: Any) -> None:
    async def act() -> None:
        problems: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        ours, theirs = socket.socketpair()
        closed: list[str] = []
        channel = Channel(ours, reads_like_a_worker, closed.append)
        theirs.sendall(frames.frame(kind, content))
        channel.read()
        theirs.close()
        channel.drain()
        channel.read()
        assert len(closed) == 1
        assert not closed[0] or "makes no sense" in closed[0]
        assert problems == []
        channel.close()

    asyncio.run(act())


@jobkit.task
def scribble(noise: bytes) -> None:
    """Writes into every descriptor that it has."""
    for fd in range(3, 10):
        try:
            os.write(fd, noise)
        except OSError:
            continue


@pytest.mark.parametrize(
    "noise",
    [
        b"\xff" * 100,
        os.urandom(5000),
        frames.frame(frames.ENDED, None),
        frames.frame(frames.ENDED, {"outcome": "succeeded"}),
        frames.frame(frames.LINES, [[1]]),
        frames.frame(frames.PROGRESS, "x"),
        frames.frame(frames.ARTIFACT, ["../../etc/passwd", 1, 2, "/etc/passwd"]),
        frames.frame(b"?", msgspec.msgpack.encode([])),
    ],
    ids=range(8),
)
def test_a_job_that_writes_nonsense_to_its_worker_ends_and_harms_nobody(bench: Bench, noise: bytes) -> None:
    worker = bench.worker()
    job = bench.kit.submit(scribble, noise)

    assert job.wait(60)

    assert bench.kit.submit(jobs.count_up, 1).result(60) == 2
    assert worker.poll() is None
    if job.state == "failed":
        assert job.error.message
    assert bench.kit.artifacts(job.id) == []
