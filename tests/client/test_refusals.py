"""Invalid ids, times and texts are refused by every method in one sentence that names them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

import jobkit
from jobkit import InvalidParams, Job, Kit

Verb = Callable[[Kit, Job], Any]


def called(n: int = 0) -> int:
    return n


REFUSED: dict[str, tuple[Verb, str]] = {
    "a state that is a number": (lambda kit, _: kit.jobs(state=5), "state must be one of scheduled, .*, not 5"),  # type: ignore[arg-type]
    "a state among several": (lambda kit, _: kit.jobs(state=["failed", None]), "state must be .*, not None"),  # type: ignore[list-item]
    "a task": (lambda kit, _: kit.jobs(task=5), "task must be text or None, not 5"),  # type: ignore[arg-type]
    "a queue": (lambda kit, _: kit.jobs(queue=[]), r"queue must be text or None, not \[\]"),  # type: ignore[arg-type]
    "a search": (lambda kit, _: kit.jobs(search=5), "search must be text or None, not 5"),  # type: ignore[arg-type]
    "a condition": (lambda kit, _: kit.jobs(where=5), "where must be text or None, not 5"),  # type: ignore[arg-type]
    "an order": (lambda kit, _: kit.jobs(order=5), "order must be text or None, not 5"),  # type: ignore[arg-type]
    "a state of groups": (lambda kit, _: kit.failures(state=5), "state must be one of open, .*, not 5"),  # type: ignore[arg-type]
    "an id": (lambda kit, _: kit.get([]), r"job_id must be text, not \[\]"),  # type: ignore[arg-type]
    "an id to look at": (lambda kit, _: kit.snapshot({}), "job_id must be text, not {}"),  # type: ignore[arg-type]
    "an id to cancel": (lambda kit, _: kit.cancel(5), "job_id must be text, not 5"),  # type: ignore[arg-type]
    "a job for an id": (lambda kit, job: kit.cancel(job), "job_id must be the id of a job: give job.id, not <Job"),  # type: ignore[arg-type]
    "an option for an argument": (
        lambda kit, _: kit.submit(called, queue="gpu"),
        r"unexpected argument 'queue'; .*; it is an option: write \.options\(queue=\.\.\.\)\.submit\(\.\.\.\)$",
    ),
    "too many arguments": (
        lambda kit, _: kit.submit(called, 1, 2),
        r"called\(\) takes at most 1 argument by position, but 2",
    ),
    "an argument for an option of a schedule": (
        lambda kit, _: kit.schedule(called, n=1, every=30),  # type: ignore[call-arg]
        r"'n' is no option of a schedule; arguments of the task stand in a dict: kit\.schedule\(task, \{'n': ",
    ),
    "an option of a schedule": (
        lambda kit, _: kit.schedule(called, tmeout=1, every=30),  # type: ignore[call-arg]
        r"'tmeout' is no option of a schedule \(did you mean 'timeout'\?\)",
    ),
    "a generator": (lambda kit, _: kit.submit(sum, (n for n in [1])), "cannot be sent: .*; give a list"),
    "a lock": (lambda kit, _: kit.submit(len, threading.Lock()), "cannot be sent: .*; make it inside the function"),
    "an id to retry": (lambda kit, _: kit.retry(None), "job_id must be text, not None"),  # type: ignore[arg-type]
    "ids": (lambda kit, _: kit.delete(5), "job_ids must be a list of ids, not 5"),  # type: ignore[arg-type]
    "a reason that is no text": (
        lambda kit, job: kit.cancel(job.id, 5),
        "reason must be text with at most 1000 characters or None, not 5",
    ),  # type: ignore[arg-type]
    "a long reason": (
        lambda kit, job: kit.cancel_many([job.id], "x" * 1001),
        "reason must be text with at most 1000 characters or None, not 'xxx",
    ),
    "one of several ids": (lambda kit, job: kit.cancel_many([job.id, 5]), "job_id must be .*, not 5"),  # type: ignore[list-item]
    "ids to move": (lambda kit, _: kit.move(5, queue="b"), "job_ids must be a list of ids, not 5"),  # type: ignore[arg-type]
    "a number of lines": (lambda kit, job: kit.logs(job.id, tail="x"), "tail must be a whole number or None, not 'x'"),  # type: ignore[arg-type]
    "an event": (lambda kit, _: next(kit.events(after=5)), "after must be the id of an event"),  # type: ignore[arg-type]
    "a time to wait": (lambda _, job: job.result("x"), "timeout must be a number of seconds, .*, not 'x'"),  # type: ignore[arg-type]
    "a time that is not a number": (lambda _, job: job.wait(float("nan")), "timeout must be .*, not nan"),
    "a time for several": (lambda _, job: jobkit.wait([job], timeout="x"), "timeout must be .*, not 'x'"),  # type: ignore[arg-type]
    "jobs": (lambda *_: list(jobkit.as_completed(5)), "jobs must be a list of jobs, not 5"),  # type: ignore[arg-type]
    "ids for jobs": (lambda _, job: jobkit.wait([job.id]), "jobs must be a list of jobs"),  # type: ignore[list-item]
}


@pytest.fixture(scope="module")
def kit() -> Iterator[Kit]:
    with jobkit.connect("sync://") as kit:
        kit.submit(len, "abc")  # opens its connections for all tests
        yield kit


@pytest.mark.parametrize(("verb", "sentence"), REFUSED.values(), ids=REFUSED)
def test_invalid_values_are_refused_in_one_sentence(kit: Kit, verb: Verb, sentence: str) -> None:
    job = kit.submit(len, "abc")

    with pytest.raises(InvalidParams, match=sentence):
        verb(kit, job)


@pytest.mark.parametrize("timeout", [None, 0, 1.5, timedelta(seconds=1), "1m", 1e300, float("inf"), 10**400])
def test_any_timeout_is_accepted(kit: Kit, timeout: Any) -> None:
    job = kit.submit(len, "abc")

    assert job.result(timeout) == 3
    assert jobkit.wait([job], timeout) == ([job], [])


def test_one_id_is_accepted_like_a_list_of_one(kit: Kit) -> None:
    assert kit.delete(kit.submit(len, "abc").id) == [True]


def test_what_follows_a_job_cannot_be_set(kit: Kit) -> None:
    job = kit.submit(len, "abc")

    with pytest.raises(AttributeError, match="state of a Job cannot be set: it follows what happens"):
        job.state = "failed"  # type: ignore[assignment]
    assert job.state == "succeeded"


def test_python_names_verbs_as_users_type_them(kit: Kit) -> None:
    with pytest.raises(TypeError, match=r"kit\.jobs\(\) got an unexpected keyword argument 'status'"):
        kit.jobs(status="failed")  # type: ignore[call-arg]
    verbs: dict[str, Any] = {"submit": kit.submit, "schedule": kit.schedule, r"schedules\.pause": kit.schedules.pause}
    for name, verb in verbs.items():
        with pytest.raises(TypeError, match=rf"kit\.{name}\(\) missing 1 required positional argument"):
            verb()
    calls = {"jobs": kit.aio.jobs(), "failures": kit.aio.failures(), "submit": kit.aio.submit(len, "abc")}
    for name, call in calls.items():
        assert call.__qualname__ == f"kit.aio.{name}"
        call.close()


def test_a_number_to_loop_over_is_answered_with_a_range() -> None:
    with pytest.raises(TypeError, match=r"something to loop over, not int: write progress\(range\(10\)\)"):
        jobkit.progress(10)  # type: ignore[call-overload]
