"""`Libraries`: what recent jobs have imported, and the zygote that has imported it ahead of the next ones.

That zygote stands beside the one with nothing but the task modules, which jobs use that must not have more: those with
variables of their own (libraries read them when they are imported) or with a memory limit. If it cannot be started,
dies, or packages have been installed since, jobs go on as without it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from jobkit.model import JobkitError
from jobkit.run.inside import imports
from jobkit.run.process.zygote_link import UnsafeLibrary, ZygoteLink

logger = logging.getLogger("jobkit.worker")

#: Its zygote ends after so long without a job (s).
KEPT_S = 3600.0
#: So many names are remembered, so that none is tried twice.
_KNOWN_MOST = 1000
#: After so many unsafe ones nothing more is tried: each costs a start of a zygote.
_UNSAFE_MOST = 10


class Libraries:
    """The zygote with libraries, of one `ProcessRunner`.

    Args:
        launch: starts a zygote that imports these modules.
        on_change: called when it was replaced, or there is none any more.
    """

    def __init__(self, launch: Callable[[Sequence[str]], Awaitable[ZygoteLink]], on_change: Callable[[], None]) -> None:
        self._launch, self._on_change = launch, on_change
        self._known: dict[str, None] = {}  # what jobs have imported, those that did so first first
        self._refused: set[str] = set()
        self._zygote: ZygoteLink | None = None
        self._old: list[ZygoteLink] = []  # which still run jobs
        self._ending: set[asyncio.Task[None]] = set()
        self._starting: asyncio.Task[None] | None = None
        self._is_off = False
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def names(self) -> list[str]:
        """Return the modules that its next zygote imports."""
        return [name for name in self._known if name not in self._refused][-imports.MOST :]

    def current(self) -> ZygoteLink | None:
        """Return the zygote if processes can be forked from it now."""
        zygote = self._zygote
        if zygote is not None and (not zygote.is_alive or zygote.is_stale):
            self.drop()
            return None
        return zygote

    def want(self, names: Iterable[str]) -> None:
        """Take note of what a job has imported. A new zygote imports it, in place of the one before."""
        new = [name for name in names if name not in self._known]
        if not new or self._is_off or len(self._known) + len(new) > _KNOWN_MOST:
            return
        self._known |= dict.fromkeys(new)
        if self._starting is None or self._starting.done():
            self._starting = asyncio.get_running_loop().create_task(self._start())

    def look(self) -> None:
        """End the zygotes that were replaced and have no job any more."""
        for zygote in [zygote for zygote in self._old if zygote.is_idle]:
            self._old.remove(zygote)
            zygote.retire()
            ending = asyncio.get_running_loop().create_task(zygote.close())
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    def expire(self) -> None:
        """End the zygote in an hour, unless `keep` is called."""
        self.keep()
        self._expiry = asyncio.get_running_loop().call_later(KEPT_S, self.drop)

    def keep(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()

    async def close(self) -> None:
        self.keep()
        self._is_off = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        closing, self._old, self._zygote = [*self._old, self._zygote], [], None
        for zygote in filter(None, closing):
            await zygote.close()
        if self._ending:
            await asyncio.wait(self._ending)

    async def _start(self) -> None:
        imported: list[str] = []
        while (names := self.names) and names != imported:
            try:
                zygote = await self._launch(names)
            except UnsafeLibrary as error:
                logger.info("%s is not imported ahead of jobs, because %s", error.library, error)
                self._refused.add(error.library)
                self._is_off = len(self._refused) >= _UNSAFE_MOST
                if self._is_off:
                    return
                continue
            except JobkitError as error:
                logger.warning("what jobs have imported is not imported ahead of the next ones: %s", error)
                self._is_off = True
                return
            self._put_aside()
            self._zygote, imported = zygote, names
            self._on_change()

    def drop(self) -> None:
        """Go on without a zygote, until a job imports something."""
        self._put_aside()
        self._known.clear()
        self._on_change()

    def _put_aside(self) -> None:
        if self._zygote is not None:
            self._old.append(self._zygote)
            self._zygote = None
            self.look()
