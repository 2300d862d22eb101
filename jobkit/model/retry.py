"""Retry policy: whether a failed attempt is retried, and after how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class Retry(Exception):
    """Raise this in a task to request another attempt.

    Args:
        after: seconds to wait before it; None uses the job's backoff.
    """

    def __init__(self, after: float | None = None, message: str = "the task asked for another attempt") -> None:
        super().__init__(message)
        self.after = after


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between attempts: `base * factor ** (retry - 1)`, at most `max`.

    With `jitter` each wait is spread evenly over its upper half ("equal jitter"), so that jobs that failed together do
    not retry together.
    """

    base: float = 1.0
    factor: float = 2.0
    max: float = 300.0
    jitter: bool = True

    def __post_init__(self) -> None:
        for name in ("base", "max"):
            if getattr(self, name) < 0:
                raise ValueError(f"Backoff.{name} must be 0 or more, not {getattr(self, name)!r}")
        if self.factor < 1:
            raise ValueError(f"Backoff.factor must be 1 or more, not {self.factor!r}")

    def delay_s(self, retry: int, random: float) -> float:
        """Return the seconds to wait before the `retry`-th retry (from 1); `random` is in [0, 1)."""
        exponent = min(retry - 1, 1000)
        try:
            full = min(self.max, self.base * self.factor**exponent)
        except OverflowError:
            full = self.max
        return full / 2 + full / 2 * random if self.jitter else full

    def to_wire(self) -> dict[str, Any]:
        return {"base": self.base, "factor": self.factor, "max": self.max, "jitter": self.jitter}

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Backoff:
        return cls(**{k: wire[k] for k in ("base", "factor", "max", "jitter") if k in wire})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Rules for retrying failed attempts.

    Attributes:
        retries: maximum number of retries; losses and releases do not count.
        backoff: seconds before each retry.
        retry_on: names of exception types (`"OSError"`, `"requests.Timeout"`), matched against the class of the raised
            exception and its bases; empty means every failure.
    """

    retries: int = 0
    backoff: Backoff = Backoff()
    retry_on: tuple[str, ...] = ()

    def delay_s(
        self, *, retried: int, error_types: tuple[str, ...], random: float, asked: Retry | None = None
    ) -> float | None:
        """Return the seconds until the next attempt, or None if the failure is final.

        Args:
            retried: retries that this job has already had.
            error_types: qualified names of the exception's class and its bases.
            random: number in [0, 1) for the jitter.
            asked: the `Retry` that the task raised, if any; it bypasses `retry_on` but not `retries`.
        """
        if retried >= self.retries:
            return None
        if asked is not None:
            return self.backoff.delay_s(retried + 1, random) if asked.after is None else max(0.0, asked.after)
        if self.retry_on and not any(
            name in self.retry_on or name.rpartition(".")[2] in self.retry_on for name in error_types
        ):
            return None
        return self.backoff.delay_s(retried + 1, random)
