"""`kit.workers`: workers are listed, drained and stopped."""

from __future__ import annotations

import asyncio
import builtins
import time
from collections.abc import Sequence
from typing import Any

from jobkit.client.connection import Connection
from jobkit.client.forms import Noun, on_loop
from jobkit.client.tables import WorkerTable
from jobkit.model import InvalidParams
from jobkit.model.format import duration
from jobkit.store.values import WorkerInfo

#: Seconds between two looks at workers that end.
_END_POLL_S = 0.5


class WorkerVerbs:
    """Verbs about workers. Every one may raise `StoreUnavailable`."""

    def __init__(self, kit: Any) -> None:
        self._connection: Connection = kit.connection

    async def list(self) -> WorkerTable:
        """Return the workers, also those that were lost in the last hour."""
        workers, _ = await self._connection.store.workers_and_jobs()
        return WorkerTable(workers)

    async def stop(
        self, *, host: str | None = None, queue: str | None = None, now: bool = False
    ) -> builtins.list[WorkerInfo]:
        """Request workers to end; return the requested ones at once.

        Args:
            host, queue: only those of that machine, only those that serve that queue.
            now: give running jobs back, which costs them no attempt, instead of finishing them.
        """
        found = [
            worker
            for worker in await self._connection.store.workers()
            if worker.is_alive and host in (None, worker.host) and (queue is None or queue in worker.queues)
        ]
        if found:
            await self._connection.store.stop_workers([worker.id for worker in found], "now" if now else "drain")
        return found

    async def drain(
        self,
        ids: Sequence[str] = (),
        *,
        queue: str | None = None,
        host: str | None = None,
        wait: bool = False,
        within_s: float | None = None,
    ) -> builtins.list[str]:
        """Let workers finish their jobs, however long they take, and end; return their ids.

        Args:
            ids: of workers, or all that match the rest. queue, host: only those of it.
            wait: return when they have ended. within_s: seconds until TimeoutError.

        Raises:
            InvalidParams: no live worker has such an id.
        """
        alive = [worker for worker in await self._connection.store.workers() if worker.is_alive]
        if unknown := [id for id in ids if id not in {worker.id for worker in alive}]:
            raise InvalidParams(f"there is no live worker {unknown[0]!r}; `jobkit workers` lists them", "worker")
        found = [
            worker.id
            for worker in alive
            if (not ids or worker.id in ids)
            and host in (None, worker.host)
            and (queue is None or queue in worker.queues)
        ]
        if found:
            await self._connection.store.stop_workers(found, "retire")
        if wait:
            await self.await_end(found, within_s)
        return found

    async def await_end(self, ids: Sequence[str], within_s: float | None = None) -> None:
        """Return when none of these workers lives any more. Raises TimeoutError after `within_s` seconds."""
        deadline = None if within_s is None else time.monotonic() + within_s
        while left := [
            worker for worker in await self._connection.store.workers() if worker.is_alive and worker.id in ids
        ]:
            if deadline is not None and time.monotonic() > deadline:
                jobs = sum(worker.running for worker in left)
                still = f"{len(left)} of {len(ids)} workers have not ended within {duration(within_s)}"
                raise TimeoutError(f"{still}; they run {jobs} jobs")
            await asyncio.sleep(_END_POLL_S)


class Workers(Noun):
    """`kit.workers()` lists the workers; `kit.workers.drain(...)` and `kit.workers.stop(...)` end some.

    Example:
        >>> kit.workers.drain(queue="gpu", wait=True)
        ['box-4711-a1']
    """

    ON = "worker"
    _SERVICE = WorkerVerbs

    __call__ = on_loop("verbs", WorkerVerbs.list)
    stop = on_loop("verbs", WorkerVerbs.stop)
    drain = on_loop("verbs", WorkerVerbs.drain)
    await_end = on_loop("verbs", WorkerVerbs.await_end)
