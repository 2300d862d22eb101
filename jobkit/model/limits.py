"""Limits and pauses: gates that let some jobs start while others wait, and their descriptions for users.

A *gate* belongs to a task, a queue or a key. It limits how many attempts run at a time or start in a period. This
module is pure; slots and tokens are counted by the store.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from jobkit.model.format import ahead_text, duration
from jobkit.model.plain import Record, instant, to_json

#: Maximum `n` and maximum `count` of a gate.
MAX_PLACES, MAX_STARTS = 100_000, 10_000
_LONGEST_MS = 31 * 86_400_000

_RATE = re.compile(
    r"\s*(\d{1,9})\s*/\s*(\d+(?:\.\d+)?)?\s*(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)\s*", re.IGNORECASE
)
_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Gate(Record, frozen=True):
    """A limit on running attempts, on starts in a period, or on both.

    Attributes:
        name: "task:NAME", "queue:NAME" or "key:NAME".
        n: maximum number of attempts that run at a time; 0 for no limit.
        count, period_ms: maximum number of attempts that start in any such period; 0 for no limit.
    """

    name: str
    n: int = 0
    count: int = 0
    period_ms: int = 0


class Pause(msgspec.Struct, frozen=True):
    """A paused queue or task: none of its jobs starts until it is resumed.

    Attributes:
        kind: "queue" or "task". name: its name.
        by: who paused it, "" if unknown. at: when (aware, UTC), or None if unknown.
    """

    kind: str
    name: str
    by: str = ""
    at: datetime | None = None

    @classmethod
    def from_wire(cls, gate: str, wire: Any) -> Pause | None:
        """Return the pause in the rule of a gate, or None if it has none."""
        if not wire:
            return None
        kind, _, name = gate.partition(":")
        facts = wire if isinstance(wire, Mapping) else {}
        at_ms = facts.get("at")
        is_time = isinstance(at_ms, (int, float)) and 0 < at_ms < 10**14
        return cls(kind, name, str(facts.get("by", "")), instant(at_ms) if is_time else None)

    def to_json(self) -> dict[str, Any]:
        return {self.kind: self.name, "by": self.by, "at": to_json(self.at)}


class Rule(msgspec.Struct, frozen=True):
    """A limit or pause of a task or queue that was set at run time. It overrides the limit in the code.

    Attributes:
        gate: "task:NAME" or "queue:NAME".
        n, count, period_ms: as in `Gate`. pause: None if jobs may start.
        held: running attempts that hold a slot of the gate.
    """

    gate: str
    n: int = 0
    count: int = 0
    period_ms: int = 0
    pause: Pause | None = None
    held: int = 0

    @classmethod
    def from_wire(cls, gate: str, wire: Mapping[str, Any], held: int = 0) -> Rule:
        n, count, period_ms = (int(wire.get(name) or 0) for name in ("n", "count", "period_ms"))
        return cls(gate, n, count, period_ms, Pause.from_wire(gate, wire.get("paused")), held)

    @property
    def rate(self) -> str:
        return rate_text(self.count, self.period_ms) if self.count else ""

    def to_json(self) -> dict[str, Any]:
        kind, _, name = self.gate.partition(":")
        return {kind: name, "concurrency": self.n or None, "rate": self.rate or None, "running": self.held}


class Waiting(Record, frozen=True):
    """Why a queued job cannot start yet.

    Attributes:
        gate: name of the gate; "res:QUEUE:RESOURCES" if it waits for resources, "py:QUEUE:VERSION" if for a worker
            with a version of Python.
        before: jobs ahead of it at this gate. held: running attempts that hold a slot.
        n, count, period_ms, is_paused: of the gate. open_ms: milliseconds until the next start if only time blocks it.
        paused_by, paused_ms: who paused it ("" if unknown), and how long ago.
        use: the resources that it needs.
    """

    gate: str
    before: int = 0
    held: int = 0
    n: int = 0
    count: int = 0
    period_ms: int = 0
    open_ms: int | None = None
    is_paused: bool = False
    use: Mapping[str, float] = {}
    paused_by: str = ""
    paused_ms: int = 0

    def sentence(self, supply: Supply | None = None, count: int = 0) -> str:
        """Return text for users: "waits for 1 of 2 places of train ada; 3 jobs ahead".

        Args:
            supply: what the workers of its queue have; None if unknown.
            count: number of jobs that the text is about, "2 wait for gpu=1: all 1 in use"; 0 for this job alone.
        """
        before = f"; {ahead_text(self.before)}" if self.before and not count else ""
        waits = waits_text(count)
        whose = gate_text(self.gate)
        if self.gate.startswith("py:"):
            return f"{waits} for a worker with {whose}{before}"
        if self.gate.startswith("res:"):
            if supply is not None and (lacking := supply.lacking(self.use)):
                most = supply.most.get(lacking, 0)
                tells = f"the most is {most:g}" if most else "none has any"
                asked = f"{lacking}={self.use[lacking]:g}"
                who = f"{waits}: no" if count else "no"
                return f"{who} worker offers {asked}, {tells}; `jobkit worker --resources {asked}`"
            why = "all in use" if supply is None else supply.shortage(self.use)
            return f"{waits} for {resources_text(self.use)}: {why}{before}"
        if self.is_paused:
            kind, _, name = self.gate.partition(":")
            by = f" by {self.paused_by}" if self.paused_by else ""
            command = f"jobkit {kind}s resume {name}"
            many = f"{waits}: " if count else ""
            return f"{many}{whose} is paused{by} since {duration(self.paused_ms / 1000)}: `{command}`{before}"
        if self.n and (self.held >= self.n or not self.count):
            places = "the one place" if self.n == 1 else f"1 of {self.n:,} places"
            return f"{waits} for {places} of {whose}{before}"
        after = "" if self.open_ms is None else f", next in {duration(self.open_ms / 1000)}"
        limit = rate_text(self.count, self.period_ms)
        return f"{waits} for {'a' if count else 'its'} rate: {limit} of {whose}{after}{before}"


class Supply(msgspec.Struct, frozen=True):
    """Resources of the living workers of a queue.

    Attributes:
        most: of the worker that comes nearest to a request. total, free: of all of them.
        fits: whether one of them has as much free as is asked for.
    """

    most: Mapping[str, float] = {}
    total: Mapping[str, float] = {}
    free: Mapping[str, float] = {}
    fits: bool = False

    @classmethod
    def of(cls, workers: Sequence[tuple[Mapping[str, float], Mapping[str, float]]], use: Mapping[str, float]) -> Supply:
        """Return the supply for a request. `workers`: what each has, and what its jobs use of that."""

        def met(has: Mapping[str, float]) -> tuple[int, float]:
            """Return a sort key: the number of met requests, then the met share of the others."""
            shares = [min(1.0, has.get(name, 0) / amount) for name, amount in use.items() if amount]
            return sum(share >= 1.0 for share in shares), sum(shares)

        free = [remaining(has, used) for has, used in workers]
        return cls(
            most=max((has for has, _ in workers), key=met, default={}),
            total=sums([has for has, _ in workers]),
            free=sums(free),
            fits=any(all(left.get(name, 0) >= amount for name, amount in use.items()) for left in free),
        )

    def lacking(self, use: Mapping[str, float]) -> str:
        """Return the first resource of which no worker has as much, "" if there is none."""
        return next((name for name, amount in use.items() if self.most.get(name, 0) < amount), "")

    def shortage(self, use: Mapping[str, float]) -> str:
        """Return why a request that one of the workers could meet is not met: "all 4 in use"."""
        if self.fits:
            return "free, but its worker has no free slot"
        name = next((name for name in sorted(use) if self.free.get(name, 0) < use[name]), min(use))
        total, free = self.total.get(name, 0), self.free.get(name, 0)
        which = f"{name}: " if len(use) > 1 else ""
        return (
            f"{which}all {total:g} in use"
            if free <= 0
            else f"{which}{free:g} of {total:g} free, not enough on a worker"
        )


def remaining(has: Mapping[str, float], used: Mapping[str, float]) -> dict[str, float]:
    """Return what a worker has left of each resource, never less than nothing."""
    return {name: max(0.0, round(amount - used.get(name, 0), 9)) for name, amount in has.items()}


def sums(amounts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the sum of each resource."""
    found: dict[str, float] = {}
    for each in amounts:
        for name, amount in each.items():
            found[name] = found.get(name, 0) + amount
    return found


