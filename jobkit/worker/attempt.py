"""`RunningAttempt`: a claimed job, and what it says until the worker's next exchange with the store; its requests."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from msgspec.structs import replace

from jobkit.codec import Codec
from jobkit.features import serving
from jobkit.model import JobSpec, LogLine
from jobkit.model.plain import now_ms
from jobkit.run.inside.answers import JobRequest, Reply
from jobkit.run.inside.lines import LineBuffer
from jobkit.run.inside.pictures import PICTURES_MOST
from jobkit.run.inside.shown_values import Body, Bounds
from jobkit.run.news import Gathered, Taker, gathering
from jobkit.store.redis import RedisStore
from jobkit.store.values import AttemptNews, Claimed, Ending, Given, Kept
from jobkit.tasks.call import Environment, Located
from jobkit.worker.about import RetryPause
from jobkit.worker.job_files import JobFiles, note

T = TypeVar("T")

#: Seconds after a moment from which an attempt can go on later: one that waits for an answer ends, and frees its slot.
_FRESH_S = 60.0

#: Seconds for which a job waits, at most, until the store has what it has said before such a moment.
SYNC_S = 2.0

#: Seconds between two sends of what is `shown` of gathered news, which goes to all who see the job.
SUMMARY_S = 1.0


def newest(kept: Sequence[Kept]) -> list[Kept]:
    """Return what is to be kept without what something later replaces, which would fill the worker in an outage."""
    newest: dict[tuple[str, str, str, str], Kept] = {}
    for one in kept:
        key = one.job_id, one.token, one.kind, one.info.name
        newest.pop(key, None)  # it goes to the end: the store wants them in the order of their numbers
        newest[key] = one
    return list(newest.values())


class Syncs:
    """Attempts that wait until the store has their news: each `SYNC_S` at most, and not at all during an outage.

    `hurry` is called when there are news to store at once.
    """

    def __init__(self, hurry: Callable[[], None]) -> None:
        self._hurry = hurry
        self._said: list[asyncio.Future[None]] = []
        self._taken: list[asyncio.Future[None]] = []
        self._is_late = False

    def add(self, reply: Callable[[], None], keeping: asyncio.Task[None] | None) -> None:
        """Call `reply` when the store has what an attempt has said, also what `keeping` makes ready for it."""
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(0 if self._is_late else SYNC_S, self._give_up, stored)

        def end(_: object) -> None:
            timer.cancel()
            reply()

        def begin(_: object) -> None:
            self._said.append(stored)
            self._hurry()

        stored.add_done_callback(end)
        if keeping is None or keeping.done():
            begin(None)
        else:
            keeping.add_done_callback(begin)

    def _give_up(self, stored: asyncio.Future[None]) -> None:
        if not stored.done():
            self._is_late = True
            stored.set_result(None)

    def take(self) -> None:
        """The news so far were taken for an exchange."""
        self._taken += self._said
        self._said = []

    def end(self) -> None:
        """The store has the news that were taken."""
        taken, self._taken, self._is_late = self._taken, [], False
        for stored in taken:
            if not stored.done():
                stored.set_result(None)


class RequestServer:
    """Has features serve the requests of all attempts of one worker."""

    def __init__(self, store: RedisStore, codec: Codec, pause: RetryPause) -> None:
        self._store, self._codec, self._pause = store, codec, pause
        self._open: dict[asyncio.Task[None], tuple[Claimed, asyncio.Event]] = {}

    def serve(self, claimed: Claimed, request: JobRequest) -> None:
        """Serve a request until that is done, or its attempt ends."""
        if (module := serving(request.feature)) is None:  # the job has sent it itself
            return request.reply(Reply(request.key, "refused", b"no feature serves such a request"))
        changed = asyncio.Event()
        running = module.serve(self._store, self._codec, claimed, request, changed, self._pause.wait)
        task = asyncio.get_running_loop().create_task(running, name="jobkit-request")
        self._open[task] = claimed, changed
        task.add_done_callback(lambda ended: self._open.pop(ended, None))

    def look(self, job_id: str = "") -> None:
        """There may be news: for one job or, after a cut of the worker's channel, for all."""
        for claimed, changed in self._open.values():
            if job_id in ("", claimed.spec.id):
                changed.set()

    def end(self, claimed: Claimed) -> None:
        """The attempt has ended."""
        for task, (of, _) in list(self._open.items()):
            if of is claimed:
                task.cancel()


