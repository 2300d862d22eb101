"""The states of a job, the allowed transitions, and the kinds of errors."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class JobState(StrEnum):
    """State of a job. A terminal job never changes again."""

    SCHEDULED = "scheduled"
    """Waits for a time: a delay, an `at`, or the backoff before the next attempt."""
    QUEUED = "queued"
    """Waits for a free slot of a worker that serves its queue."""
    RUNNING = "running"
    """One worker holds the lease and executes an attempt."""
    SUCCEEDED = "succeeded"
    """Ended with a value (terminal)."""
    FAILED = "failed"
    """Ended with an error; see `error.kind` (terminal)."""
    CANCELLED = "cancelled"
    """Cancelled on request (terminal)."""

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})

#: All transitions that the store may make; any other is a bug in the store.
ALLOWED: Mapping[JobState, frozenset[JobState]] = {
    JobState.SCHEDULED: frozenset({JobState.QUEUED, JobState.CANCELLED, JobState.FAILED}),
    JobState.QUEUED: frozenset(
        {
            JobState.RUNNING,
            JobState.CANCELLED,
            JobState.FAILED,
            JobState.SUCCEEDED,  # at once, with a cached result
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
    """The attempt used more than its `memory_limit`, or the machine ran out of memory."""
    CRASH = "crash"
    """The job's own process died by a signal or with an exit status."""
    LOST = "lost"
    """Its workers died `max_losses` times while they ran it."""
    EXPIRED = "expired"
    """It waited longer than allowed."""
    DEPENDENCY = "dependency"
    """A job whose result it needs did not succeed."""
    REJECTED = "rejected"
    """A worker did not accept its payload: bad signature, unknown task."""
