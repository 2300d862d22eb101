"""Requests that a job's process makes by itself, past `jobkit.ask`."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from jobkit.features.questions.question import QUESTION_BYTES
from jobkit.run.inside.answers import JobRequest, Reply
from jobkit.worker.about import RetryPause
from jobkit.worker.attempt import RequestServer
from tests.ui.stage import Stage


@pytest.mark.parametrize(
    ("feature", "body", "why"),
    [
        ("nothing", b"", b"no feature serves such a request"),
        ("schedules", b"", b"no feature serves such a request"),
        ("questions", b"not msgpack", b"the question cannot be read"),
        ("questions", msgspec.msgpack.encode([1, 2, 3]), b"the question cannot be read"),
        ("questions", msgspec.msgpack.encode(("?", None, b"x" * (QUESTION_BYTES + 1))), b"the question is too large"),
    ],
)
def test_what_is_no_question_is_refused(stage: Stage, feature: str, body: bytes, why: bytes) -> None:
    replies: list[Reply] = []
    claimed: Any = stage._tokens[stage.running()]
    requests = RequestServer(stage.store, stage.kit.codec, RetryPause())

    async def ask() -> None:
        requests.serve(claimed, JobRequest(feature, "key", body, replies.append))
        await asyncio.gather(*requests._open)

    asyncio.run(ask())

    assert replies == [Reply("key", "refused", why)]
