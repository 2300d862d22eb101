"""Event streams of the API: of one job, and of all jobs or some."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack

from jobkit.client import Kit
from jobkit.http.api.jobs import find
from jobkit.http.api.shapes import StreamQuery
from jobkit.http.core.handling import ApiCall
from jobkit.http.core.streams import enter, id_of, position_of, streamed
from jobkit.http.core.tail import FramedEvent, Key, Tail, frame
from jobkit.http.messages import Response, to_json
from jobkit.model import EventsExpired, EventType, JobEvent, JobSnapshot, JobSpec, JobState

#: Lines of the log at the start of a new stream.
LOG_TAIL = 200

#: Lines of the log in one write.
LOG_PAGE = 500


async def job_events(call: ApiCall) -> Response:
    """Follow one job as Server-Sent Events: a snapshot, then its events, to its end. `Last-Event-ID` resumes.

    204 if the client already knows the end of the job: an EventSource that reconnects stops there.
    """
    snapshot = await find(call)
    with ExitStack() as ends:
        tail = await enter(call, call.grant, ends)
        at = await position_of(_cursor(call), call.kit, tail)
        view = JobView(call.kit, tail, snapshot.id, at, with_logs=call.query.logs)
        if view.with_logs:
            ends.callback(call.kit.hub.listen(view.heard, snapshot.id))
        if snapshot.is_terminal and await view.is_at_end():
            return Response(204)
        return await streamed(call, call.grant, tail, view, ends)


async def events(call: ApiCall) -> Response:
    """Follow all jobs, or some, as Server-Sent Events. `Last-Event-ID` resumes."""
    for task in call.query.task:
        call.require_task(task)
    with ExitStack() as ends:
        tail = await enter(call, call.grant, ends)
        cursor = _cursor(call)
        view = AllView(call, tail, cursor, await position_of(cursor, call.kit, tail))
        return await streamed(call, call.grant, tail, view, ends)


def _cursor(call: ApiCall) -> str:
    """Return the id to resume after: from the header, which a browser sends by itself, else from the query."""
    return call.request.headers.get("last-event-id") or str(call.query.last_event_id)


class JobView:
    """One job; `with_logs` also its log lines, as `logged` events without an id.

    Args:
        at: position to continue after; None to begin with a snapshot.
    """

    def __init__(self, kit: Kit, tail: Tail, job_id: str, at: Key | None, *, with_logs: bool) -> None:
        self._kit, self._tail, self._id, self.with_logs = kit, tail, job_id, with_logs
        self._position, self._needs_snapshot = at or tail.last, at is None
        self._seq = 0
        self._news = tail.newest_news
        self._line: int | None = None
        self.is_over = False

    def heard(self, event: JobEvent) -> None:
        """Handle an event on the job's own channel, in the hub's thread."""
        if event.type is EventType.LOGGED:
            self._tail.poke()

    async def is_at_end(self) -> bool:
        """Return whether there is nothing to send about an ended job."""
        try:
            return not self._needs_snapshot and not await self._missed(self._position)
        except EventsExpired:
            return False

    async def _missed(self, at: Key) -> list[FramedEvent]:
        """Return the job's events after a position, up to now."""
        found: list[FramedEvent] = []
        while page := await self._tail.after(at):
            found += [entry for entry in page if entry.event.job_id == self._id]
            at = page[-1].key
        return found

    async def frames(self) -> AsyncGenerator[bytes, None]:
        try:
            while not self._needs_snapshot and (page := await self._tail.after(self._position)):
                for entry in page:
                    event, lines = entry.event, b""
                    if event.job_id == self._id and event.seq > self._seq:
                        if self._is_end(event):
                            lines = await self._lines()
                            self.is_over = True
                        self._position, self._seq = entry.key, event.seq
                        yield lines + entry.frame
                        if self.is_over:
                            return
                self._position = page[-1].key
        except EventsExpired:
            self._needs_snapshot = True
        if self._needs_snapshot:
            yield await self._snapshot()
        if not self.is_over and (rest := self._newest() + await self._lines()):
            yield rest

    @staticmethod
    def _is_end(event: JobEvent) -> bool:
        return event.type is EventType.DELETED or JobState(event.data.get("state", "queued")).is_terminal

    async def _snapshot(self) -> bytes:
        """Begin with a snapshot, under the id of the last event in it."""
        before = self._position = self._tail.last
        snapshot: JobSnapshot = await self._kit.aio.snapshot(self._id)
        try:
            for entry in await self._missed(before):
                if entry.event.seq <= snapshot.seq:
                    self._position = entry.key
        except EventsExpired:
            self._position = self._tail.last
        lines = await self._lines() if snapshot.is_terminal else b""
        self._seq, self._needs_snapshot, self.is_over = snapshot.seq, False, snapshot.is_terminal
        return lines + frame(to_json(snapshot.to_json()), event="snapshot", id=id_of(self._position))

    def _newest(self) -> bytes:
        """Return the job's newest progress if the client has its event, but not this progress.

        A client that has resumed may have no event of this connection yet.
        """
        version, progress = self._tail.progress_of(self._id)
        if progress is None or version <= self._news or self._seq not in (0, progress.event.seq):
            return b""
        self._news = version
        return progress.frame

    async def _lines(self) -> bytes:
        """Return new lines of the log; the first time at most the last `LOG_TAIL`."""
        if not self.with_logs:
            return b""
        tail = LOG_TAIL if self._line is None else LOG_PAGE
        log = await self._kit.aio.log_slice(self._id, after=self._line or 0, tail=tail)
        self._line = max(self._line or 0, log.lines[-1].n if log.lines else 0)
        if not log.lines:
            return b""
        lines = [line.to_json() for line in log.lines]
        body = {"job_id": self._id, "type": "logged", "total": log.total, "lines": lines}
        return frame(to_json(body), event="logged")


class AllView:
    """All jobs that the query and the token cover.

    The first event of a new stream is `ready`: it has the stream's position, so that a client that is disconnected
    before the first event resumes without a gap.

    Args:
        cursor: the client's last id.
        at: its position; None if there is none in this store.
    """

    is_over = False

    def __init__(self, call: ApiCall, tail: Tail, cursor: str, at: Key | None) -> None:
        asked: StreamQuery = call.query
        self._tail, self._grant = tail, call.grant
        self._jobs, self._tasks, self._queues = frozenset(asked.job), frozenset(asked.task), frozenset(asked.queue)
        self._types = frozenset(asked.type)
        self._with_news = asked.progress
        self._needs_spec = bool(asked.task or asked.queue or not call.grant.sees_all)
        self._news = tail.newest_news
        self._position: Key = tail.last if at is None else at
        self._first = b""
        if at is None and cursor:
            self._first = self._reset("the id to resume after is not of this store")
        elif at is None:
            last = id_of(self._position)
            self._first = frame(to_json({"id": last}), event="ready", id=last)

    def _reset(self, why: str) -> bytes:
        self._position = self._tail.last
        body = {"message": f"{why}: read the jobs again; this stream goes on from now"}
        return frame(to_json(body), event="reset", id=id_of(self._position))

    async def frames(self) -> AsyncGenerator[bytes, None]:
        if first := self._first:
            self._first = b""
            yield first
        try:
            while page := await self._tail.after(self._position):
                for entry in await self._wanted(page):
                    self._position = entry.key
                    yield entry.frame
                self._position = page[-1].key
        except EventsExpired:
            yield self._reset("some events are no longer kept")
            return
        while self._with_news:
            self._news, news = self._tail.news(self._news)
            if not news:
                return
            yield b"".join(entry.frame for entry in await self._wanted(news))

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
