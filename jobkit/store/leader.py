"""`Leader`: of all processes of a namespace, one at a time does a piece of work: notifications, the archive."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable

from jobkit.model import JobkitError
from jobkit.store.redis import RedisStore

#: Seconds until a leader lock expires without renewal, and interval at which others try to acquire it.
HOLD_S, ASK_S = 15.0, 5.0


class Leader:
    """The leader lock `lock` of a namespace, as one process sees it; `owner` is different for each process."""

    def __init__(self, store: RedisStore, lock: str, owner: str = "") -> None:
        self._store, self._lock = store, lock
        self._owner = owner or secrets.token_hex(8)
        self._leads_until = 0.0

    async def is_leader(self) -> bool:
        """Acquire or renew the lock; return True if this process has it. Asks the store every 5 s at most."""
        if time.monotonic() < self._leads_until:
            return True
        has = await hold(self._store, self._lock, self._owner, HOLD_S)
        self._leads_until = time.monotonic() + HOLD_S / 3 if has else 0.0
        return has

    async def run(self, work: Callable[[], Awaitable[None]], logger: logging.Logger, waits: str) -> None:
        """Call `work` again and again while this process is the leader, until cancelled; then release the lock.

        If it raises, that is logged as "`waits`: error", the same sentence once, and it is called again after 5 s.
        """
        said = ""
        try:
            while True:
                try:
                    if await self.is_leader():
                        await work()
                        said = ""
                    else:
                        await asyncio.sleep(ASK_S)
                except Exception as error:
                    sentence = str(error) if isinstance(error, JobkitError) else f"{type(error).__name__}: {error}"
                    if sentence != said:
                        logger.warning("%s: %s", waits, sentence)
                    said = sentence
                    await asyncio.sleep(ASK_S)
        finally:
            if self._leads_until:  # another process need not wait until the lock expires
                with contextlib.suppress(JobkitError):
                    await hold(self._store, self._lock, self._owner, 0.001)


async def hold(store: RedisStore, lock: str, owner: str, for_s: float) -> bool:
    """Acquire or renew a leader lock for `for_s` seconds; return True if `owner` has it."""
    for_ms = int(for_s * 1000)
    if await store.ask("SET", lock, owner, "NX", "PX", for_ms):
        return True
    if await store.ask("GET", lock) != owner.encode():
        return False
    await store.ask("PEXPIRE", lock, for_ms)
    return True