@dataclass(slots=True, eq=False)
class RunningAttempt(Taker):
    """A claimed job. It is also the sink of its runner: news wait here until the next exchange with the store."""

    claimed: Claimed
    wake: Callable[[], None]
    job_files: JobFiles
    lend: Callable[[RunningAttempt], None]
    requests: RequestServer
    syncs: Syncs
    before: RunningAttempt | None
    """An earlier attempt at the same job, which it takes over from."""
    began: float = field(default_factory=time.monotonic)
    """When it was claimed (monotonic)."""
    is_lost: bool = False
    """Its lease is gone: its outcome is dropped."""
    is_released: bool = False
    """The worker gives it back at its shutdown."""
    is_cancelled: bool = False
    """A user asked it to stop."""
    run: asyncio.Task[None] | None = None
    """Executes it."""
    beginning: asyncio.Task[Any] | None = None
    """Work of a feature before it starts."""
    located: Mapping[str, Located] | None = None
    """Large parts of its call."""
    environment: Environment | None = None
    """Python environment that was built for it. `folders`: that this imports from."""
    folders: Sequence[str] = ()
    typical_s: float | None = None
    """Usual duration of its task, in seconds."""
    is_resumable: bool = False
    """Another attempt can go on with its work."""
    is_asked: bool = False
    """It was asked to stop at a safe point. `is_yielding`: because its worker stops, so that it runs again."""
    is_yielding: bool = False
    _more: dict[str, Any] = field(default_factory=dict)
    _fresh_at: float = -math.inf
    """The newest moment from which another attempt can go on (monotonic)."""
    awaited: Sequence[str] = ()
    """Jobs that it waits for, those of its newest wait first; its slot is lent meanwhile."""
    refusal: str = ""
    """Why its worker has ended it."""
    given: Given | None = None
    """For the Lua of a feature, with its end."""
    on_stored: Callable[[], None] | None = None
    """Called when the store knows its end."""
    _gathered: dict[str, Gathered] = field(default_factory=dict)
    """By kind; made with the first news, or read if an earlier attempt had some."""
    _numbers: tuple[float | None, float | None, str] = (None, None, "")
    _has_numbers: bool = False
    _summary: asyncio.TimerHandle | None = None
    """Sends what is `shown` of gathered news if no news has taken it with it; None if it was sent."""
    _summed_at: float = -math.inf
    """When it was last sent (monotonic)."""
    _lines: LineBuffer | None = None
    """Of its log; made with the first line, since most short jobs have none."""
    _told: int = 0
    """Number of its newest news."""
    _keeping: asyncio.Task[None] | None = None
    kept: list[Kept] = field(default_factory=list)
    """Artifacts that the store does not know yet."""
    _kept_count: int = 0
    """Number of the newest of them."""
    _stored: dict[str, int] = field(default_factory=dict)
    """Names of its artifacts, with the bytes that the store has of each."""

    @property
    def job_id(self) -> str:
        return self.claimed.spec.id

    async def stoppable(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what something returns before the start, which ends when this attempt is stopped."""
        self.beginning = task = asyncio.get_running_loop().create_task(work)
        return await task

    def stop_beginning(self) -> None:
        if self.beginning is not None:
            self.beginning.cancel()

    @property
    def has_ended(self) -> bool:
        return self.run is not None and self.run.done()

    def progress(self, completed: float | None, total: float | None, message: str) -> None:
        self._numbers, self._has_numbers = (completed, total, message), True
        self.wake()

    def gather(self, kind: str, news: Any) -> None:
        if kind not in self._gathered:
            self._gathered[kind] = gathering()[kind]()
        self._gathered[kind].add(news)
        if self._summary is None:
            self._summary = asyncio.get_running_loop().call_later(SUMMARY_S, self.sum_up)
        self.wake()

    async def go_on(self, store: RedisStore) -> None:
        """Go on from gathered news of earlier attempts: the store forgets what is `shown` when this one starts."""
        for kind, gathers in gathering().items():
            gathered = await gathers.of_job(store, self.job_id)
            if shown := gathered.shown():
                self._gathered[kind] = gathered
                self._more |= shown
                self._has_numbers = True  # this attempt may have no other news
                self.wake()

    def sum_up(self) -> None:
        """Send what is `shown` of gathered news soon, if they have changed."""
        if self._summary is not None:
            self._has_numbers = True
            self.wake()

    def tell(self, message: str) -> None:
        self.progress(None, None, message)

    def awaits(self, job_ids: Sequence[str]) -> None:
        self.awaited = job_ids
        self.progress(*self._numbers)
        self.lend(self)

    def request(self, feature: str, key: str, body: bytes, reply: Callable[[Reply], None]) -> None:
        self.requests.serve(self.claimed, JobRequest(feature, key, body, reply, self._may_end))

    def _may_end(self) -> bool:
        """Return whether little is lost if it ends and goes on later."""
        return time.monotonic() - self._fresh_at < _FRESH_S and self.claimed.spec.on_lost != "fail"

    def lines(self, lines: Sequence[LogLine]) -> None:
        if self._lines is None:
            self._lines = LineBuffer(now_ms())
        for line in lines:
            self._lines.add(line)
        self.wake()

    def can_go_on(self, *, is_fresh: bool = False) -> None:
        self.is_resumable = True
        if is_fresh:
            self._fresh_at = time.monotonic()

    def show(self, **fields: Any) -> None:
        self._more |= fields
        self.progress(*self._numbers)

    def keep(self, kind: str, name: str, facts: bytes, body: bytes, most: int) -> None:
        folder = self.job_files.folder(self.claimed)
        # A job that keeps more before the next exchange must not fill the worker.
        older = [one for one in self.kept if one.kind == kind][: 1 - most]
        self.kept = [one for one in self.kept if one not in older]
        path = "" if folder is None else folder.path
        self._add(Kept.of_feature(self.job_id, self.claimed.token, kind, name, facts, body, path))
        self.wake()

    def sync(self, key: str, reply: Callable[[Reply], None]) -> bool:
        self.syncs.add(partial(reply, Reply(key, "stored")), self._keeping)
        return True

    def artifact(self, name: str, media: str, body: Body) -> None:
        keeping = self._keep(self._keeping, name, media, body)
        self._keeping = asyncio.get_running_loop().create_task(keeping)

    async def _keep(self, before: asyncio.Task[None] | None, name: str, media: str, body: Body) -> None:
        """One after the other, so that what is saved last under a name is what stays."""
        if before is not None:
            await asyncio.wait([before])
        # The job has checked this itself; a job that does not tell the truth must not fill the store.
        if len(self._stored.keys() | {name}) > Bounds().count + PICTURES_MOST:
            kept, sentence = None, f"artifact {name[:200]!r} was not kept: too many of them"
        else:
            others = sum(self._stored.values()) - self._stored.get(name, 0)
            kept, sentence = await self.job_files.keep(self.claimed, name, media, body, others)
        if kept is None:
            self.lines([note(sentence)])
            return
        self._stored[name] = 0 if kept.folder else kept.info.size_bytes
        self._add(kept)
        self.wake()

    def _add(self, kept: Kept) -> None:
        self._kept_count += 1
        self.kept = newest([*self.kept, replace(kept, number=self._kept_count)])

    async def settle(self) -> None:
        """Wait until what the job saved is ready for the store."""
        if self._keeping is not None:
            await asyncio.wait([self._keeping])

    @property
    def _awaited_text(self) -> str:
        """An id, or the first of several with the number of the others."""
        first, *others = self.awaited or [""]
        return f"{first} and {len(others)} more" if others else first

    def take_news(self) -> AttemptNews | None:
        """Return the news since the last call, or None."""
        for kind, gathered in self._gathered.items():
            if (given := gathered.take()) is not None:
                self._add(Kept.of_feature(self.job_id, self.claimed.token, kind, *given))
        if self._summary is not None and time.monotonic() >= self._summed_at + SUMMARY_S:
            self._has_numbers = True
        if not self._has_numbers and not self._lines:
            return None
        lines = self._lines.take(now_ms()) if self._lines else ()
        numbers = self._has_numbers, *self._numbers
        token, text = self.claimed.token, self._awaited_text
        if self._has_numbers and self._summary is not None:
            self._summary.cancel()
            self._summary, self._summed_at = None, time.monotonic()
            for gathered in self._gathered.values():
                self._more |= gathered.shown()
        self._told += 1
        more = dict(self._more)
        news = AttemptNews(self.job_id, token, *numbers, lines, self.typical_s, text, more, self._told)
        self._has_numbers = False
        return news


class Around:
    """The part of a feature around the attempts of a worker, see `attempts.py` in `jobkit/feature.py`; here nothing."""

    name = ""

    async def begin(self, attempt: RunningAttempt) -> dict[str, Any]:
        """Return what the usage of an attempt says; called before it starts, and again after StoreUnavailable.

        Raises CannotStart, SignatureError or StoreUnavailable.
        """
        return {}

    def note(self, spec: JobSpec, ending: Ending) -> None:
        """A job has ended so."""

    async def keep(self) -> None:
        """Goes on beside the attempts until cancelled."""

    async def store(self) -> None:
        """The worker ends. Raises StoreUnavailable."""
