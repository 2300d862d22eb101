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
import math
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import arq.worker

from jobkit.features import modules
from jobkit.keys import codec_of
from jobkit.model import StoreUnavailable
from jobkit.run.attempt import Outcome, Runner
from jobkit.run.watch import LoopWatch
from jobkit.settings import Settings
from jobkit.store.library import delete_unused
from jobkit.store.redis import RedisStore
from jobkit.store.values import DAMAGED, FENCED, AttemptNews, Ending, Kept, Renewal
from jobkit.system.hardware import GpuReader
from jobkit.worker.about import STOPS, RecycleLimits, RetryPause, identify, lasting_facts
from jobkit.worker.attempt import RunningAttempt, newest
from jobkit.worker.blocked_loop import attend
from jobkit.worker.helpers import Helpers, end
from jobkit.worker.inbox import WorkerInbox
from jobkit.worker.lease import LeaseKeeper, OutageLog
from jobkit.worker.load import LoadSampler
from jobkit.worker.running import RunningJobs
from jobkit.worker.spool import Spool, store_left
from jobkit.worker.walltime import Walltime, end_when_idle

logger = logging.getLogger("jobkit.worker")

#: Look for due work this often even if nothing woke us: a net under the wake-ups, not how they work.
SAFETY_POLL_S = 5.0

#: Seconds to wait at the end for jobs that are on their way to us, and for attempts that were killed; and between
#: questions of a worker that starts while the server is away.
_HANDED_LIMIT_S, _KILL_LIMIT_S, _AWAY_S = 1.0, 10.0, 0.5


async def _never(ctx: dict[Any, Any]) -> None:
    """arq's constructor wants a function; jobkit's tasks come from the registry."""


