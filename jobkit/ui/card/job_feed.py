"""From a kit to its cards: follows a job once and hands its texts to all that show it, as often as a person can see.

Everything here runs on jobkit's background loop, where the hub also calls its listeners, so a `JobView` is only ever
touched by one thread. `deliver` is what differs between a notebook and a Panel session.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from jobkit.client.loop import background
from jobkit.model import JobEvent, JobkitError, JobNotFound, JobSnapshot, JobState
from jobkit.model.snapshot import iso
from jobkit.runners import Runners
from jobkit.store.values import CONTROL
from jobkit.ui.card.job_view import LOG_LINES, JobView
from jobkit.ui.live.pace import Pacer, answered, on_loop
from jobkit.ui.words.format import defaults_of

if TYPE_CHECKING:
    from jobkit.client import Kit

logger = logging.getLogger("jobkit.ui")

#: Seconds between looks at a waiting job's queue, or at the worker of a job that has gone silent.
_LOOK_S = 3.0

#: Seconds from news of a pause to the look: a storm of such news costs no more than some looks.
_AFTER_NEWS_S = 0.1


class DeliverJob(Protocol):
    """Takes a job card's texts to where it is shown. Called on the background loop; must not block.

    `whole` holds any of `snapshot`, `log`, `preview` and `artifacts`; `parts` at most `log_append`, which goes on from
    the log.
    """

    def __call__(self, whole: Mapping[str, str], parts: Mapping[str, str]) -> None: ...


@dataclass(frozen=True, eq=False, slots=True)
class Follower:
    """One card of a job.

    Attributes:
        deliver: see `DeliverJob`.
        on_end: called once on the background loop with the view of the ended job, after its last delivery was made.
        on_missing: called with a sentence where the job is not kept any more.
    """

    deliver: DeliverJob
    on_end: Callable[[JobView], None] | None = None
    on_missing: Callable[[str], None] | None = None


class JobFeed:
    """Follows one job for all cards of it that are open in this process, until it has ended or nobody looks.

    Args:
        kit: where the job is.
        job_id: the job.
        window_s: shortest time between two deliveries.
        url: of the job's page, for the card.
    """

    def __init__(self, kit: Kit, job_id: str, *, window_s: float = 0.05, url: str = "") -> None:
        self._kit = kit
        self.job_id = job_id
        self._url = url
        self._pacer = Pacer(window_s, self._flush)
        self._view: JobView | None = None
        self._followers: list[Follower] = []
        self._missing = ""
        self._early: list[JobEvent] = []
        self._stops: list[Callable[[], None]] = []
        self._runners = Runners(self._failed)
        self._news = asyncio.Event()  # what is paused has changed
        self._has_ended = False
        self._is_told = False
        self._was_cut = False  # while the job was read for the first time

    @property
    def view(self) -> JobView | None:
        """What is known of the job; None until it has been read. Changes on the background loop."""
        return self._view

    def add(self, follower: Follower) -> None:
        """On the background loop: all that is known, then what is new."""
        self._followers.append(follower)
        if len(self._followers) == 1 and not self._stops:
            self._stops += [
                self._kit.hub.listen(self._heard, self.job_id),
                self._kit.hub.listen(lambda event: on_loop(lambda _: self._news.set(), event), CONTROL),
                self._kit.hub.on_status(self._told),
            ]
            self._runners.run(self._open())
        elif self._view is not None:
            follower.deliver(self._view.everything(_now()), {})
            if self._is_told and follower.on_end is not None:
                follower.on_end(self._view)
        elif self._missing and follower.on_missing is not None:
            follower.on_missing(self._missing)

    def leave(self, follower: Follower) -> None:
        """On the background loop; the last one ends it."""
        if follower in self._followers:
            self._followers.remove(follower)
            if not self._followers:
                self._close()

    def tell(self, follower: Follower, version: str = "", sentence: str = "") -> None:
        """On the background loop: everything again, for a card that has just been opened or missed something.

        Nothing where `version` is the newest; a `sentence` tells what was refused.
        """
        view = self._view
        if view is None or follower not in self._followers:
            return
        if sentence:
            follower.deliver({"snapshot": view.with_alert(sentence, _now())}, {})
        elif version != view.version:
            follower.deliver(view.everything(_now()), {})

    # -- on the background loop -------------------------------------------------------------------------------------

    def _close(self) -> None:
        self._pacer.stop()
        for stop in self._stops:
            stop()
        self._stops.clear()
        self._runners.cancel()
        _forget(self)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, JobNotFound):
            self._missing = str(error)
            for follower in list(self._followers):
                if follower.on_missing is not None:
                    follower.on_missing(self._missing)
        elif isinstance(error, JobkitError):
            logger.debug("job %s: its card could not read: %s", self.job_id, error)
        else:
            raise error

    async def _open(self) -> None:
        """The snapshot, then the events that came meanwhile: nothing falls between the two."""
        await self._kit.hub.ready(self.job_id)
        self._was_cut = not self._kit.hub.is_live
        snapshot = await self._read_job()
        view = JobView(
            snapshot,
            defaults=await self._defaults(snapshot.spec.task),
            is_live=self._kit.hub.is_live,
            lease_s=self._kit.settings.lease,
            url=self._url,
        )
        view.reset(snapshot, _now())
        await self._read_log(view)
        await self._read_artifacts(view)
        self._view = view
        for event in self._early:
            view.take(event)
        self._early.clear()
        view.connection(self._kit.hub.is_live)
        self._pacer.poke()
        if self._was_cut and view.is_live:  # what happened meanwhile was told to nobody
            await self._catch_up(view)
        if view.snapshot.is_terminal:
            await self._end(view)
        else:
            self._runners.run(self._watch(view))

    async def _read_job(self) -> JobSnapshot:
        return await answered(lambda: self._kit.aio.snapshot(self.job_id))

    async def _defaults(self, task: str) -> Mapping[str, Any] | None:
        return defaults_of(await answered(self._kit.aio.tasks)).get(task)

    async def _read_log(self, view: JobView) -> None:
        log = await answered(lambda: self._kit.aio.logs(self.job_id, tail=LOG_LINES))
        view.load_log(log.lines, log.total, log.dropped)

    async def _read_artifacts(self, view: JobView) -> None:
        _, infos = await answered(lambda: self._kit.verbs.artifacts(self.job_id))
        view.keep(
            [
                {
                    "name": info.name,
                    "media_type": info.media_type,
                    "size_bytes": info.size_bytes,
                    "created_at": iso(datetime.fromtimestamp(info.at_ms / 1000, UTC)),
                }
                for info in infos
            ]
        )

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
            self._runners.run(self._catch_up(view))
        elif view.snapshot.is_terminal and not self._has_ended:
            self._runners.run(self._end(view))

    def _told(self, is_live: bool) -> None:
        on_loop(self._status, is_live)

    def _status(self, is_live: bool) -> None:
        if self._view is None:
            self._was_cut = True
            if is_live and not self._runners:
                self._runners.run(self._open())
            return
        self._view.connection(is_live)
        self._pacer.poke()
        if is_live:
            self._runners.run(self._catch_up(self._view))

    async def _catch_up(self, view: JobView) -> None:
        view.needs_snapshot = False
        view.reset(await self._read_job(), _now())
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
            view.show(await answered(lambda: self._kit.aio.preview(self.job_id)))
        await self._read_artifacts(view)
        self._flush()
        self._is_told = True
        for follower in list(self._followers):
            if follower.on_end is not None:
                follower.on_end(view)

    async def _watch(self, view: JobView) -> None:
        """Look now and then whether somebody works on it, and what it has saved: neither comes as an event."""
        while not view.snapshot.is_terminal:
            needs = view.snapshot.spec.needs if view.snapshot.state is JobState.SCHEDULED else ()
            await self._look_at_gates(view)
            if not needs or view.has_looked:
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await self._news.wait()
                        await asyncio.sleep(_AFTER_NEWS_S)
            workers = beat_age_s = None
            try:
                if needs:
                    view.needed(await self._kit.verbs.store.snapshots(needs[:100]), _now())
                    view.has_looked = True
                elif view.snapshot.state is JobState.QUEUED:
                    queues = await self._kit.aio.queues()
                    workers = queues.get(view.snapshot.spec.queue, {}).get("workers", 0)
                elif view.snapshot.state is JobState.RUNNING:
                    alive = {info.id: info.beat_age_s for info in await self._kit.aio.workers()}
                    beat_age_s = alive.get(view.snapshot.worker)
                    await self._read_artifacts(view)
            except JobkitError:
                continue
            view.health(workers, beat_age_s, _now())
            if view.is_dirty:
                self._pacer.poke()

    async def _look_at_gates(self, view: JobView) -> None:
        """What keeps a queued job from starting: what is paused, limits, resources."""
        sentence = ""
        if view.snapshot.state is JobState.QUEUED:
            try:
                (sentence,) = await self._kit.verbs.waits_for_many([self.job_id])
            except JobkitError:
                return
        view.held(sentence, _now())
        if view.is_dirty:
            self._pacer.poke()

    def _flush(self) -> None:
        view = self._view
        if view is None or not view.is_dirty:
            return
        whole, parts = view.updates(_now())
        for follower in list(self._followers):
            try:
                follower.deliver(whole, parts)
            except Exception:
                logger.exception("a card of job %s could not be updated", self.job_id)


class Following:
    """One card's hold on the feed of its job; from any thread."""

    def __init__(self, kit: Kit, job_id: str, follower: Follower, *, window_s: float = 0.05, url: str = "") -> None:
        self.job_id = job_id
        self._kit = kit
        self._follower = follower
        self._key = (job_id, window_s, url)
        self._feed: JobFeed | None = None
        self._is_stopped = False

    def start(self) -> Following:
        """Begin."""
        background.start().call_soon_threadsafe(self._begin)
        return self

    @property
    def view(self) -> JobView | None:
        """See `JobFeed.view`."""
        return self._feed.view if self._feed is not None else None

    def stop(self) -> None:
        """End; any number of times."""
        self._is_stopped = True
        background.start().call_soon_threadsafe(self._end)

    def resend(self, version: str = "") -> None:
        """Deliver everything again: a card has just been opened with `version`, or missed something."""
        background.start().call_soon_threadsafe(lambda: self._tell(version, ""))

    def say(self, sentence: str) -> None:
        """Show a sentence on the card: something that was asked for could not be done."""
        background.start().call_soon_threadsafe(lambda: self._tell("", sentence))

    def _begin(self) -> None:
        if not self._is_stopped:
            feeds = _feeds.setdefault(self._kit, {})
            job_id, window_s, url = self._key
            if self._key not in feeds:
                feeds[self._key] = JobFeed(self._kit, job_id, window_s=window_s, url=url)
            self._feed = feeds[self._key]
            self._feed.add(self._follower)

    def _end(self) -> None:
        if self._feed is not None:
            self._feed.leave(self._follower)

    def _tell(self, version: str, sentence: str) -> None:
        if self._feed is not None and not self._is_stopped:
            self._feed.tell(self._follower, version, sentence)


_feeds: weakref.WeakKeyDictionary[Kit, dict[tuple[str, float, str], JobFeed]] = weakref.WeakKeyDictionary()


def _forget(feed: JobFeed) -> None:
    feeds = _feeds.get(feed._kit, {})
    for key in [key for key, each in feeds.items() if each is feed]:
        del feeds[key]


def _now() -> datetime:
    return datetime.now(UTC)
