"""What was asked for: the part of a job that never changes after submit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from jobkit.model.limits import Gate, resources_text
from jobkit.model.retry import Backoff, RetryPolicy


@dataclass(frozen=True, slots=True)
class Once:
    """Which jobs are the same work.

    Attributes:
        key: stands for the work: hex digits.
        scope: a second submit gives the first job as long as that one is waiting ("queued"), has not ended ("active"),
            or for `ms` from its submit ("time"); or it takes the place of the one that waits, and waits `ms` from then
            on ("debounce").
    """

    key: str
    scope: str = "active"
    ms: int = 0

    def to_wire(self) -> dict[str, Any]:
        return {"key": self.key, "scope": self.scope} | ({"ms": self.ms} if self.ms else {})

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Once:
        return cls(str(wire["key"]), str(wire["scope"]), int(wire.get("ms", 0)))


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One submission, without its arguments' values (those travel in the signed payload).

    Attributes:
        id: 1 to 200 characters of `[A-Za-z0-9_.:-]`.
        task: name of the task.
        title: what people read; the task's title, or its name.
        queue: name of the queue.
        params: arguments as JSON can show them: plain values as they are, others as short text. Never used to run.
        abridged: names of those in `params` whose text is not the whole value: cut, masked, or only a description.
        owner: who submitted (user name).
        tags: free labels.
        priority: higher first.
        key: the idempotency key, or "".
        retry_of: id of the job that this one repeats, or "".
        isolation: "process", "thread" or "async".
        reuse: so many jobs of the task may run in one process, one after the other.
        timeout_s, memory_limit_bytes: limits of one attempt, or None.
        cancel_grace_s: between SIGTERM and SIGKILL, or None for the worker's setting.
        retries, backoff, retry_on: see `RetryPolicy`.
        result_ttl_s: how long the ended job is kept, or None for the setting.
        on_lost: "" to run it again where its worker died, "fail" to end it there.
        needs: ids of the jobs whose results are arguments of this one; it waits for them.
        limits: gates that it passes before an attempt starts, the narrowest first.
        resources: what an attempt takes of a worker's resources, by name.
        once: whose work is the same, or None. cache_key, cache_ms: the result stands for this key so long; "" for not.
        is_fresh: it runs, whatever result is kept.
        delay_ms: submitted with this delay; 0 for at once. `at_ms`: not before this moment; 0 for none.
        schedule: name of the schedule that it came from, or "". `slot_ms`: for which of its times; 0 for none of them.
    """

    id: str
    task: str
    title: str = ""
    queue: str = "default"
    params: Mapping[str, Any] = field(default_factory=dict)
    owner: str = ""
    tags: tuple[str, ...] = ()
    priority: int = 0
    key: str = ""
    retry_of: str = ""
    isolation: str = "process"
    reuse: int = 1
    timeout_s: float | None = None
    memory_limit_bytes: int | None = None
    cancel_grace_s: float | None = None
    retries: int = 0
    backoff: Backoff = Backoff()
    retry_on: tuple[str, ...] = ()
    result_ttl_s: float | None = None
    on_lost: str = ""
    delay_ms: int = 0
    at_ms: int = 0
    needs: tuple[str, ...] = ()
    schedule: str = ""
    slot_ms: int = 0
    limits: tuple[Gate, ...] = ()
    resources: Mapping[str, float] = field(default_factory=dict)
    once: Once | None = None
    cache_key: str = ""
    cache_ms: int = 0
    is_fresh: bool = False
    abridged: tuple[str, ...] = ()

    @property
    def retry_policy(self) -> RetryPolicy:
        return RetryPolicy(self.retries, self.backoff, self.retry_on)

    def terms(self) -> dict[str, Any]:
        """What the store's transitions have to look at, for a job that is not plain; {} for one that is."""
        terms: dict[str, Any] = {}
        if self.limits:
            terms["gates"] = [gate.to_wire() for gate in self.limits]
        if self.resources:
            terms |= {"use": dict(self.resources), "uses": resources_text(self.resources)}
        if self.once is not None:
            terms["once"] = self.once.to_wire() | ({"but": self.retry_of} if self.retry_of else {})
        if self.cache_key:
            terms["cache"] = {"key": self.cache_key, "ms": self.cache_ms} | ({"fresh": True} if self.is_fresh else {})
        return terms

    def to_wire(self) -> dict[str, Any]:
        """JSON for the record; fields at their default are left out, so that a kept job stays small."""
        wire: dict[str, Any] = {"id": self.id, "task": self.task}
        for f in fields(self)[2:]:
            value = getattr(self, f.name)
            if f.name == "backoff":
                if value != Backoff():
                    wire["backoff"] = value.to_wire()
            elif f.name in ("params", "resources"):
                if value:
                    wire[f.name] = dict(value)
            elif f.name == "limits":
                if value:
                    wire["limits"] = [gate.to_wire() for gate in value]
            elif f.name == "once":
                if value is not None:
                    wire["once"] = value.to_wire()
            elif value != f.default:  # not "is true": a grace or a time to keep of 0 seconds means something
                wire[f.name] = list(value) if isinstance(value, tuple) else value
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> JobSpec:
        """The spec in a record; unknown fields (of a newer version) are ignored here and kept in the record."""
        known: dict[str, Any] = {f.name: wire[f.name] for f in fields(cls) if f.name in wire}
        for name in ("tags", "retry_on", "needs", "abridged"):
            if name in known:
                known[name] = tuple(known[name])
        if "backoff" in known:
            known["backoff"] = Backoff.from_wire(known["backoff"])
        if "limits" in known:
            known["limits"] = tuple(Gate.from_wire(gate) for gate in known["limits"])
        if "once" in known:
            known["once"] = Once.from_wire(known["once"])
        return cls(**known)
