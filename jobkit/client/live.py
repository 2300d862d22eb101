"""Live handles: events in, snapshots that move, watchers called.

`LiveJobs` belongs to a kit and knows every handle that is still referenced. It runs on the background loop: it routes
events to handles, and reads a snapshot again after a gap, after a cut connection, and now and then in any case.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from jobkit.client.job import Job
from jobkit.model import EventType, JobEvent, JobSnapshot, StoreUnavailable, apply
from jobkit.store.hub import EventHub
from jobkit.store.redis import RedisStore
from jobkit.store.wire import number, text

logger = logging.getLogger("jobkit.client")

#: Handles that are not terminal are read again this often: a net under the events, not how they arrive.
SAFETY_REFRESH_S = 10.0

#: The same if no job has an event since the last time: a record may be gone without one.
UNTOLD_REFRESH_S = 60.0

#: Seconds between two reads of the store's mark while handles are open: a wiped store publishes no events.
MARK_READ_S = 3.0

#: The newest running handles are kept alive without other references, because they may have watchers.
_KEPT = 10_000

_BATCH = 500

#: Marks of the stores whose wipe was logged in this process, which may have several kits.
_logged: set[str] = set()


class LiveJobs:
    """The handles of one kit, made by `make`. `start` and `close` run on the loop; the rest above `take` anywhere.

    Args:
        before: those of the process that this one was forked from.
    """

    def __init__(
        self, store: RedisStore, hub: EventHub, make: Callable[[JobSnapshot], Job], before: LiveJobs | None = None
    ) -> None:
        self._store, self._hub, self._make = store, hub, make
        self._jobs: weakref.WeakValueDictionary[str, Job] = weakref.WeakValueDictionary()
        self._inherited: weakref.WeakValueDictionary[str, Job] = weakref.WeakValueDictionary()
        if before is not None:
            self._inherited.update(before.known())
        self._kept: OrderedDict[str, Job] = OrderedDict()
        self._expected: dict[str, list[JobEvent]] = {}
        self._lock = threading.Lock()  # between an event and the birth of its handle
        self._stale: set[str] = set()
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stops: list[Callable[[], None]] = []
        self._place = ""
        self._wiped: set[str] = set()
        self._newest, self._checked_at = "", 0.0  # event at the last check of all handles, and its time

    async def start(self) -> None:
        """Learn which store this is, to notice when it is another one, and follow its events."""
        try:
            self._place = await self._store.place()
        except StoreUnavailable as error:
            if not error.only_reads:
                raise  # else it is a new namespace of a full server, which can be read
        self._loop = asyncio.get_running_loop()
        self._hub.is_awaited = self._kept.__len__
        self._stops = [
            self._hub.listen_own(self.take),
            self._hub.on_status(self._status_changed),
            self._hub.on_heard(self._heard),
        ]
        self._tasks = [
            self._loop.create_task(self._refresh_for_ever(), name="jobkit-live"),
            self._loop.create_task(self._watch_mark(), name="jobkit-live-mark"),
        ]

    def close(self, why: Exception | None = None) -> None:
        """Follow no job any more. Present waits raise `why`, if given."""
        for stop in self._stops:
            stop()
        for task in self._tasks:
            task.cancel()
        if why is not None:
            for _, job in self._all():
                job.interrupt(why)

    def get(self, job_id: str) -> Job | None:
        if (known := self._jobs.get(job_id)) is None and (known := self._inherited.get(job_id)) is not None:
            known.come_along()
        return known

    @contextmanager
    def expecting(self, *job_ids: str) -> Iterator[None]:
        """Keep the events of jobs that are submitted in this block until `adopt_own` makes their handles."""
        for job_id in job_ids:
            self._expected[job_id] = []
        try:
            yield
        finally:
            for job_id in job_ids:
                self._expected.pop(job_id, None)

    def adopt_own(self, snapshot: JobSnapshot) -> Job:
        """Make the handle of an expected job, with the events that have come so far; more come on our own channel.

        Another thread may have found the job since it was submitted: then there is a handle. One of another submission
        is of a forgotten job, whose key is used again.
        """
        with self._lock:
            job = self._jobs.get(snapshot.id)
            if job is None or job.snapshot.submitted_at != snapshot.submitted_at:
                job = self._make(snapshot)
            for event in self._expected.pop(snapshot.id, ()):
                self._apply(job, event)
            self._keep(job)
        return job

    def handle(self, snapshot: JobSnapshot, outdated: Job | None = None) -> Job:
        """Return the handle of a job; a new one subscribes to the job's channel, for another process may own it.

        Args:
            outdated: a handle to replace, which does not move any more.
        """
        if (known := self.get(snapshot.id)) is not None and known is not outdated:
            return known
        job = self._make(snapshot)
        with self._lock:
            if (known := self._jobs.get(snapshot.id)) is not None and known is not outdated:
                return known  # another thread was faster: only one handle moves
            self._keep(job)
        self._hear(job)
        return job

    def follow(self, job: Job) -> None:
        """Keep a handle that was made elsewhere, and subscribe to the job's channel."""
        with self._lock:
            self._keep(job)
        self._hear(job)

    def handles(self, snapshots: Iterable[JobSnapshot | None], heard_by: object) -> list[Job]:
        """Return the handles of expected jobs whose events `heard_by` gives to `take`; they keep it alive."""
        jobs = [self.get(snapshot.id) or self.adopt_own(snapshot) for snapshot in filter(None, snapshots)]
        for job in jobs:
            job.heard_by = heard_by
        return jobs

    def _hear(self, job: Job) -> None:
        if not job.snapshot.is_terminal:
            stop = self._hub.listen(self.take, job.id)
            weakref.finalize(job, stop)
            job.when_done(stop)
            self.refresh_later(job.id)

    def _keep(self, job: Job) -> None:
        snapshot = job.snapshot
        self._jobs[snapshot.id] = job
        if not snapshot.is_terminal:
            self._kept[snapshot.id] = job
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)

    def _all(self) -> list[tuple[str, Job]]:
        """Return all handles, while other threads may add some."""
        with self._lock:
            return list(self._jobs.items())

    def known(self) -> dict[str, Job]:
        """Return the handles that are used, also those of the process that this one was forked from, by id."""
        return {**self._inherited, **self._jobs}

    def _open(self) -> list[str]:
        """Return the ids of the jobs whose handles may still move."""
        return [job_id for job_id, job in self._all() if not job.is_over]

    def refresh_later(self, job_id: str) -> None:
        """Read this job's snapshot again soon; from any thread."""
        self._stale.add(job_id)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    # -- on the loop -----------------------------------------------

    def take(self, event: JobEvent) -> None:
        """Move the job's handle, if there is one."""
        with self._lock:
            job = self._jobs.get(event.job_id)
            if (waiting := self._expected.get(event.job_id)) is not None:
                waiting.append(event)  # also if there is a handle, which may be gone before `adopt_own`
        if job is not None:
            self._apply(job, event)

    def _apply(self, job: Job, event: JobEvent) -> None:
        snapshot = job.snapshot
        if snapshot.is_terminal:
            return  # a server that has lost its end runs the job again
        # One that is deleted and has not ended: a worker of the client by whose door it came has it.
        moved = None if event.type is EventType.DELETED else apply(snapshot, event)
        if moved is None or _contradicts(event, snapshot):
            self.refresh_later(event.job_id)
        elif moved is not snapshot:
            self._advance(job, moved, event.result)

    def _advance(self, job: Job, snapshot: JobSnapshot, result: bytes = b"") -> None:
        job.advance(snapshot, result)
        if snapshot.is_terminal:
            self._kept.pop(snapshot.id, None)

    def _catch_up(self, job: Job, fresh: JobSnapshot, known_seq: int = 0) -> None:
        """Move a handle to a snapshot that was read, through every state in between that is still known.

        If the server has lost changes that the handle has shown, it goes back to the last state that both know.
        `known_seq`: the handle's when the read began.
        """
        known = job.snapshot
        newest = next((event for event in reversed(fresh.history) if event.seq <= known.seq), None)
        has_lost = fresh.seq < known_seq or (newest is not None and _contradicts(newest, known))
        if has_lost and fresh.submitted_at == known.submitted_at:
            self._advance(job, _last_common(known, fresh))
        for event in fresh.history:
            moved = apply(job.snapshot, event)
            if moved is not None and moved is not job.snapshot and moved.seq < fresh.seq:
                self._advance(job, moved)
        known = job.snapshot
        if (fresh.seq, fresh.rev) > (known.seq, known.rev):
            self._advance(job, fresh)

    def _heard(self, job_id: str) -> None:
        """Read the job again: events between the read of its snapshot and this subscription were not received."""
        if job_id in self._jobs:
            self.refresh_later(job_id)

    def _status_changed(self, _is_live: bool) -> None:
        """Read all again: when the connection is back, or until then."""
        for job_id in self._open():
            self.refresh_later(job_id)

    async def _watch_mark(self) -> None:
        """Read all again when the store has another mark."""
        while True:
            await asyncio.sleep(MARK_READ_S)
            if self._place and self._hub.is_live and self._open():
                try:
                    is_other = text(await self._store.ask("GET", "place")) != self._place
                except Exception:  # read again the next time
                    continue
                if is_other:
                    self._status_changed(True)

    async def _refresh_for_ever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(SAFETY_REFRESH_S):
                    await self._wake.wait()
                self._wake.clear()
                ids = [self._stale.pop() for _ in range(len(self._stale))]
                is_check = False
            except TimeoutError:
                ids, is_check = self._open(), True
            try:
                moved = await self._moved(ids) if is_check else ids
                for i in range(0, len(moved), _BATCH):
                    await self._refresh(moved[i : i + _BATCH])
            except StoreUnavailable:  # the hub may not notice when it is back: it has a separate connection
                self._stale.update(ids)
                if self._hub.stopped:
                    for job in filter(None, map(self._jobs.get, ids)):
                        job.interrupt(StoreUnavailable(self._hub.stopped))
                await asyncio.sleep(1.0)
                self._wake.set()
            except Exception:
                logger.exception("live jobs could not be read again")

    async def _moved(self, ids: list[str]) -> list[str]:
        """Return the jobs that have moved without their handles; mostly one read if no job has moved at all."""
        newest, now_s = await self._store.last_event_id(), time.monotonic()
        if newest == self._newest and now_s < self._checked_at + UNTOLD_REFRESH_S:
            return []
        records = await self._store.fields(("seq", "rev"), ids)
        self._newest, self._checked_at = newest, now_s
        known = {job_id: (job.snapshot.seq, job.snapshot.rev) for job_id, job in self._all()}
        found = [tuple(map(number, record)) if record else None for record in records]
        return [job_id for job_id, now in zip(ids, found, strict=True) if now != known.get(job_id)]

    async def _refresh(self, ids: list[str]) -> None:
        gone = []
        known = {job_id: job.snapshot.seq for job_id in ids if (job := self._jobs.get(job_id)) is not None}
        for job_id, fresh in zip(ids, await self._store.snapshots(ids), strict=True):
            job = self._jobs.get(job_id)
            if job is None or job.is_over:
                continue
            if fresh is not None:
                self._catch_up(job, fresh, known.get(job_id, 0))
            elif job.snapshot.seq > 0:
                gone.append(job)
        if not gone:
            return
        before, self._place = self._place, await self._store.place()
        if before not in ("", self._place):
            if self._place not in _logged:
                _logged.add(self._place)
                logger.warning("the store was wiped or exchanged: live jobs that it does not know any more are lost")
            self._wiped = set(self._open())
            for job_id in self._wiped:
                self.refresh_later(job_id)
        for job in gone:
            why = "it was removed"
            if job.id in self._wiped:
                why = "the store was wiped or exchanged"
            elif await self._store.has_lost(job.snapshot):
                why = "the server has lost it: it was restored to an older state, or failed over to a replica"
            job.vanish(why)
            self._kept.pop(job.id, None)


def _contradicts(event: JobEvent, known: JobSnapshot) -> bool:
    """Return True if the snapshot has another event of this number: the server has lost that one."""
    if event.type.is_news or not 1 < event.seq <= known.seq:
        return False
    same = next((each for each in reversed(known.history) if each.seq == event.seq), event)
    return (same.type, same.at_ms) != (event.type, event.at_ms)


def _last_common(known: JobSnapshot, fresh: JobSnapshot) -> JobSnapshot:
    """Return the snapshot after the last event that both have; `fresh` if that is its own last one, or not known."""
    common = JobSnapshot(spec=fresh.spec, seq=0, state=fresh.state)
    for event in fresh.history:
        if event.seq > known.seq or _contradicts(event, known):
            return common
        after = apply(common, event)
        if after is None:  # the middle of a long history is not kept
            return fresh
        common = after
    return fresh
