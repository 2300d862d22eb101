"""State machine: any sequence of verbs on the store and on a small model of a job's life must agree."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from jobkit.features.checkpoints.checkpoint_info import CheckpointInfo, checkpoint_name
from jobkit.features.questions.store import QuestionStore
from jobkit.model import ErrorKind, EventType, Gate, LogLine, StoreUnavailable
from jobkit.model.snapshot import JobError
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore
from jobkit.store.values import ALREADY, FENCED, FINISHED, AttemptNews, Ending, Kept

from .conftest import settings_for
from .support import check_keys, check_laws, clear, come_due, job, lapse, worker

T = TypeVar("T")

IDS = ["a", "b", "c", "d"]
QUEUES = ["default", "gpu"]
#: Limits: one at a time, two at a time, and both.
LIMITS = [
    (Gate("key:ada", n=1),),
    (Gate("task:simulate", n=2),),
    (Gate("key:ada", n=1), Gate("task:simulate", n=2)),
]
ids = st.sampled_from(IDS)
keys = st.sampled_from(["first", "second"])
workers = st.sampled_from([worker("w1"), worker("w2", "gpu", "default")])
ERROR = JobError(ErrorKind.EXCEPTION, "ValueError", "boom", "Traceback of it")
LONG_MS = 60_000
MAX_LOSSES = 3
ENDED = ("succeeded", "failed", "cancelled")
WAITING = ("queued", "scheduled")


@dataclass
class Life:
    """Model of one job. It does not predict which waiting job is next, nor at which gate a job waits."""

    queue: str
    state: str
    payload: bytes
    on_lost: str = ""
    attempt: int = 0
    token: str = ""
    last: str = ""
    """The token that ended the last attempt."""
    retried: int = 0
    losses: int = 0
    alone: int = 0
    """Losses since its last step with which no other job was lost."""
    before: int = 0
    """Losses before its last step."""
    step: str = ""
    """Of its newest checkpoint. `lost_at`: the same at its last loss."""
    lost_at: str = ""
    releases: int = 0
    is_cancelling: bool = False
    is_lapsed: bool = False
    is_due: bool = False
    result: bytes | None = None
    preview: bytes | None = None
    asking: dict[str, float | None] = field(default_factory=dict)
    """Open questions by key, with their time limits."""
    answers: dict[str, str] = field(default_factory=dict)
    """Names of the users who answered, by question."""
    is_parked: bool = False
    """It waits for an answer without a slot."""

    def holds(self, token: str) -> bool:
        return self.state == "running" and self.token == token

    def finish(self, ending: Ending) -> int:
        if self.last == ending.token:
            return ALREADY
        if not self.holds(ending.token):
            return FENCED
        self.last = ending.token
        outcome = ending.outcome
        if self.is_cancelling and outcome in ("retried", "released", "asked"):
            outcome = "cancelled"
        if outcome == "lost" or (outcome == "released" and self.on_lost == "fail"):
            self.lose(is_alone=True)
        elif outcome in ENDED:
            self.state, self.result, self.preview = outcome, ending.result or None, ending.preview or None
        elif outcome == "asked":
            self.is_parked = bool(self.asking)
            self.state = "scheduled" if self.is_parked else "queued"
        else:
            self.state = "scheduled" if ending.delay_ms else "queued"
            self.retried += outcome == "retried"
            self.releases += outcome == "released"
        return FINISHED

    @property
    def worker(self) -> str:
        return self.token.rpartition(":")[0]

    @property
    def is_suspect(self) -> bool:
        return self.losses - self.before - self.alone >= MAX_LOSSES

    def lose(self, *, is_alone: bool) -> None:
        self.is_lapsed = False
        if self.step != self.lost_at:
            self.before, self.alone, self.lost_at = self.losses, 0, self.step
        self.losses += 1
        self.alone += is_alone
        is_spent = self.alone >= MAX_LOSSES or self.losses - self.before >= 4 * MAX_LOSSES
        if self.is_cancelling:
            self.state = "cancelled"
        else:
            self.state = "failed" if is_spent or self.on_lost == "fail" else "queued"

    def cancel(self) -> None:
        if self.state in WAITING:
            self.state = "cancelled"
        elif self.state == "running":
            self.is_cancelling = True


class Verbs(RuleBasedStateMachine):
    url = ""
    #: True if each queued job may start at once.
    is_plain = False

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        # Leases are long: only `lapse` and `come_due` let time pass.
        self.store = RedisStore(settings_for(self.url, lease=60.0, max_losses=MAX_LOSSES))
        self.lives: dict[str, Life] = {}
        self.left: set[str] = set()  # workers that were stopped
        self.died: dict[str, str] = {}  # by worker: the job that it has lost, "" for several
        self.tokens: list[tuple[str, str]] = []
        self.checkpoints = 0

    def do(self, verb: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(verb)

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
        replies = self.do(self.store.submit(jobs, client))
        for one, reply in zip(jobs, replies, strict=True):
            spec = one.spec
            assert (reply.created_ms > 0) == (spec.id not in self.lives), f"submit of {spec.id}: {reply}"
            if reply.created_ms:
                state = "scheduled" if spec.delay_ms else "queued"
                self.lives[spec.id] = Life(spec.queue, state, one.payload, spec.on_lost)

    @rule(
        names=st.lists(ids, min_size=1, max_size=2),
        queue=st.sampled_from([None, *QUEUES]),
        priority=st.sampled_from([None, -1, 0, 1]),
    )
    def move(self, names: list[str], queue: str | None, priority: int | None) -> None:
        answers = self.do(self.store.move(names, queue, priority, "why"))
        for id, answer in zip(names, answers, strict=True):
            life = self.lives.get(id)
            assert answer == ("unknown" if life is None else "" if life.state in WAITING else life.state), id
            if life is not None and not answer:
                life.queue = queue or life.queue

    @rule(by=workers, free=st.integers(0, 3))
    def claim(self, by: Any, free: int) -> None:
        self.do(self.store.renew(by.id, {}, {"queues": ",".join(by.queues)}))  # as a worker does before it claims
        self.left.discard(by.id)
        held = sum(life.worker == by.id for life in self.running())
        claimed, _ = self.do(self.store.claim(by, free, held=held))
        self.recover()
        for life in self.lives.values():
            if life.state == "scheduled" and life.is_due and life.queue in by.queues:
                life.state, life.is_due, life.is_parked = "queued", False, False
        startable = [id for id, life in self.lives.items() if life.state == "queued" and life.queue in by.queues]
        assert len(claimed) <= free
        if self.is_plain and not any(life.is_suspect and life.state not in ENDED for life in self.lives.values()):
            assert len(claimed) == min(free, len(startable)), f"{startable} wait, {claimed} started"
        for one in claimed:
            assert one.spec.id in startable, f"{one.spec.id} did not wait"
            startable.remove(one.spec.id)
            life = self.lives[one.spec.id]
            life.state, life.attempt, life.token = "running", life.attempt + 1, f"{by.id}:{life.attempt + 1}"
            told = (one.token, one.attempt, one.payload, one.retried, one.losses)
            assert told == (life.token, life.attempt, life.payload, life.retried, life.losses)
            self.tokens.append((one.spec.id, one.token))

    def recover(self) -> None:
        """Recover lost jobs, as each claim and heartbeat does."""
        workers = [life.worker for life in self.running()]
        for id, life in self.lives.items():
            if life.state == "running" and life.is_lapsed:
                worker = life.worker
                is_alone = workers.count(worker) == 1 and self.died.get(worker, id) == id
                self.died[worker] = id if is_alone else ""
                life.lose(is_alone=is_alone and worker not in self.left)

    def running(self) -> Sequence[Life]:
        return [life for life in self.lives.values() if life.state == "running"]

    def token(self, n: int) -> tuple[str, str]:
        """Draw a current, an earlier or an unknown token."""
        return self.tokens[-1 - n] if n < len(self.tokens) else ("a", "w9:1")

    @rule(
        n=st.integers(0, 4), done=st.sampled_from([0, 1.5, -1, float("nan"), None]), text=st.sampled_from(["", "é\n"])
    )
    def progress(self, n: int, done: float | None, text: str) -> None:
        id, token = self.token(n)
        lines = [LogLine(text, 1)] if text else []
        answers = self.do(self.store.progress([AttemptNews(id, token, done != 0, done, 2, text, lines)]))
        assert answers == [id in self.lives and self.lives[id].holds(token)]

    @rule(
        n=st.integers(0, 4),
        outcome=st.sampled_from(["succeeded", "failed", "cancelled", "retried", "released", "lost", "asked"]),
        delay_ms=st.sampled_from([0, LONG_MS]),
        result=st.sampled_from([b"", b"42\n"]),
        usage=st.sampled_from([{}, {"cpu_s": 0.25, "exit": None}]),
        summary=st.sampled_from(["", "short"]),
    )
    def finish(self, n: int, outcome: str, delay_ms: int, result: bytes, usage: Any, summary: str) -> None:
        id, token = self.token(n)
        error = ERROR if outcome in ("failed", "retried") else None
        preview = summary.encode()
        one = Ending(
            id, token, outcome, error, "why", result, preview, summary, usage=usage, delay_ms=delay_ms,
            max_losses=MAX_LOSSES,
        )  # fmt: skip
        expected = self.lives[id].finish(one) if id in self.lives else FENCED
        assert self.do(self.store.finish([one])) == [expected]

    @rule(n=st.integers(0, 2), label=st.sampled_from(["", "epoch 1", "epoch 2"]))
    def keep(self, n: int, label: str) -> None:
        id, token = self.token(n)
        self.checkpoints += 1
        info = CheckpointInfo(checkpoint_name(int(token.rpartition(":")[2]), self.checkpoints), text=label)
        holds = id in self.lives and self.lives[id].holds(token)
        kept = Kept.of_feature(id, token, "checkpoints", info.name, msgspec.json.encode(info), b"")
        assert self.do(self.store.keep([kept])) == [holds]
        if holds:
            self.lives[id].step = label or info.name

    @rule(n=st.integers(0, 2), key=keys, timeout_s=st.sampled_from([None, 600.0]))
    def ask(self, n: int, key: str, timeout_s: float | None) -> None:
        id, token = self.token(n)
        reply = self.do(self.store.part(QuestionStore).ask(id, token, key, f"{key}?", timeout_s, b"question"))
        if id not in self.lives or not self.lives[id].holds(token):
            assert reply.kind == "gone"
        elif by := self.lives[id].answers.get(key):
            assert (reply.kind, reply.answer) == ("answer", by.encode())
        else:
            assert reply.kind == "wait"
            self.lives[id].asking.setdefault(key, timeout_s)

    @rule(id=ids, key=keys, by=st.sampled_from(["ada", "bob"]))
    def answer(self, id: str, key: str, by: str) -> None:
        kind, facts = self.do(self.store.part(QuestionStore).answer(id, key, by.encode(), by, "yes"))
        life = self.lives.get(id)
        if life is None or (key not in life.asking and key not in life.answers):
            assert kind == ("none" if life else "unknown")
        elif key in life.answers:
            assert (kind, facts[0]) == ("answered", life.answers[key])
        elif life.state in ENDED:
            assert kind == "ended"
        else:
            assert kind == "done"
            del life.asking[key]
            life.answers[key] = by
            if life.is_parked:
                life.state, life.is_due, life.is_parked = "queued", False, False

    @rule(names=st.lists(ids, min_size=1, max_size=2), reason=st.sampled_from(["", "why"]))
    def cancel(self, names: list[str], reason: str) -> None:
        for id in names:
            if id in self.lives:
                self.lives[id].cancel()
        expected = [self.lives[id].state if id in self.lives else "" for id in names]
        assert self.do(self.store.cancel(names, reason)) == expected

    @rule(names=st.lists(ids, min_size=1, max_size=2))
    def delete(self, names: list[str]) -> None:
        expected = []
        for id in names:
            expected.append(id in self.lives and self.lives[id].state in ENDED)
            if expected[-1]:
                del self.lives[id]
        assert self.do(self.store.delete(names)) == expected

    @rule(n=st.integers(0, 3), by=workers)
    def renew(self, n: int, by: Any) -> None:
        id, token = self.token(n)
        self.left.discard(by.id)
        found = self.do(self.store.renew(by.id, {id: token}, {"queues": ",".join(by.queues)}))
        life = self.lives.get(id)
        if life is not None and life.holds(token):
            life.is_lapsed = False
            assert (found.lost, found.cancelled) == ((), (id,) if life.is_cancelling else ())
        else:
            assert found.lost == (id,)
        self.recover()

    @rule(
        gate=st.sampled_from(["queue:gpu", "queue:default", "task:simulate"]),
        change=st.sampled_from([{"n": 1}, {"n": 3}, {"paused": {"by": "me"}}, {"paused": None}, None]),
    )
    def set_rule(self, gate: str, change: Any) -> None:
        self.do(self.store.set_rule(gate, change))

    @rule(by=workers)
    def leave(self, by: Any) -> None:
        self.do(self.store.leave(by.id))
        self.left.add(by.id)

    @rule(n=st.integers(0, 3))
    def lease_ends(self, n: int) -> None:
        id, _ = self.token(n)
        self.do(lapse(self.store, id))
        if id in self.lives:
            self.lives[id].is_lapsed = self.lives[id].state == "running"

    @rule(id=ids, queue=st.sampled_from(QUEUES))
    def time_comes(self, id: str, queue: str) -> None:
        self.do(come_due(self.store, id, queue))
        if id in self.lives and self.lives[id].queue == queue:
            life = self.lives[id]
            has_time = not life.is_parked or any(life.asking.values())
            life.is_due = life.state == "scheduled" and has_time

    @rule(
        states=st.sampled_from([(), ("queued",), ("queued", "running", "failed")]),
        queue=st.sampled_from([None, *QUEUES]),
        search=st.sampled_from([None, "A", "boom", "w1"]),
        limit=st.integers(1, 3),
    )
    def list(self, states: tuple[str, ...], queue: str | None, search: str | None, limit: int) -> None:
        async def pages() -> list[str]:
            found, cursor = [], ""
            while True:
                page = await self.store.list(Query(states, None, queue, search, limit, cursor))
                found += [one.id for one in page.jobs]
                cursor = page.next_cursor
                if not cursor:
                    return found

        found = self.do(pages())
        wanted = {id for id, life in self.lives.items() if life.state in (states or life.state)}
        wanted = {id for id in wanted if queue in (None, self.lives[id].queue)}
        assert len(found) == len(set(found))
        assert set(found) <= wanted if search else set(found) == wanted

    @invariant()
    def the_store_says_what_the_model_says(self) -> None:
        for id, found in zip(IDS, self.do(self.store.snapshots(IDS)), strict=True):
            life = self.lives.get(id)
            assert (found is None) == (life is None), f"{id}: {found}"
            if found is None or life is None:
                continue
            told = (str(found.state), found.spec.queue, found.attempt, found.retried, found.losses, found.releases)
            assert told == (life.state, life.queue, life.attempt, life.retried, life.losses, life.releases), id
            assert found.is_cancelling == (life.is_cancelling and life.state == "running"), id
            assert {one.key for one in found.asking} == (set() if life.state in ENDED else set(life.asking)), id
            answered = {e.data["key"]: e.data["by"] for e in found.history if e.type is EventType.ANSWERED}
            assert answered == life.answers, f"who answered {id}"
            assert self.do(self.store.result(id)) == life.result, f"the result of {id}"
            assert self.do(self.store.preview(id)) == life.preview, f"the preview of {id}"
        assert sum(self.do(self.store.counts()).values()) == len(self.lives)

    @invariant()
    def the_laws_hold(self) -> None:
        self.do(check_laws(self.store))
        self.do(check_keys(self.store))

    def teardown(self) -> None:
        async def end() -> None:
            try:
                await clear(self.store)
            finally:
                await self.store.close()

        with self.runner:
            self.runner.run(end())


class Lives(Verbs):
    """Only the verbs of plain jobs: a fault in one of them shows within a few examples."""

    is_plain = True
    move = progress = set_rule = leave = time_comes = list = keep = ask = answer = None

    @rule(names=st.lists(ids, min_size=1, max_size=2), client=st.sampled_from(["", "me"]))
    def submit(self, names: Sequence[str], client: str) -> None:
        self.submitted([job(id) for id in names], client)


class Deaths(Lives):
    """Only verbs before the end of one job: lost attempts in a row, each of which it suffers alone."""

    finish = cancel = delete = None
    keep = Verbs.keep

    @rule(client=st.sampled_from(["", "me"]))
    def submit(self, client: str) -> None:
        self.submitted([job("a")], client)


def difference(verbs: str, url: str, examples: int = 100) -> str:
    """Return the first difference between store and model as a sentence, or "". Examples are the same each time.

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
    except (AssertionError, KeyError, StoreUnavailable, Flaky) as found:  # a fault may not show each time
        return _sentence(found)
    except BaseExceptionGroup as group:
        found, _ = group.split(AssertionError)
        if found is None:
            raise
        return _sentence(found.exceptions[0])
    return ""


def _sentence(found: BaseException) -> str:
    return f"{type(found).__name__}: {' '.join(str(found).split())}"
