"""A worker for plain arq functions: arq's signature and behaviour on jobkit's leases, wake-ups and live status."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import math
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import arq.worker
import msgspec
from arq.connections import RedisSettings, create_pool, log_redis_info
from arq.constants import default_queue_name, health_check_key_suffix
from arq.cron import CronJob
from arq.jobs import serialize_job
from arq.utils import import_string, to_unix_ms
from redis.exceptions import RedisError

from jobkit.features.arq.bridge import Bridge, queue_of, redis_settings, url_of, url_of_pool
from jobkit.features.arq.queue import ArqQueue
from jobkit.features.arq.runner import ArqRunner
from jobkit.model import JobkitError, StoreUnavailable
from jobkit.run.attempt import Outcome
from jobkit.run.watch import LoopWatch
from jobkit.settings import Settings, masked
from jobkit.store.values import Ending
from jobkit.worker.about import RecycleLimits
from jobkit.worker.attempt import RunningAttempt
from jobkit.worker.main import drain_on_hangup, drain_on_sigusr1, log_to_stderr, run_in_new_loop
from jobkit.worker.running import RunningJobs
from jobkit.worker.walltime import Walltime
from jobkit.worker.worker import JobWorker

#: A suspect is put back so often, before a busy worker takes no more jobs for its sake.
_MOST_BOUNCES = 4


class SuspectGate:
    """Starts the attempts of a worker, suspects alone.

    A job that kills its worker takes its neighbours along, and each of them counts a loss. So one that has been lost
    twice is a suspect and runs with nothing beside it: then the next death tells whose it was, and the neighbours get
    through.
    """

    def __init__(self, running: RunningJobs, max_losses: int) -> None:
        self._running = running
        self._losses = min(2, max(1, max_losses - 1))
        self._alone: RunningAttempt | None = None

    @property
    def is_closed(self) -> bool:
        """A suspect runs, or is about to: nothing more is taken."""
        return self._alone is not None and self._running.attempts.get(self._alone.job_id) is self._alone

    def start(self, attempts: Sequence[RunningAttempt]) -> None:
        for attempt in attempts:
            is_suspect = attempt.claimed.losses >= self._losses
            if (is_suspect and self._others(attempt)) or self.is_closed:
                if is_suspect and not self.is_closed and _bounces(attempt) >= _MOST_BOUNCES:
                    self._alone = attempt  # nothing more is taken until it has run
                    self._running.begin(attempt, self._run_when_alone(attempt))
                else:
                    self._put_back(attempt)
            else:
                self._alone = attempt if is_suspect else self._alone
                self._running.start([attempt])

    def _others(self, attempt: RunningAttempt) -> list[RunningAttempt]:
        attempts = self._running.attempts.values()
        return [a for a in attempts if a is not attempt and a.run is not None and not a.run.done()]

    def _put_back(self, attempt: RunningAttempt) -> None:
        reason = "a job that its workers did not survive runs with nothing beside it"
        delay_ms = min(5_000, 250 * 2 ** min(10, _bounces(attempt)))
        token = attempt.claimed.token
        self._running.endings.append(Ending(attempt.job_id, token, "released", reason=reason, delay_ms=delay_ms))
        self._running.wake.set()

    async def _run_when_alone(self, attempt: RunningAttempt) -> None:
        running = self._running
        while others := self._others(attempt):
            await asyncio.wait([other.run for other in others if other.run is not None])
            if attempt.is_lost:
                running.forget(attempt.job_id, attempt.claimed.token)
                return
            if attempt.is_released:
                running.endings.append(running.release(attempt))
                return
        await running.run(attempt)


def _bounces(attempt: RunningAttempt) -> int:
    """Return the number of times that it was given back."""
    claimed = attempt.claimed
    return max(0, claimed.attempt - 1 - claimed.losses - claimed.retried)


logger, worker_logger = logging.getLogger("arq.worker"), logging.getLogger("jobkit.worker")

#: The arguments of arq's worker, with their defaults.
_ARQ = inspect.signature(arq.worker.Worker)


class Worker(JobWorker):
    """Runs plain arq functions: a replacement for `arq.worker.Worker`, with its arguments and their meaning.

    Jobs come by arq's own client and are read by arq's own `Job`. Beside that each has a record in jobkit: it is seen
    in the dashboard, held by a lease (the job of a dead worker runs again), started when it is enqueued and not at the
    next poll. What is better on purpose is listed in `docs/from-arq.md`.

    Args:
        arguments, options: of arq's worker. A `queue_name` of None takes that of `redis_pool`, a `job_timeout` of None
            is no limit. The records are kept where arq's queue is.
        settings: jobkit's own (namespace, lease, secret, ...), `Settings.load()` unless given; its URL is not used.
        owns_process: code that blocks the loop is named in the log, and stopped if it is to be cancelled: at worst
            by starting the whole process over.
    """

    def __init__(
        self, *arguments: Any, settings: Settings | None = None, owns_process: bool = False, **options: Any
    ) -> None:
        given = _ARQ.bind(*arguments, **options)
        given.apply_defaults()
        options = given.arguments
        queue_name, pool, job_timeout = options.pop("queue_name"), options["redis_pool"], options["job_timeout"]
        if queue_name is None:
            if pool is None:
                raise ValueError("If queue_name is absent, redis_pool must be present.")
            queue_name = pool.default_queue_name
        url = url_of(options["redis_settings"] or RedisSettings()) if pool is None else url_of_pool(pool)
        options["job_timeout"] = 300 if job_timeout is None else job_timeout  # arq's arithmetic knows no None
        options["health_check_key"] = options["health_check_key"] or queue_name + health_check_key_suffix
        own = Settings.load() if settings is None else settings
        runner = ArqRunner(self)
        if owns_process:
            runner.watch = LoopWatch(runner, min(1.0, 2 * own.heartbeat), math.inf, math.inf)
        super().__init__(
            replace(own, url=url, drain=float(options["job_completion_wait"])),
            runner,
            watch=runner.watch,
            queues=(queue_of(queue_name),),
            slots=options.pop("max_jobs"),
            **options,
        )
        if job_timeout is None:
            self.job_timeout_s = None  # type: ignore[assignment]  # arq's type leaves its own default out
        self._gate = SuspectGate(self.running, self.settings.max_losses)
        self.running.admit = self._gate.start
        self.queue_name = queue_name
        self.store.door = "arq"
        self.queue = ArqQueue(self.store, queue_name, queue_of(queue_name))
        self.info = msgspec.structs.replace(self.info, tasks=tuple(self.functions))
        self._bridge = Bridge(self, self.queue, self.run_cron)
        self._hooks = runner.hooks
        self._drain_s = own.drain
        self._serving: asyncio.Task[Any] | None = None

    # -- life -------------------------------------------------------------------------------------------------------

    async def main(self) -> None:
        """Serve until asked to stop or, in burst mode, nothing is left to do."""
        self._serving = asyncio.current_task()
        self.store.open()  # arq's users may have closed this worker before
        if self._pool is None:
            self._pool = await create_pool(
                self.redis_settings,
                job_deserializer=self.job_deserializer,
                job_serializer=self.job_serializer,
                default_queue_name=self.queue_name,
                expires_extra_ms=self.expires_extra_ms,
            )
        logger.info("Starting worker for %d functions: %s", len(self.functions), ", ".join(self.functions))
        await log_redis_info(self.pool, logger.info)
        self.ctx["redis"] = self.pool
        bridge = self.helpers.run("arq bridge", self._bridge.run())
        try:
            await super().main()
        finally:
            bridge.cancel()
            await asyncio.gather(bridge, *self._hooks, return_exceptions=True)
            self._serving = None
            self._stop, self.allow_pick_jobs = "", True  # for the next time; a signal before this one has counted

    async def _serve(self) -> None:
        try:
            await super()._serve()
        except asyncio.CancelledError:  # arq's users end a worker by cancelling its main task
            self._stop = "now"
            await self._drain()
            raise

    async def close(self) -> None:
        """Let running jobs go, call `on_shutdown`, close connections."""
        if not self._handle_signals:
            self.handle_sig(signal.SIGUSR1)
        if not self._pool:
            return
        if self._serving not in (None, asyncio.current_task()):
            await asyncio.wait([self._serving])
        await asyncio.gather(*self.running.runs, *self._hooks, return_exceptions=True)
        with contextlib.suppress(StoreUnavailable, RedisError, OSError):
            every = await self.store.workers()
            if not any(w.is_alive and self.queue.name in w.queues and w.id != self.info.id for w in every):
                await self.pool.delete(self.health_check_key)  # else it is that of others, too
        if self.on_shutdown:
            await self.on_shutdown(self.ctx)
        await self.pool.aclose(close_connection_pool=True)
        self._pool = None
        await self.store.close()
        self._stop, self.allow_pick_jobs = "", True

    def handle_sig(self, signum: signal.Signals) -> None:
        """Give running jobs back at once, and end."""
        self._log_stop(signum, "ongoing to cancel")
        self._end("now", signum)

    def handle_sig_wait_for_completion(self, signum: signal.Signals) -> None:
        """Take no more jobs; running ones have `job_completion_wait` seconds. A second signal gives them back."""
        if self._stop:
            return self.handle_sig(signum)
        logger.info("Setting allow_pick_jobs to `False`")
        self._log_stop(signum, "to be completed")
        self._end("drain", signum)

    def _end(self, how: str, signum: signal.Signals) -> None:
        self.allow_pick_jobs = False
        self._stop = how
        self.running.wake.set()
        if self.on_stop:
            self.on_stop(signal.Signals(signum))

    def _take_request(self, how: str) -> None:
        """`jobkit workers stop` lets jobs finish, whatever a signal does."""
        self.settings = replace(self.settings, drain=self._drain_s)
        super()._take_request(how)

    def _log_stop(self, signum: signal.Signals, what: str) -> None:
        logger.info(
            "shutdown on %s ◆ %d jobs complete ◆ %d failed ◆ %d retries ◆ %d %s",
            signal.Signals(signum).name,
            self.jobs_complete,
            self.jobs_failed,
            self.jobs_retried,
            len(self.tasks),
            what,
        )

    # -- cron jobs ----------------------------------------------------------------------------------------------------

    async def run_cron(self, n: datetime, delay: float, num_windows: int = 2) -> int:  # type: ignore[override]  # counts
        """Enqueue cron jobs whose time comes within the windows, as arq does, but each time once and by the server's
        clock, which `n` shows; how many."""
        until = n + timedelta(seconds=delay * num_windows)
        fired = 0
        for cron in self.cron_jobs:
            if cron.next_run is None:
                if not cron.run_at_startup:
                    cron.calculate_next(n)
                    continue
                cron.next_run = n
            if cron.next_run < until:
                fired += await self._enqueue(cron, cron.next_run, to_unix_ms(n))
                cron.calculate_next(cron.next_run)
        return fired

    async def _enqueue(self, cron: CronJob, at: datetime, now_ms: int) -> bool:
        at_ms = to_unix_ms(at)
        is_slot = not cron.job_id and cron.unique
        arq_id = cron.job_id or (f"{cron.name}:{at_ms}" if is_slot else uuid4().hex)
        payload = serialize_job(cron.name, (), {}, None, now_ms, serializer=self.job_serializer)
        score = max(at_ms, now_ms)
        ttl_ms = score - now_ms + self.expires_extra_ms
        return await self.queue.enqueue(arq_id, payload, score=score, ttl_ms=ttl_ms, is_slot=is_slot)

    # -- burst --------------------------------------------------------------------------------------------------------

    async def _is_burst_over(self) -> bool:
        """As arq has it: also deferred jobs, and those that run elsewhere, have ended."""
        self._wait_s = min(self._wait_s, self._bridge.tick_s)
        if self.running.attempts or self.running.endings or not self.inbox.is_listening:
            return False
        try:
            return await self._bridge.turn() == 0 and not self.running.attempts
        except (RedisError, OSError):
            return False

    def _is_at_limit(self) -> bool:
        is_full = self.burst and 0 <= self.max_burst_jobs <= self._jobs_started() and self.inbox.is_listening
        return (is_full and not self.running.attempts and not self.running.endings) or super()._is_at_limit()

    def _free(self, running: int) -> int:
        if not self.allow_pick_jobs or self._gate.is_closed:
            return 0
        free = super()._free(running)
        if self.burst and self.max_burst_jobs >= 0:
            done = self.jobs_complete + self.jobs_failed + self.jobs_retried
            free = min(free, max(0, self.max_burst_jobs - done - running))
        return free

    # -- counters -----------------------------------------------------------------------------------------------------

    def _count(self, attempt: RunningAttempt, outcome: Outcome) -> None:
        """Count endings; retries are counted when they are logged."""
        if outcome.outcome == "succeeded":
            self.jobs_complete += 1
        elif outcome.retry is None and not (attempt.is_released and self.retry_jobs):
            self.jobs_failed += 1

    def _release(self, attempt: RunningAttempt) -> Ending:
        if self.retry_jobs:
            return super()._release(attempt)
        claimed = attempt.claimed
        return Ending(
            attempt.job_id, claimed.token, "cancelled", reason="its worker was stopped, and retry_jobs is off"
        )


#: For help and tools: arq's arguments, then those of ours.
_own = [each for each in inspect.signature(Worker).parameters.values() if each.kind is each.KEYWORD_ONLY]
Worker.__signature__ = _ARQ.replace(parameters=[*_ARQ.parameters.values(), *_own])  # type: ignore[attr-defined]


def place_of(path: str, settings: Settings) -> tuple[Settings, str]:
    """Return the settings with the Redis of arq's settings class, and its queue's name here."""
    options = options_of(path, settings)
    pool, name = options.get("redis_pool"), options.get("queue_name", default_queue_name)
    url = url_of(options.get("redis_settings") or RedisSettings()) if pool is None else url_of_pool(pool)
    if name is None and pool is not None:
        name = pool.default_queue_name
    return replace(settings, url=url), queue_of(name or default_queue_name)


def options_of(path: str, settings: Settings) -> dict[str, Any]:
    """Return the arguments that arq's settings class gives to a worker. Raises JobkitError if it cannot be used."""
    sys.path.append(os.getcwd())  # as arq does
    try:
        options: dict[str, Any] = dict(arq.worker.get_kwargs(import_string(path.replace(":", "."))))
    except Exception as error:  # the module is the user's
        raise JobkitError(f"--arq {path}: {type(error).__name__}: {error}") from error
    if not options.get("functions") and not options.get("cron_jobs"):
        raise JobkitError(f"--arq {path}: it names neither functions nor cron_jobs")
    is_ours = settings.scheme in ("redis", "rediss", "unix")
    if is_ours and options.get("redis_settings") is None and options.get("redis_pool") is None:
        options["redis_settings"] = redis_settings(settings.url)
    return options


