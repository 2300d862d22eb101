"""Reactions of a worker to a coroutine that blocks its loop, in the thread of the watch.

They use the connection of the heartbeat, which goes on by itself.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis.exceptions import RedisError

from jobkit.model import LogLine
from jobkit.model.plain import now_ms
from jobkit.run.attempt import Assignment, Outcome
from jobkit.run.process.state import start_over
from jobkit.run.watch import LoopWatch
from jobkit.store.redis import RedisStore
from jobkit.store.values import AttemptNews, WorkerInfo
from jobkit.store.wire import finish_args, progress_args
from jobkit.worker.lease import LeaseKeeper
from jobkit.worker.running import RunningJobs
from jobkit.worker.walltime import Walltime

logger = logging.getLogger("jobkit.worker")


def attend(
    watch: LoopWatch,
    info: WorkerInfo,
    store: RedisStore,
    running: RunningJobs,
    keeper: LeaseKeeper,
    received: Callable[[], int],
    walltime: Walltime,
) -> None:
    """Let the watch of a worker's loop tell the store. `received`: returns how many jobs were handed over to it."""

    def tell(calls: Sequence[tuple[str, Sequence[Any]]]) -> None:
        try:
            for verb, args in calls:
                keeper.run(verb, args)
        except (RedisError, OSError) as error:
            logger.warning("the store could not record a blocked loop: %s", error)

    def on_block(assignment: Assignment | None, text: str) -> None:
        """Say in the job's log what blocks, and let no job be handed to this worker until the loop runs again."""
        logger.warning("%s: %s", "async jobs" if assignment is None else assignment.task, text)
        calls = [("claim", store.claim_args(info, 0, received(), is_blocked=True))]
        if assignment is not None and (attempt := running.attempts.get(assignment.job_id)) is not None:
            lines = [LogLine(line, now_ms(), "jobkit", "WARNING") for line in text.split("\n")]
            calls.append(("progress", progress_args([AttemptNews(attempt.job_id, attempt.claimed.token, lines=lines)])))
        tell(calls)

    def on_hopeless(outcomes: Mapping[str, Outcome], name: str) -> None:
        """Requests to stop did not help: give the other jobs back and start over as a new process."""
        logger.error("%s holds the worker's loop and does not stop: the worker starts over", name)
        released = Outcome("released", reason=f"its worker was shared with {name}, which did not stop")
        attempts = list(running.attempts.items())
        endings = [running.end(attempt, outcomes.get(job_id, released)) for job_id, attempt in attempts]
        tell([("finish", finish_args(endings))])
        walltime.hand_on(os.environ)
        start_over()

    watch.on_block, watch.on_hopeless = on_block, on_hopeless
