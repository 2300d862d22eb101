"""Exceptions of jobkit: one tree under `JobkitError`. Each message says what to do next."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence


class JobkitError(Exception):
    """Base class of all exceptions that jobkit raises on purpose.

    Example:
        >>> try:
        ...     kit.get("5f0c1234aabbccdd")
        ... except jobkit.JobkitError as error:
        ...     print(error)
        no job '5f0c1234aabbccdd' is kept here: it was never submitted, was removed, or has expired
    """

    _lines: Sequence[str] = ()  # of an error in a job, for people

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows of it."""
        from jobkit.model.raised_here import shown

        return shown(self, self._lines)


#: Maximum length of an `InvalidParams` message in characters. Messages show the value, which may be megabytes.
_MESSAGE_LIMIT = 2_000


class InvalidParams(JobkitError, ValueError):
    """An argument was rejected; nothing was stored. Messages longer than 2,000 characters are cut.

    Attributes:
        field: name of the parameter or option, or None if no single one is wrong.

    Example:
        >>> try:
        ...     simulate.submit(n="many")
        ... except jobkit.InvalidParams as error:
        ...     print(error.field, "-", error)
        n - n must be a whole number, not 'many'
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message if len(message) <= _MESSAGE_LIMIT else message[:_MESSAGE_LIMIT] + "…")
        self.field = field


class UnknownTask(JobkitError, LookupError):
    """No task with that name; the message lists similar names.

    Example:
        >>> kit.submit("simulat", n=10)
        Traceback (most recent call last):
        jobkit.model.errors.UnknownTask: there is no task 'simulat'; did you mean ...
    """


class JobNotFound(JobkitError, LookupError):
    """No job with that id: never submitted here, deleted, or expired.

    Example:
        >>> try:
        ...     job = kit.get("5f0c1234aabbccdd")
        ... except jobkit.JobNotFound:
        ...     job = report.submit()
    """


class NoCheckpoint(JobkitError):
    """The job has no checkpoint to go on from."""


class CannotStart(JobkitError):
    """An attempt cannot begin; the message is the sentence for the user."""


class JobFailed(JobkitError):
    """The job ended as `failed`. The message contains the error's type, its text and the remote traceback.

    Attributes:
        error: the job's `JobError` (kind, type, message, traceback).

    `__cause__` is the original exception if it could be rebuilt.

    Example:
        >>> try:
        ...     kit.submit(int, "seven").result()
        ... except jobkit.JobFailed as failed:
        ...     print(failed.error.type, type(failed.__cause__).__name__)
        ValueError ValueError
    """

    def __init__(self, message: str, error: object = None, lines: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.error = error
        self._lines = lines


class JobCancelled(JobkitError):
    """The job ended as `cancelled`. Raised by `job.result()`.

    Example:
        >>> try:
        ...     value = report.submit().result()
        ... except jobkit.JobCancelled:
        ...     value = ""
    """


class ResultUnavailable(JobkitError):
    """The job succeeded, but its value cannot be read: it could not be written, or is not accessible from here.

    The message says why and what to do.

    Example:
        >>> def value(job):
        ...     try:
        ...         return job.result()
        ...     except jobkit.ResultUnavailable as error:
        ...         print("calculated again:", error)
        ...         return job.rerun().result()
        >>> value(report.submit())
        'report of today'
    """


class ResultExpired(ResultUnavailable):
    """The job succeeded, but its value has been deleted because its time to live is over.

    Example:
        >>> def value(job):
        ...     try:
        ...         return job.result()
        ...     except jobkit.ResultExpired:
        ...         return job.rerun().result()
        >>> value(report.submit())
        'report of today'
    """


class Unanswered(JobkitError, TimeoutError):
    """No answer to the question of a job came in time. Raised by `jobkit.ask`.

    Example:
        >>> def confirm():
        ...     try:
        ...         return jobkit.ask(bool, "Publish?", timeout="1h")
        ...     except jobkit.Unanswered:
        ...         return False
    """


class QuestionClosed(JobkitError):
    """A question cannot be answered any more: the message says who answered it, or why else.

    Example:
        >>> job = report.submit()
        >>> try:
        ...     job.answer(True)
        ... except jobkit.QuestionClosed as error:
        ...     print(error)
        job ... asks nothing now; it has succeeded
    """


class EventsExpired(JobkitError):
    """Events after the requested id have been trimmed. Read the jobs again, then continue from `oldest`.

    Attributes:
        oldest: id of the oldest stored event; `kit.events(after="0-0")` starts there.

    Example:
        >>> last_event_id = "0-0"
        >>> try:
        ...     events = kit.events(after=last_event_id)
        ... except jobkit.EventsExpired as error:
        ...     jobs, events = kit.jobs(), kit.events(after=error.oldest)
    """

    def __init__(self, message: str, oldest: str = "") -> None:
        super().__init__(message)
        self.oldest = oldest


class SignatureError(JobkitError):
    """A payload was changed, belongs to another job, or was not signed with a key of this process.

    Example:
        >>> try:
        ...     result = report.submit().result()
        ... except jobkit.SignatureError:
        ...     print("was it made with another JOBKIT_SECRET?")
    """


class StoreUnavailable(JobkitError, ConnectionError):
    """Redis did not answer or refused the request. The message names the URL (password masked) and what to try.

    Attributes:
        is_refusal: Redis answered and waiting does not help: wrong password or missing permission.
        only_reads: Redis answers reads but refuses writes: out of memory, disk error, or a replica.
        is_sent: the request may have reached Redis, which may have carried it out; the reply is missing.
        is_revoked: this machine is no longer a member of the joined place.

    Example:
        >>> try:
        ...     kit = jobkit.connect("redis://localhost:1")
        ... except jobkit.StoreUnavailable as error:
        ...     print(error)
        Redis at redis://localhost:1 does not answer ...
    """

    def __init__(
        self,
        message: str = "",
        *,
        is_refusal: bool = False,
        only_reads: bool = False,
        is_sent: bool = False,
        is_revoked: bool = False,
    ) -> None:
        super().__init__(message)
        self.is_revoked = is_revoked
        self.is_refusal = is_refusal
        self.only_reads = only_reads
        self.is_sent = is_sent


class SubmitUnanswered(StoreUnavailable):
    """A submit was sent, but Redis did not answer: its jobs may have been accepted. The message has their ids.

    Attributes:
        job_ids: those that were accepted or may have been; `kit.get(job_id)` tells.
        id: the same call with `options(id=...)` submits each of its jobs once; "" if the call takes no id.
        reason: why there is no answer.

    Example:
        >>> once = train.options(id=secrets.token_hex(8))
        >>> try:
        ...     job = once.submit(lr=0.1)
        ... except jobkit.SubmitUnanswered:
        ...     job = once.submit(lr=0.1)
    """

    def __init__(
        self,
        message: str = "",
        *,
        job_ids: Sequence[str] = (),
        id: str = "",
        reason: str = "",
        only_reads: bool = False,
    ) -> None:
        super().__init__(message, only_reads=only_reads, is_sent=True)
        self.job_ids, self.id, self.reason = tuple(job_ids), id, reason


@contextlib.contextmanager
def repeating(first: Exception | None) -> Iterator[None]:
    """Repeat a request in this block. If it fails again, it counts as sent if it was sent the first time."""
    try:
        yield
    except StoreUnavailable as error:
        error.is_sent |= getattr(first, "is_sent", False)
        raise
