"""`Bell`: word of the ends of somebody's own jobs, for the browser's notifications.

Asked for with a click and never before. All sessions share one reader: it reads what has just ended, a batch at a time.
"""

from __future__ import annotations

import json
import logging
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jobkit.client.loop import background
from jobkit.model import EventType, JobEvent, JobkitError, JobSnapshot
from jobkit.runners import Runners
from jobkit.ui.live.pace import Pacer, on_loop
from jobkit.ui.words.format import duration

if TYPE_CHECKING:
    from jobkit.client import Kit

logger = logging.getLogger("jobkit.ui")

#: Least time between two words, and ends that are told one by one; of more, a number.
_WINDOW_S, _MOST = 1.0, 3

_ENDS = frozenset({EventType.SUCCEEDED, EventType.FAILED, EventType.CANCELLED})


def words(ended: Sequence[JobSnapshot]) -> list[dict[str, str]]:
    """What to notify of: `title`, `body` and the `id` of the job ("" for several at once)."""
    if len(ended) > _MOST:
        failed = sum(job.state == "failed" for job in ended)
        body = f"{failed} failed" if failed else "none failed"
        return [{"id": "", "title": f"{len(ended)} of your jobs have ended", "body": body}]
    return [_word(job) for job in ended]


def _word(job: JobSnapshot) -> dict[str, str]:
    how = {"succeeded": "is done", "failed": "has failed", "cancelled": "was cancelled"}[str(job.state)]
    took = job.elapsed_s(job.finished_at) if job.finished_at is not None else None
    reason = str(job.error) if job.error is not None else job.summary
    parts = [f"after {duration(took)}" if took else "", reason]
    title = f"{(job.spec.title or job.spec.task)[:150]} {how}"
    return {"id": job.id, "title": title, "body": " · ".join(filter(None, parts))[:300]}


class _Reader:
    """Reads for all who have asked. Lives on the background loop."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._listeners: dict[int, tuple[str, Callable[[str], None]]] = {}
        self._next = 0
        self._ended: dict[str, None] = {}
        self._pacer = Pacer(_WINDOW_S, self._flush)
        self._runners = Runners()
        self._stop: Callable[[], None] | None = None

    def add(self, owner: str, tell: Callable[[str], None]) -> int:
        self._next += 1
        self._listeners[self._next] = owner, tell
        if self._stop is None:
            self._stop = self._kit.hub.listen(lambda event: on_loop(self._heard, event), None)
        return self._next

    def leave(self, key: int) -> None:
        self._listeners.pop(key, None)
        if not self._listeners and self._stop is not None:
            self._stop()
            self._pacer.stop()
            _readers.pop(self._kit, None)

    def _heard(self, event: JobEvent) -> None:
        if event.type in _ENDS:
            self._ended[event.job_id] = None
            self._pacer.poke()

    def _flush(self) -> None:
        ended, self._ended = list(self._ended), {}
        if ended:
            self._runners.run(self._tell(ended))

    async def _tell(self, ended: Sequence[str]) -> None:
        try:
            found = await self._kit.verbs.store.snapshots(ended[-500:])
        except JobkitError as error:  # what is missed is missed: the page itself has it
            logger.debug("ended jobs could not be read: %s", error)
            return
        jobs = [job for job in found if job is not None and job.is_terminal]
        for owner, tell in list(self._listeners.values()):
            if mine := [job for job in jobs if job.spec.owner == owner]:
                tell(json.dumps({"ended": words(mine), "n": f"{mine[-1].id} {mine[-1].seq} {len(mine)}"}))


_readers: weakref.WeakKeyDictionary[Kit, _Reader] = weakref.WeakKeyDictionary()


class Bell:
    """One session's hold on the reader; from any thread.

    Args:
        kit, owner: whose jobs. tell: called on the background loop with a JSON text, `{"ended": words(...)}`.
    """

    def __init__(self, kit: Kit, owner: str, tell: Callable[[str], None]) -> None:
        self._kit, self._owner, self._tell = kit, owner, tell
        self._key: int | None = None

    def ring(self, is_on: bool) -> None:
        """Begin, or end."""
        background.start().call_soon_threadsafe(self._begin if is_on else self._end)

    def _begin(self) -> None:
        if self._key is None:
            reader = _readers.get(self._kit) or _readers.setdefault(self._kit, _Reader(self._kit))
            self._key = reader.add(self._owner, self._tell)

    def _end(self) -> None:
        reader = _readers.get(self._kit)
        if reader is not None and self._key is not None:
            reader.leave(self._key)
        self._key = None
