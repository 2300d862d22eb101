"""The other end of arq's client: takes notice of its queue and gives its jobs records.

One turn is one look at the queue. A turn follows each change that Redis tells of (`wake`), and each `poll_delay`. It is
also the pulse of what arq does between its polls: cron jobs and the health key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from redis.exceptions import RedisError

from jobkit.codec import Subject, is_reference
from jobkit.model import StoreUnavailable
from jobkit.store.arq import ArqQueue, Ended, Scan
from jobkit.worker.from_arq.calls import adoption, ended_result, read_order, result_ttl_ms
from jobkit.worker.from_arq.wake import KeyWatch
from jobkit.worker.worker import JobWorker

logger = logging.getLogger("jobkit.worker")

#: Seconds between two looks, at least, even if arq's `poll_delay` is shorter: changes wake it anyway.
_LEAST_TICK_S = 0.05
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)


class Bridge:
    """See the module's docstring.

    Args:
        worker: its settings, functions and counters. queue: arq's. run_cron: enqueues cron jobs, and counts them.
    """

    def __init__(
        self, worker: JobWorker, queue: ArqQueue, run_cron: Callable[[datetime, float], Awaitable[int]]
    ) -> None:
        self._worker, self._queue, self._run_cron = worker, queue, run_cron
        self._turning = asyncio.Lock()

    @property
    def tick_s(self) -> float:
        return max(_LEAST_TICK_S, self._worker.poll_delay_s or 0.0)

    async def run(self) -> None:
        """Until cancelled, through every outage."""
        watch = KeyWatch(self._worker.store.redis, self._queue.watched)
        listening = asyncio.create_task(watch.run(), name="jobkit-arq-watch")
        failures = 0
        try:
            while True:
                await watch.arm()
                try:
                    await self.turn()
                    failures = 0
                except (StoreUnavailable, RedisError, OSError) as error:
                    if failures == 0:
                        logger.warning("arq's queue cannot be read: %s", error)
                    await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
                    failures += 1
                    continue
                except Exception:  # ours, or a serializer of the user's: the worker must not go deaf
                    logger.exception("arq's queue cannot be served")
                    await asyncio.sleep(_BACKOFF_S[-1])
                    continue
                try:
                    async with asyncio.timeout(self.tick_s):
                        await watch.changed.wait()
                except TimeoutError:
                    pass
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def turn(self) -> int:
        """One look; how many jobs stand in arq's queue.

        Raises:
            StoreUnavailable, RedisError: the server does not answer.
        """
        async with self._turning:
            worker = self._worker
            while True:
                scan = await self._queue.scan(worker.queue_read_limit, obeys_aborts=worker.allow_abort_jobs)
                if scan.ended:
                    await self._settle(scan)
                adopted = await self._adopt(scan) if scan.new and worker.allow_pick_jobs else 0
                if not scan.ended and not adopted:
                    break
            now = datetime.fromtimestamp(scan.now_ms / 1000, tz=worker.timezone)
            fired = await self._run_cron(now, max(worker.poll_delay_s or 0.0, 0.5)) if worker.cron_jobs else 0
            if fired and worker.allow_pick_jobs:
                scan = await self._queue.scan(worker.queue_read_limit, obeys_aborts=False)
                await self._adopt(scan)
            await worker.record_health()
            return scan.members

    async def _settle(self, scan: Scan) -> None:
        """Results for jobs that ended without a worker."""
        worker = self._worker
        results = []
        for ended in scan.ended:
            order = read_order(ended.payload, worker.job_deserializer)
            value = await self._value(ended)
            body = ended_result(ended, value, order, worker.queue_name, worker.job_serializer)
            ttl_ms = result_ttl_ms(worker, worker.functions.get(order.function))
            results.append((ended.arq_id, body or b"", ttl_ms if body else 0))
            worker.jobs_failed += ended.state != "succeeded"
        await self._queue.settle(results)

    async def _value(self, ended: Ended) -> Any:
        """Return the value or exception of a job whose end another process than its worker stored (Redis was away until
        the worker had stopped); None if it is not kept."""
        store, codec = self._worker.store, self._worker.codec
        sealed = None if ended.state == "cancelled" else await store.result(ended.id)
        (found,) = await store.snapshots([ended.id]) if sealed else (None,)
        if sealed is None or found is None or is_reference(sealed):
            return None
        try:
            kind = "result" if ended.state == "succeeded" else "error"
            return codec.loads(sealed, Subject(kind, ended.id, found.spec.task))
        except Exception as error:  # not ours, or a pickle of the user's
            logger.warning("the outcome of job %s cannot be read: %s", ended.id, error)
            return None

    async def _adopt(self, scan: Scan) -> int:
        """Records for new members; how many there are now."""
        worker = self._worker
        adoptions = []
        for found in scan.new:
            order = read_order(found.payload, worker.job_deserializer)
            function = worker.functions.get(order.function)
            ttl_ms = result_ttl_ms(worker, function)
            try:
                adoptions.append(
                    adoption(
                        found,
                        order,
                        function,
                        queue=self._queue.name,
                        now_ms=scan.now_ms,
                        job_timeout_s=worker.job_timeout_s,
                        max_tries=worker.max_tries,
                        keep_s=None if ttl_ms < 0 else ttl_ms / 1000,
                        codec=worker.codec,
                    )
                )
            except Exception as error:  # one that cannot be understood must not hold up the others
                logger.warning("%r in arq's queue %s is put aside: %s", found.arq_id, worker.queue_name, error)
                await self._queue.quarantine(found.arq_id)
        return sum(await self._queue.adopt(adoptions)) if adoptions else 0
