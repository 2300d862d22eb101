"""Replies to a heartbeat that come when the attempts they are about have ended."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from jobkit.worker.running import RunningJobs


def attempt(token: str, run: asyncio.Future[None] | None = None) -> Any:
    has_ended = run is not None and run.done()
    return SimpleNamespace(job_id="a", claimed=SimpleNamespace(token=token), has_ended=has_ended)


async def test_a_late_reply_to_a_heartbeat_stops_neither_an_ended_attempt_nor_the_next_one() -> None:
    """The reply says that the first attempt is not held any more: its end was stored meanwhile."""
    running = RunningJobs.__new__(RunningJobs)
    running.endings = []
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ended.set_result(None)

    found = []
    for held in (attempt("w:1"), attempt("w:1", ended), attempt("w:2")):
        running.attempts = {"a": held}
        found.append(running.of(["a"], {"a": "w:1"}) == [held])

    assert found == [True, False, False]
