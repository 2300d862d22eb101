"""What a worker runs: each claimed job as an attempt, from its start to how it ended.

Knows the runners and where a job's payload and files are; does not speak with the store about states: endings and news
wait here for the worker's next exchange (`worker.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import arq.worker

from jobkit.attempts import NeedMissing, assignment, ending, is_large, lacking, needed, rejected
from jobkit.codec import Codec
from jobkit.model import ErrorKind, JobError, JobSpec, SignatureError, StoreUnavailable
from jobkit.run.base import Outcome, Runner
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from jobkit.store.values import Claimed, Ending, WorkerInfo
from jobkit.worker.attempt import Attempt
from jobkit.worker.durations import Durations
from jobkit.worker.job_files import JobFiles
from jobkit.worker.shares import DeviceAllocator

logger = logging.getLogger("jobkit.worker")

#: The first news of running jobs go out at once, later ones this long after those before them, so that a chatty job
#: costs a bounded number of round trips.
NEWS_WINDOW_S = 0.05

#: A request to stop is repeated to the runner this often, while the attempt is held.
_ASK_AGAIN_S = 0.2

#: At most so many attempts, or so many for each slot, wait for other jobs at once. One that would be the next fails: a
#: chain of jobs each of which waits for the next would else take a process for each.
_WAITING_MOST, _WAITING_SHARE = 100, 10

#: Between questions for the results that a job needs, while the server is away.
_NEEDS_AGAIN_S = 5.0


class RunningWorker(arq.worker.Worker):
    """The half of `Worker` that runs attempts.

    Args:
        settings: URL, namespace and times.
        info: who it is.
        runners: isolation to runner; a job with another isolation is rejected.
        codec: verifies payloads, seals results.
        functions, arq_options: for `arq.worker.Worker`.
    """

    def __init__(
        self,
        settings: Settings,
        info: WorkerInfo,
        runners: Mapping[str, Runner],
        codec: Codec,
        functions: Sequence[Any],
        **arq_options: Any,
    ) -> None:
        super().__init__(functions, **arq_options)
        self.settings = settings
        self.info = info
        self.codec = codec
        self.store = RedisStore(settings)
        self.job_files = JobFiles(settings, self.store, self.codec)
        self.durations = Durations(self.store)
        self.runners = dict(runners)
        self.shares = DeviceAllocator(info.resources)
        self._attempts: dict[str, Attempt] = {}
        self._lenders: dict[Attempt, None] = {}
        """Attempts that wait for other jobs and lend their slots, in the order in which they began to wait."""
        self._runs: set[asyncio.Task[None]] = set()
        self._endings: list[Ending] = []
        self._rejected = 0
        self._wake = asyncio.Event()
        """There is something to say to the store, or to ask it."""
        self._has_news = False
        self._news_at = 0.0

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
        attempt = Attempt(claimed, self._note_news, self.job_files, self._lend)
        before = self._attempts.get(attempt.job_id)
        if before is not None:  # lost to a lapsed lease, and claimed again by ourselves
            self._abandon(before)
        self._attempts[attempt.job_id] = attempt
        return attempt, before

    def _lend(self, attempt: Attempt) -> None:
        """An attempt waits for other jobs now, or goes on."""
        self._lenders.pop(attempt, None)
        if not attempt.awaited or self._attempts.get(attempt.job_id) is not attempt:
            return
        most = max(_WAITING_MOST, _WAITING_SHARE * self.info.slots)
        if len(self._lenders) >= most:
            attempt.refusal = (
                f"it waits for job {attempt.awaited[0]} while {most} jobs of its worker wait for others already: jobs "
                "that wait for jobs are nested too deep; pass a job as an argument of the next one instead"
            )
            self.runners[attempt.claimed.spec.isolation].kill(attempt.job_id)
            return
        self._lenders[attempt] = None
        self._wake.set()

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
            self._lenders.pop(attempt, None)

    async def _run_attempt(self, attempt: Attempt, before: Attempt | None) -> None:
        claimed = attempt.claimed
        spec = claimed.spec
        filed = self.job_files.filed(claimed)
        if before is not None and before.run is not None:
            await asyncio.wait([before.run])
        try:
            runner = self.runners.get(spec.isolation)
            if runner is None:
                outcome = _refused(f"no worker here runs isolation {spec.isolation!r}")
            else:
                if claimed.attempt > 1:
                    await self.job_files.continue_log(claimed)
                given = await self._needed(spec) if spec.needs else None
                if spec.resources:
                    await self.shares.available(spec.resources)
                typical_s = self.durations.typical_s(spec.task)
                if typical_s is not None:
                    attempt.expect(typical_s)
                with self.shares.taken(spec.resources) as environ:
                    assigned = assignment(claimed, self.codec, self.settings, filed, given=given, environ=environ)
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
        self._lenders.pop(attempt, None)
        if attempt.is_lost:
            self._forget(spec.id, claimed.token)
            self._wake.set()
            return
        if attempt.refusal:
            outcome = _refused(attempt.refusal)
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
                return await needed(self.store, spec, self.codec, self.job_files.file_store)
            except StoreUnavailable:
                await asyncio.sleep(_NEEDS_AGAIN_S)

    def _release(self, attempt: Attempt) -> Ending:
        return Ending(attempt.job_id, attempt.claimed.token, "released", reason=f"worker {self.info.id} was stopped")

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


def _refused(sentence: str) -> Outcome:
    return Outcome("failed", error=JobError(ErrorKind.REJECTED, "Rejected", sentence))
