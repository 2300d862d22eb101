"""The states of a job, which may follow which, and why a job failed."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class JobState(StrEnum):
    """Where a job is in its life. A terminal job never changes again."""

    SCHEDULED = "scheduled"
    """Waits for a time: a delay, an `at`, or the backoff before the next attempt."""
    QUEUED = "queued"
    """Waits for a free slot of a worker that serves its queue."""
    RUNNING = "running"
    """One worker holds the lease and executes an attempt."""
    SUCCEEDED = "succeeded"
    """Ended with a value (terminal)."""
    FAILED = "failed"
    """Ended with an error; `error.kind` says which (terminal)."""
    CANCELLED = "cancelled"
    """Ended because somebody asked for it (terminal)."""

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})

#: Every transition that the store may make; anything else is a bug in a script.
ALLOWED: Mapping[JobState, frozenset[JobState]] = {
    JobState.SCHEDULED: frozenset({JobState.QUEUED, JobState.CANCELLED, JobState.FAILED}),
    JobState.QUEUED: frozenset(
        {
            JobState.RUNNING,
            JobState.CANCELLED,
            JobState.FAILED,
            JobState.SUCCEEDED,  # at once: a kept result is its own
        }
    ),
    JobState.RUNNING: frozenset(
        {
            JobState.SUCCEEDED,
            JobState.FAILED,
            JobState.CANCELLED,
            JobState.QUEUED,  # lost or released
            JobState.SCHEDULED,  # retried after a backoff
        }
    ),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


class ErrorKind(StrEnum):
    """Why a job failed. Data, not a state."""

    EXCEPTION = "exception"
    """The task raised."""
    TIMEOUT = "timeout"
    """The attempt ran longer than its `timeout`."""
    MEMORY = "memory"
    """The attempt used more than its `memory_limit`, or the kernel ran out of memory."""
    CRASH = "crash"
    """The job's own process died: a signal, or an exit status."""
    LOST = "lost"
    """Its workers died `max_losses` times while running it."""
    EXPIRED = "expired"
    """It waited longer than it was allowed to."""
    DEPENDENCY = "dependency"
    """A job whose result it needs did not succeed."""
    REJECTED = "rejected"
    """A worker did not accept its payload: bad signature, unknown task."""
