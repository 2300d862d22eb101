"""Help for tests of code that submits jobs: no Redis of yours, no worker, no waiting.

    def test_upload_starts_a_job(jobkit_kit):            # jobs run at once, in this process
        upload("data.csv")
        jobkit_kit.assert_submitted(simulate, path="data.csv")

    def test_reminder_comes_after_a_day(jobkit_queue):   # jobs wait, and so does the clock
        remind.options(delay=86_400).submit("ada")
        assert jobkit_queue.run() == []
        jobkit_queue.clock.tick(days=1)
        [job] = jobkit_queue.run()

Both fixtures are a `MemoryKit` and, during the test, the process's default kit. pytest finds them by itself
(`jobkit.pytest_plugin`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobkit.client.inline import this_process
from jobkit.client.job import Job
from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.connecting import default_kit
from jobkit.features import modules
from jobkit.model import InvalidParams
from jobkit.model.batch import BatchSpec
from jobkit.pytest_plugin import jobkit_kit, jobkit_queue
from jobkit.settings import Settings
from jobkit.store import library
from jobkit.store.redis import RedisStore
from jobkit.store.values import Claimed, Submission, SubmitReply
from jobkit.tasks.registry import registry
from jobkit.tasks.values import shown_and_abridged

__all__ = ["FrozenClock", "MemoryKit", "jobkit_kit", "jobkit_queue"]

#: More jobs than this at one time of the clock are a loop of jobs that submit jobs.
MOST_JOBS = 100_000


class FrozenClock:
    """The time of a `MemoryKit`: it stands still until it is moved.

    Args:
        now: aware; the true time unless given.

    Example:
        >>> clock = FrozenClock(datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC))
        >>> clock.tick(hours=1).hour
        13
    """

    def __init__(self, now: datetime | None = None) -> None:
        self._now = now or datetime.now(UTC)
        if self._now.tzinfo is None:
            raise InvalidParams(f"now must have a time zone, not {now!r}", "now")
        self._kits: weakref.WeakSet[MemoryKit] = weakref.WeakSet()

    @property
    def now(self) -> datetime:
        return self._now

    def __call__(self) -> float:
        """Seconds since the epoch, as `time.time` gives them."""
        return self._now.timestamp()

    def tick(self, seconds: float = 0.0, **more: float) -> datetime:
        """Move on: `tick(90)`, `tick(hours=1)`, as `datetime.timedelta` takes them. Returns the new time."""
        return self.move_to(self._now + timedelta(seconds=seconds, **more))

    def move_to(self, moment: datetime) -> datetime:
        """Move on to a moment (aware).

        Raises:
            InvalidParams: it is in the past; time does not run backwards for a store.
        """
        if moment < self._now:
            raise InvalidParams(f"the clock cannot go back from {self._now} to {moment}", "moment")
        self._now = moment
        for kit in list(self._kits):
            kit._move_clock()
        return moment


class MemoryKit(Kit):
    """A `sync://` kit with a clock that stands still, and which remembers what was submitted.

    Args:
        at_once: jobs run before their submit returns, delays or not, as with `sync://`. Else they wait for `run()`.
        clock: its time; one that stands still unless given.
        settings: as of `jobkit.connect`.

    Example:
        >>> with MemoryKit(at_once=False) as kit:
        ...     job = kit.options(delay="1h").submit(len, "abc")
        ...     later = kit.clock.tick(hours=1)
        ...     assert kit.run() == [job]
    """

    def __init__(self, *, at_once: bool = True, clock: FrozenClock | None = None, **settings: Any) -> None:
        self.clock = clock or FrozenClock()
        loaded = Settings.load(environ={}, url="sync://", **settings)
        super().__init__(loaded, open_store=self._clocked, has_own_space=True)
        assert self.connection.inline is not None  # the kit is of `sync://`
        self._inline = self.connection.inline
        self._inline.is_at_once = at_once
        self._inline.person = self._answer
        self._answers: list[Any] = []
        self.clock._kits.add(self)

    def _clocked(self, settings: Settings) -> _ClockedStore:
        self._store = _ClockedStore(settings)
        background.call(self._store.move_to(self.clock()))
        return self._store

    def _move_clock(self) -> None:
        if not self.is_closed:
            self.connection.call(self._store.move_to, self.clock())

    def answer_with(self, *answers: Any) -> None:
        """Answer the next questions of jobs (`jobkit.ask`) with these values, in this order.

        Args:
            answers: values by name, the one value that is asked for, or a function that gets the `Question` and returns
                the answer. A question without an answer fails its job.
        """
        self._answers += answers

    def _answer(self, question: Any) -> Any:
        if not self._answers:
            raise InvalidParams(f"the test has no answer, give one by answer_with(...): {question.text}", "answer")
        answer = self._answers.pop(0)
        return answer(question) if callable(answer) else answer

    def run(self) -> list[Job]:
        """Run all jobs whose time has come, and those that they submit, in their order; schedules fire.

        Returns:
            The jobs that ran, each once, in the order in which they began.
        """
        ran: dict[str, None] = {}
        while claimed := self.connection.call(self._claim_due):
            ran[claimed[0].spec.id] = None
            if len(ran) > MOST_JOBS:
                raise RuntimeError(f"more than {MOST_JOBS:,} jobs are due at once: do they submit one another?")
            self._inline.attempt(claimed[0])
        return [self.get(job_id) for job_id in ran]

    async def _claim_due(self) -> list[Claimed]:
        """Submit what features have due, and claim one of the jobs that are."""
        for module in modules("due"):
            await module.submit_due(self._store, self.codec)
        queues = tuple(await self._store.queues()) or ("default",)
        return (await self._store.claim(this_process(queues), 1))[0]

    # -- looking --------------------------------------------------------------------------------------------------

    def submitted(self, task: Callable[..., Any] | str | None = None, **params: Any) -> list[Job]:
        """The jobs that were submitted, oldest first: all, or those of a task with these arguments.

        Args:
            task: a task or its name.
            params: arguments that they must have; others do not count. Those left at their default count as given.
        """
        name = None if task is None else task if isinstance(task, str) else registry.task_of(task).name
        found = self.jobs(task=name, limit=MOST_JOBS)
        return [job for job in reversed(found) if all(_is(job, key, value) for key, value in params.items())]

    def assert_submitted(
        self, task: Callable[..., Any] | str | None = None, *, times: int | None = None, **params: Any
    ) -> Job:
        """Fails unless such a job was submitted; see `submitted`. Returns the newest.

        Args:
            times: exactly so often.
        """
        found = self.submitted(task, **params)
        if not found or (times is not None and len(found) != times):
            wanted = "no such job was" if times is None else f"{len(found)} such jobs were"
            often = "" if times is None else f", not {times}"
            pytest.fail(f"{wanted} submitted{often}: {_call(task, params)}\n{self._all()}", pytrace=False)
        return found[-1]

    def assert_not_submitted(self, task: Callable[..., Any] | str | None = None, **params: Any) -> None:
        """Fails if such a job was submitted; see `submitted`."""
        if self.submitted(task, **params):
            pytest.fail(f"such a job was submitted: {_call(task, params)}\n{self._all()}", pytrace=False)

    def _all(self) -> str:
        jobs = self.submitted()
        lines = [f"  {_call(job.task, job.params)}  {job.state}" for job in jobs[-20:]]
        return "\n".join([f"{len(jobs)} jobs were submitted{':' if jobs else ''}", *lines])


_CALL = library.current.sources["lib/call"]
_TIME = "  local time = call('TIME')\n"

#: The library with a clock that can be set: the key `clock` of the namespace, microseconds since the epoch.
_WITH_CLOCK = library.Library(
    {
        **library.current.sources,
        "lib/call": _CALL.replace(
            _TIME,
            f"{_TIME}  local us = tonumber(call('GET', P .. 'clock'))\n"
            "  time = {math.floor(us / 1000000), us % 1000000}\n",
        ),
    }
)


class _ClockedStore(RedisStore):
    """A store whose time stands still until `move_to`.

    It moves on by a microsecond with each job, so that jobs keep their order.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.functions = library.Functions(self.redis, self.prefix, _WITH_CLOCK)
        self._us = 0

    async def move_to(self, now_s: float) -> None:
        """Set the time. What expires by the server's own clock expires so much earlier."""
        before_us, self._us = self._us, int(now_s * 1000) * 1000
        await self.redis.set(f"{self.prefix}clock", self._us)
        if not before_us:
            return
        keys = [key async for key in self.redis.scan_iter(f"{self.prefix}*", count=1000)]
        pipe = self.redis.pipeline(transaction=False)
        for key in keys:
            pipe.pttl(key)
        for key, left_ms in zip(keys, await pipe.execute(), strict=True):
            if left_ms > 0:
                pipe.pexpire(key, left_ms - (self._us - before_us) // 1000)  # below 1: it is deleted
        await pipe.execute()

    async def submit(
        self, jobs: Sequence[Submission], client: str = "", batch: BatchSpec | None = None, place: int = 0
    ) -> list[SubmitReply]:
        replies = await super().submit(jobs, client, batch, place)
        self._us = await self.redis.incrby(f"{self.prefix}clock", len(jobs))
        return replies

    async def now_ms(self) -> int:
        return self._us // 1000


def _is(job: Job, name: str, value: Any) -> bool:
    """Return True if a job has this argument. Values that JSON cannot hold are compared by their text."""
    if name not in job.params:
        return False
    return bool(job.params[name] == value or job.params[name] == shown_and_abridged({name: value})[0][name])


def _call(task: Any, params: Any) -> str:
    name = "any task" if task is None else task if isinstance(task, str) else getattr(task, "__name__", str(task))
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in params.items())})"


@contextmanager
def default_memory_kit(*, at_once: bool) -> Iterator[MemoryKit]:
    """Make a `MemoryKit` the default kit of the process, for a while."""
    with MemoryKit(at_once=at_once) as kit, default_kit(kit):
        yield kit
