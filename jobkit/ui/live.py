"""From a kit to a card: follows one job and hands its texts on, at most so often as a person can see.

Everything here runs on jobkit's background loop, where the hub also calls its listeners, so a `JobView` is only ever
touched by one thread. `deliver` is what differs between a notebook and a Panel session.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from jobkit.client.loop import background
from jobkit.model import JobEvent, JobkitError, JobNotFound, JobSnapshot, JobState
from jobkit.ui.feed import LOG_LINES, JobView

if TYPE_CHECKING:
    from jobkit.client import Kit

T = TypeVar("T")

logger = logging.getLogger("jobkit.ui")

#: Seconds between looks at a waiting job's queue, or at the worker of a job that has gone silent.
_LOOK_S = 3.0


class Deliver(Protocol):
    """Takes the card's texts to where it is shown. Called on the background loop; must not block.

    `done` is to be called, from any thread, when they have arrived: until then newer ones are kept back and merged.
    """

    def __call__(self, texts: Mapping[str, str], done: Callable[[], None]) -> None: ...


class Pacer:
    """Calls `flush` at once and then at most once per `window_s`; for one event loop's thread."""

    def __init__(self, window_s: float, flush: Callable[[], None]) -> None:
        self._window_s = window_s
        self._flush = flush
        self._last = float("-inf")
        self._handle: asyncio.TimerHandle | None = None

    def poke(self) -> None:
        if self._handle is not None:
            return
        loop = asyncio.get_running_loop()
        wait = self._last + self._window_s - loop.time()
        if wait <= 0:
            self._run()
        else:
            self._handle = loop.call_later(wait, self._run)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _run(self) -> None:
        self._handle = None
        self._last = asyncio.get_running_loop().time()
        self._flush()


