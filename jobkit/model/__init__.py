"""The words of jobkit: states, events, snapshots, retry policy and errors.

Pure: standard library only, no clock, no I/O. Everything above this package speaks in these types, and
every decision that can be made without acting is made here.
"""

from jobkit.model.errors import (
    EventsExpired,
    InvalidParams,
    JobCancelled,
    JobFailed,
    JobkitError,
    JobNotFound,
    ResultExpired,
    ResultUnavailable,
    SignatureError,
    StoreUnavailable,
    UnknownTask,
)
from jobkit.model.events import EventType, JobEvent
from jobkit.model.failure import FailureGroup, GroupState
from jobkit.model.limits import Gate, Rule, Waiting
from jobkit.model.log import LOG_LEVELS, LogFilter, LogLine
from jobkit.model.pause import Pause
from jobkit.model.retry import Backoff, Retry, RetryPolicy
from jobkit.model.schedule import ScheduleRun, ScheduleSnapshot, ScheduleSpec
from jobkit.model.snapshot import Attempt, JobError, JobSnapshot, apply, attempts_of
from jobkit.model.spec import JobSpec, Once
from jobkit.model.states import ALLOWED, TERMINAL, ErrorKind, JobState

__all__ = [
    "ALLOWED",
    "TERMINAL",
    "Attempt",
    "Backoff",
    "ErrorKind",
    "EventType",
    "FailureGroup",
    "GroupState",
    "InvalidParams",
    "JobCancelled",
    "JobError",
    "JobEvent",
    "JobFailed",
    "EventsExpired",
    "Gate",
    "JobNotFound",
    "JobSnapshot",
    "JobSpec",
    "JobState",
    "JobkitError",
    "LOG_LEVELS",
    "LogFilter",
    "LogLine",
    "Pause",
    "Once",
    "ResultExpired",
    "ResultUnavailable",
    "Retry",
    "RetryPolicy",
    "Rule",
    "ScheduleRun",
    "ScheduleSnapshot",
    "ScheduleSpec",
    "SignatureError",
    "StoreUnavailable",
    "UnknownTask",
    "Waiting",
    "apply",
    "attempts_of",
]
