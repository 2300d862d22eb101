"""`BlockedLoop`: a worker's reaction to a coroutine that blocks its loop, in the watching thread.

The heartbeat goes on by itself, so no lease is lost. Until the loop runs again no job may be handed to this worker, the
job's log says what blocks, and as a last resort, when a request to stop does not help, the worker gives its other jobs
back and starts over as a new process.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from redis.exceptions import RedisError

from jobkit.model import LogLine
from jobkit.run.attempt import Assignment, Outcome
from jobkit.run.process.attempt import now_ms
from jobkit.run.process.state import whole_environ
from jobkit.settings import Settings
from jobkit.store import library
from jobkit.store.connect import open_blocking
from jobkit.store.values import AttemptNews, Ending
from jobkit.store.wire import finish_args, progress_args
from jobkit.worker.attempt import RunningAttempt

logger = logging.getLogger("jobkit.worker")


class BlockedLoop:
    """The hooks of `LoopWatch`.

    Args:
        attempts: what the worker runs, by id of the job.
        claim_args: of a claim for no slot at all, which takes the worker out of the lines of idle ones.
        end: makes what is stored of an attempt that ended so.
    """

    def __init__(
        self,
        settings: Settings,
        attempts: Mapping[str, RunningAttempt],
        claim_args: Callable[[], Sequence[Any]],
        end: Callable[[RunningAttempt, Outcome], Ending],
    ) -> None:
        self._settings, self._attempts, self._claim_args, self._end = settings, attempts, claim_args, end

    def on_block(self, assignment: Assignment | None, text: str) -> None:
        logger.warning("%s: %s", "async jobs" if assignment is None else assignment.task, text)
        calls = [("claim", self._claim_args())]
        if assignment is not None and (attempt := self._attempts.get(assignment.job_id)) is not None:
            lines = [LogLine(line, now_ms(), "jobkit", "WARNING") for line in text.split("\n")]
            news = AttemptNews(attempt.job_id, attempt.claimed.token, False, None, None, "", lines)
            calls.append(("progress", progress_args([news])))
        self._run(calls)

    def on_hopeless(self, outcomes: Mapping[str, Outcome], name: str) -> None:
        logger.error("%s holds the worker's loop and does not stop: the worker starts over", name)
        released = Outcome("released", reason=f"its worker was shared with {name}, which did not stop")
        attempts = list(self._attempts.items())
        endings = [self._end(attempt, outcomes.get(job_id, released)) for job_id, attempt in attempts]
        self._run([("finish", finish_args(endings))])
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], whole_environ())

    def _run(self, calls: Iterable[tuple[str, Sequence[Any]]]) -> None:
        try:
            client = open_blocking(self._settings)
            try:
                for name, args in calls:
                    library.run_blocking(client.execute_command, f"jk:{self._settings.namespace}:", name, args)
            finally:
                client.close()
        except (RedisError, OSError) as error:
            logger.warning("the store could not record a blocked loop: %s", error)
