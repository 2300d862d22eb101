"""Looks now and then whether those who have a page open are still who they were when they came.

A line that is taken out of the login file, or another role, would else be felt by what somebody does, but not by what
they see. Costs a look at the file's time for each page that is open, and nothing where there is no such file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from jobkit.client.loop import background
from jobkit.model.people import Person
from jobkit.ui.access.actions import Actions

#: Seconds between two looks. Somebody counts as changed when two of them agree: a file that is being written is none.
_LOOK_S = 1.0


@dataclass(eq=False, slots=True)
class WatchedSession:
    access: Actions
    came: Person
    on_change: Callable[[], object]
    seen: Person


class RoleWatcher:
    """Lives on the background loop, while somebody is there."""

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
    """Call `on_change` once, on the background loop, when the person of `access` has become somebody else; what it
    gives ends that. From any thread."""
    if not (access.kit.settings.login and access.person.name):
        return lambda: None
    visitor = WatchedSession(access, access.person, on_change, access.person)
    loop = background.start()
    loop.call_soon_threadsafe(_watcher.add, visitor)

    def end() -> None:
        loop.call_soon_threadsafe(_watcher.leave, visitor)

    return end
