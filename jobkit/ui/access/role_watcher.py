"""`watch`: detect a changed role or login while a page is open, so that the page can be reloaded.

Actions check the role each time; without this, an open page would still show what the old role was allowed to see. Each
open page costs one check of the login file's time per second; without a login file, no check is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from jobkit.client.loop import background
from jobkit.model.people import Person
from jobkit.ui.access.actions import Actions

#: Seconds between two checks. Two of them must agree: a file may be read while it is being written.
_LOOK_S = 1.0


@dataclass(eq=False, slots=True)
class WatchedSession:
    access: Actions
    came: Person
    on_change: Callable[[], object]
    seen: Person


class RoleWatcher:
    """Checks all watched sessions; used on the background loop alone."""

    def __init__(self) -> None:
        self._visitors: set[WatchedSession] = set()
        self._runner: asyncio.Task[None] | None = None

    def add(self, visitor: WatchedSession) -> None:
        self._visitors.add(visitor)
        if self._runner is None or self._runner.done():
            self._runner = asyncio.get_running_loop().create_task(self._watch())

    def leave(self, visitor: WatchedSession) -> None:
        self._visitors.discard(visitor)
        if not self._visitors and self._runner is not None:
            self._runner.cancel()
            self._runner = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            for visitor in list(self._visitors):
                now = visitor.access.judge()
                if now != visitor.came and now == visitor.seen:
                    self._visitors.discard(visitor)
                    visitor.on_change()
                visitor.seen = now


_watcher = RoleWatcher()


def watch(access: Actions, on_change: Callable[[], object]) -> Callable[[], None]:
    """Call `on_change` once, on the background loop, when the person of `access` has changed.

    From any thread. Returns a function that ends the watch.
    """
    if not (access.kit.settings.login and access.person.name):
        return lambda: None
    visitor = WatchedSession(access, access.person, on_change, access.person)
    loop = background.start()
    loop.call_soon_threadsafe(_watcher.add, visitor)

    def end() -> None:
        loop.call_soon_threadsafe(_watcher.leave, visitor)

    return end
