"""Event streams of the API: of one job, and of all jobs or some."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress

from jobkit.client.kit import Kit
from jobkit.http.api.jobs import find
from jobkit.http.api.shapes import StreamQuery
from jobkit.http.core.handling import ApiCall
from jobkit.http.core.streams import Frames, enter, id_of, position_of, streamed
from jobkit.http.core.tail import FramedEvent, Key, Tail, frame
from jobkit.http.messages import Response, to_json
from jobkit.model import EventsExpired, EventType, JobEvent, JobSnapshot

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
        tail = await enter(call, ends)

        def heard(event: JobEvent) -> None:
            if event.type is EventType.LOGGED:
                tail.poke()

        if call.query.logs:
            ends.callback(call.kit.hub.listen(heard, snapshot.id))
        at, news = await position_of(_cursor(call), tail), tail.newest_news
        if snapshot.is_terminal and at is not None:
            with suppress(EventsExpired):
                if not await _missed(tail, snapshot.id, at):
                    return Response(204)
        frames = _frames_of_job(call.kit, tail, snapshot.id, at, news, with_logs=call.query.logs)
        return await streamed(call, tail, frames, ends)


async def events(call: ApiCall) -> Response:
    """Follow all jobs, or some, as Server-Sent Events. `Last-Event-ID` resumes."""
    for task in call.query.task:
        call.require_task(task)
    with ExitStack() as ends:
        tail = await enter(call, ends)
        cursor = _cursor(call)
        at, news, first = await position_of(cursor, tail), tail.newest_news, b""
        if at is None:  # a client that is disconnected before the first event resumes here without a gap
            at, id = tail.last, id_of(tail.last)
            first = frame(to_json({"id": id}), event="ready", id=id)
            if cursor:
                first = _reset("the id to resume after is not of this store", id)
        return await streamed(call, tail, _frames_of_all(call, tail, first, at, news), ends)


def _cursor(call: ApiCall) -> str:
    """Return the id to resume after: from the header, which a browser sends by itself, else from the query."""
    return call.request.headers.get("last-event-id") or str(call.query.last_event_id)


# -- one job -----------------------------------------------------------------------------------------------------------


async def _frames_of_job(kit: Kit, tail: Tail, job_id: str, at: Key | None, news: int, *, with_logs: bool) -> Frames:
    """Yield one job's events, after a snapshot if `at` is None, and its progress after version `news`, to its end.

    With its log lines, as `logged` events without an id.
    """
    position, seq, needs_snapshot = at or tail.last, 0, at is None
    line: int | None = None

    async def logged() -> bytes:
        """Return new lines of the log; the first time at most the last `LOG_TAIL`."""
        nonlocal line
        if not with_logs:
            return b""
        log = await kit.aio.log_slice(job_id, after=line or 0, tail=LOG_TAIL if line is None else LOG_PAGE)
        line = max(line or 0, log.lines[-1].n if log.lines else 0)
        lines = [each.to_json() for each in log.lines]
        body = {"job_id": job_id, "type": "logged", "total": log.total, "lines": lines}
        return frame(to_json(body), event="logged") if lines else b""

    while True:
        try:
            while not needs_snapshot and (page := await tail.after(position)):
                for entry in page:
                    if entry.event.job_id == job_id and entry.event.seq > seq:
                        seq = entry.event.seq
                        if entry.event.type.is_end or entry.event.type is EventType.DELETED:
                            yield await logged() + entry.frame
                            return
                        yield entry.frame
                position = page[-1].key
        except EventsExpired:
            needs_snapshot = True
        if needs_snapshot:
            snapshot, position = await _snapshot(kit, tail, job_id)
            seq, needs_snapshot = snapshot.seq, False
            lines = await logged() if snapshot.is_terminal else b""
            yield lines + frame(to_json(snapshot.to_json()), event="snapshot", id=id_of(position))
            if snapshot.is_terminal:
                return
        version, progress = tail.progress_of(job_id)
        # A client that has resumed may have no event of this connection yet.
        if progress is not None and version > news and seq in (0, progress.event.seq):
            news = version
            yield progress.frame
        if lines := await logged():
            yield lines
        yield b""


async def _snapshot(kit: Kit, tail: Tail, job_id: str) -> tuple[JobSnapshot, Key]:
    """Return a job's snapshot, and the position of the last event in it."""
    position = tail.last
    snapshot: JobSnapshot = await kit.aio.snapshot(job_id)
    try:
        for entry in await _missed(tail, job_id, position):
            if entry.event.seq <= snapshot.seq:
                position = entry.key
    except EventsExpired:
        position = tail.last
    return snapshot, position


async def _missed(tail: Tail, job_id: str, at: Key) -> list[FramedEvent]:
    """Return a job's events after a position, up to now."""
    found: list[FramedEvent] = []
    while page := await tail.after(at):
        found += [entry for entry in page if entry.event.job_id == job_id]
        at = page[-1].key
    return found


# -- all jobs ----------------------------------------------------------------------------------------------------------


async def _frames_of_all(call: ApiCall, tail: Tail, first: bytes, position: Key, news: int) -> Frames:
    """Yield a first frame, then events of all jobs that query and token cover, and progress after version `news`."""
    if first:
        yield first
    while True:
        try:
            while page := await tail.after(position):
                for entry in await _wanted(call, tail, page):
                    yield entry.frame
                position = page[-1].key
        except EventsExpired:
            position = tail.last
            yield _reset("some events are no longer kept", id_of(position))
        while call.query.progress:
            news, page = tail.news(news)
            if not page:
                break
            for entry in await _wanted(call, tail, page):
                yield entry.frame
        yield b""


def _reset(why: str, id: str) -> bytes:
    body = {"message": f"{why}: read the jobs again; this stream goes on from now"}
    return frame(to_json(body), event="reset", id=id)


async def _wanted(call: ApiCall, tail: Tail, page: Sequence[FramedEvent]) -> Sequence[FramedEvent]:
    asked: StreamQuery = call.query
    if asked.job:
        ids = frozenset(asked.job)
        page = [entry for entry in page if entry.event.job_id in ids]
    if asked.type:
        page = [entry for entry in page if str(entry.event.type) in asked.type]
    if not page or not (asked.task or asked.queue or not call.grant.sees_all):
        return page
    specs = await tail.specs(entry.event.job_id for entry in page)
    seen = {
        id
        for id, spec in specs.items()
        if call.grant.sees(spec)
        and (not asked.task or spec.task in asked.task)
        and (not asked.queue or spec.queue in asked.queue)
    }
    return [entry for entry in page if entry.event.job_id in seen]
