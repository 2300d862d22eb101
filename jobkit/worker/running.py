"""`RunningJobs`: each claimed job as an attempt, from its start to how it ended.

Knows the runners and where a job's payload and files are. It does not change states in the store: endings and news wait
here for the worker's next exchange (`worker.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from jobkit.attempts import (
    assignment,
    delete_file,
    ending,
    is_large,
    located_parts,
    needed,
    prepared,
    refused,
)
from jobkit.codec import Codec
from jobkit.features import modules
from jobkit.model import ErrorKind, SignatureError, StoreUnavailable
from jobkit.model.errors import CannotStart
from jobkit.parts import PartStore
from jobkit.run.attempt import Outcome, Runner, failed, unstarted
from jobkit.run.process.leftovers import Orphans
from jobkit.run.shortage import shortage
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from jobkit.store.values import AWAITED_MOST, AttemptNews, Claimed, Ending, Kept, WorkerInfo
from jobkit.worker.about import DeviceAllocator, Durations, RetryPause
from jobkit.worker.attempt import RequestServer, RunningAttempt, Syncs
from jobkit.worker.capacity import Capacity
from jobkit.worker.job_files import JobFiles, note

T = TypeVar("T")


logger = logging.getLogger("jobkit.worker")

#: The first news of running jobs go out at once, later ones this long after those before them, so that a chatty job
#: costs a bounded number of round trips.
NEWS_WINDOW_S = 0.05

#: A request to stop is repeated to the runner this often, while the attempt is held.
_ASK_AGAIN_S = 0.2

#: Seconds for which a SIGTERM of a job's process may come before that of its worker.
_SAME_SIGNAL_S = 1.0

#: At most so many attempts, or so many for each slot, wait for other jobs at once. One that would be the next fails: a
#: chain of jobs each of which waits for the next would else take a process for each.
_WAITING_MOST, _WAITING_SHARE = 100, 10


class RunningJobs:
    """The attempts of one worker, and what of them the store does not know yet.

    Args:
        count: called with each attempt that ended here, lost ones aside.
        release: the ending of an attempt that the worker gives back.

    Attributes:
        attempts: by job id, from the claim until the store knows the ending.
        lenders: attempts that wait for other jobs and lend their slots, in the order in which they began to wait.
        endings: not yet stored. has_news, news_at: some attempt has news, which are due at this time (monotonic).
        wake: set when there is something to say to the store, or to ask it.
        stopping: set when the worker was asked to stop.
        longest_s: the longest run of a job that succeeded here, of those that could not have gone on elsewhere.
        admit: starts those held attempts that may start now: all of them, unless set.
    """

    def __init__(
        self,
        settings: Settings,
        info: WorkerInfo,
        runner: Runner,
        codec: Codec,
        store: RedisStore,
        pause: RetryPause,
        *,
        count: Callable[[RunningAttempt, Outcome], None],
        release: Callable[[RunningAttempt], Ending],
    ) -> None:
        self._settings, self._info, self._codec = settings, info, codec
        self._store, self._pause = store, pause
        self._count, self.release = count, release
        self.job_files = JobFiles(settings, store, codec)
        self._parts = PartStore(store, lambda: self.job_files.file_store)
        self.requests = RequestServer(store, codec, pause)
        self.syncs = Syncs(self._hurry)
        self.durations = Durations(store)
        self.around = [module.around(settings, info.id, store, codec) for module in modules("attempts")]
        self.runner = runner
        self.capacity = Capacity(info.slots, runner.room)
        self._devices = DeviceAllocator(info.resources)
        self.attempts: dict[str, RunningAttempt] = {}
        self.lenders: dict[RunningAttempt, None] = {}
        self.runs: set[asyncio.Task[None]] = set()
        self.endings: list[Ending] = []
        self.rejected = 0
        self.stopping = asyncio.Event()
        self.longest_s = 0.0
        self.wake = asyncio.Event()
        self.has_news = False
        self.news_at = 0.0
        self.admit: Callable[[Sequence[RunningAttempt]], None] = self.start
        self._orphans = Orphans()

    def launch_all(self, claimed: Sequence[Claimed]) -> None:
        """Start what was claimed: a first half now, the rest one turn of the loop later.

        Jobs that end at once would else all be in the same exchange, and then worker and server wait for each other in
        turns. So the endings of one half are with the server while the other half runs; that stays so by itself.
        """
        half = len(claimed) - len(claimed) // 2
        for job in claimed[:half]:
            self.launch(job)
        if rest := [self._hold(job) for job in claimed[half:]]:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self.admit, rest)

    def launch(self, claimed: Claimed) -> None:
        self.admit([self._hold(claimed)])

    def _hold(self, claimed: Claimed) -> RunningAttempt:
        """From now on the job fills a slot, and its lease is renewed."""
        before = self.attempts.get(claimed.spec.id)
        if before is not None:  # lost to a lapsed lease, and claimed again by ourselves
            self.abandon(before)
        services = self.job_files, self._lend, self.requests, self.syncs
        attempt = RunningAttempt(claimed, self._note_news, *services, before)
        self.attempts[attempt.job_id] = attempt
        return attempt

    def _lend(self, attempt: RunningAttempt) -> None:
        """An attempt waits for other jobs now, or goes on."""
        self.lenders.pop(attempt, None)
        if not attempt.awaited or self.attempts.get(attempt.job_id) is not attempt:
            return
        most = max(_WAITING_MOST, _WAITING_SHARE * self._info.slots)
        if len(self.lenders) >= most:
            attempt.refusal = (
                f"it waits for job {attempt.awaited[0]} while {most} jobs of its worker wait for others already: jobs "
                "that wait for jobs are nested too deep; pass a job as an argument of the next one instead"
            )
            self.runner.stop(attempt.job_id, "kill")
            return
        self.lenders[attempt] = None
        self.wake.set()

    def start(self, attempts: Sequence[RunningAttempt]) -> None:
        for attempt in attempts:
            self.begin(attempt, self.run(attempt))

    def begin(self, attempt: RunningAttempt, run: Coroutine[Any, Any, None]) -> None:
        """Execute an attempt by a coroutine."""
        attempt.run = asyncio.get_running_loop().create_task(run)
        self.runs.add(attempt.run)
        attempt.run.add_done_callback(self.runs.discard)

    def abandon(self, attempt: RunningAttempt) -> None:
        attempt.is_lost = True
        attempt.stop_beginning()
        self.runner.stop(attempt.job_id, "kill")

    def of(self, job_ids: Sequence[str], held: Mapping[str, str]) -> list[RunningAttempt]:
        """Return the attempts with these tokens that go on. A heartbeat may be late: one that has ended meanwhile is
        not lost, nor is the next attempt at its job."""
        ending_ids = {ended.job_id for ended in list(self.endings)}
        found = [self.attempts.get(job_id) for job_id in job_ids if job_id not in ending_ids]
        return [a for a in found if a is not None and a.claimed.token == held[a.job_id] and not a.has_ended]

    def forget(self, job_id: str, token: str) -> RunningAttempt | None:
        """Remove an attempt, and return it if it was held."""
        attempt = self.attempts.get(job_id)
        if attempt is None or attempt.claimed.token != token:
            return None
        del self.attempts[job_id]
        self.lenders.pop(attempt, None)
        return attempt

    async def run(self, attempt: RunningAttempt) -> None:
        claimed = attempt.claimed
        spec = claimed.spec
        folder = self.job_files.folder(claimed)
        before, attempt.before = attempt.before, None
        if before is not None and before.run is not None:
            await asyncio.wait([before.run])
        try:
            if not self._codec.has_key_of(claimed.payload):
                await self._once_reachable(asyncio.to_thread, self._codec.renew)
            if claimed.losses:  # to a worker of this machine, perhaps
                await self._orphans.end()
            if claimed.attempt > 1:
                await self.job_files.continue_log(claimed)
                await self._once_reachable(attempt.go_on, self._store)
            given = None
            said: dict[str, Any] = {}
            if spec.needs:
                files = self.job_files.file_store
                given = await self._once_reachable(needed, self._store, spec, self._codec, files)
            if spec.has_parts:
                attempt.located = await self._once_reachable(located_parts, claimed, self._codec, self._parts)
            for each in self.around:
                said |= await self._once_reachable(each.begin, attempt)
            about = self._store, claimed, self._codec, self._settings, self.job_files.file_store
            of_features = await self._once_reachable(prepared, *about)
            attempt.typical_s = self.durations.typical_s(spec.timed_as)
            if attempt.typical_s is not None:  # tell how long it will probably take
                attempt.progress(None, None, "")
            async with self._devices.taken(spec.resources) as environ:
                assigned = assignment(
                    claimed,
                    self._codec,
                    self._settings,
                    folder,
                    given=given,
                    environ=environ,
                    located=attempt.located,
                    environment=attempt.environment,
                    prepared=of_features,
                )
                began = time.monotonic()
                outcome = await self.runner.run(assigned, attempt)
            if said:
                outcome = replace(outcome, usage={**outcome.usage, **said})
            if outcome.outcome == "succeeded" and "resumed" not in attempt._more:
                self.durations.add(spec.timed_as, ran_s := time.monotonic() - began)
                if not attempt.is_resumable:
                    self.longest_s = max(self.longest_s, ran_s)
            await attempt.settle()
        except SignatureError as error:
            logger.warning("job %s rejected: %s", spec.id, error)
            outcome = refused(error)
            self.rejected += 1
        except CannotStart as error:
            outcome = refused(error)
        except BaseException as error:  # ours, not the user's: the job must end all the same, and say so
            task = asyncio.current_task()
            if isinstance(error, GeneratorExit) or (task is not None and task.cancelling()):
                raise  # the loop is closed
            if attempt.beginning is not None and attempt.beginning.cancelled():
                outcome = Outcome("cancelled")
            else:
                outcome = unstarted(why) if (why := shortage(error)) else self._failure(spec.id, error)
        if outcome.outcome == "unstarted":
            self.capacity.fell_short(outcome.reason, len(self.attempts) - len(self.endings) - 1)
        if outcome.error is not None and (outcome.error.kind, outcome.error.type) == (ErrorKind.CRASH, "SIGTERM"):
            attempt.is_released = attempt.is_released or await self._is_stopped_with_worker()
        self.lenders.pop(attempt, None)
        self.requests.end(claimed)
        attempt.sum_up()
        is_refused = bool(attempt.refusal) and outcome.outcome != "succeeded"
        if outcome.file and attempt.is_lost:
            await asyncio.to_thread(delete_file, outcome)
        if attempt.is_lost:
            await self.job_files.clear_lost(claimed)
            self.forget(spec.id, claimed.token)
            self.wake.set()
            return
        problem = await self.job_files.hand_in_log(claimed)
        if problem:
            attempt.lines([note(problem)])
        if is_refused:
            outcome = failed(ErrorKind.REJECTED, "Rejected", attempt.refusal)
        self._count(attempt, outcome)
        yields = attempt.is_yielding and not attempt.is_cancelled and outcome.outcome == "cancelled"
        if yields or (attempt.is_released and outcome.outcome != "succeeded" and not is_refused):
            ended = self.release(attempt)
        else:
            is_slow = is_large(outcome)  # to write, or to sign
            ended = await asyncio.to_thread(self.end, attempt, outcome) if is_slow else self.end(attempt, outcome)
        if problem == "" or (problem and ended.outcome not in ("released", "retried")):  # else the next attempt has it
            await self.job_files.clear_staging(claimed)
        if ended.problem:
            logger.warning("job %s: %s", spec.id, ended.problem)
            attempt.lines([note(ended.problem)])
        if attempt.given is not None:
            ended = replace(ended, given=attempt.given)
        # At a thousand jobs a second the line of each would cost more than the job; what went well is on record anyway.
        level = logging.DEBUG if ended.outcome == "succeeded" else logging.INFO
        logger.log(level, "job %s %s attempt %d: %s", spec.id, spec.task, claimed.attempt, ended.outcome)
        self.endings.append(ended)
        self.wake.set()

    async def _is_stopped_with_worker(self) -> bool:
        """Return whether the SIGTERM of a job's process was one to all processes of the worker, as of `scancel`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SAME_SIGNAL_S):
                await self.stopping.wait()
        return self.stopping.is_set()

    @staticmethod
    def _failure(job_id: str, error: BaseException) -> Outcome:
        logger.exception("job %s: jobkit failed to run it", job_id)
        return failed(ErrorKind.REJECTED, "Rejected", f"jobkit failed to run it: {type(error).__name__}: {error}")

    async def _once_reachable(self, read: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Return what a job needs; waits while the server does not answer, as its lease does."""
        failures = 0
        while True:
            try:
                return await read(*args)
            except StoreUnavailable:
                await self._pause.wait(failures)
                failures += 1

    def end(self, attempt: RunningAttempt, outcome: Outcome) -> Ending:
        """Return what is stored of an attempt that ended so. Blocks if `is_large(outcome)`."""
        claimed = attempt.claimed
        ended = ending(claimed, outcome, self._codec, self._settings, self.job_files.folder(claimed))
        for each in self.around:
            each.note(claimed.spec, ended)
        return ended

    def give_back(self) -> None:
        """Add an ending for each attempt that is still here: a thread that cannot be stopped, for instance."""
        told = {ended.job_id for ended in self.endings}
        for attempt in self.attempts.values():
            if not attempt.is_lost and attempt.job_id not in told:
                self.endings.append(self.release(attempt))

    async def kill_all(self, limit_s: float) -> None:
        """Stop all attempts, which are given back; returns when they have ended, at the latest after `limit_s`."""
        self.job_files.give_up()
        for attempt in list(self.attempts.values()):
            attempt.is_released = True
            attempt.stop_beginning()
            self.runner.stop(attempt.job_id, "kill")
        if self.runs:
            await asyncio.wait(self.runs, timeout=limit_s)

    def take_news(self) -> tuple[list[AttemptNews], list[Kept]]:
        """Return what attempts have reported and kept since the last call."""
        self.has_news, self.news_at = False, time.monotonic()
        every: list[AttemptNews] = []
        kept: list[Kept] = []
        for attempt in self.attempts.values():
            if (news := attempt.take_news()) is not None:
                every.append(news)
            kept += attempt.kept
            attempt.kept = []
        self.syncs.take()
        return every, kept

    def awaited(self) -> list[str]:
        """Return the jobs that attempts wait for, those of the newest wait first."""
        newest = itertools.chain.from_iterable(attempt.awaited for attempt in reversed(self.lenders))
        return list(dict.fromkeys(itertools.islice(newest, AWAITED_MOST)))

    def _note_news(self) -> None:
        """An attempt has something to tell: at once, or a window after the last news, with what others have."""
        if not self.has_news:
            self.has_news = True
            self.news_at = max(time.monotonic(), self.news_at + NEWS_WINDOW_S)
            asyncio.get_running_loop().call_later(max(0.0, self.news_at - time.monotonic()), self.wake.set)

    def _hurry(self) -> None:
        """News are due now, without a window: an attempt waits until they are stored."""
        self.has_news, self.news_at = True, min(self.news_at, time.monotonic())
        self.wake.set()

    def ask(self, job_id: str) -> None:
        """A user asks a job to stop at a safe point, and after its grace in any case."""
        attempt = self.attempts.get(job_id)
        if attempt is not None and not attempt.is_asked and not attempt.is_cancelled:
            grace_s = attempt.claimed.spec.cancel_grace_s
            attempt.is_asked = True
            self._request(attempt, "ask")
            loop = asyncio.get_running_loop()
            loop.call_later(self._settings.cancel_grace if grace_s is None else grace_s, self._cancel, attempt)

    def ask_all(self) -> None:
        """The worker stops: jobs that can go on elsewhere do so, unless they must not run twice."""
        for attempt in self.attempts.values():
            if attempt.is_resumable and not attempt.is_asked and attempt.claimed.spec.on_lost != "fail":
                attempt.is_asked = attempt.is_yielding = True
                self._request(attempt, "ask")

    def cancel(self, job_id: str) -> None:
        if (attempt := self.attempts.get(job_id)) is not None:
            self._cancel(attempt)

    def _cancel(self, attempt: RunningAttempt) -> None:
        if not attempt.is_cancelled:
            attempt.is_cancelled = True
            self._request(attempt, "cancel")

    def _request(self, attempt: RunningAttempt, kind: str) -> None:
        """Request a stop until it has ended: a runner does not know an attempt yet that it is about to start."""
        if self.attempts.get(attempt.job_id) is attempt and not attempt.has_ended:
            if kind == "cancel":
                attempt.stop_beginning()
            self.runner.stop(attempt.job_id, kind)
            asyncio.get_running_loop().call_later(_ASK_AGAIN_S, self._request, attempt, kind)
