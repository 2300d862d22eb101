"""Event streams of the API: of one job, and of all jobs or some."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from jobkit.http.api.jobs import find
from jobkit.http.api.shapes import JobStreamQuery, StreamQuery
from jobkit.http.core.handling import ApiCall
from jobkit.http.core.messages import Response, to_json
from jobkit.http.core.streams import enter, id_of, is_known, key_of, streamed
from jobkit.http.core.tail import FramedEvent, Key, Part, Tail, frame, snapshot_frame
from jobkit.model import EventsExpired, EventType, JobEvent, JobNotFound, JobSnapshot, JobSpec, JobState

#: Lines of the log at the start of a new stream.
LOG_TAIL = 200

#: Lines of the log in one write.
LOG_PAGE = 500


async def job_events(call: ApiCall) -> Response:
    """Follow one job as Server-Sent Events: a snapshot, then its events, to its end. `Last-Event-ID` resumes.

    204 if the client already knows the end of the job: an EventSource that reconnects stops there.
    """
    asked: JobStreamQuery = call.query
    snapshot = await find(call)
    tail = await call.api.tail()
    with ExitStack() as ends:
        await enter(call, call.grant, tail, ends)
        view = JobView(call, tail, snapshot, _cursor(call), with_logs=asked.logs)
        if asked.logs:
            ends.callback(call.kit.hub.listen(view.heard, snapshot.id))
        if await view.begin():
            return Response(204)
        return streamed(call, call.grant, tail, view, ends)


async def events(call: ApiCall) -> Response:
    """Follow all jobs, or some, as Server-Sent Events. `Last-Event-ID` resumes."""
    asked: StreamQuery = call.query
    for task in asked.task:
        call.require_task(task)
    tail = await call.api.tail()
    with ExitStack() as ends:
        await enter(call, call.grant, tail, ends)
        view = AllView(call, tail, asked, _cursor(call))
        await view.begin()
        return streamed(call, call.grant, tail, view, ends)


def _cursor(call: ApiCall) -> str:
    """Return the id to resume after: from the header, which a browser sends by itself, else from the query."""
    return call.request.headers.get("last-event-id") or str(call.query.last_event_id)


class JobView:
    """One job; `with_logs` also its log lines, as `logged` events without an id."""

    def __init__(self, call: ApiCall, tail: Tail, snapshot: JobSnapshot, cursor: str, *, with_logs: bool) -> None:
        self._call, self._tail, self._cursor, self._with_logs = call, tail, cursor, with_logs
        self._id = snapshot.id
        self._snapshot = snapshot
        self._position: Key = tail.last
        self._seq = 0
        self._news = tail.newest_news
        self._first: list[bytes] = []
        self._line: int | None = None
        self._early: FramedEvent | None = None
        self.is_over = False

    def heard(self, event: JobEvent) -> None:
        """Handle an event on the job's own channel, in the hub's thread."""
        if event.type is EventType.LOGGED:
            self._tail.poke()

    async def begin(self) -> bool:
        """Find the position to begin at. Returns True if there is nothing to send: the client knows the job's end."""
        at = key_of(self._cursor)
        if at is None or not await is_known(self._call.kit, self._tail, at):  # a new stream, or an id of another store
            await self._restart()
            return False
        self._position = at
        if not self._snapshot.is_terminal:
            return False
        try:
            return not any(entry.event.job_id == self._id for entry in await self._missed(at))
        except EventsExpired:
            return False

    async def _missed(self, at: Key) -> list[FramedEvent]:
        """Return the job's events after a position, up to now."""
        found: list[FramedEvent] = []
        while page := await self._tail.after(at):
            found += [entry for entry in page if entry.event.job_id == self._id]
            at = page[-1].key
        return found

    async def _restart(self) -> None:
        """Begin with a snapshot, under the id of the last event in it."""
        before = self._tail.last
        snapshot: JobSnapshot = await self._call.kit.aio.snapshot(self._id)
        self._snapshot, self._seq, self._position = snapshot, snapshot.seq, before
        try:
            for entry in await self._missed(before):
                if entry.event.seq <= snapshot.seq:
                    self._position = entry.key
        except EventsExpired:
            self._position = self._tail.last
        self._first = [snapshot_frame(snapshot, id_of(self._position))]
        self.is_over = snapshot.is_terminal

    async def collect(self) -> Sequence[bytes]:
        frames, self._first = self._first, []
        if self.is_over:
            if frames:
                frames = [*await self._lines(), *frames]
            return frames
        part = Part(frames)
        try:
            while page := await self._tail.after(self._position):
                for entry in page:
                    if part.is_full:
                        return part.frames
                    self._position = entry.key
                    event = entry.event
                    if event.job_id != self._id or event.seq <= self._seq:
                        continue
                    self._seq = event.seq
                    if self._ends(event):
                        self.is_over = True
                        return [*part.frames, *await self._lines(), entry.frame]
                    part.add(entry.frame)
        except EventsExpired:
            try:
                await self._restart()
            except JobNotFound:
                self.is_over = True
                return part.frames
            part.add(*self._first)
            self._first = []
        part.add(*self._newest())
        part.add(*await self._lines())
        return part.frames

    def _newest(self) -> list[bytes]:
        """Return the job's newest progress if the client does not have it."""
        newest, self._early = self._early, None
        while True:
            self._news, news = self._tail.news(self._news)
            if not news:
                break
            newest = next((entry for entry in reversed(news) if entry.event.job_id == self._id), newest)
        if newest is None or newest.event.seq < self._seq:
            return []
        if newest.event.seq > self._seq:  # hold it back until its event comes
            self._early = newest
            return []
        return [newest.frame]

    @staticmethod
    def _ends(event: JobEvent) -> bool:
        return event.type is EventType.DELETED or JobState(event.data.get("state", "queued")).is_terminal

    async def _lines(self) -> list[bytes]:
        """Return new lines of the log; the first time at most the last `LOG_TAIL`."""
        if not self._with_logs:
            return []
        tail = LOG_TAIL if self._line is None else LOG_PAGE
        log = await self._call.kit.aio.log_slice(self._id, after=self._line or 0, tail=tail)
        self._line = max(self._line or 0, log.lines[-1].n if log.lines else 0)
        if not log.lines:
            return []
        lines = [line.to_json() for line in log.lines]
        body = {"job_id": self._id, "type": "logged", "total": log.total, "lines": lines}
        return [frame(to_json(body), event="logged")]


