"""`Tail`: the one reader of events behind all streams of a server.

It keeps the newest events in a ring and wakes the streams. A stream stores only its position and reads the next events
from the ring or, if it is further behind, from the store. So a slow client costs no memory, and no client misses or
repeats an event between stored and live ones: both are read by position.

Progress is not numbered: only the newest of each job is kept, so slow clients get it coalesced.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import takewhile
from typing import Any, TypeVar

from jobkit.client.events import event_pages
from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.http.messages import to_json
from jobkit.model import EventsExpired, EventType, JobEvent, JobSpec, StoreUnavailable
from jobkit.model.plain import iso
from jobkit.model.snapshot import JobError, changes, finite_or_none
from jobkit.store.values import event_key

T = TypeVar("T")

Key = tuple[int, int]

logger = logging.getLogger("jobkit.http")

#: Seconds between two attempts to read events.
_AGAIN_S = 1.0

#: Events in the ring.
RING = 5_000

#: Jobs whose newest progress, event number and spec are kept.
JOBS = 5_000

#: Seconds for which the first stream waits until progress is heard.
READY_S = 2.0

#: Events of one read. Each slow client may hold one such page.
PAGE = 200


@dataclass(eq=False)
class FramedEvent:
    """An event in the ring. Its frame is made once for all streams."""

    event: JobEvent
    key: Key

    @cached_property
    def frame(self) -> bytes:
        """Its event for clients: named by its type, with its id if it is numbered."""
        body = {**self.event.to_json(), "changes": changed(self.event)}
        return frame(to_json(body), event=str(self.event.type), id=self.event.id)


class Tail:
    """See the module's docstring. For one event loop; call `enter` before and `leave` after use."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._loop = asyncio.get_running_loop()
        self._users = 0
        self._starting: asyncio.Task[None] | None = None
        self._reading: Future[None] | None = None
        self._ring: deque[FramedEvent] = deque()
        self._floor: Key = (0, 0)
        self._wake = asyncio.Event()
        self._news: OrderedDict[str, tuple[int, FramedEvent]] = OrderedDict()
        self._seqs: OrderedDict[str, int] = OrderedDict()
        self._specs: OrderedDict[str, JobSpec] = OrderedDict()
        self.version = 0  #: grows with each change
        self._shared: dict[Any, Any] = {}

    async def enter(self) -> None:
        """Start reading unless it runs already. Returns when all events after `last` will come, and new progress."""
        self._users += 1
        if self._starting is None:
            self._starting = self._loop.create_task(self._start())
        try:
            await asyncio.shield(self._starting)
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """Stop reading if this was the last user."""
        self._users -= 1
        if self._users == 0:
            for work in (self._starting, self._reading):
                if work is not None:
                    work.cancel()
            self._starting = self._reading = None
            self._ring.clear()
            self._news.clear()
            self._seqs.clear()
            self._wake_all()

    def shared(self, kind: Callable[..., T], *args: Any) -> T:
        """Return the object that all streams of the tail share, made once as `kind(kit, *args)`."""
        if kind not in self._shared:
            self._shared[kind] = kind(self._kit, *args)
        found: T = self._shared[kind]
        return found

    @property
    def last(self) -> Key:
        """Position of the newest event in the ring."""
        return self._ring[-1].key if self._ring else self._floor

    async def may_know(self, position: Key) -> bool:
        """Return whether this store may have given that position: its newest event is not older."""
        return position <= self.last or position <= event_key(await on_loop(self._kit.verbs.store.last_event_id()))

    async def after(self, position: Key) -> Sequence[FramedEvent]:
        """Return the next events after a position, at most `PAGE`. Raises EventsExpired: some are no longer kept."""
        if position >= self._floor:
            found: list[FramedEvent] = []
            for entry in reversed(self._ring):
                if entry.key <= position:
                    break
                found.append(entry)
            found.reverse()
            return found[:PAGE]
        events = await on_loop(self._kit.verbs.store.events("{}-{}".format(*position), PAGE))
        return [FramedEvent(event, event_key(event.id)) for event in events]

    def news(self, version: int, most: int = PAGE) -> tuple[int, list[FramedEvent]]:
        """Return where to continue, and jobs' newest progress after `version`: the oldest of it, at most `most`."""
        newer = takewhile(lambda one: one[0] > version, reversed(self._news.values()))
        found = [*newer][::-1][:most]
        return found[-1][0] if found else version, [entry for _, entry in found]

    def progress_of(self, job_id: str) -> tuple[int, FramedEvent | None]:
        """Return the newest progress of a job and its version."""
        return self._news.get(job_id, (0, None))

    @property
    def newest_news(self) -> int:
        return next((number for number, _ in reversed(self._news.values())), 0)

    async def changed(self, version: int, within_s: float) -> bool:
        """Wait until there is something newer than `version`. Returns False if `within_s` seconds pass first."""
        if self.version != version:
            return True
        try:
            async with asyncio.timeout(within_s):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    def poke(self) -> None:
        """Wake the streams after a change that is not an event. From any thread."""
        self._post(self._wake_all)

    async def specs(self, job_ids: Iterable[str]) -> dict[str, JobSpec]:
        """Return the specs of jobs that are or were kept, with task, queue and owner only."""
        wanted = list(dict.fromkeys(job_ids))
        found = {job_id: self._specs[job_id] for job_id in wanted if job_id in self._specs}
        unknown = [job_id for job_id in wanted if job_id not in found]
        for i in range(0, len(unknown), 200):
            for snapshot in await on_loop(self._kit.verbs.store.snapshots(unknown[i : i + 200])):
                if snapshot is not None:
                    spec = snapshot.spec
                    found[spec.id] = JobSpec(spec.id, spec.task, queue=spec.queue, owner=spec.owner)
                    _keep(self._specs, spec.id, found[spec.id])
        return found

    # -- on the server's loop ---------------------------------------------------------------------------------------

    async def _start(self) -> None:
        last = await on_loop(self._kit.verbs.store.last_event_id())
        self._begin_at(last)
        self._reading = background.spawn(self._read(last))
        with contextlib.suppress(TimeoutError):  # while the connection is cut there is no news
            async with asyncio.timeout(READY_S):
                await on_loop(self._kit.hub.ready(None))

    def _begin_at(self, id: str) -> None:
        self._ring.clear()
        self._floor = event_key(id)
        self._wake_all()

    def _take(self, page: Sequence[JobEvent]) -> None:
        for event in page:
            if event.type.is_news:
                if event.seq >= self._seqs.get(event.job_id, 0):
                    self.version += 1
                    _keep(self._news, event.job_id, (self.version, FramedEvent(event, (0, 0))))
                continue
            if event.type is EventType.SUBMITTED:
                self._specs.pop(event.job_id, None)  # its key may have belonged to another job before
            self._ring.append(FramedEvent(event, event_key(event.id)))
            if len(self._ring) > RING:
                self._floor = self._ring.popleft().key
            _keep(self._seqs, event.job_id, event.seq)
            self._news.pop(event.job_id, None)
        self._wake_all()

    def _wake_all(self) -> None:
        self.version += 1
        self._wake.set()
        self._wake = asyncio.Event()

    # -- on jobkit's loop -------------------------------------------------------------------------------------------

    async def _read(self, after: str) -> None:
        has_missed = False
        while True:
            try:
                if has_missed:
                    after, has_missed = await self._kit.verbs.store.last_event_id(), False
                    self._post(self._begin_at, after)
                async for page in event_pages(self._kit.verbs, after):
                    self._post(self._take, page)
                    after = page[-1].id or after
            except EventsExpired:  # the store dropped events before they were read here: continue at its newest
                has_missed = True
            except StoreUnavailable:  # it is away, or an embedded one was stopped
                await asyncio.sleep(_AGAIN_S)
            except Exception:
                logger.exception("the events for streams could not be read; trying again")
                await asyncio.sleep(_AGAIN_S)

    def _post(self, function: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the server's loop has been closed
            self._loop.call_soon_threadsafe(function, *args)


def _keep(kept: OrderedDict[str, T], job_id: str, value: T) -> None:
    """Keep a value of a job as the newest; of more than `JOBS` jobs the oldest is dropped."""
    kept[job_id] = value
    kept.move_to_end(job_id)
    if len(kept) > JOBS:
        kept.popitem(last=False)


async def on_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop and await its value on another loop."""
    return await background.call_async(coroutine)


# -- Server-Sent Events ------------------------------------------------------------------------------------------------

_LINES = re.compile(r"\r\n|\r|\n")


def frame(data: str | bytes, *, event: str = "", id: str = "", retry: int = 0) -> bytes:
    """Return one event of a stream. Raises ValueError: a line break in `event` or `id`."""
    text = data.decode() if isinstance(data, bytes) else data
    if any(c in event + id for c in "\r\n\0"):
        raise ValueError("no line breaks in the fields of an event")
    fields = {"event": event, "retry": retry, "id": id}
    lines = [f"{name}: {value}" for name, value in fields.items() if value]
    lines += [f"data: {line}" for line in _LINES.split(text)]  # so that a publisher cannot inject fields
    return ("\n".join(lines) + "\n\n").encode("utf-8", "replace")


def changed(event: JobEvent) -> dict[str, Any]:
    """Return the members of a job's JSON that an event changes: `Object.assign(job, event.changes)`."""
    if event.type is EventType.PROGRESSED:
        completed, total = finite_or_none(event.data.get("completed")), finite_or_none(event.data.get("total"))
        progress = min(1.0, completed / total) if completed is not None and total else None
        return {
            "completed": completed,
            "total": total,
            "message": str(event.data.get("message") or ""),
            "progress": progress,
        }
    if event.type.is_news:
        return {}
    moved: dict[str, Any] = {}
    for name, value in changes(event.data).items():
        moved[name] = iso(value) if isinstance(value, datetime) else value
        if isinstance(value, JobError):
            moved[name] = value.to_json()
    if event.type is EventType.STARTED:
        moved |= {"completed": None, "total": None, "message": "", "progress": None}
    elif event.type is EventType.SUCCEEDED:
        moved |= {"error": None, "progress": 1.0}
    return {**moved, "seq": event.seq}