class JobFeed:
    """Follows one job until it has ended, or until `stop`.

    Args:
        kit: where the job is.
        job_id: the job.
        deliver: see `Deliver`.
        window_s: shortest time between two deliveries.
        on_end: called once on the background loop with the view of the ended job, after its last delivery was made.
        on_missing: called with a sentence where the job is not kept any more.
        url: of the job's page, for the card.
    """

    def __init__(
        self,
        kit: Kit,
        job_id: str,
        deliver: Deliver,
        *,
        window_s: float = 0.05,
        on_end: Callable[[JobView], None] | None = None,
        on_missing: Callable[[str], None] | None = None,
        url: str = "",
    ) -> None:
        self._kit = kit
        self.job_id = job_id
        self._deliver = deliver
        self._on_end = on_end
        self._on_missing = on_missing
        self._url = url
        self._pacer = Pacer(window_s, self._flush)
        self._view: JobView | None = None
        self._early: list[JobEvent] = []
        self._stops: list[Callable[[], None]] = []
        self._runners: set[asyncio.Task[Any]] = set()
        self._in_flight = False
        self._has_ended = False
        self._stopped = False

    @property
    def view(self) -> JobView | None:
        """What is known of the job; None until it has been read. Changes on the background loop."""
        return self._view

    def start(self) -> None:
        """Begin; from any thread."""
        background.start().call_soon_threadsafe(self._begin)

    def stop(self) -> None:
        """End; from any thread, any number of times."""
        self._stopped = True
        background.start().call_soon_threadsafe(self._close)

    def resend(self) -> None:
        """Deliver everything again: a card has just been opened, or missed log lines."""
        background.start().call_soon_threadsafe(self._resend)

    # -- on the background loop -------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if not self._stopped:
            self._stops += [self._kit.hub.listen(self._heard, self.job_id), self._kit.hub.on_status(self._told)]
            self._run(self._open())

    def _close(self) -> None:
        self._pacer.stop()
        for stop in self._stops:
            stop()
        self._stops.clear()
        for runner in self._runners:
            runner.cancel()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        runner = asyncio.get_running_loop().create_task(self._guarded(work))
        self._runners.add(runner)
        runner.add_done_callback(self._runners.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except JobNotFound as error:
            if self._on_missing is not None:
                self._on_missing(str(error))
        except JobkitError as error:  # the server is away: the hub's status brings us back
            logger.debug("job %s: its card could not read: %s", self.job_id, error)

    async def _open(self) -> None:
        """The snapshot, then the events that came meanwhile: nothing falls between the two."""
        await self._kit.hub.ready(self.job_id)
        snapshot: JobSnapshot = await self._kit.aio.snapshot(self.job_id)
        view = JobView(
            snapshot,
            defaults=await self._defaults(snapshot.spec.task),
            is_live=self._kit.hub.is_live,
            lease_s=self._kit.settings.lease,
            url=self._url,
        )
        view.reset(snapshot, _now())
        await self._read_log(view)
        self._view = view
        for event in self._early:
            view.take(event)
        self._early.clear()
        self._pacer.poke()
        if view.snapshot.is_terminal:
            await self._end(view)
        else:
            self._run(self._watch(view))

    async def _defaults(self, task: str) -> Mapping[str, Any] | None:
        info = (await self._kit.aio.tasks()).get(task)
        return None if info is None else {spec.name: spec.default for spec in info.params if spec.has_default}

    async def _read_log(self, view: JobView) -> None:
        log = await self._kit.aio.logs(self.job_id, tail=LOG_LINES)
        view.load_log(log.lines, log.total, log.dropped)

    def _heard(self, event: JobEvent) -> None:
        on_loop(self._take, event)

    def _take(self, event: JobEvent) -> None:
        view = self._view
        if view is None:
            self._early.append(event)
            return
        if view.take(event):
            self._pacer.poke()
        if view.needs_snapshot:
            self._run(self._catch_up(view))
        elif view.snapshot.is_terminal and not self._has_ended:
            self._run(self._end(view))

    def _told(self, is_live: bool) -> None:
        on_loop(self._status, is_live)

    def _status(self, is_live: bool) -> None:
        if self._view is None:
            if is_live and not self._runners:
                self._run(self._open())
            return
        self._view.connection(is_live)
        self._pacer.poke()
        if is_live:
            self._run(self._catch_up(self._view))

    async def _catch_up(self, view: JobView) -> None:
        view.needs_snapshot = False
        view.reset(await self._kit.aio.snapshot(self.job_id), _now())
        await self._read_log(view)
        self._pacer.poke()
        if view.snapshot.is_terminal:
            await self._end(view)

    async def _end(self, view: JobView) -> None:
        """The job's last words: all log lines and the preview, then `on_end`."""
        if self._has_ended:
            return
        self._has_ended = True
        await self._read_log(view)
        if view.snapshot.state is JobState.SUCCEEDED:
            view.show(await self._kit.aio.preview(self.job_id))
        self._pacer.poke()
        if self._on_end is not None:
            self._on_end(view)

    async def _watch(self, view: JobView) -> None:
        """Look now and then whether somebody works on it: the truth about trouble does not come as an event."""
        while not view.snapshot.is_terminal:
            await asyncio.sleep(_LOOK_S)
            workers = beat_age_s = None
            try:
                if view.snapshot.state is JobState.QUEUED:
                    queues = await self._kit.aio.queues()
                    workers = queues.get(view.snapshot.spec.queue, {}).get("workers", 0)
                elif view.snapshot.state is JobState.RUNNING:
                    alive = {info.id: info.beat_age_s for info in await self._kit.aio.workers()}
                    beat_age_s = alive.get(view.snapshot.worker)
            except JobkitError:
                continue
            view.health(workers, beat_age_s, _now())
            if view.is_dirty:
                self._pacer.poke()

    def _resend(self) -> None:
        if self._view is not None and not self._stopped:
            self._in_flight = True
            self._deliver(self._view.everything(_now()), self._arrived)

    def _flush(self) -> None:
        if self._view is None or self._in_flight or self._stopped or not self._view.is_dirty:
            return
        self._in_flight = True
        self._deliver(self._view.updates(_now()), self._arrived)

    def _arrived(self) -> None:
        background.start().call_soon_threadsafe(self._landed)

    def _landed(self) -> None:
        self._in_flight = False
        if self._view is not None and self._view.is_dirty and not self._stopped:
            self._pacer.poke()


def on_loop(function: Callable[[T], None], value: T) -> None:
    """Call it on the background loop: at once where we are on it, as with Redis; soon where not, as with `sync://`."""
    loop = background.start()
    try:
        is_there = asyncio.get_running_loop() is loop
    except RuntimeError:
        is_there = False
    if is_there:
        function(value)
    else:
        loop.call_soon_threadsafe(function, value)


def _now() -> datetime:
    return datetime.now(UTC)
