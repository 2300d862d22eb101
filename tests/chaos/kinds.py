"""The kinds of submissions of a chaos run, and how each may end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.chaos import jobs
from tests.chaos.outages import LEASE_S


def _nothing(_: Random) -> dict[str, Any]:
    return {}


def _briefly(rng: Random) -> dict[str, Any]:
    return {"seconds": rng.choice([0.0, 0.1, 0.5])}


def _for_leases(rng: Random) -> dict[str, Any]:
    return {"seconds": rng.uniform(1, 2) * LEASE_S}


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table.

    Attributes:
        task: a task of `jobs`. weight: relative frequency in the usual mix; 0: only by its name.
        ends: "succeeded" and kinds of errors with which it may end. Any job may end as "lost" if workers were killed
            often enough, and as cancelled on request.
        arguments: drawn for a submission. options: of the submit.
        costs: what other jobs may pay for it: "losses". Jobs that cost something are not cancelled.
        value: the nonce in a result. tells: its log ends with the nonce.
        followers: number of jobs that wait for its result.
    """

    task: Any
    weight: float = 0.0
    ends: frozenset[str] = frozenset({"succeeded"})
    arguments: Callable[[Random], dict[str, Any]] = _nothing
    options: dict[str, Any] = field(default_factory=dict)
    costs: frozenset[str] = frozenset()
    value: Callable[[Any], Any] = lambda result: result
    tells: bool = False
    followers: int = 0


_LOST, _LOSSES = frozenset({"lost"}), frozenset({"losses"})

KINDS: dict[str, Kind] = {
    "coroutine": Kind(jobs.light, 5, arguments=_briefly),
    "long coroutine": Kind(jobs.light, 2.5, arguments=_for_leases),
    "function": Kind(jobs.plain, 5, arguments=_briefly),
    "long function": Kind(jobs.plain, 2.5, arguments=_for_leases),
    "delayed": Kind(jobs.light, 1, arguments=lambda _: {"seconds": 0.1}, options={"delay": 1.0}),
    "flaky": Kind(
        jobs.flaky,
        2,
        ends=frozenset({"succeeded", "exception"}),
        arguments=lambda rng: {"times": rng.choice([1, 2, 3])},
        options={"retries": 2, "backoff": 0.1},
    ),
    "crash": Kind(jobs.crash, 0.3, ends=frozenset({"crash"})),
    "leader": Kind(jobs.light, 0.3, arguments=lambda _: {"seconds": 0.5}, followers=10),
    "leader of many": Kind(jobs.light, arguments=lambda _: {"seconds": 4.0}, followers=500),
    "large result": Kind(jobs.large, 0.5, value=lambda result: result[:16]),
    "chatty": Kind(jobs.chatty, 0.5, arguments=lambda _: {"crashes": False}, tells=True),
    "chatty crash": Kind(
        jobs.chatty, 0.3, ends=frozenset({"crash"}), arguments=lambda _: {"crashes": True}, tells=True
    ),
    "harmful preview": Kind(
        jobs.harmful,
        0.3,
        arguments=lambda rng: {"how": rng.choice(["exit", "crash", "raise"])},
        value=lambda result: result.nonce,
    ),
    "hanging preview": Kind(jobs.harmful, arguments=lambda _: {"how": "hang"}, value=lambda result: result.nonce),
    "strange end": Kind(
        jobs.strange_end,
        0.5,
        ends=frozenset({"exception"}),
        arguments=lambda rng: {"how": rng.choice(jobs.STRANGE).__name__},
    ),
    "programs": Kind(jobs.programs, arguments=_for_leases),
    "stepwise": Kind(
        jobs.stepwise,
        arguments=_for_leases,
        value=lambda result: result["nonce"] if result["sum"] == sum(range(jobs.STEPS)) else result,
    ),
    "search": Kind(jobs.search),
    "asking": Kind(
        jobs.asking,
        arguments=lambda rng: {"parks": rng.random() < 0.7},
        value=lambda result: (
            result["nonce"]
            if result["answers"] == [jobs.reply(f"Question {n}?") for n in range(jobs.QUESTIONS)]
            else result
        ),
    ),
    "poison": Kind(jobs.poison, 0.1, ends=_LOST, costs=_LOSSES),
    "poisonous coroutine": Kind(jobs.poison_async, 0.1, ends=_LOST, costs=_LOSSES),
    # Once it was lost, it runs in a separate process, which crashes.
    "poison of the loop": Kind(jobs.poison_loop, ends=frozenset({"lost", "crash"}), costs=_LOSSES),
    "poison of the zygote": Kind(jobs.poison_zygote, ends=_LOST, costs=_LOSSES),
}

#: A job that waits for a leader; submitted with it only.
FOLLOWER = Kind(jobs.follow, ends=frozenset({"succeeded", "dependency"}))
