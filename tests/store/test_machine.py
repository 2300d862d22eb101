"""The store is held to a model of a job's life; and a fault in the store would show."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from jobkit.store import library
from tests.chaos import faults
from tests.support import by_default, examples

from .machine import Verbs, difference


@pytest.mark.timeout(90)
def test_the_store_does_with_any_sequence_of_verbs_what_the_model_does(redis_url: str) -> None:
    machine = type("Machine", (Verbs,), {"url": redis_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples(40),
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


@pytest.mark.nightly
def test_without_a_fault_nothing_is_found(redis_url: str) -> None:
    """Else the next test would say nothing."""
    assert difference("lives", redis_url, examples=examples(30)) == ""


@pytest.mark.parametrize("fault", by_default([name for name, fault in faults.FAULTS.items() if fault.machine], 2))
def test_a_deliberate_fault_in_the_library_is_found(
    redis_url: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine is no use if it cannot fail."""
    monkeypatch.setattr(library, "current", library.current)
    faults.apply(fault)

    assert difference(faults.FAULTS[fault].machine, redis_url)