def run(
    path: str,
    settings: Settings,
    *,
    burst: bool = False,
    slots: int | None = None,
    queue: str | None = None,
    recycle: RecycleLimits,
    verbose: bool = False,
) -> int:
    """Run the jobs of an existing arq worker, as `run_worker` does.

    Args:
        path: of the settings class, `"module.WorkerSettings"`. burst, slots, queue: before what the class says.
        settings: jobkit's own. Their URL counts if the class names no Redis and it is one.
    """
    log_to_stderr(settings.log_format, verbose=verbose, quiet=("asyncio",))
    worker_logger.setLevel(logging.DEBUG if verbose else logging.WARNING)  # arq's lines tell of jobs
    own = logging.getLogger("jobkit.worker.arq")
    own.setLevel(logging.INFO)

    def make() -> Worker:
        options = options_of(path, settings)
        over = {"burst": burst or None, "max_jobs": slots, "queue_name": queue}
        options |= {name: value for name, value in over.items() if value is not None}
        try:
            worker = Worker(**options, settings=settings, owns_process=True)
        except (RuntimeError, ValueError, TypeError, ImportError) as error:  # arq's own checks of what is in the class
            raise JobkitError(f"--arq {path}: {error}") from error
        worker.recycle, worker.walltime = recycle, Walltime.of(os.environ, worker.settings.drain)
        return worker

    def serve(worker: JobWorker) -> None:
        where = masked(worker.settings.url)
        own.info(
            "worker %s serves %s with %d slots; see it with JOBKIT_URL=%s jobkit dashboard",
            worker.info.id, worker.queue_name, worker.max_jobs, where,
        )  # fmt: skip
        drain_on_hangup(worker)
        drain_on_sigusr1(worker)
        try:
            worker.run()
        except JobkitError:
            raise
        except (RedisError, OSError) as error:
            raise JobkitError(f"Redis at {where} does not answer ({error}): check redis_settings of {path}") from error

    return run_in_new_loop(make, serve, own)
