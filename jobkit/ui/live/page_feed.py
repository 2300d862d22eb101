"""`PageFeed`: what a page shows of the whole store, read once for all who look; `Follower`: one page's hold on it.

For pages that show one small text: workers, schedules. Both live on the background loop.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from jobkit.client.loop import background
from jobkit.model import JobEvent, JobkitError
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.pace import Pacer, Rereading, on_loop

if TYPE_CHECKING:
    from jobkit.client import Kit

logger = logging.getLogger("jobkit.ui")


class PageFeed:
    """Reads while somebody looks: every `LOOK_S` seconds, and soon after what `is_news`.

    Attributes:
        LOOK_S: seconds between looks that nothing has asked for. WINDOW_S: the least between two that events asked for.
        HEARS: what the hub is listened to: None for the events of all jobs, or the name of another channel.
    """

    LOOK_S: ClassVar[float] = 2.0
    WINDOW_S: ClassVar[float] = 0.4
    HEARS: ClassVar[tuple[str | None, ...]] = (None,)

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self._deliver: dict[int, Callable[[str], object]] = {}
        self._next = 0
        self._text = ""
        self._reading = Rereading(self._read)
        self._pacer = Pacer(self.WINDOW_S, self._reading.ask)
        self._runner: asyncio.Task[None] | None = None
        self._stops: list[Callable[[], None]] = []

    def is_news(self, event: JobEvent) -> bool:
        """Whether the page looks different after it."""
        return not event.type.is_news

    async def read(self) -> str:
        """The text.

        Raises:
            JobkitError: the store is away; the page's header says so.
        """
        raise NotImplementedError

    def add(self, deliver: Callable[[str], object]) -> int:
        self._next += 1
        self._deliver[self._next] = deliver
        if self._runner is None:
            self._stops = [
                self.kit.hub.listen(lambda event: on_loop(self._heard, event), channel) for channel in self.HEARS
            ]
            self._runner = asyncio.get_running_loop().create_task(self._watch())
        elif self._text:
            deliver(self._text)
        return self._next

    def leave(self, key: int) -> None:
        self._deliver.pop(key, None)
        if not self._deliver and self._runner is not None:
            self._runner.cancel()
            self._pacer.stop()
            for stop in self._stops:
                stop()
            self._reading.stop()
            self._runner = None
            feeds = _feeds.get(self.kit, {})
            if feeds.get(type(self)) is self:
                del feeds[type(self)]

    def tell(self, key: int) -> None:
        """Once more, for a browser that has missed it."""
        if self._text and key in self._deliver:
            self._deliver[key](self._text)

    def poke(self) -> None:
        """Look soon."""
        self._pacer.poke()

    def _heard(self, event: JobEvent) -> None:
        if self.is_news(event):
            self._pacer.poke()

    async def _watch(self) -> None:
        while True:
            self._pacer.poke()
            await asyncio.sleep(self.LOOK_S)

    async def _read(self) -> None:
        try:
            self._text = await self.read()
        except JobkitError as error:
            logger.debug("a page could not be read: %s", error)
            return
        for deliver in list(self._deliver.values()):
            deliver(self._text)


_feeds: weakref.WeakKeyDictionary[Kit, dict[type[PageFeed], PageFeed]] = weakref.WeakKeyDictionary()


def look_soon(kit: Kit, kind: type[PageFeed]) -> None:
    """Something has happened that such a page shows; from any thread."""

    def poke() -> None:
        if (feed := _feeds.get(kit, {}).get(kind)) is not None:
            feed.poke()

    background.start().call_soon_threadsafe(poke)


def is_read(kit: Kit, kind: type[PageFeed]) -> bool:
    """Whether anybody looks at such a page."""
    return kind in _feeds.get(kit, {})


class Follower:
    """One page's hold on a feed, while somebody looks at the page.

    Args:
        put: shows a text; called on the background loop.
    """

    def __init__(self, kit: Kit, kind: type[PageFeed], bridge: SessionBridge, put: Callable[[str], object]) -> None:
        self._kit, self._kind, self._bridge, self._put = kit, kind, bridge, put
        self._key: int | None = None
        bridge.on_close(lambda: self.follow(False))

    def follow(self, is_open: bool) -> None:
        """Begin or end; from any thread."""
        background.start().call_soon_threadsafe(self._begin if is_open else self._end)

    def again(self) -> None:
        """The newest text once more; from any thread."""
        background.start().call_soon_threadsafe(self._again)

    def _begin(self) -> None:
        if self._key is None and self._bridge.is_open:
            feeds = _feeds.setdefault(self._kit, {})
            feed = feeds.get(self._kind) or feeds.setdefault(self._kind, self._kind(self._kit))
            self._key = feed.add(self._put)

    def _feed(self) -> PageFeed | None:
        return _feeds.get(self._kit, {}).get(self._kind)

    def _end(self) -> None:
        if self._key is not None and (feed := self._feed()) is not None:
            feed.leave(self._key)
        self._key = None

    def _again(self) -> None:
        if self._key is not None and (feed := self._feed()) is not None:
            feed.tell(self._key)