class AllView:
    """All jobs that the query and the token cover.

    The first event of a new stream is `ready`: it has the stream's position, so that a client that is disconnected
    before the first event resumes without a gap.
    """

    def __init__(self, call: ApiCall, tail: Tail, asked: StreamQuery, cursor: str) -> None:
        self._kit, self._tail, self._grant = call.kit, tail, call.grant
        self._cursor = cursor
        self._jobs, self._tasks, self._queues = frozenset(asked.job), frozenset(asked.task), frozenset(asked.queue)
        self._types = frozenset(asked.type)
        self._with_news = asked.progress
        self._needs_spec = bool(asked.task or asked.queue or not call.grant.sees_all)
        self._position: Key = tail.last
        self._news = tail.newest_news
        self._first: list[bytes] = []
        self.is_over = False

    async def begin(self) -> None:
        at = key_of(self._cursor)
        if at is not None and await is_known(self._kit, self._tail, at):
            self._position = at
        elif self._cursor:
            self._first = [self._reset("the id to resume after is not of this store")]
        else:
            last = id_of(self._position)
            self._first = [frame(to_json({"id": last}), event="ready", id=last)]

    def _reset(self, why: str) -> bytes:
        self._position = self._tail.last
        body = {"message": f"{why}: read the jobs again; this stream goes on from now"}
        return frame(to_json(body), event="reset", id=id_of(self._position))

    async def collect(self) -> Sequence[bytes]:
        part, self._first = Part(self._first), []
        try:
            while not part.is_full and (page := await self._tail.after(self._position)):
                for entry in await self._wanted(page):
                    if part.is_full:
                        return part.frames
                    part.add(entry.frame)
                    self._position = entry.key
                self._position = page[-1].key
        except EventsExpired:
            return [*part.frames, self._reset("some events are no longer kept")]
        while self._with_news and not part.is_full:
            self._news, news = self._tail.news(self._news)
            if not news:
                break
            part.add(*(entry.frame for entry in await self._wanted(news)))
        return part.frames

    async def _wanted(self, page: Sequence[FramedEvent]) -> Sequence[FramedEvent]:
        if self._jobs:
            page = [entry for entry in page if entry.event.job_id in self._jobs]
        if self._types:
            page = [entry for entry in page if str(entry.event.type) in self._types]
        if not self._needs_spec or not page:
            return page
        specs = await self._tail.specs(entry.event.job_id for entry in page)
        return [entry for entry in page if self._is_of(specs.get(entry.event.job_id))]

    def _is_of(self, spec: JobSpec | None) -> bool:
        return (
            spec is not None
            and self._grant.sees(spec)
            and (not self._tasks or spec.task in self._tasks)
            and (not self._queues or spec.queue in self._queues)
        )
