"""The worker: arq's `Worker` with its loop, claim, finish and abort replaced.

arq polls, and its bookkeeping loses jobs when a worker dies. This worker is woken, holds each job by a lease and a
token, and speaks with the store in *exchanges*: one round trip that carries the news of running jobs, the endings of
those that are done and the claim of the next ones. While an exchange is under way the next one fills up, so the
busier the worker, the more jobs share a round trip.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import arq.worker
import psutil

from jobkit.attempts import NeedMissing, assignment, ending, is_large, lacking, needed, rejected
from jobkit.codec import Codec
from jobkit.model import ErrorKind, JobError, JobSpec, SignatureError, StoreUnavailable
from jobkit.run.base import Outcome, Runner
from jobkit.run.watch import LoopWatch
from jobkit.settings import Settings
from jobkit.store.base import FENCED, Claimed, Ending, Kept, Progress, Renewal, WorkerInfo
from jobkit.store.redis import RedisStore, read_claimed
from jobkit.worker.attempt import Attempt
from jobkit.worker.blocked import BlockedLoop
from jobkit.worker.durations import Durations
from jobkit.worker.filing import Filing
from jobkit.worker.inbox import Inbox
from jobkit.worker.lease import LeaseKeeper
from jobkit.worker.spool import Spool

logger = logging.getLogger("jobkit.worker")

#: Look for due work this often even if nothing woke us: a net under the wake-ups, not how they work.
SAFETY_POLL_S = 5.0

#: The first news of running jobs go out at once, later ones this long after those before them, so that a chatty job
#: costs a bounded number of round trips.
NEWS_WINDOW_S = 0.05

#: How long at the end to wait for jobs that are on their way to us, and for attempts that were killed.
_HANDED_LIMIT_S, _KILL_LIMIT_S = 1.0, 10.0

#: A request to stop is repeated to the runner this often, while the attempt is held.
_ASK_AGAIN_S = 0.2

#: Between questions of a worker that starts while the server is away.
_AWAY_S = 0.5

_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


async def _never(ctx: dict[Any, Any]) -> None:
    """arq's constructor wants a function; jobkit's tasks come from the registry."""


class Worker(arq.worker.Worker):
    """Runs jobkit's jobs.

    Args:
        settings: URL, namespace and times.
        runners: isolation to runner; a job with another isolation is rejected.
        queues: served in this order.
        slots: attempts at once.
        burst: stop when its queues are empty.
        max_jobs, max_time_s, max_memory_bytes: stop (after running jobs) when this many were done, when this time is
            over, when the worker itself grew beyond this.
        tasks: names to show to others.
        watch: of the loop that coroutines share with the worker.
        functions, arq_options: what else `arq.worker.Worker` takes, such as `on_startup`, `ctx`, `handle_signals`.
    """

    def __init__(
        self,
        settings: Settings,
        runners: Mapping[str, Runner],
        *,
        queues: Sequence[str] = ("default",),
        slots: int = 10,
        codec: Codec | None = None,
        burst: bool = False,
        max_jobs: int | None = None,
        max_time_s: float | None = None,
        max_memory_bytes: int | None = None,
        tasks: Sequence[str] = (),
        functions: Sequence[Any] = (_never,),
        watch: LoopWatch | None = None,
        **arq_options: Any,
    ) -> None:
        super().__init__(functions, queue_name=queues[0], burst=burst, max_jobs=slots, **arq_options)
        self.settings = settings
        self.codec = codec or Codec.from_secret(settings.secret)
        self.store = RedisStore(settings)
        self.filing = Filing(settings, self.store, self.codec)
        self.definitions: Mapping[str, Mapping[str, Any]] = {}
        """Of the tasks that it makes known."""
        self.durations = Durations(self.store)
        self.runners = dict(runners)
        self.slots = slots
        self.info = WorkerInfo(
            id=f"{_safe(socket.gethostname())}.{os.getpid()}.{secrets.token_hex(3)}",
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=tuple(queues),
            slots=slots,
            started_ms=int(time.time() * 1000),
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
            tasks=tuple(tasks),
        )
        self._spool = Spool(settings, self.codec, self.info.id)
        self._limits = max_jobs, max_time_s, max_memory_bytes
        self._attempts: dict[str, Attempt] = {}
        self._runs: set[asyncio.Task[None]] = set()
        self._endings: list[Ending] = []
        self._news: list[Progress] = []  # taken from attempts, not yet stored
        self._kept: list[Kept] = []
        self._received = 0
        self._rejected = 0
        self._wake = asyncio.Event()
        self._has_news = False
        self._news_at = 0.0
        self._wait_s = float("inf")
        self._began = time.monotonic()
        self._process = psutil.Process()
        self._stop = ""  # "", "drain" or "now"
        self.was_asked_to_stop = False
        """By `jobkit stop`: who keeps this process shall not start it again."""
        self._watch = watch
        if watch is not None:
            blocked = BlockedLoop(
                settings, self._attempts, lambda: self.store.claim_args(self.info, 0, self._received)
            )  # fmt: skip
            watch.on_block, watch.on_hopeless = blocked.on_block, blocked.on_hopeless
        self._inbox = Inbox(
            self.store, self.info.id, before=self._reset_handover, on_message=self._on_message, on_live=self._wake.set
        )

    # -- life -------------------------------------------------------------------------------------------------------

    async def main(self) -> None:
        """Serve until asked to stop. Replaces arq's loop."""
        keeper = LeaseKeeper(
            self.settings,
            self.info.id,
            held=self._held,
            facts=self._facts,
            on_renewal=self._renewed_elsewhere,
            on_wiped=self._wiped_elsewhere,
        )
        try:
            await self._begin(keeper)
            keeper.start()
            for runner in set(self.runners.values()):
                await runner.start()
            if self.on_startup:
                await self.on_startup(self.ctx)
            helpers = [
                self.loop.create_task(self._inbox.read(), name="jobkit-inbox"),
                self.loop.create_task(self.filing.tidy(), name="jobkit-tidy"),
                self.loop.create_task(self.durations.keep(self.settings.heartbeat), name="jobkit-durations"),
            ]
            try:
                await self._serve()
            finally:
                for helper in helpers:
                    helper.cancel()
                for helper in helpers:
                    with contextlib.suppress(asyncio.CancelledError):
                        await helper
        finally:
            for runner in set(self.runners.values()):
                await runner.close()
            await self.loop.run_in_executor(None, keeper.stop)
            with contextlib.suppress(StoreUnavailable):
                await self.durations.store()
                await self.store.leave(self.info.id)

    async def _begin(self, keeper: LeaseKeeper) -> None:
        """Make itself known, once the server answers: it may come up later than the worker, or be away just now.

        Raises:
            StoreUnavailable: waiting would not help; or in burst mode, whose users wait themselves.
        """
        is_told = False
        while not self._stop:
            try:
                await self.loop.run_in_executor(None, keeper.beat)
                await self.introduce()
                await self._store_what_was_left()
                return
            except StoreUnavailable as error:
                if self.burst or error.is_refusal:
                    raise
                if not is_told:
                    logger.warning("%s; the worker waits", error)
                is_told = True
                await asyncio.sleep(_AWAY_S)

    async def _serve(self) -> None:
        failures = 0
        while not self._stop:
            try:
                await self._exchange()
                failures = 0
            except StoreUnavailable as error:
                if failures == 0:
                    logger.warning("%s; the worker waits", error)
                await self._spool_endings()
                await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
                failures += 1
                continue
            if self._is_at_limit() or (self.burst and await self._is_burst_over()):
                break
            await self._sleep()
        await self._drain()

    async def _sleep(self) -> None:
        """Until there is something to say to the store: a wake-up, an ending, news, or the next due time."""
        if self._endings or self._wake.is_set():
            return
        timeout_s = min(self._wait_s, SAFETY_POLL_S)
        if self._has_news:
            timeout_s = min(timeout_s, self._news_at - time.monotonic())
        if timeout_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()

    async def _is_burst_over(self) -> bool:
        """Nothing runs here and nothing waits in our queues."""
        if self._attempts or self._endings or not self._inbox.is_live:
            return False
        queues = await self.store.queues()
        waiting = (queues.get(name, {}) for name in self.info.queues)
        if any(queue.get("queued") or queue.get("scheduled") for queue in waiting):
            return False
        # What was handed over stands in no line, and may not be here yet: the follower of the job that has just ended.
        return not self._attempts and await self.store.handed(self.info.id) <= self._received

    def _is_at_limit(self) -> bool:
        max_jobs, max_time_s, max_memory_bytes = self._limits
        ended = self.jobs_complete + self.jobs_failed
        if (max_jobs is not None and ended >= max_jobs) or (
            max_time_s is not None and time.monotonic() - self._began >= max_time_s
        ):
            logger.info("limit reached after %d jobs: no more are taken", ended)
            return True
        if max_memory_bytes is not None and self._process.memory_info().rss > max_memory_bytes:
            logger.info("grown beyond the memory limit of a worker: no more jobs are taken")
            return True
        return False

    async def _drain(self) -> None:
        """Take nothing new; wait for running jobs, then give back what is left."""
        deadline = time.monotonic() + self.settings.drain
        with contextlib.suppress(StoreUnavailable):
            await self._await_handed(await self.store.leave(self.info.id))
        if self._attempts:
            logger.info("waiting up to %g s for %d running jobs", self.settings.drain, len(self._attempts))
        while (self._attempts or self._endings) and self._stop != "now" and time.monotonic() < deadline:
            try:
                await self._exchange(takes=False)
            except StoreUnavailable:
                await self._spool_endings()
                await asyncio.sleep(0.5)
                continue
            if self._attempts:
                self._wait_s = min(1.0, max(0.0, deadline - time.monotonic()))
                await self._sleep()
        for attempt in list(self._attempts.values()):
            attempt.is_released = True
            if runner := self.runners.get(attempt.claimed.spec.isolation):
                runner.kill(attempt.job_id)
        if self._runs:
            await asyncio.wait(self._runs, timeout=_KILL_LIMIT_S)
        told = {ended.job_id for ended in self._endings}
        for attempt in self._attempts.values():
            if not attempt.is_lost and attempt.job_id not in told:  # a thread that cannot be stopped, for instance
                self._endings.append(self._release(attempt))
        try:
            await self._exchange(takes=False)
        except StoreUnavailable:
            await self._spool_endings()

    async def _spool_endings(self) -> None:
        """Whatever becomes of this worker, how its attempts ended is not forgotten."""
        await asyncio.to_thread(self._spool.write, tuple(self._endings))

    async def _store_what_was_left(self) -> None:
        """Store how attempts of workers of this home ended that could not tell."""
        for name, endings in await asyncio.to_thread(list, self._spool.left()):
            for ended, answer in zip(endings, await self.store.finish(endings), strict=True):
                how = "comes too late: somebody else holds the job now" if answer == FENCED else "is stored"
                logger.info("job %s: that an earlier worker ended it (%s) %s", ended.job_id, ended.outcome, how)
            await asyncio.to_thread(self._spool.forget, name)

    async def _await_handed(self, handed: int) -> None:
        """Jobs that were handed over before nobody offered us any more may still be on their way: without them being
        run or given back, they would have to wait for their lease to end, and count as lost."""
        deadline = time.monotonic() + _HANDED_LIMIT_S
        while self._received < handed and time.monotonic() < deadline:
            if not self._inbox.is_live:
                return
            await asyncio.sleep(0.005)

    def _release(self, attempt: Attempt) -> Ending:
        return Ending(attempt.job_id, attempt.claimed.token, "released", reason=f"worker {self.info.id} was stopped")

    async def close(self) -> None:
        """Close connections. Replaces arq's, which knows only its own keys."""
        if self.on_shutdown:
            await self.on_shutdown(self.ctx)
        await self.store.close()

    def handle_sig(self, signum: signal.Signals) -> None:
        """First signal: finish running jobs. Second: give them back now."""
        self._ask_to_stop("now" if self._stop else "drain", signal.Signals(signum).name)

    def _ask_to_stop(self, how: str, why: str) -> None:
        logger.info("%s: %s", why, "finishing running jobs" if how == "drain" else "giving running jobs back")
        self._stop = how
        self._wake.set()

    # -- talking with the store ---------------------------------------------------------------------------------------

    async def _exchange(self, takes: bool = True) -> None:
        """One round trip: news, endings, and (where there is room) a claim."""
        self._wake.clear()
        endings, self._endings = self._endings, []
        is_due = not self._news and time.monotonic() >= self._news_at
        if self._has_news and (endings or is_due):
            self._has_news, self._news_at = False, time.monotonic()
            self._news += [n for attempt in self._attempts.values() if (n := attempt.take_news()) is not None]
            self._kept += [kept for attempt in self._attempts.values() for kept in attempt.take_kept()]
        running = len(self._attempts) - len(endings)
        free = self._free(running)
        claims = takes and not self._stop and self._inbox.is_live
        if not self._news and not self._kept and not endings and not claims:
            return
        try:
            answers, claimed, wait_s = await self.store.exchange(
                self._news, endings, (self.info, free, self._received) if claims else None, self._kept
            )
        except StoreUnavailable:
            self._endings = endings + self._endings
            raise
        self._wait_s, self._news, self._kept = wait_s, [], []
        if self._spool.is_filled:
            await self._spool_endings()
        for ended, answer in zip(endings, answers, strict=True):
            self._forget(ended.job_id, ended.token)
            if answer == FENCED:
                logger.warning("job %s: somebody else holds it now; this outcome was not stored", ended.job_id)
        self._launch_all(claimed)

    def _free(self, running: int) -> int:
        """How many more attempts may be taken."""
        free = self.slots - running
        if self._limits[0] is not None:  # the last jobs of a worker are not more than were allowed
            free = min(free, max(0, self._limits[0] - self.jobs_complete - self.jobs_failed - running))
        return free

    async def _reset_handover(self) -> None:
        """Nothing may be handed over while nobody listens; the next claim offers our free slots again."""
        self._received = 0
        await self.store.claim(self.info, 0, -1)

    def _on_message(self, message: bytes) -> None:
        kind = message[:1]
        if kind == b"J":
            self._received += 1
            try:
                claimed = read_claimed(message[1:])
            except ValueError as error:  # from somebody who may write to this Redis and is not jobkit
                logger.warning("a message to this worker is left out: %s", error)
                return
            self._launch(claimed)
        elif kind == b"C":
            self._cancel(message[1:].decode("utf-8", "replace"))
        elif kind == b"S":
            self._take_request(message[1:].decode())
        else:
            self._wake.set()

    # -- running ------------------------------------------------------------------------------------------------------

    def _launch_all(self, claimed: Sequence[Claimed]) -> None:
        """Start what was claimed: a first half now, the rest one turn of the loop later.

        Jobs that end at once would else all be in the same exchange, and then worker and server wait for each other in
        turns. So the endings of one half are with the server while the other half runs; that stays so by itself.
        """
        half = len(claimed) - len(claimed) // 2
        for job in claimed[:half]:
            self._launch(job)
        if rest := [self._hold(job) for job in claimed[half:]]:
            self.loop.call_soon(self.loop.call_soon, self._run_all, rest)

    def _launch(self, claimed: Claimed) -> None:
        self._run_all([self._hold(claimed)])

    def _hold(self, claimed: Claimed) -> tuple[Attempt, Attempt | None]:
        """From now on the job fills a slot, and its lease is renewed. With the attempt that it takes over from."""
        attempt = Attempt(claimed, self._note_news, self.filing)
        before = self._attempts.get(attempt.job_id)
        if before is not None:  # lost to a lapsed lease, and claimed again by ourselves
            self._abandon(before)
        self._attempts[attempt.job_id] = attempt
        return attempt, before

    def _run_all(self, held: Sequence[tuple[Attempt, Attempt | None]]) -> None:
        for attempt, before in held:
            attempt.run = self.loop.create_task(self._run_attempt(attempt, before))
            self._runs.add(attempt.run)
            attempt.run.add_done_callback(self._runs.discard)

    def _abandon(self, attempt: Attempt) -> None:
        attempt.is_lost = True
        runner = self.runners.get(attempt.claimed.spec.isolation)
        if runner is not None:
            runner.kill(attempt.job_id)

    def _forget(self, job_id: str, token: str) -> None:
        attempt = self._attempts.get(job_id)
        if attempt is not None and attempt.claimed.token == token:
            del self._attempts[job_id]

    async def _run_attempt(self, attempt: Attempt, before: Attempt | None) -> None:
        claimed = attempt.claimed
        spec = claimed.spec
        filed = self.filing.filed(claimed)
        if before is not None and before.run is not None:
            await asyncio.wait([before.run])
        try:
            runner = self.runners.get(spec.isolation)
            if runner is None:
                outcome = _refused(f"no worker here runs isolation {spec.isolation!r}")
            else:
                if claimed.attempt > 1:
                    await self.filing.continue_log(claimed)
                given = await self._needed(spec) if spec.needs else None
                assigned = assignment(claimed, self.codec, self.settings, filed, given=given)
                typical_s = self.durations.typical_s(spec.task)
                if typical_s is not None:
                    attempt.expect(typical_s)
                began = time.monotonic()
                outcome = await runner.run(assigned, attempt)
                if outcome.outcome == "succeeded":
                    self.durations.add(spec.task, time.monotonic() - began)
                await attempt.settle()
        except SignatureError as error:
            logger.warning("job %s rejected: %s", spec.id, error)
            outcome = rejected(error)
            self._rejected += 1
        except NeedMissing as error:
            outcome = lacking(error)
        except Exception as error:  # ours, not the user's: the job must end all the same, and say so
            logger.exception("job %s: jobkit failed to run it", spec.id)
            outcome = _refused(f"jobkit failed to run it: {type(error).__name__}: {error}")
        if attempt.is_lost:
            self._forget(spec.id, claimed.token)
            self._wake.set()
            return
        self._count(attempt, outcome)
        if attempt.is_released and outcome.outcome != "succeeded":
            ended = self._release(attempt)
        else:
            how = claimed, outcome, self.codec, self.settings, filed
            ended = await asyncio.to_thread(ending, *how) if filed and is_large(outcome) else ending(*how)
        # At a thousand jobs a second the line of each would cost more than the job; what went well is on record anyway.
        level = logging.DEBUG if ended.outcome == "succeeded" else logging.INFO
        logger.log(level, "job %s %s attempt %d: %s", spec.id, spec.task, claimed.attempt, ended.outcome)
        self._endings.append(ended)
        self._wake.set()

    async def _needed(self, spec: JobSpec) -> dict[str, tuple[bytes, bytes]]:
        """The results that a job needs; waits while the server does not answer, as its lease does."""
        while True:
            try:
                return await needed(self.store, spec, self.codec, self.filing.depot)
            except StoreUnavailable:
                await asyncio.sleep(_BACKOFF_S[-1])

    def _count(self, attempt: Attempt, outcome: Outcome) -> None:
        if outcome.outcome == "succeeded":
            self.jobs_complete += 1
        elif outcome.outcome not in ("released", "lost"):
            self.jobs_failed += 1

    def _note_news(self) -> None:
        """An attempt has something to tell: at once, or a window after the last news, with what others have."""
        if not self._has_news:
            self._has_news = True
            self._news_at = max(time.monotonic(), self._news_at + NEWS_WINDOW_S)
            self.loop.call_later(max(0.0, self._news_at - time.monotonic()), self._wake.set)

    def _cancel(self, job_id: str) -> None:
        attempt = self._attempts.get(job_id)
        if attempt is not None and not attempt.is_cancelled:
            attempt.is_cancelled = True
            self._ask_to_cancel(attempt)

    def _ask_to_cancel(self, attempt: Attempt) -> None:
        """Until it has ended: a runner does not know an attempt yet that it is about to start."""
        runner = self.runners.get(attempt.claimed.spec.isolation)
        if runner is not None and self._attempts.get(attempt.job_id) is attempt:
            runner.cancel(attempt.job_id)
            self.loop.call_later(_ASK_AGAIN_S, self._ask_to_cancel, attempt)

    # -- the heartbeat's thread ---------------------------------------------------------------------------------------

    def _held(self) -> dict[str, str]:
        return {job_id: attempt.claimed.token for job_id, attempt in list(self._attempts.items())}

    def _facts(self) -> dict[str, Any]:
        info = self.info
        return {
            "host": info.host,
            "pid": info.pid,
            "queues": ",".join(info.queues),
            "slots": info.slots,
            "running": len(self._attempts),
            "started": info.started_ms,
            "version": _version(),
            "python": info.python,
            "tasks": ",".join(info.tasks),
            "cpu": self._process.cpu_percent(),
            "rss": self._process.memory_info().rss,
            "done": self.jobs_complete + self.jobs_failed,
            "rejected": self._rejected,
            "draining": int(bool(self._stop)),
        }

    def _wiped_elsewhere(self) -> None:
        asyncio.run_coroutine_threadsafe(self.introduce(), self.loop)

    async def introduce(self) -> None:
        """Make its tasks known, and learn where its files go: at the start, and when the store has forgotten both."""
        await self.store.publish_tasks(self.definitions)
        await self.filing.start()

    def _renewed_elsewhere(self, renewal: Renewal) -> None:
        if self._watch is not None:
            for kind, job_ids in (("cancel", renewal.cancelled), ("kill", renewal.lost)):
                for job_id in job_ids:
                    self._watch.ask(job_id, kind)
        self.loop.call_soon_threadsafe(self._take_renewal, renewal)

    def _take_renewal(self, renewal: Renewal) -> None:
        ending_ids = {ended.job_id for ended in self._endings}
        for job_id in renewal.lost:
            attempt = self._attempts.get(job_id)
            if attempt is not None and job_id not in ending_ids:
                logger.warning("job %s: the lease is lost; its attempt here is stopped", job_id)
                self._abandon(attempt)
        for job_id in renewal.cancelled:
            self._cancel(job_id)
        if renewal.stop:
            self._take_request(renewal.stop)

    def _take_request(self, how: str) -> None:
        """Of `jobkit stop`; it may come twice, and a gentle one does not take a hard one back."""
        self.was_asked_to_stop = True
        if how != self._stop and self._stop != "now":
            self._ask_to_stop(how, "asked to stop")


def _refused(sentence: str) -> Outcome:
    return Outcome("failed", error=JobError(ErrorKind.REJECTED, "Rejected", sentence))


def _safe(name: str) -> str:
    """A host name as it may stand in a key."""
    return "".join(c if c.isalnum() or c in "_-" else "-" for c in name)[:60] or "host"


def _version() -> str:
    from jobkit import __version__

    return __version__
