"""`JobFeed`: one job, followed once for all cards that show it.

Everything here runs on jobkit's background loop, where the hub also calls its listeners, so a `CardModel` is only ever
touched by one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jobkit.model import JobEvent, JobkitError, JobNotFound, JobState
from jobkit.model.plain import iso
from jobkit.store.values import CONTROL
from jobkit.tasks.info import defaults_of
from jobkit.ui.card.card_model import LOG_LINES, CardModel
from jobkit.ui.live.shared_feed import FeedSubscription, SharedFeed, Subscriber, answered

if TYPE_CHECKING:
    from jobkit.client import Kit

#: Seconds between looks at a waiting job's queue, or at the worker of a job that has gone silent.
_LOOK_S = 3.0

#: Seconds from news of a pause to the look: a storm of such news costs no more than some looks.
_AFTER_NEWS_S = 0.1


@dataclass(eq=False, slots=True)
class CardSubscriber(Subscriber):
    """One card of a job.

    Attributes:
        deliver: gets any of `snapshot`, `log`, `preview` and `artifacts` as whole texts, and `log_append` as a part.
        on_end: called once on the background loop with the view of the ended job, after its last delivery was made.
        on_missing: called with a sentence if the job is not kept any more.
    """

    on_end: Callable[[CardModel], None] | None = None
    on_missing: Callable[[str], None] | None = None


class JobFeed(SharedFeed[CardSubscriber]):
    """Follows one job for all cards of it that are open in this process, until it has ended or the last card is closed.

    Args:
        kit: where the job is.
        job_id: the job.
        window_s: seconds (> 0) between two deliveries, at least.
        url: of the job's page, for the card.
    """

    def __init__(self, kit: Kit, job_id: str, window_s: float = 0.05, url: str = "") -> None:
        super().__init__(kit)
        self.CHANNELS = (job_id, CONTROL)  # type: ignore[misc]  # of this feed
        self.pacer.window_s = window_s
        self.job_id = job_id
        self._url = url
        self._view: CardModel | None = None
        self._missing = ""
        self._news = asyncio.Event()  # limits or pauses have changed
        self._is_watched = self._is_ending = self._has_ended = False

    @property
    def view(self) -> CardModel | None:
        """The job's model; None until it has been read. Changes on the background loop."""
        return self._view

    def add(self, subscriber: CardSubscriber) -> None:
        super().add(subscriber)
        if self._has_ended and self._view is not None and subscriber.on_end is not None:
            subscriber.on_end(self._view)
        elif self._missing and subscriber.on_missing is not None:
            subscriber.on_missing(self._missing)

    def tell(self, subscriber: CardSubscriber, version: Any = None) -> None:
        if self._view is not None and version != self._view.version:
            subscriber.deliver(self._view.everything(_now()), {})

    def say(self, subscriber: CardSubscriber, sentence: str) -> None:
        """Show one card a sentence: its request failed."""
        if self._view is not None:
            subscriber.deliver({"snapshot": self._view.with_alert(sentence, _now())}, {})

    # -- what is read --------------------------------------------------------------------------------------------------

    def failed(self, error: Exception) -> None:
        if isinstance(error, JobNotFound):
            self._missing = str(error)
            for subscriber in list(self.subscribers):
                if subscriber.on_missing is not None:
                    subscriber.on_missing(self._missing)
        else:
            super().failed(error)

    async def read(self) -> None:
        snapshot = await self.kit.aio.snapshot(self.job_id)
        view, is_new = self._view, self._view is None
        if view is None:
            view = CardModel(
                snapshot,
                defaults=defaults_of(await self.kit.aio.tasks()).get(snapshot.spec.task),
                lease_s=self.kit.settings.lease,
                url=self._url,
            )
        view.reset(snapshot, _now())
        await self._read_log(view)
        if is_new:
            await self._read_artifacts(view)
        self._view = view

    def loaded(self) -> None:
        view = self._view
        assert view is not None  # `read` made it
        is_first, self._is_watched = not self._is_watched, True
        view.connection(self.kit.hub.is_live)
        self.poke()
        if view.snapshot.is_terminal:
            self.runners.run(self._end(view))
        elif is_first:
            self.runners.run(self._watch(view))

    async def _read_log(self, view: CardModel) -> None:
        log = await answered(lambda: self.kit.aio.log_slice(self.job_id, tail=LOG_LINES))
        view.load_log(log.lines, log.total, log.dropped)

    async def _read_artifacts(self, view: CardModel) -> None:
        _, infos = await answered(lambda: self.kit.verbs.artifacts(self.job_id))
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

    def take(self, event: JobEvent) -> None:
        view = self._view
        if event.job_id == CONTROL:
            self._news.set()
        elif view is not None:
            if view.take(event):
                self.poke()
            if view.needs_snapshot:
                self.reload()
            elif view.snapshot.is_terminal:
                self.runners.run(self._end(view))

    def status(self, is_live: bool) -> None:
        if self._view is not None:
            self._view.connection(is_live)
            self.poke()
        super().status(is_live)

    async def _end(self, view: CardModel) -> None:
        """The job's last words: all log lines and the preview, then `on_end`."""
        if self._is_ending:
            return
        self._is_ending = True
        await self._read_log(view)
        if view.snapshot.state is JobState.SUCCEEDED:
            view.show(await answered(lambda: self.kit.aio.preview(self.job_id)))
        await self._read_artifacts(view)
        self.flush()
        self._has_ended = True
        for subscriber in list(self.subscribers):
            if subscriber.on_end is not None:
                subscriber.on_end(view)

    async def _watch(self, view: CardModel) -> None:
        """Poll what no event reports: workers of its queue, its worker's heartbeat, and its artifacts."""
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
                    view.needed(await self.kit.verbs.store.snapshots(needs[:100]), _now())
                    view.has_looked = True
                elif view.snapshot.state is JobState.QUEUED:
                    queues = await self.kit.aio.queues()
                    workers = queues.get(view.snapshot.spec.queue, {}).get("workers", 0)
                elif view.snapshot.state is JobState.RUNNING:
                    alive = {info.id: info.beat_age_s for info in await self.kit.aio.workers()}
                    beat_age_s = alive.get(view.snapshot.worker)
                    await self._read_artifacts(view)
            except JobkitError:
                continue
            view.health(workers, beat_age_s, _now())
            if view.is_dirty:
                self.poke()

    async def _look_at_gates(self, view: CardModel) -> None:
        """Read why a queued job cannot start: pauses, limits, resources."""
        sentence = ""
        if view.snapshot.state is JobState.QUEUED:
            try:
                (sentence,) = await self.kit.verbs.waits_for_many([self.job_id])
            except JobkitError:
                return
        view.held(sentence, _now())
        if view.is_dirty:
            self.poke()

    def flush(self) -> None:
        if self._view is not None and self._view.is_dirty:
            self.publish(*self._view.updates(_now()))


class JobSubscription(FeedSubscription[JobFeed, CardSubscriber]):
    """One card's hold on the feed of its job; from any thread.

    Args:
        kit, subscriber, job_id, window_s, url: see `JobFeed`.
    """

    def __init__(
        self, kit: Kit, subscriber: CardSubscriber, job_id: str, window_s: float = 0.05, url: str = ""
    ) -> None:
        super().__init__(kit, JobFeed, subscriber, job_id, window_s, url)
        self.job_id = job_id

    @property
    def view(self) -> CardModel | None:
        """See `JobFeed.view`; None before it has begun and after the end."""
        return self.feed.view if self.feed is not None else None

    def say(self, sentence: str) -> None:
        """Show a sentence on the card: a request failed."""
        self.ask(lambda feed: feed.say(self.subscriber, sentence))


def _now() -> datetime:
    return datetime.now(UTC)
