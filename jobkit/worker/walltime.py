"""`Walltime`: the end of a worker that its engine has fixed, such as a time limit of Slurm; and `end_when_idle`.

The worker stops in time by itself, so no job is lost with it: jobs that can go on later stop at a safe point, and go on
in the next worker; others are released. Neither costs an attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping, MutableMapping

from jobkit.features import modules
from jobkit.model import InvalidParams, StoreUnavailable
from jobkit.model.format import duration, seconds_in
from jobkit.store.redis import RedisStore
from jobkit.worker.running import RunningJobs

#: Environment variable of a worker: how long after its start its engine ends it, in seconds or as "4h".
WALLTIME = "JOBKIT_WALLTIME"

#: Environment variable of a worker: it ends after so long without a job, unless what has started it decides that.
IDLE = "JOBKIT_IDLE"

#: Seconds before the end at which running jobs are released: enough to stop their processes and to tell the store.
_RELEASE_S = 15.0
#: Seconds between two looks at how long jobs take here.
_LOOK_S = 5.0
#: A job that starts anew fails if so many workers in a row ended under it that ran it for this share of their lives.
_VAINLY, _WHOLE_LIFE = 3, 0.7


def seconds_of(environ: Mapping[str, str], name: str) -> float | None:
    """Return the time in a variable, None without one. Raises InvalidParams for a value that is no time."""
    text = environ.get(name, "")
    if not text:
        return None
    seconds = seconds_in(text)
    if seconds is None or seconds <= 0:
        raise InvalidParams(
            f'{name} must be seconds above 0, or a text like "4h", not {text!r}', name.removeprefix("JOBKIT_").lower()
        )
    return seconds


async def end_when_idle(idle_s: float, worker: str, store: RedisStore, ended: Callable[[], int | None]) -> None:
    """Ask a worker to end once it has had no job for `idle_s` seconds, unless a feature decides that now.

    Args:
        ended: returns the number of its ended jobs, None while it has one.
    """
    since, before = time.monotonic(), -1
    while True:
        await asyncio.sleep(min(idle_s / 4, _LOOK_S))
        now = ended()
        if now is None or now != before:
            since, before = time.monotonic(), -1 if now is None else now
        elif time.monotonic() - since >= idle_s:
            with contextlib.suppress(StoreUnavailable):
                if not [module for module in modules("fleet") if await module.ends_idle(store)]:
                    await store.stop_idle([worker])


class Walltime:
    """When a worker stops so that nothing runs when its engine ends it.

    Args:
        left_s: seconds until then; infinite for a worker without a walltime. drain_s: setting `drain`.

    Attributes:
        drains: time (monotonic) from which no job is taken, and jobs are asked to stop at a safe point.
        releases: time at which the jobs that still run are released.
    """

    def __init__(self, left_s: float = math.inf, drain_s: float = 0.0) -> None:
        self._began, self.left_s = time.monotonic(), left_s
        ends = self._began + left_s
        self.releases = ends - min(_RELEASE_S, left_s / 4) if left_s < math.inf else math.inf
        self.drains = self.releases - min(drain_s, left_s / 4)

    @classmethod
    def of(cls, environ: Mapping[str, str], drain_s: float) -> Walltime:
        """Return what the environment says. Raises InvalidParams for a value that is no time."""
        left_s = seconds_of(environ, WALLTIME)
        return cls() if left_s is None else cls(left_s, drain_s)

    def hand_on(self, environ: MutableMapping[str, str]) -> None:
        """Write what is left for a worker that starts over in this process."""
        if self.left_s < math.inf:
            environ[WALLTIME] = f"{max(1.0, self._began + self.left_s - time.monotonic()):.0f}"

    @property
    def is_ending(self) -> bool:
        return time.monotonic() >= self.drains

    async def keep(self, running: RunningJobs, stop: Callable[[str, str], None]) -> None:
        """Call `stop` with "retire" once a job as long as others here would not finish, with "drain" near the end."""
        while (left_s := self.drains - time.monotonic()) > 0:
            needed_s = min(running.longest_s, self.left_s / 2)
            if left_s < needed_s:
                stop("retire", f"a job that takes {duration(needed_s)} would not finish within the walltime")
            await asyncio.sleep(min(left_s, _LOOK_S) if left_s < math.inf else 3600)
        stop("drain", f"the walltime ends in {duration(max(0.0, self.left_s - (time.monotonic() - self._began)))}")

    def refuse(self, running: RunningJobs) -> None:
        """Near the end: let jobs fail that would be released for ever, because no such worker lives long enough."""
        now = time.monotonic()
        for attempt in running.attempts.values() if self.is_ending else ():
            ran_s, claimed = now - attempt.began, attempt.claimed
            released = claimed.attempt - 1 - claimed.retried - claimed.losses
            is_too_long = ran_s >= _WHOLE_LIFE * (now - self._began) and not attempt.is_resumable
            if is_too_long and released >= _VAINLY - 1 and not attempt.refusal:
                attempt.refusal = (
                    f"it ran for {duration(ran_s)} when the walltime of its worker ended, was released {released} "
                    "times before, and keeps no checkpoints: give its workers a longer walltime, or call "
                    "jobkit.checkpoint"
                )
