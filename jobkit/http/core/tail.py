"""`Tail`: the one reader of events behind all streams of a server.

It keeps the newest events in a ring and wakes the streams; each stream only knows how far it is and takes what comes
after from the ring, or, where it is further behind, from the store. So a client costs no memory, however slow it is,
and none misses or repeats an event between the past and the present: both are read by position.

Progress is not numbered: of each job only the newest is kept, so it is coalesced for who is slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any, TypeVar

from jobkit.client import Kit
from jobkit.client.loop import background
from jobkit.http.core.messages import to_json
from jobkit.model import EventsExpired, EventType, JobEvent, JobSnapshot, JobSpec
from jobkit.model.snapshot import JobError, changes, finite_or_none, iso
from jobkit.store.values import event_key

T = TypeVar("T")

Key = tuple[int, int]

#: Events kept for streams that are a little behind; jobs whose progress, number and task are remembered.
RING, JOBS = 5_000, 5_000

#: Events that one read takes.
PAGE = 500


class Entry:
    """An event in the ring; its frame is made once for all."""

    __slots__ = ("_frame", "event", "key")

    def __init__(self, event: JobEvent, key: Key) -> None:
        self.event, self.key = event, key
        self._frame: bytes | None = None

    @property
    def frame(self) -> bytes:
        if self._frame is None:
            self._frame = event_frame(self.event)
        return self._frame


class Tail:
    """See the module's docstring. For one event loop; `enter` and `leave` around its use."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._loop = asyncio.get_running_loop()
        self._users = 0
        self._starting: asyncio.Task[None] | None = None
        self._reader: Future[None] | None = None
        self._stop_news: Callable[[], None] | None = None
        self._inbox: deque[JobEvent | str] = deque()
        self._is_posted = False
        self._ring: deque[Entry] = deque()
        self._floor: Key = (0, 0)
        self._wake = asyncio.Event()
        self._news: OrderedDict[str, tuple[int, Entry]] = OrderedDict()
        self._seqs: OrderedDict[str, int] = OrderedDict()
        self._specs: OrderedDict[str, JobSpec] = OrderedDict()
        self.version = 0
        """Grows with everything new."""
        self._shared: dict[type, Any] = {}

    async def enter(self) -> None:
        """Begin to read, where nobody did. Returns when events after `last` will come."""
        self._users += 1
        if self._starting is None:
            self._starting = self._loop.create_task(self._start())
        try:
            await asyncio.shield(self._starting)
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """Stop with the last user."""
        self._users -= 1
        if self._users == 0:
            if self._starting is not None:
                self._starting.cancel()
                self._starting = None
            if self._reader is not None:
                self._reader.cancel()
                self._reader = None
            if self._stop_news is not None:
                self._stop_news()
                self._stop_news = None
            self._ring.clear()
            self._inbox.clear()
            self._news.clear()
            self._seqs.clear()
            self._wake_all()

    def shared(self, kind: type[T], make: Callable[[], T]) -> T:
        """Return the object of this type that all streams of the tail share; `make` is called once."""
        if kind not in self._shared:
            self._shared[kind] = make()
        found: T = self._shared[kind]
        return found

    @property
    def last(self) -> Key:
        """Position of the newest event that is here."""
        return self._ring[-1].key if self._ring else self._floor

    async def after(self, position: Key) -> Sequence[Entry]:
        """The events after a position, oldest first, maybe not all of them at once; none where there are none.

        Raises:
            EventsExpired: some of them are no longer kept.
        """
        if position >= self._floor:
            found: list[Entry] = []
            for entry in reversed(self._ring):
                if entry.key <= position:
                    break
                found.append(entry)
            found.reverse()
            return found[:PAGE]
        events = await on_loop(self._kit.verbs.store.events("{}-{}".format(*position), PAGE))
        return [Entry(event, event_key(event.id)) for event in events]

    def news(self, version: int, most: int = PAGE) -> tuple[int, list[Entry]]:
        """The newest progress of each job that has some after `version`, oldest first, and the version to go on from.

        Not more than `most`. Progress that belongs to an event which is not yet here is held back.
        """
        found: list[tuple[int, Entry]] = []
        for job_id in reversed(self._news):
            number, entry = self._news[job_id]
            if number <= version:
                break
            if entry.event.seq <= self._seqs.get(job_id, entry.event.seq):
                found.append((number, entry))
        found = found[::-1][:most]
        return found[-1][0] if found else version, [entry for _, entry in found]

    @property
    def newest_news(self) -> int:
        return next((number for number, _ in reversed(self._news.values())), 0)

    async def changed(self, version: int, within_s: float) -> bool:
        """True when there is something newer than `version`, False when `within_s` seconds were over first."""
        if self.version != version:
            return True
        try:
            async with asyncio.timeout(within_s):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    def poke(self) -> None:
        """Wake the streams: something else than an event may have come. From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            self._loop.call_soon_threadsafe(self._wake_all)

    async def specs(self, job_ids: Iterable[str]) -> dict[str, JobSpec]:
        """What jobs are, of those that are or were kept: task, queue and owner of it, nothing that could be large."""
        wanted = list(dict.fromkeys(job_ids))
        unknown = [job_id for job_id in wanted if job_id not in self._specs]
        for i in range(0, len(unknown), 200):
            read = self._kit.verbs.store.snapshots(unknown[i : i + 200])
            for snapshot in await on_loop(read):
                if snapshot is not None:
                    spec = snapshot.spec
                    self._specs[snapshot.id] = JobSpec(spec.id, spec.task, queue=spec.queue, owner=spec.owner)
        found = {job_id: self._specs[job_id] for job_id in wanted if job_id in self._specs}
        while len(self._specs) > JOBS:
            self._specs.popitem(last=False)
        return found

    # -- on the server's loop ---------------------------------------------------------------------------------------

    async def _start(self) -> None:
        last = await on_loop(self._kit.verbs.store.last_event_id())
        self._floor = event_key(last)
        self._stop_news = self._kit.hub.listen(self._heard, None)
        self._reader = background.spawn(self._read(last))

    def _take(self) -> None:
        self._is_posted = False
        while self._inbox:
            item = self._inbox.popleft()
            if isinstance(item, str):  # we were too slow ourselves: what is missing is read from the store, or gone
                self._ring.clear()
                self._floor = event_key(item)
                continue
            if item.type.is_news:
                known = self._news.pop(item.job_id, None)
                if known is not None and known[1].event.seq > item.seq:
                    self._news[item.job_id] = known
                    continue
                self.version += 1
                self._news[item.job_id] = self.version, Entry(item, (0, 0))
                if len(self._news) > JOBS:
                    self._news.popitem(last=False)
                continue
            if item.type is EventType.SUBMITTED:
                self._specs.pop(item.job_id, None)  # a key that somebody else had before
            self._ring.append(Entry(item, event_key(item.id)))
            if len(self._ring) > RING:
                self._floor = self._ring.popleft().key
            self._seqs.pop(item.job_id, None)
            self._seqs[item.job_id] = item.seq
            if len(self._seqs) > JOBS:
                self._seqs.popitem(last=False)
            news = self._news.pop(item.job_id, None)
            if news is not None and news[1].event.seq >= item.seq:  # it came before its event, and was held back
                self.version += 1
                self._news[item.job_id] = self.version, news[1]
        self._wake_all()

    def _wake_all(self) -> None:
        self.version += 1
        self._wake.set()
        self._wake = asyncio.Event()

    # -- on jobkit's loop -------------------------------------------------------------------------------------------

    def _heard(self, event: JobEvent) -> None:
        if event.type is EventType.PROGRESSED:
            self._post(event)

    def _post(self, item: JobEvent | str) -> None:
        self._inbox.append(item)
        if not self._is_posted:
            self._is_posted = True
            with contextlib.suppress(RuntimeError):  # the server's loop has been closed
                self._loop.call_soon_threadsafe(self._take)

    async def _read(self, after: str) -> None:
        while True:
            try:
                async for event in self._kit.verbs.events(after):
                    self._post(event)
                    after = event.id
            except EventsExpired:
                after = await self._kit.verbs.store.last_event_id()
                self._post(after)


async def on_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine of the background loop gives, awaited on another loop."""
    return await asyncio.wrap_future(background.spawn(coroutine))


