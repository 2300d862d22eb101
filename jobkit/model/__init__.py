"""The words of jobkit: states, events, snapshots, retry policy and errors.

Pure: standard library and msgspec, no clock, no I/O. Everything above this package speaks in these types, and
every decision that can be made without acting is made here.
"""

from jobkit.model.errors import (
    EventsExpired,
    InvalidParams,
    JobCancelled,
    JobFailed,
    JobkitError,
    JobNotFound,
    QuestionClosed,
    ResultExpired,
    ResultUnavailable,
    SignatureError,
    StoreUnavailable,
    SubmitUnanswered,
    Unanswered,
    UnknownTask,
)
from jobkit.model.events import ENDS, TERMINAL, UNSUCCESSFUL, ErrorKind, EventType, JobEvent, JobState
from jobkit.model.limits import Gate, Pause, Rule, Waiting
from jobkit.model.log import LOG_LEVELS, LogFilter, LogHits, LogLine, LogSlice
from jobkit.model.question import OpenQuestion
from jobkit.model.snapshot import Attempt, JobError, JobSnapshot, apply, attempts_of
from jobkit.model.spec import Backoff, JobSpec, Once, Retry
