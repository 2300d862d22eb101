"""`Trail`: writes acts into the audit trail. What cannot be written is said, kept, and written as soon as it can be.

An entry is a command of its own after the act, not a part of it: acts are a dozen scripts, and of a bulk that is partly
done, or of what was refused, there is no one script that could carry it. So an act may succeed and its entry not, when
the server goes away or fills up in between. What is kept here ends with the process; the log has it from the start.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime

from jobkit.model import StoreUnavailable
from jobkit.model.people import AuditEntry
from jobkit.model.plain import iso
from jobkit.store.redis import RedisStore

logger = logging.getLogger("jobkit")

#: Entries that wait, and seconds until the first and between the later attempts to write them.
_WAITING, _FIRST_S, _LATER_S = 1_000, 0.5, 15.0


class Trail:
    """Of one kit; on the background loop."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._late: deque[AuditEntry] = deque(maxlen=_WAITING)
        self._runner: asyncio.Task[None] | None = None

    async def note(self, entry: AuditEntry) -> None:
        """Write it.

        Raises:
            StoreUnavailable: it is not written, but will be.
        """
        try:
            await self._store.audit_log.note(entry)
        except StoreUnavailable as error:
            logger.warning(
                "%s by %s is not in the audit trail yet: %s", entry.action, entry.who or "an unnamed user", error
            )
            at = iso(datetime.now(UTC))
            self._late.append(replace(entry, note=f"{entry.note} (written down late; it was at {at})".strip()))
            if self._runner is None:
                self._runner = asyncio.get_running_loop().create_task(self._write_late())
            raise

    def close(self) -> None:
        if self._runner is not None:
            self._runner.cancel()
            self._runner = None

    async def _write_late(self) -> None:
        wait_s = _FIRST_S
        while self._late:
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LATER_S)
            try:
                while self._late:
                    await self._store.audit_log.note(self._late[0])
                    self._late.popleft()
            except StoreUnavailable as error:
                logger.debug("%d entries still wait for the audit trail: %s", len(self._late), error)
        self._runner = None
