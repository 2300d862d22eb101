"""Control pipe of a job's process: after any input the worker lives, and the job ends with a reason."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jobkit
from jobkit.run.process import frames
from jobkit.run.process.child_process import ChildProcess
from jobkit.run.process.process_attempt import ProcessAttempt
from jobkit.system.memory import KernelKills, counter_file
from tests.run.conftest import Heard, assign
from tests.support import by_default, examples
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


@settings(max_examples=examples(500), deadline=None)
@given(
    kind=st.sampled_from([frames.LINES, frames.PROGRESS, frames.NEWS, frames.ARTIFACT, frames.ENDED, b"?"]),
    content=values,
)
def test_an_invalid_frame_ends_the_process_with_a_reason(kind: bytes, content: Any) -> None:
    async def act() -> None:
        problems: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        ends: list[int] = []

        def tell(message: dict[str, Any], fds: Sequence[int] = ()) -> None:
            ends.extend(os.dup(fd) for fd in fds[:1])

        attempt = ProcessAttempt(assign(len, "abc"), Heard(), "/nowhere", KernelKills(counter_file()))
        place = ChildProcess(1, tell, lambda place: None, lambda place, unread: None)
        place.start()
        place.begin(attempt, iter(()))
        theirs = socket.socket(fileno=ends[0])
        theirs.sendall(frames.frame(kind, content))
        theirs.close()
        place.on_started(1, "")
        place.on_exit(1, 0.0, 0)
        outcome = await attempt.outcome()
        assert outcome.outcome in ("failed", "succeeded", "cancelled")
        assert problems == []

    asyncio.run(act())


@jobkit.task
def scribble(noise: bytes) -> None:
    """Write to every open descriptor."""
    for fd in range(3, 10):
        try:
            os.write(fd, noise)
        except OSError:
            continue


NOISE = [
    frames.frame(frames.ENDED, {"outcome": "succeeded"}),
    b"\xff" * 100,
    frames.frame(frames.ARTIFACT, ["../../etc/passwd", 1, 2, "/etc/passwd"]),
    os.urandom(5000),
    frames.frame(frames.ENDED, None),
    frames.frame(frames.LINES, [[1]]),
    frames.frame(frames.PROGRESS, "x"),
    frames.frame(b"?", msgspec.msgpack.encode([])),
]


@pytest.mark.parametrize("noise", by_default(NOISE, 3), ids=range(len(NOISE)))
def test_a_job_that_writes_garbage_to_its_worker_ends_and_other_jobs_run(bench: Bench, noise: bytes) -> None:
    worker = bench.worker()
    job = bench.kit.submit(scribble, noise)

    assert job.wait(60)

    assert bench.kit.submit(jobs.count_up, 1).result(60) == 2
    assert worker.poll() is None
    if job.state == "failed":
        assert job.error.message
    assert bench.kit.artifacts(job.id) == []
