"""Specs on their way through the store, and retries after failures."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkit.model import Backoff, InvalidParams, JobSpec, Retry

names = st.text("abcXYZ019_.:-", min_size=1, max_size=20)
seconds = st.none() | st.floats(0, 1e6)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
backoffs = st.builds(Backoff, st.floats(0, 10), st.floats(1, 5), st.floats(0, 1000), st.booleans())
specs = st.builds(
    JobSpec,
    id=names,
    task=names,
    title=st.text(max_size=9),
    queue=names,
    params=st.dictionaries(st.text(), plain, max_size=3),
    owner=st.text(max_size=9),
    tags=st.lists(st.text(max_size=9), max_size=3).map(tuple),
    priority=st.integers(-9, 9),
    key=st.text(max_size=9),
    retry_of=st.text(max_size=9),
    isolation=st.sampled_from(["process", "thread", "async"]),
    reuse=st.integers(1, 99),
    timeout_s=seconds,
    memory_limit_bytes=st.none() | st.integers(0, 2**40),
    cancel_grace_s=seconds,
    retries=st.integers(0, 9),
    backoff=backoffs,
    retry_on=st.lists(names, max_size=2).map(tuple),
    result_ttl_s=seconds,
    delay_ms=st.integers(0, 10**9),
    at_ms=st.integers(0, 2 * 10**12),
)


@given(specs)
def test_a_spec_comes_back_from_its_wire_form_as_it_was(spec: JobSpec) -> None:
    assert JobSpec.from_wire(msgspec.json.decode(msgspec.json.encode(spec.to_wire()))) == spec


def test_defaults_are_omitted() -> None:
    assert JobSpec(id="a", task="t").to_wire() == {"id": "a", "task": "t"}
    assert JobSpec(id="a", task="t", priority=1).to_wire() == {"id": "a", "task": "t", "priority": 1}


@pytest.mark.parametrize("name", ["timeout_s", "cancel_grace_s", "result_ttl_s", "memory_limit_bytes"])
def test_unset_is_not_the_same_as_zero(name: str) -> None:
    """A grace of 0 (kill at once) used to come back as "the worker's setting", 10 seconds."""
    spec = JobSpec(id="a", task="t", **{name: 0})  # type: ignore[arg-type]

    assert getattr(JobSpec.from_wire(spec.to_wire()), name) == 0


def test_unknown_fields_are_ignored() -> None:
    wire: dict[str, Any] = {"id": "a", "task": "t", "of_tomorrow": 1, "backoff": {"base": 3, "shape": "new"}}

    assert JobSpec.from_wire(wire) == JobSpec(id="a", task="t", backoff=Backoff(base=3))


# -- backoff ----------------------------------------------------------------------------------------------------------


def test_without_jitter_the_wait_doubles_up_to_its_limit() -> None:
    backoff = Backoff(base=1, factor=2, max=5, jitter=False)

    assert [backoff.delay_s(retry, 0.5) for retry in (1, 2, 3, 4, 5)] == [1, 2, 4, 5, 5]


@given(backoffs, st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_never_longer_than_its_limit_and_spread_over_the_upper_half(
    backoff: Backoff, retry: int, random: float
) -> None:
    wait_s = backoff.delay_s(retry, random)
    full_s = Backoff(backoff.base, backoff.factor, backoff.max, jitter=False).delay_s(retry, 0)

    assert 0 <= wait_s <= backoff.max
    assert full_s / 2 <= wait_s <= full_s


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base": -1}, r"Backoff.base must be 0 or more, not -1"),
        ({"max": -0.5}, r"Backoff.max must be 0 or more, not -0.5"),
        ({"factor": 0.5}, r"Backoff.factor must be 1 or more, not 0.5"),
    ],
)
def test_an_invalid_backoff_is_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Backoff(**fields)  # type: ignore[arg-type]


# -- policy -----------------------------------------------------------------------------------------------------------

VALUE_ERROR = ("builtins.ValueError", "builtins.Exception")


def spec_of(**policy: Any) -> JobSpec:
    return JobSpec("a", "t", **policy)


def delay(spec: JobSpec, retried: int = 0, types: tuple[str, ...] = VALUE_ERROR, **more: Any) -> float | None:
    return spec.retry_delay_s(retried=retried, error_types=types, random=0.0, **more)


def test_a_failure_is_retried_as_often_as_asked() -> None:
    spec = spec_of(retries=2, backoff=Backoff(base=1, jitter=False))

    assert [delay(spec, retried) for retried in (0, 1, 2, 3)] == [1, 2, None, None]
    assert delay(spec_of()) is None


@pytest.mark.parametrize(
    ("retry_on", "is_retried"),
    [
        ((), True),
        (("ValueError",), True),
        (("builtins.ValueError",), True),
        (("Exception",), True),
        (("KeyError",), False),
        (("other.ValueError",), False),
        (("KeyError", "Exception"), True),
    ],
)
def test_only_the_named_exceptions_are_retried(retry_on: tuple[str, ...], is_retried: bool) -> None:
    assert (delay(spec_of(retries=1, retry_on=retry_on)) is not None) == is_retried


def test_a_task_that_asks_for_another_attempt_gets_its_own_wait_but_no_more_attempts() -> None:
    spec = spec_of(retries=1, backoff=Backoff(base=7, jitter=False), retry_on=("KeyError",))

    assert delay(spec, asked=Retry(after=3)) == 3
    assert delay(spec, asked=Retry(after=-3)) == 0
    assert delay(spec, asked=Retry(after="5m")) == 300
    assert delay(spec, asked=Retry(after=numpy.int64(300))) == 300  # type: ignore[arg-type]  # computed by NumPy
    assert delay(spec, asked=Retry()) == 7
    assert delay(spec, retried=1, asked=Retry(after=3)) is None


def test_a_retry_travels_and_takes_only_lengths_of_time() -> None:
    sent = pickle.loads(pickle.dumps(Retry("2h", "busy")))
    assert (sent.after, str(sent)) == (7200, "busy")
    with pytest.raises(InvalidParams, match="after must be seconds"):
        Retry("soon")
