"""Jobs that ask people (`jobkit.ask`), with real workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

import jobkit
from jobkit.client.job import Job
from tests.support import wait_until
from tests.worker.conftest import Bench

from . import asking


def asks(job: Job, text: str = "", times: int = 1) -> str:
    """Wait until the job asks; return the key of its question."""
    found = wait_until(
        lambda: [one for one in job.asking if text in one.text][times - 1 :], what=f"{job} to ask {text!r}"
    )
    return found[0].key


def of(job: Job, *types: str) -> list[Any]:
    return [event for event in job.snapshot.history if event.type in types]


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (asking.cut, {}),
        (asking.cut, {"isolation": "thread"}),
        (asking.cut_async, {}),
        (asking.cut_async, {"isolation": "process"}),
    ],
    ids=["process", "thread", "coroutine", "coroutine in a process"],
)
def test_a_job_waits_for_the_answer_of_a_person(
    bench: Bench, function: Callable[..., Any], options: dict[str, Any]
) -> None:
    bench.worker("-t", "tests.features.questions.asking")
    job = bench.kit.options(**options).submit(function, bench.file())
    asks(job)

    question = job.question()
    assert question is not None
    assert question.text == "Which of these clusters is noise?"
    assert [(spec.name, spec.kind, spec.required) for spec in question.params] == [
        ("noise", "int", True),
        ("side", "choice", False),
    ]
    with pytest.raises(jobkit.InvalidParams, match="noise must be a whole number from 0 to 9, not 12"):
        job.answer(noise=12)
    job.answer(noise=3)

    assert job.result(60) == asking.Cut(3, "left")
    assert len(bench.notes()) == 1
    (answered,) = of(job, "answered")
    assert answered.data["said"] == "noise=3"
    assert answered.data["by"]
    assert job.asking == []
    assert job.question() is None
    bench.check_keys()


def test_an_answer_that_the_class_of_the_job_refuses_is_asked_for_again_with_the_reason(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.submit(asking.cut, bench.file())
    first = asks(job)
    job.answer(noise=7)

    wait_until(lambda: job.asking and job.asking[0].key != first)
    question = job.question()
    assert question is not None
    assert "cluster 7 is the largest one" in question.problem
    job.answer(noise=8, side="right")

    assert job.result(60) == asking.Cut(8, "right")


def test_the_first_of_two_answers_counts_and_the_second_hears_whose_it_was(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.submit(asking.cut, bench.file())
    key = asks(job)
    bench.kit.questions.answer(job.id, {"noise": 1}, by="ada")

    with pytest.raises(jobkit.QuestionClosed, match="was answered by ada just now"):
        bench.kit.questions.answer(job.id, {"noise": 2}, by="bob", key=key)
    assert job.result(60) == asking.Cut(1)
    with pytest.raises(
        jobkit.QuestionClosed,
        match=r"asks nothing now; it has succeeded\. Its last question was answered by ada just now: Which of",
    ):
        job.answer(noise=2)


def test_questions_in_a_loop_have_an_answer_each_which_a_later_attempt_gets_at_once(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.submit(asking.each, bench.file(), 3)
    asks(job)
    job.answer(True)
    wait_until(lambda: len(of(job, "asked")) == 2)
    (pid,) = bench.started()
    os.kill(bench.workers[0].pid, signal.SIGKILL)
    bench.worker()
    assert bench.started(times=2) != [pid]

    asks(job)
    job.answer(False)
    wait_until(lambda: len(of(job, "asked")) == 3)
    job.answer(True)

    assert job.result(60) == [True, False, True]
    assert len(of(job, "lost")) == 1
    assert len(of(job, "answered")) == 3
    bench.check_keys()


def test_an_answer_that_comes_while_no_worker_is_there_is_kept(bench: Bench) -> None:
    worker = bench.worker()
    job = bench.kit.submit(asking.cut, bench.file())
    asks(job)
    bench.kill(worker)
    job.answer(noise=4)

    bench.worker()

    assert job.result(60) == asking.Cut(4)


def test_coroutines_ask_side_by_side(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.submit(asking.both)
    wait_until(lambda: len(job.asking) == 2)

    bench.kit.questions.answer(job.id, "blue", key=asks(job, "Colour"))
    job.answer("ada")

    assert job.result(60) == ["ada", "blue"]


def test_a_question_that_is_not_answered_in_time_raises_in_the_job(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.submit(asking.late)
    asks(job)
    (asked,) = of(job, "asked")

    assert job.result(60) == "Unanswered: no answer came within 300 ms: Go on?"
    assert len(of(job, "unanswered")) == 1
    with pytest.raises(jobkit.QuestionClosed, match="it is too late"):
        bench.kit.questions.answer(job.id, True, key=asked.data["key"])
    with pytest.raises(jobkit.QuestionClosed, match="Its last question could be answered until .* too late: Go on"):
        job.answer(True)


@pytest.mark.parametrize(
    ("function", "options"),
    [(asking.cut, {}), (asking.cut, {"isolation": "thread"}), (asking.cut_async, {})],
    ids=["process", "thread", "coroutine"],
)
def test_a_job_that_waits_for_an_answer_can_be_cancelled(
    bench: Bench, function: Callable[..., Any], options: dict[str, Any]
) -> None:
    bench.worker()
    job = bench.kit.options(**options).submit(function, bench.file())
    asks(job)

    job.cancel()

    assert job.wait(60)
    assert job.state == "cancelled"
    assert job.asking == []
    with pytest.raises(jobkit.QuestionClosed, match="it was cancelled"):
        job.answer(noise=3)
    bench.check_keys()


def test_a_job_with_a_fresh_checkpoint_waits_without_a_slot_and_goes_on_from_there(bench: Bench) -> None:
    bench.worker("-c", "1")
    job = bench.kit.submit(asking.rounds, bench.file(), 2)
    wait_until(lambda: job.state == "scheduled" and job.asking)

    assert bench.kit.submit(len, "abc").result(60) == 3  # in the only slot
    job.answer("first")
    wait_until(lambda: len(of(job, "asked")) == 2 and job.state == "scheduled", what="the second question")
    job.answer("second")

    assert job.result(60) == ["first", "second"]
    assert bench.notes() == ["round 0", "round 0", "round 1", "round 1"]
    assert len(of(job, "released")) == 2
    assert job.snapshot.releases == 0
    bench.check_keys()


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (asking.in_a_thread, {}),
        (asking.in_a_task, {}),
        (asking.in_a_task, {"isolation": "process"}),
    ],
    ids=["process", "coroutine", "coroutine in a process"],
)
def test_what_a_job_has_started_waits_in_its_slot_for_the_answer_to_its_question(
    bench: Bench, function: Callable[..., Any], options: dict[str, Any]
) -> None:
    bench.worker("-t", "tests.features.questions.asking")
    job = bench.kit.options(**options).submit(function, bench.file())
    asks(job)

    job.answer("on")

    assert job.result(60) == ["on"]
    assert len(bench.notes()) == 1
    assert not of(job, "released")


def test_a_job_that_waits_without_a_slot_hears_that_no_answer_came_in_time(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.submit(asking.rounds, bench.file(), 1, timeout=1)

    error = job.exception(60)

    assert "Unanswered: no answer came within 1.0 s: What next?" in str(error)
    assert len(of(job, "released")) == len(of(job, "unanswered")) == 1
    assert bench.notes() == ["round 0", "round 0"]


def test_a_job_that_waits_without_a_slot_is_cancelled_at_once(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.submit(asking.rounds, bench.file(), 1)
    wait_until(lambda: job.state == "scheduled" and job.asking)

    job.cancel()

    assert job.wait(60)
    assert (job.state, job.asking) == ("cancelled", [])
    bench.check_keys()


def test_threads_that_ask_with_the_same_key_share_a_question(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.submit(asking.side_by_side, 4)
    asks(job)

    job.answer(True)

    assert job.result(60) == [True] * 4
    assert len(of(job, "asked")) == 1


def test_questions_that_cannot_be_asked_fail_in_the_job_with_one_sentence(bench: Bench) -> None:
    bench.worker()
    large, empty = bench.kit.submit(asking.wrong, "x" * 1_000_000), bench.kit.submit(asking.wrong, " ")
    blocks = bench.kit.submit(asking.blocking)

    assert "the question has 1,000,000 characters, and at most 4,000 are allowed" in str(large.exception(60))
    assert "text must be the question" in str(empty.exception(60))
    assert "write await jobkit.ask.aio(...)" in str(blocks.exception(60))