def waits_text(count: int) -> str:
    """Return "1 waits", "2,000 wait"; "waits" for 0, a single job."""
    return f"{count:,} wait{'s' if count == 1 else ''}" if count else "waits"


def gate_text(name: str) -> str:
    """Return the gate's name for users: "task train", "queue gpu", or the bare name of a key or resources."""
    kind, _, rest = name.partition(":")
    if kind in ("res", "py"):
        return ("Python " if kind == "py" else "") + rest.rpartition(":")[2]
    return rest if kind == "key" else f"{kind} {rest}"


def rate_text(count: int, period_ms: int) -> str:
    """Return "10/m", or "10/90 s" if the period has no name."""
    unit = next((unit for unit, ms in _UNIT_MS.items() if ms == period_ms), f"{period_ms / 1000:g} s")
    return f"{count}/{unit}"


def resources_text(use: Mapping[str, float]) -> str:
    """Return "gpu=1,mem=16", sorted by name."""
    return ",".join(f"{name}={use[name]:g}" for name in sorted(use))


def parse_rate(text: object) -> tuple[int, int] | None:
    """Return `(count, period in ms)` of "10/m" or "5/10s"; None if the text is not a rate or out of range."""
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    count, amount, unit = match.groups()
    period_ms = round(float(amount or 1) * _UNIT_MS[unit[0].lower()])
    if not 1 <= int(count) <= MAX_STARTS or not 1 <= period_ms <= _LONGEST_MS:
        return None
    return int(count), period_ms