class JobWorker(arq.worker.Worker):
    """Runs jobkit's jobs.

    Args:
        queues, slots, resources, burst, recycle: see `run_worker`. walltime: its end by its engine.
        idle_s: it ends after so long without a job, see `end_when_idle`; None for never.
        tasks: names to show to others. introduce: makes them known, with the schedules in their code.
        watch: of the loop that coroutines share with the worker.
        revive: called in a thread after a cut. Starts an embedded server again that has died; returns False if its home
            is gone, with which this worker ends.
        functions, arq_options: what else `arq.worker.Worker` takes, such as `on_startup`, `ctx`, `handle_signals`.
    """

    def __init__(
        self,
        settings: Settings,
        runner: Runner,
        *,
        queues: Sequence[str] | Mapping[str, float] = ("default",),
        slots: int = 10,
        resources: Mapping[str, float] | None = None,
        burst: bool = False,
        recycle: RecycleLimits | None = None,
        walltime: Walltime | None = None,
        idle_s: float | None = None,
        tasks: Sequence[str] = (),
        introduce: Callable[[JobWorker], Awaitable[None]] | None = None,
        functions: Sequence[Any] = (_never,),
        watch: LoopWatch | None = None,
        revive: Callable[[], bool] | None = None,
        **arq_options: Any,
    ) -> None:
        info = identify(queues, slots, tasks, resources)
        arq_options |= {"queue_name": info.queues[0], "burst": burst, "max_jobs": slots}
        super().__init__(functions, **arq_options)
        self.settings, self.info, self.codec = settings, info, codec_of(settings)
        self.store = RedisStore(settings)
        self.helpers = Helpers(lambda: self._ask_to_stop(self._stop or "drain", "a part has failed"))
        self.pause = RetryPause()
        self.running = RunningJobs(
            settings, info, runner, self.codec, self.store, self.pause, count=self._count, release=self._release
        )
        self._introduce = introduce
        self._is_unknown = asyncio.Event()
        self._is_unknown.set()
        self.recycle = recycle or RecycleLimits()
        self.walltime, self._idle_s = walltime or Walltime(), idle_s
        self._outages = OutageLog()
        self._spool = Spool(settings, self.codec, self.info.id)
        self._news: list[AttemptNews] = []  # taken from attempts, not yet stored
        self._kept: list[Kept] = []
        self._wait_s = math.inf
        gpus = GpuReader(int(info.resources.get("gpu", 0)))
        self._load = LoadSampler(runner.trees, gpus, settings.heartbeat)
        self._stop = ""  # one of `STOPS`
        self.was_asked_to_stop = False  #: by `jobkit workers stop`: who keeps this process shall not start it again
        self._watch, self._revive = watch, revive
        self._beside = [module.beside(self.store, self.codec, self.pause) for module in modules("beside")]
        self._revoked: StoreUnavailable | None = None
        self.inbox = WorkerInbox(
            self.store,
            info,
            self.running,
            self._beside,
            self.pause,
            on_stop=self._take_request,
            on_cut=self._revive_server,
        )

    # -- life -------------------------------------------------------------------------------------------------------

    async def main(self) -> None:
        """Serve until asked to stop. Replaces arq's loop."""
        keeper = LeaseKeeper(
            self.settings,
            self.info.id,
            held=self._held,
            facts=self._facts,
            barred=set() if self._watch is None else self._watch.barred,
            on_beat=lambda: self.loop.call_soon_threadsafe(self.pause.end),
            on_renewal=self._renewed_elsewhere,
            on_revoked=lambda error: self.loop.call_soon_threadsafe(self._is_revoked, error),
            on_wiped=lambda: self.loop.call_soon_threadsafe(self._is_unknown.set),
            on_failure=lambda error: self.loop.call_soon_threadsafe(self.helpers.fail, "heartbeat", error),
            outages=self._outages,
        )
        if self._watch is not None:
            attend(self._watch, self.info, self.store, self.running, keeper, lambda: self.inbox.received, self.walltime)
        starting = self.loop.create_task(self.running.runner.start(), name="jobkit-runner")  # beside the introduction
        try:
            await self._begin(keeper)
            keeper.start()
            self._load.start()
            await starting
            if self.on_startup:
                await self.on_startup(self.ctx)
            if self.burst:  # which is over when nothing waits: first what is due, then the look at the queues
                with contextlib.suppress(StoreUnavailable):
                    for each in self._beside:
                        await each.look()
            helpers = [
                self.helpers.run("inbox", self.inbox.read()),
                self.helpers.run("removal of files", self.running.job_files.tidy()),
                self.helpers.run("durations", self.running.durations.keep(self.settings.heartbeat)),
                *(self.helpers.run(each.name, each.keep()) for each in (*self._beside, *self.running.around)),
                self.helpers.run("introduction", self._introduce_later()),
                self.helpers.run("walltime", self.walltime.keep(self.running, self.stop_gently)),
            ]
            if self._idle_s is not None:
                ending = end_when_idle(self._idle_s, self.info.id, self.store, self._ended_if_idle)
                helpers.append(self.helpers.run("end when idle", ending))
            try:
                await self._serve()
            finally:
                await end(helpers)
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            self._load.stop()
            await self.running.runner.close()
            await self.loop.run_in_executor(None, keeper.stop)
            with contextlib.suppress(StoreUnavailable):
                await self.running.durations.store()
                for around in self.running.around:
                    await around.store()
                await self.store.leave(self.info.id)

    async def _begin(self, keeper: LeaseKeeper) -> None:
        """Make itself known, once the server answers: it may come up later than the worker, or be away just now.

        Raises StoreUnavailable if waiting would not help, and in burst mode, whose users wait themselves.
        """
        while not self._stop:
            try:
                await self.store.ping()
                await self.loop.run_in_executor(None, keeper.beat)
                with self.store.reaching():
                    await delete_unused(self.store.redis)
                await self.running.job_files.start()
                await store_left(self._spool, self.store)
                await self.introduce()
                self._is_unknown.clear()
                return
            except StoreUnavailable as error:
                if keeper.is_full:  # it takes no tasks, but lets those jobs run that it has
                    return
                if self.burst or error.is_refusal:
                    raise
                self._outages.met(error)
                await self._revive_server()
                await asyncio.sleep(_AWAY_S)

    async def _revive_server(self) -> None:
        if self._revive is not None and not await asyncio.to_thread(self._revive):
            self.was_asked_to_stop = True
            self._ask_to_stop("now", f"the home {self.settings.home} was deleted")

    async def _serve(self) -> None:
        failures = 0
        while not self._stop:
            try:
                await self._exchange()
                failures = 0
            except StoreUnavailable as error:
                if self._is_revoked(error):
                    break
                self._outages.met(error)
                await self._spool_endings()
                await self.pause.wait(failures)
                failures += 1
                continue
            except Exception as error:
                self.helpers.fail("exchange with Redis", error)
                break
            if self._is_at_limit() or (self.burst and await self._is_burst_over()):
                break
            await self._sleep()
        await self._drain()
        if self._revoked is not None:
            raise self._revoked

    def _is_revoked(self, error: Exception) -> bool:
        """Return True if this machine was revoked: then the worker stops at once, since its jobs run elsewhere."""
        if isinstance(error, StoreUnavailable) and error.is_revoked:
            self._stop, self._revoked = "now", error
            self.running.wake.set()
        return self._revoked is not None

    async def _sleep(self) -> None:
        """Until there is something to say to the store: a wake-up, an ending, news, or the next due time."""
        if self.running.endings or self.running.wake.is_set():
            return
        timeout_s = min(self._wait_s, SAFETY_POLL_S)
        if self.running.has_news:
            timeout_s = min(timeout_s, self.running.news_at - time.monotonic())
        if timeout_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self.running.wake.wait()

    async def _is_burst_over(self) -> bool:
        """Nothing runs here, nothing waits in our queues, and nothing is left over."""
        if self.running.attempts or self.running.endings or self.store.has_left or not self.inbox.is_listening:
            return False
        queues = await self.store.queues()
        waiting = (queues.get(name, {}) for name in self.info.queues)
        if any(queue.get("queued") or queue.get("scheduled") for queue in waiting):
            return False
        # What was handed over stands in no line, and may not be here yet: the follower of the job that has just ended.
        return not self.running.attempts and await self.store.handed(self.info.id) <= self.inbox.received

    def _is_at_limit(self) -> bool:
        return self.recycle.is_used_up(self._ended)

    async def _drain(self) -> None:
        """Take nothing new; wait for running jobs, then give back what is left."""
        deadline = math.inf
        with contextlib.suppress(StoreUnavailable):
            await self._await_handed(await self.store.leave(self.info.id, stays=bool(self.running.attempts)))
        if self.running.attempts:
            limit = "without a limit" if self._stop == "retire" else f"up to {self.settings.drain:g} s"
            logger.info("waiting %s for %d running jobs", limit, len(self.running.attempts))
        while (self.running.attempts or self.running.endings) and self._stop != "now" and time.monotonic() < deadline:
            if self._stop != "retire":  # perhaps only now: a retiring worker is stopped
                deadline = min(deadline, time.monotonic() + self.settings.drain, self.walltime.releases)
                self.running.ask_all()
            if not await self._tell():
                await asyncio.sleep(0.5)
            elif self.running.attempts:
                self._wait_s = min(1.0, max(0.0, deadline - time.monotonic()))
                await self._sleep()
        self.walltime.refuse(self.running)
        await self.running.kill_all(_KILL_LIMIT_S)
        self.running.give_back()
        await self._tell(lends=False)

    async def _tell(self, lends: bool = True) -> bool:
        """Exchange without taking jobs from the lines; False if that fails: then the endings are on disk."""
        try:
            await self._exchange(takes=False, lends=lends)
            return True
        except Exception as error:
            if not isinstance(error, StoreUnavailable):
                self.helpers.fail("exchange with Redis", error)
            if not self._is_revoked(error):
                await self._spool_endings()
            return False

    async def _spool_endings(self) -> None:
        """Whatever becomes of this worker, how its attempts ended is not forgotten."""
        await self._spool.keep(tuple(self.running.endings), tuple(self._news), tuple(self._kept))

    async def _await_handed(self, handed: int) -> None:
        """Wait for jobs that were handed over before this worker left the lines. If they were neither run nor given
        back, they would wait for their lease to end, and count as lost."""
        deadline = time.monotonic() + _HANDED_LIMIT_S
        while self.inbox.received < handed and time.monotonic() < deadline:
            if not self.inbox.is_listening:
                return
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        """Close connections. Replaces arq's, which knows only its own keys."""
        if self.on_shutdown:
            await self.on_shutdown(self.ctx)
        await self.store.close()

    def handle_sig(self, signum: signal.Signals) -> None:
        """First signal: finish running jobs. Second: give them back now."""
        self._ask_to_stop("now" if self._stop in ("drain", "now") else "drain", signal.Signals(signum).name)

    def hang_up(self) -> None:
        """Stop as after a SIGTERM, but never as after two: a closed terminal may send SIGHUP twice."""
        if not self._stop:
            signal.raise_signal(signal.SIGTERM)

    def stop_gently(self, how: str, why: str) -> None:
        """Stop in one of `STOPS`, unless it stops already like that or less gently."""
        if STOPS.index(how) > STOPS.index(self._stop):
            self._ask_to_stop(how, why)

    def _ask_to_stop(self, how: str, why: str) -> None:
        logger.info("%s: %s", why, "giving running jobs back" if how == "now" else "finishing running jobs")
        self._stop = how
        self.running.stopping.set()
        self.running.wake.set()

    # -- talking with the store ---------------------------------------------------------------------------------------

    async def _exchange(self, takes: bool = True, lends: bool = True) -> None:
        """One round trip: news, endings, and (if there is room) a claim.

        Args:
            takes: also of jobs from the lines. lends: also of jobs that jobs of this worker wait for.
        """
        self.running.wake.clear()
        endings, self.running.endings = self.running.endings, []
        is_due = not self._news and time.monotonic() >= self.running.news_at
        if self.running.has_news and (endings or is_due):
            news, kept = self.running.take_news()
            self._news += news
            self._kept = newest([*self._kept, *kept])
        free = self._free(running := len(self.running.attempts) - len(endings))
        awaited, lent = self.running.awaited(), max(0, self.info.slots - running + len(self.running.lenders))
        received = self.inbox.received
        if not takes or self._stop:
            # It has left the lines. But its jobs cannot end before those that they wait for.
            free = received = 0
            takes = lends and bool(awaited) and self._stop != "now"
        claims = takes and self.inbox.is_listening
        if not self._news and not self._kept and not endings and not claims:
            self.running.syncs.end()
            self._wait_s = float("inf")
            return
        try:
            answers, claimed, wait_s = await self.store.exchange(
                self._news, endings, (self.info, free, received, awaited, lent, running) if claims else None, self._kept
            )
        except Exception:
            self.running.endings = endings + self.running.endings
            raise
        self._wait_s, self._news, self._kept = wait_s, [], []
        self.running.syncs.end()
        if self._spool.written:
            await self._spool_endings()
        for ended, answer in zip(endings, answers, strict=True):
            attempt = self.running.forget(ended.job_id, ended.token)
            if attempt is not None and attempt.on_stored is not None:
                attempt.on_stored()
            if answer == FENCED:
                logger.warning("job %s: another attempt holds it now; this outcome was not stored", ended.job_id)
            elif answer == DAMAGED:
                sentence = "job %s: its data are damaged, and its outcome (%s) could not be stored: see `jobkit doctor`"
                logger.error(sentence, ended.job_id, ended.outcome)
        self.running.launch_all(claimed)

    def _free(self, running: int) -> int:
        """Return how many more attempts may be taken from the queues.

        Lent slots count as free, but at most as many as the worker has: an attempt that has waited goes on at once, and
        until others end both run side by side.
        """
        free = min(self.info.slots + len(self.running.lenders), 2 * self.info.slots) - running
        free = self.running.capacity.room(free, running, self.running.runner.room)
        return self.recycle.room(free, self._ended + running)

    def _count(self, attempt: RunningAttempt, outcome: Outcome) -> None:
        if outcome.outcome == "succeeded":
            self.jobs_complete += 1
        elif outcome.outcome not in ("released", "unstarted", "lost", "asked"):
            self.jobs_failed += 1

    def _release(self, attempt: RunningAttempt) -> Ending:
        why = "reached the end of its walltime" if self.walltime.is_ending else "was stopped"
        return Ending(attempt.job_id, attempt.claimed.token, "released", reason=f"worker {self.info.id} {why}")

    # -- the heartbeat's thread ---------------------------------------------------------------------------------------

    @property
    def _ended(self) -> int:
        return self.jobs_complete + self.jobs_failed

    def _ended_if_idle(self) -> int | None:
        return None if self.running.attempts else self._ended

    def _held(self) -> dict[str, str]:
        return {job_id: attempt.claimed.token for job_id, attempt in list(self.running.attempts.items())}

    def _facts(self) -> dict[str, Any]:
        """Return the fields of the worker's record that each heartbeat stores."""
        return {
            **lasting_facts(self.info),
            **self._load.facts(),
            "running": len(self.running.attempts) - len(self.running.lenders),
            "done": self._ended,
            "rejected": self.running.rejected,
            "problem": self.running.capacity.problem,
            "draining": int(bool(self._stop)),
            "keys": ",".join(self.codec.key_ids),
        }

    async def introduce(self) -> None:
        """Make its tasks known, and learn where its files go: at the start, and when the store has forgotten both."""
        await self.running.job_files.start()
        if self._introduce is not None:
            await self._introduce(self)

    async def _introduce_later(self) -> None:
        """Make known what a full store did not take at the start, and everything again when the store was wiped."""
        while await self._is_unknown.wait():
            with contextlib.suppress(StoreUnavailable):  # the heartbeat says it
                await self.introduce()
                self._is_unknown.clear()
                continue
            await asyncio.sleep(_AWAY_S)

    def _renewed_elsewhere(self, renewal: Renewal, held: Mapping[str, str]) -> None:
        if self._watch is not None:
            lost = [attempt.job_id for attempt in self.running.of(renewal.lost, held)]
            for kind, job_ids in (("cancel", renewal.cancelled), ("kill", lost)):
                for job_id in job_ids:
                    self._watch.ask(job_id, kind)
        self.loop.call_soon_threadsafe(self._take_renewal, renewal, held)

    def _take_renewal(self, renewal: Renewal, held: Mapping[str, str]) -> None:
        for attempt in self.running.of(renewal.lost, held):
            logger.warning("job %s: the lease is lost; its attempt here is stopped", attempt.job_id)
            self.running.abandon(attempt)
        for job_id in renewal.cancelled:
            self.running.cancel(job_id)
        for job_id in renewal.asked:
            self.running.ask(job_id)
        if renewal.stop:
            self._take_request(renewal.stop)

    def _take_request(self, how: str) -> None:
        """Serve a request to stop, like that of `jobkit workers stop`. A gentle request does not undo a hard one."""
        if how not in STOPS[1:]:
            logger.warning("an unknown request to stop is left out: %.100r", how)
            return
        self.was_asked_to_stop = True
        self.stop_gently(how, "asked to stop")
