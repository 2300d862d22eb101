"""Kinds of news of a running job: read by its worker, which trusts no process of a job."""

from __future__ import annotations

import math
from typing import Any

import pytest

from jobkit.features import FEATURES
from jobkit.run import news
from jobkit.run.inside import context

from .conftest import Heard, Runner


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("unknown", None),
        (["metrics"], {}),
        ("metrics", {"loss": [[math.inf, 1, 0.5]]}),
        ("metrics", {"": [[0, 1, 0.5]]}),
        ("metrics", [1]),
        ("awaits", None),
    ],
)
def test_news_that_no_job_has_are_refused(kind: Any, content: object) -> None:
    with pytest.raises((LookupError, TypeError, ValueError)):
        news.of(kind).read(content)


def test_no_two_kinds_have_one_name() -> None:
    kinds = [kind for each in FEATURES if "news" in each.parts for kind in each.load("news").NEWS]

    assert len({*kinds, *news._OWN}) == len(kinds) + len(news._OWN)


async def test_a_process_that_sends_news_of_an_unknown_kind_ends_with_a_reason(runner: Runner, heard: Heard) -> None:
    def speak() -> None:
        recorder = context.active_recorder()
        assert recorder is not None
        recorder.emit("awaits", ["j2"])
        recorder.emit("unknown")

    error = (await runner.do(speak)).error

    assert heard.awaited == [["j2"]]
    assert error is not None
    assert (error.type, error.message) == ("protocol", "the job's process damaged its control channel: 'unknown'")
