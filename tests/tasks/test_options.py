"""Options of tasks and submissions: their fields in the spec, and the errors of invalid values."""

from __future__ import annotations

import inspect
import json
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from jobkit.cli.jobs import submit
from jobkit.client.kit import Kit
from jobkit.http.api.shapes import Submit
from jobkit.model import Backoff, InvalidParams
from jobkit.tasks.options import (
    ONE_AT_A_TIME,
    OPTIONS,
    SubmitOptions,
    TaskOptions,
    check_options,
    check_submit_options,
    read_options,
    write_options,
)
from jobkit.tasks.registry import task
from jobkit.tasks.task import TaskDef


@pytest.mark.parametrize(("of", "typed"), [("task", TaskOptions), ("submission", SubmitOptions)])
def test_type_checkers_know_the_same_options(of: str, typed: Any) -> None:
    """Their names, and whether None is allowed."""
    hints = get_type_hints(typed)

    assert hints.keys() == OPTIONS[of].keys() | {ONE_AT_A_TIME}
    for name, option in OPTIONS[of].items():
        assert (type(None) in get_args(hints[name])) == option.metadata["is_nullable"], name


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"queue": "gpu"}, "queue", "gpu"),
        ({"timeout": 60}, "timeout_s", 60.0),
        ({"timeout": timedelta(minutes=2)}, "timeout_s", 120.0),
        ({"timeout": "1.5h"}, "timeout_s", 5400.0),
        ({"timeout": None}, "timeout_s", None),
        ({"retries": 3}, "retries", 3),
        ({"backoff": 2}, "backoff", Backoff(base=2)),
        ({"backoff": Backoff(base=5, jitter=False)}, "backoff", Backoff(base=5, jitter=False)),
        ({"retry_on": OSError}, "retry_on", ("OSError",)),
        ({"retry_on": (OSError, "requests.Timeout")}, "retry_on", ("OSError", "requests.Timeout")),
        ({"retry_on": [json.JSONDecodeError]}, "retry_on", ("json.decoder.JSONDecodeError",)),
        ({"memory_limit": "2GB"}, "memory_limit_bytes", 2_000_000_000),
        ({"memory_limit": "1.5 GiB"}, "memory_limit_bytes", 1_610_612_736),
        ({"memory_limit": 10**8}, "memory_limit_bytes", 10**8),
        ({"priority": -5}, "priority", -5),
        ({"tags": ["a", "b", "a"]}, "tags", ("a", "b")),
        ({"isolation": "thread"}, "isolation", "thread"),
        ({"cancel_grace": 0}, "cancel_grace_s", 0.0),
        ({"reuse": 50}, "reuse", 50),
        ({"reuse": None}, "reuse", 1),
        ({"one_at_a_time": True}, "concurrency", 1),
        ({"one_at_a_time": False}, "concurrency", None),
    ],
)
def test_option_becomes_its_field(given: dict[str, Any], field: str, value: Any) -> None:
    assert getattr(check_options(given), field) == value


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"queu": "gpu"}, "unknown option 'queu' (did you mean 'queue'?); the options are: queue, timeout"),
        ({"num_gpus": 2}, "unknown option 'num_gpus': write resources={\"gpu\": 2}"),
        ({"delay": 5}, "'delay' is an option of a submission, not of the task: write task.options(delay=...)"),
        ({"queue": "no spaces"}, "queue must be 1 to 200 characters"),
        (
            {"timeout": 0},
            'timeout must be a number of seconds (more than 0), a timedelta or a text like "90s", "12h", "7d", not 0',
        ),
        ({"timeout": "an hour"}, "timeout must be a number of seconds"),
        ({"timeout": float("nan")}, "timeout must be a number of seconds"),
        ({"timeout": True}, "timeout must be a number of seconds"),
        ({"cancel_grace": -1}, "cancel_grace must be a number of seconds (0 or more)"),
        ({"retries": -1}, "retries must be a whole number from 0 to 10000, not -1"),
        ({"retries": 1.5}, "retries must be a whole number"),
        ({"one_at_a_time": "x"}, "one_at_a_time must be"),
        ({"one_at_a_time": True, "concurrency": 2}, "one_at_a_time is short for concurrency=1: give one of them"),
        ({"one_at_time": True}, "did you mean 'one_at_a_time'?"),
        ({"backoff": "slow"}, "backoff must be jobkit.Backoff(base, factor, max) or the seconds"),
        ({"backoff": {"base": -1}}, "backoff must be jobkit.Backoff"),
        ({"retry_on": int}, "retry_on must be exception types or their names, not <class 'int'>"),
        ({"isolation": "docker"}, "isolation must be one of process, thread, async, not 'docker'"),
        ({"memory_limit": "2 elephants"}, "memory_limit must be a size of at least 16 MiB"),
        ({"reuse": 0}, "reuse must be a whole number from 1 to 100000, not 0"),
        ({"reuse": True}, "reuse must be a whole number from 1 to 100000, not True"),
        ({"memory_limit": 1000}, "memory_limit must be a size of at least 16 MiB"),
        ({"priority": 10**6}, "priority must be a whole number from -1000 to 1000"),
        ({"tags": [1]}, "each of the tags must be 1 to 100 printable characters, not 1"),
        ({"tags": ["x\n"]}, "each of the tags must be"),
        ({"tags": 5}, """tags must be a list of at most 32 texts, like ["demo"], not 5"""),
        ({"tags": "a,b"}, """tags must be a list of at most 32 texts, like ["demo"], not 'a,b'"""),
        ({"tags": [f"t{n}" for n in range(33)]}, "tags must be a list of at most 32 texts"),
        ({"tags": ["x" * 101]}, "each of the tags must be 1 to 100 printable characters"),
        ({"title": "x" * 201}, "title must be text of at most 200 printable characters"),
        ({"title": 5}, "title must be text"),
        ({"unique": "foo"}, 'unique must be True, "queued", "active", seconds'),
        ({"unique": -1}, "unique must be a number of seconds (more than 0)"),
        ({"unique_key": "{"}, "unique_key must be a function of the task's arguments"),
        ({"concurrency": 0}, "concurrency must be a whole number from 1 to"),
        ({"concurrency": True}, "concurrency must be a whole number from 1 to"),
        ({"rate": "0/m"}, "rate must be a number of starts in a time"),
        ({"rate": "often"}, "rate must be a number of starts in a time"),
        ({"rate": "5/0s"}, "rate must be a number of starts in a time"),
        ({"limit_key": len}, "limit_key must take arguments of the task by their names"),
        ({"limit_key": lambda *a: a}, "limit_key must take arguments of the task by their names"),
        ({"limit_key": "{0}"}, "limit_key must be a function of the task's arguments or a text with them"),
        ({"resources": {"gpu": 0}}, "resources must be amounts above 0 by name"),
        ({"resources": {"gpu": 0.5}}, "gpu is counted in whole devices"),
        ({"resources": "a b=1"}, "resources must be amounts above 0 by name"),
        ({"cache": "soon"}, "cache must be a number of seconds (more than 0)"),
        ({"cache_ignore": "a b"}, "cache_ignore must be names of the task's arguments"),
        ({"version": ""}, "version must be text of 1 to 100 printable characters"),
        ({"schedule": "daily"}, "schedule: cron must be a line of five fields"),
        ({"schedule": "0 0 30 2 *"}, "schedule: cron '0 0 30 2 *' never fires"),
        ({"schedule": {"cron": "@daily", "at": "2030-01-01"}}, "schedule takes cron, every, tz,"),
        ({"schedule": {"every": 5, "overlap": "queue"}}, "schedule: overlap must be one of allow, skip, wait"),
    ],
)
def test_option_that_is_not_allowed_is_refused_by_name(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        check_options(given)

    assert sentence in str(caught.value)
    assert caught.value.field == next(iter(given))


def test_a_refusal_of_a_huge_value_is_a_sentence_still() -> None:
    with pytest.raises(InvalidParams) as caught:
        check_options({"title": "x" * 10_000_000})
    assert len(str(caught.value)) <= 2_001


def test_submission_has_delay_at_and_key_too() -> None:
    options = check_submit_options({"delay": timedelta(seconds=30), "key": "nightly"})

    assert (options.delay_s, options.key) == (30.0, "nightly")


def test_time_without_zone_is_local_time() -> None:
    naive = datetime(2026, 11, 24, 16, 30)

    assert check_submit_options({"at": naive}).at == naive.astimezone(UTC)
    assert check_submit_options({"at": "2026-11-24T16:30:00+00:00"}).at == datetime(2026, 11, 24, 16, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"delay": 5, "at": datetime(2026, 1, 1)}, "delay and at exclude each other"),
        ({"delay": -1}, "delay must be a number of seconds (0 or more)"),
        ({"delay": 10**400}, "delay must be a number of seconds (0 or more)"),
        ({"delay": float("nan")}, "delay must be a number of seconds (0 or more)"),
        ({"delay": float("inf")}, "delay must be a number of seconds (0 or more)"),
        ({"resources": {"gpu": 10**400}}, "resources must be amounts above 0 by name"),
        ({"resources": {"mem": float("nan")}}, "resources must be amounts above 0 by name"),
        ({"at": datetime.min}, "at must not be at an end of the calendar"),
        ({"at": datetime.max}, "at must not be at an end of the calendar"),
        ({"at": "tomorrow"}, "at must be a datetime or ISO 8601 text"),
        ({"key": ""}, "key must be 1 to 200 characters"),
        ({"schedule": "* * * * *"}, "unknown option 'schedule'"),
    ],
)
def test_submission_that_is_not_allowed_is_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        check_submit_options(given)

    assert sentence in str(caught.value)


