"""Any sequence of verbs, given to the store in memory and to the one on Redis, which have to answer the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from jobkit.model import ErrorKind, Gate, JobSnapshot, LogLine, StoreUnavailable
from jobkit.model.snapshot import JobError
from jobkit.store.memory import MemoryStore
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore
from jobkit.store.values import Ending, Progress

from .conftest import settings_for
from .support import AnyStore, check_keys, check_laws, clear, come_due, job, lapse, worker

IDS = ["a", "b", "c", "d"]
QUEUES = ["default", "gpu"]
#: A place, two places, and both of them in a row.
LIMITS = [
    (Gate("key:ada", n=1),),
    (Gate("task:simulate", n=2),),
    (Gate("key:ada", n=1), Gate("task:simulate", n=2)),
]
ids = st.sampled_from(IDS)
workers = st.sampled_from([worker("w1"), worker("w2", "gpu", "default")])
ERROR = JobError(ErrorKind.EXCEPTION, "ValueError", "boom", "Traceback of it")
LONG_MS = 60_000


def facts(found: JobSnapshot | None) -> Any:
    """All of a snapshot that does not depend on the clock."""
    if found is None:
        return None
    history = [(event.seq, event.type, clockless(event.data)) for event in found.history]
    moments = (found.due_at, found.started_at, found.finished_at, found.cancel_requested_at)
    return (
        (found.spec, found.seq, found.rev, found.state, found.attempt, found.worker, found.error, found.summary),
        (found.done, found.total, found.message, found.retried, found.losses, found.releases, dict(found.usage)),
        [moment is not None for moment in moments],
        history,
    )


def clockless(data: Any) -> dict[str, Any]:
    times = ("submitted", "due", "started", "finished", "cancel")
    return {name: bool(value) if name in times else value for name, value in data.items()}


class Verbs(RuleBasedStateMachine):
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        # Leases are long here: time passes by `lapse` and `come_due` alone.
        configured = settings_for(self.url, lease=60.0, max_losses=3)
        self.memory = MemoryStore(configured)
        self.redis = RedisStore(configured)
        self.tokens: list[tuple[str, str]] = []

    def both(self, act: Any) -> Any:
        """The answer to `await act(store)`, which has to be the same from both."""

        async def ask() -> Any:
            return [await act(store) for store in (self.memory, self.redis)]

        memory, redis = self.runner.run(ask())
        assert memory == redis, f"in memory {memory!r}, on Redis {redis!r}"
        return memory

    @rule(
        names=st.lists(ids, min_size=1, max_size=3),
        queue=st.sampled_from(QUEUES),
        priority=st.integers(-1, 1),
        delay_ms=st.sampled_from([0, 0, LONG_MS]),
        client=st.sampled_from(["", "me"]),
        on_lost=st.sampled_from(["", "", "fail"]),
        limits=st.sampled_from([(), (), *LIMITS]),
        params=st.dictionaries(st.text(max_size=2), st.integers() | st.none() | st.floats(allow_nan=False), max_size=1),
    )
    def submit(
        self,
        names: list[str],
        queue: str,
        priority: int,
        delay_ms: int,
        client: str,
        on_lost: str,
        limits: tuple[Gate, ...],
        params: Any,
    ) -> None:
        wishes = {"queue": queue, "priority": priority, "delay_ms": delay_ms, "on_lost": on_lost, "params": params}
        wishes["limits"] = limits
        self.submitted([job(id, **wishes) for id in names], client)

    def submitted(self, jobs: Any, client: str) -> None:
        """Which of them are new; the moments of the two stores differ."""

        async def act(store: AnyStore) -> list[bool]:
            return [reply.created_ms != 0 for reply in await store.submit(jobs, client)]

        self.both(act)

    @rule(
        names=st.lists(ids, min_size=1, max_size=2),
        queue=st.sampled_from([None, *QUEUES]),
        priority=st.sampled_from([None, -1, 0, 1]),
    )
    def move(self, names: list[str], queue: str | None, priority: int | None) -> None:
        self.both(lambda store: store.move(names, queue, priority, "why"))

    @rule(by=workers, free=st.integers(0, 3))
    def claim(self, by: Any, free: int) -> None:
        async def act(store: AnyStore) -> Any:
            await store.renew(by.id, {}, {"queues": ",".join(by.queues)})  # as a worker does before it claims
            claimed, wait_s = await store.claim(by, free)
            return (
                [(one.spec, one.token, one.attempt, one.payload, one.retried, one.losses) for one in claimed],
                wait_s < float("inf"),
            )

        claimed, _ = self.both(act)
        self.tokens += [(spec.id, token) for spec, token, *_ in claimed]

    def token(self, n: int) -> tuple[str, str]:
        """A token of now or of before, or one that never was."""
        return self.tokens[-1 - n] if n < len(self.tokens) else ("a", "w9:1")

    @rule(
        n=st.integers(0, 4), done=st.sampled_from([0, 1.5, -1, float("nan"), None]), text=st.sampled_from(["", "é\n"])
    )
    def progress(self, n: int, done: float | None, text: str) -> None:
        id, token = self.token(n)
        lines = [LogLine(text, 1)] if text else []
        self.both(lambda store: store.progress([Progress(id, token, done != 0, done, 2, text, lines)]))

    @rule(
        n=st.integers(0, 4),
        outcome=st.sampled_from(["succeeded", "failed", "cancelled", "retried", "released", "lost"]),
        delay_ms=st.sampled_from([0, LONG_MS]),
        result=st.sampled_from([b"", b"42\n"]),
        usage=st.sampled_from([{}, {"cpu_s": 0.25, "exit": None}]),
        summary=st.sampled_from(["", "short"]),
    )
    def finish(self, n: int, outcome: str, delay_ms: int, result: bytes, usage: Any, summary: str) -> None:
        id, token = self.token(n)
        error = ERROR if outcome in ("failed", "retried") else None
        preview = summary.encode()
        one = Ending(id, token, outcome, error, "why", result, preview, summary, usage, delay_ms, max_losses=3)
        self.both(lambda store: store.finish([one]))

    @rule(names=st.lists(ids, min_size=1, max_size=2), reason=st.sampled_from(["", "why"]))
    def cancel(self, names: list[str], reason: str) -> None:
        self.both(lambda store: store.cancel(names, reason))

    @rule(names=st.lists(ids, min_size=1, max_size=2))
    def delete(self, names: list[str]) -> None:
        self.both(lambda store: store.delete(names))

    @rule(n=st.integers(0, 3), by=workers)
    def renew(self, n: int, by: Any) -> None:
        id, token = self.token(n)
        self.both(lambda store: store.renew(by.id, {id: token}, {"queues": ",".join(by.queues)}))

    @rule(
        # Not of the task: when a job meets its shut gate depends on who is idle, and nobody is in memory.
        gate=st.sampled_from(["queue:gpu", "queue:default"]),
        change=st.sampled_from([{"n": 1}, {"n": 3}, {"paused": {"by": "me"}}, {"paused": None}, None]),
    )
    def set_rule(self, gate: str, change: Any) -> None:
        async def act(store: AnyStore) -> Any:
            rule = await store.set_rule(gate, change)
            return rule.n, rule.held, bool(rule.paused)

        self.both(act)

    @rule(by=workers)
    def leave(self, by: Any) -> None:
        self.both(lambda store: store.leave(by.id))

    @rule(n=st.integers(0, 3))
    def lease_ends(self, n: int) -> None:
        id, _ = self.token(n)
        self.both(lambda store: lapse(store, id))

    @rule(id=ids, queue=st.sampled_from(QUEUES))
    def time_comes(self, id: str, queue: str) -> None:
        self.both(lambda store: come_due(store, id, queue))

    @rule(
        states=st.sampled_from([(), ("queued",), ("queued", "running", "failed")]),
        queue=st.sampled_from([None, *QUEUES]),
        search=st.sampled_from([None, "A", "boom", "w1"]),
        limit=st.integers(1, 3),
    )
    def list(self, states: tuple[str, ...], queue: str | None, search: str | None, limit: int) -> None:
        async def act(store: AnyStore) -> Any:
            found, cursor = [], ""
            while True:
                page = await store.list(Query(states, None, queue, search, limit, cursor))
                found += [one.id for one in page.jobs]
                cursor = page.next_cursor
                if not cursor:
                    return found

        self.both(act)

    @invariant()
    def both_are_the_same(self) -> None:
        async def act(store: AnyStore) -> Any:
            return (
                [facts(found) for found in await store.snapshots(IDS)],
                [await store.result(id) for id in IDS],
                [await store.preview(id) for id in IDS],
                [await store.logs(id) for id in IDS],
                await store.counts(),
                await store.queues(),
                [found and replace(found, paused_ms=0) for found in await store.waiting(IDS)],
                sorted(found.id for found in await store.workers()),
                [(event.job_id, event.seq, event.type) for event in await store.events()],
            )

        self.both(act)

    def teardown(self) -> None:
        async def end() -> None:
            try:
                for store in (self.memory, self.redis):
                    await check_laws(store)
                    if isinstance(store, RedisStore):
                        await check_keys(store)
                    await clear(store)
            finally:
                await self.redis.close()
                await self.memory.close()

        with self.runner:
            self.runner.run(end())


class Lives(Verbs):
    """The verbs of plain jobs' lives alone: a fault in one of them shows within a few examples."""

    move = progress = set_rule = leave = time_comes = list = None

    @rule(names=st.lists(ids, min_size=1, max_size=2), client=st.sampled_from(["", "me"]))
    def submit(self, names: list[str], client: str) -> None:
        self.submitted([job(id) for id in names], client)


class Deaths(Lives):
    """Of lives only what comes before their end: attempts that are lost, one after the other."""

    finish = cancel = delete = None


def difference(verbs: str, url: str, examples: int = 100) -> str:
    """What the stores do not do alike, in one sentence; "" where examples, always the same ones, do not show any.

    Args:
        verbs: "lives" or "deaths". url: of the server. examples: of 40 steps each.
    """
    try:
        run_state_machine_as_test(
            type("Machine", ({"lives": Lives, "deaths": Deaths}[verbs],), {"url": url}),
            settings=settings(
                max_examples=examples,
                stateful_step_count=40,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                derandomize=True,
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
    except (AssertionError, KeyError, StoreUnavailable, Flaky) as found:  # a fault may come and go
        return _sentence(found)
    except BaseExceptionGroup as group:
        found, _ = group.split(AssertionError)
        if found is None:
            raise
        return _sentence(found.exceptions[0])
    return ""


def _sentence(found: BaseException) -> str:
    return f"{type(found).__name__}: {' '.join(str(found).split())}"
