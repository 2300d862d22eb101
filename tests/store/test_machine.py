"""The store agrees with a model of a job's life, and faults in the store are found."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from jobkit.store import library
from tests.chaos import faults
from tests.support import by_default, examples

from .machine import Verbs, difference


@pytest.mark.timeout(90)
def test_the_store_behaves_like_the_model_for_any_sequence_of_verbs(redis_url: str) -> None:
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
    """Otherwise the next test would prove nothing."""
    assert difference("lives", redis_url, examples=examples(30)) == ""


@pytest.mark.parametrize("fault", by_default([name for name, fault in faults.FAULTS.items() if fault.machine], 2))
def test_a_deliberate_fault_in_the_library_is_found(
    redis_url: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proof that the machine can fail."""
    monkeypatch.setattr(library, "current", library.current)
    faults.apply(fault)

    assert difference(faults.FAULTS[fault].machine, redis_url)
