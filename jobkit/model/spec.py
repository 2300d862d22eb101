"""The submission: the part of a job that never changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from jobkit.model.limits import Gate, resources_text
from jobkit.model.retry import Backoff, RetryPolicy


@dataclass(frozen=True, slots=True)
class Once:
    """Deduplication of submits: how to find a job that already does the same work.

    Attributes:
        key: hash of the work in hex digits.
        scope: how long a second submit returns the first job: while that one waits ("queued"), until it ends
            ("active"), or for `ms` from its submit ("time"). "debounce": it replaces the waiting job's arguments and
            delays it by `ms` from then on.
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
    """One submission without the values of its arguments, which are in the signed payload.

    Attributes:
        id: 1 to 200 characters of `[A-Za-z0-9_.:-]`.
        task: name of the task.
        title: display name; the task's title, or its name.
        queue: name of the queue.
        params: arguments for display: plain JSON values as they are, others as short text. Never used to run the job.
        abridged: names of the `params` that show less than the whole value: cut, masked, or only described.
        owner: user name of the submitter.
        tags: free labels.
        priority: higher first.
        key: the idempotency key, or "".
        retry_of: id of the job that this one repeats, or "".
        isolation: "process", "thread" or "async".
        reuse: maximum number of jobs of the task that run in one process, one after the other.
        timeout_s, memory_limit_bytes: limits of one attempt, or None.
        cancel_grace_s: seconds between SIGTERM and SIGKILL, or None for the worker's setting.
        retries, backoff, retry_on: see `RetryPolicy`.
        result_ttl_s: seconds that the ended job is kept, or None for the setting.
        on_lost: "" to run it again if its worker died, "fail" to fail it.
        needs: ids of the jobs whose results are arguments of this one; it waits for them.
        limits: gates that it must pass before an attempt starts, the narrowest first.
        resources: amounts of a worker's resources that an attempt uses, by name.
        once: deduplication, or None. cache_key, cache_ms: key of the result cache and its time to live; "" for no
            cache.
        is_fresh: run even if there is a cached result.
        delay_ms: delay at submit; 0 for none. `at_ms`: earliest start; 0 for none.
        schedule: name of the schedule that created it, or "". `slot_ms`: its slot; 0 if started by hand.
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

    def constraints(self) -> dict[str, Any]:
        """Return the constraints that the store checks at each transition; {} for a job without any."""
        constraints: dict[str, Any] = {}
        if self.limits:
            constraints["gates"] = [gate.to_wire() for gate in self.limits]
        if self.resources:
            constraints |= {"use": dict(self.resources), "uses": resources_text(self.resources)}
        if self.once is not None:
            constraints["once"] = self.once.to_wire() | ({"but": self.retry_of} if self.retry_of else {})
        if self.cache_key:
            constraints["cache"] = {"key": self.cache_key, "ms": self.cache_ms} | (
                {"fresh": True} if self.is_fresh else {}
            )
        return constraints

    def to_wire(self) -> dict[str, Any]:
        """Return JSON for the record; fields with their default value are left out to keep records small."""
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
            elif value != f.default:  # not `if value`: a grace or a time to live of 0 seconds is valid
                wire[f.name] = list(value) if isinstance(value, tuple) else value
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> JobSpec:
        """Return the spec in a record; unknown fields (of a newer version) are ignored here and kept in the record."""
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
