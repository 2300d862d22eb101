"""Jobs of a submit whose reply may never come: which they are, and how to submit each of them once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from types import TracebackType

from jobkit.model import StoreUnavailable, SubmitUnanswered


class Sent:
    """A block that sends the jobs of one call. An error or interrupt that leaves it names those that may be accepted.

    Args:
        job_ids: of the jobs, in the order in which they are sent.
        id: with `options(id=...)` the same call submits each of them once. key: with it, which the call has already.

    Attributes:
        sent, accepted: how many were sent, and accepted.
    """

    def __init__(self, job_ids: Sequence[str], *, id: str = "", key: str = "") -> None:
        self._job_ids, self._id, self._key = job_ids, id, key
        self.sent, self.accepted = len(job_ids), 0

    def __enter__(self) -> Sent:
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._job_ids:
            return
        if isinstance(error, StoreUnavailable):
            if not error.is_sent:
                self.sent = self.accepted
            if self.sent:
                raise SubmitUnanswered(
                    f"{error}. {self._sentence()}",
                    job_ids=self._job_ids[: self.sent],
                    id=self._id,
                    reason=str(error),
                    only_reads=error.only_reads,
                ) from error
        elif isinstance(error, KeyboardInterrupt):
            print(f"Interrupted. {self._sentence()}.", file=sys.stderr)
        elif isinstance(error, asyncio.CancelledError):
            error.add_note(self._sentence())

    def _sentence(self) -> str:
        count, first = len(self._job_ids), self._job_ids[0]
        if count == 1:
            said = f"Job {first} may have been accepted: kit.get({first!r}) tells"
        elif self.accepted:
            unknown = f", {self.sent - self.accepted:,} more may have been" if self.sent > self.accepted else ""
            said = f"Of {count:,} jobs {self.accepted:,} were accepted{unknown} (the first is {first})"
        else:
            said = f"{self.sent:,} of {count:,} jobs may have been accepted: kit.get({first!r}) tells of the first"
        if self._key:
            return f"{said}; the same call with this key submits it once"
        return f"{said}; the same call with options(id={self._id!r}) submits each job once" if self._id else said