# -- Server-Sent Events ------------------------------------------------------------------------------------------------

#: A comment that only says that we are still there; the first one makes `onopen` fire. Without an empty line behind it,
#: which some clients (httpx-sse) take for an event without data.
COMMENT = b":\n"

#: What one write to a client carries, about: as much is kept for each of those who do not read.
PART_BYTES = 256_000

_LINES = re.compile(r"\r\n|\r|\n")


class Part:
    """Frames of one write, until they are enough."""

    def __init__(self, frames: Iterable[bytes] = ()) -> None:
        self.frames = list(frames)
        self._left = PART_BYTES - sum(map(len, self.frames))

    @property
    def is_full(self) -> bool:
        return self._left <= 0

    def add(self, *frames: bytes) -> None:
        self.frames += frames
        self._left -= sum(map(len, frames))


def frame(data: str | bytes, *, event: str = "", id: str = "", retry: int = 0) -> bytes:
    """One event of a stream.

    Data is split into lines and nothing else may hold one: otherwise whoever writes data could add fields.

    Raises:
        ValueError: a line break in `event` or `id`.
    """
    text = data.decode() if isinstance(data, bytes) else data
    if any(c in event + id for c in "\r\n\0"):
        raise ValueError("no line breaks in the fields of an event")
    lines = []
    if event:
        lines.append(f"event: {event}")
    if retry:
        lines.append(f"retry: {retry}")
    if id:
        lines.append(f"id: {id}")
    lines += [f"data: {line}" for line in _LINES.split(text)]
    return ("\n".join(lines) + "\n\n").encode("utf-8", "replace")


def event_frame(event: JobEvent) -> bytes:
    """An event of a job: named by its type, with its id where it is numbered."""
    body = {**event.to_json(), "changes": changed(event)}
    return frame(to_json(body), event=str(event.type), id=event.id)


def snapshot_frame(snapshot: JobSnapshot, id: str) -> bytes:
    """All that is known of a job, as of the event `id`."""
    return frame(to_json(snapshot.to_json()), event="snapshot", id=id)


def changed(event: JobEvent) -> dict[str, Any]:
    """What an event changes of a job's JSON: `Object.assign(job, event.changes)`."""
    if event.type is EventType.PROGRESSED:
        done, total = finite_or_none(event.data.get("done")), finite_or_none(event.data.get("total"))
        progress = min(1.0, done / total) if done is not None and total else None
        return {"done": done, "total": total, "message": str(event.data.get("message") or ""), "progress": progress}
    if event.type.is_news:
        return {}
    moved = {name: _plain(value) for name, value in changes(event.data).items()}
    if event.type is EventType.STARTED:
        moved |= {"done": None, "total": None, "message": "", "progress": None}
    elif event.type is EventType.SUCCEEDED:
        moved |= {"error": None, "progress": 1.0}
    return {**moved, "seq": event.seq}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    return value.to_json() if isinstance(value, JobError) else value