def test_every_list_of_options_is_of_the_table() -> None:
    for function, of in ((task, "task"), (TaskDef.options, "submission"), (Kit.options, "submission")):
        listed = set(inspect.signature(function).parameters) - {"self", "function", "name"}
        assert listed == OPTIONS[of].keys() | {ONE_AT_A_TIME}
    assert {each.name for each in msgspec.structs.fields(Submit)} - {"task", "params"} <= set(OPTIONS["submission"])
    assert {each.name for each in submit.params} - {"task", "arguments", "is_waiting", "as_json"} <= set(
        OPTIONS["submission"]
    )


def test_options_of_the_submission_win_and_tags_add_up() -> None:
    def work() -> None: ...

    task = TaskDef(work, options=check_options({"queue": "gpu", "timeout": 60, "retries": 2, "tags": ["a"]}))

    over = task.effective(check_submit_options({"timeout": None, "retries": 0, "tags": ["b"], "delay": 5}))

    assert (over.queue, over.timeout_s, over.retries, over.tags) == ("gpu", None, 0, ("a", "b"))
    assert (over.delay_s, over.isolation) == (5.0, "process")


def test_one_at_a_time_is_overridden_by_a_later_concurrency() -> None:
    def work() -> None: ...

    task = TaskDef(work, options=check_options({"one_at_a_time": True}))

    assert task.effective().concurrency == 1
    assert task.effective(task.options(one_at_a_time=False).chosen).concurrency is None
    assert task.options(one_at_a_time=True).options(concurrency=3).chosen.concurrency == 3


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"reuse": 5}, "reuse=5"),
        ({"memory_limit": "1GB"}, "memory_limit"),
        ({"resources": {"gpu": 1}}, "resources"),
        ({"seed": 1, "isolation": "async"}, "seed"),  # unless it is given, these decide the isolation
        ({"ship": True, "isolation": "async"}, "ship"),
    ],
)
def test_what_needs_a_process_is_refused_without_one(given: dict[str, Any], named: str) -> None:
    async def work() -> None: ...

    with pytest.raises(InvalidParams, match=f"{named} needs isolation='process', and work runs as 'async'"):
        TaskDef(work, options=check_options(given))
    task = TaskDef(work, options=check_options({**given, "isolation": "process"}))
    assert task.effective(check_submit_options({})) == task.effective()
    with pytest.raises(InvalidParams, match="and work runs as 'thread'"):
        task.effective(check_submit_options({"isolation": "thread"}))


def test_pickled_options_know_what_was_given() -> None:
    options = check_options({"queue": "gpu", "timeout": None, "tags": ["a"], "limit_key": "{user}", "rate": "5/min"})

    again = pickle.loads(pickle.dumps(options))

    assert (again, again.given) == (options, options.given)


def test_given_options_survive_json_and_invalid_ones_are_dropped() -> None:
    options = check_options({"queue": "gpu", "backoff": 3, "memory_limit": "2GB", "tags": ["a"], "retry_on": OSError})

    wire = json.loads(json.dumps(write_options(options)))

    assert read_options({**wire, "priority": 10**9, "from_the_future": 2}) == options
