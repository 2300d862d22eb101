"""What jobkit raises. One tree under `JobkitError`; each message is a sentence that says what to do next."""

from __future__ import annotations


class JobkitError(Exception):
    """Base of everything that jobkit raises on purpose."""


#: Characters of a refusal: some show the value, which may be megabytes.
_MESSAGE_LIMIT = 2_000


class InvalidParams(JobkitError, ValueError):
    """An argument was refused before anything was stored. A message that shows a huge value is cut.

    Attributes:
        field: name of the parameter or option, or None where no single one is at fault.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message if len(message) <= _MESSAGE_LIMIT else message[:_MESSAGE_LIMIT] + "…")
        self.field = field


class UnknownTask(JobkitError, LookupError):
    """No task of that name; the message names the close ones."""


class JobNotFound(JobkitError, LookupError):
    """No job with that id is kept: never submitted here, removed, or expired."""


class JobFailed(JobkitError):
    """The job ended as `failed`. The message holds error type, text and remote traceback.

    Attributes:
        error: the job's `JobError` (kind, type, message, traceback).

    `__cause__` is the original exception where it could be rebuilt.
    """

    def __init__(self, message: str, error: object = None) -> None:
        super().__init__(message)
        self.error = error


class JobCancelled(JobkitError):
    """The job ended as `cancelled`: raised by `job.result()`."""


class ResultUnavailable(JobkitError):
    """The job succeeded, but its value cannot be had: it could not be written, or cannot be read here. The message says
    why and what to do."""


class ResultExpired(ResultUnavailable):
    """The job succeeded, but its value is no longer kept."""


class EventsExpired(JobkitError):
    """Events between the one asked for and the oldest kept are no longer there: read the jobs again, then go on.

    Attributes:
        oldest: id of the oldest kept event; `kit.events(after="0-0")` begins there.
    """

    def __init__(self, message: str, oldest: str) -> None:
        super().__init__(message)
        self.oldest = oldest


class SignatureError(JobkitError):
    """A payload was not signed by a key that we hold, or was altered, or belongs to another job."""


class StoreUnavailable(JobkitError, ConnectionError):
    """Redis did not answer. The message names the URL (password masked) and what to try.

    Attributes:
        is_refusal: it did answer, and waiting does not help: wrong password, missing rights.
        only_reads: it did answer, and can be looked at, but takes no changes: full, a disk that fails, a replica.
    """

    def __init__(self, message: str = "", *, is_refusal: bool = False, only_reads: bool = False) -> None:
        super().__init__(message)
        self.is_refusal = is_refusal
        self.only_reads = only_reads
