"""Helpers of the store's tests: jobs, workers, waiting, and the invariants that are checked after every test."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

from jobkit.features.failures.store import FailureStore
from jobkit.features.schedules.store import ScheduleStore
from jobkit.model import TERMINAL, ErrorKind, EventType, JobEvent, JobSnapshot, JobSpec, JobState, apply
from jobkit.model.batch import BatchInfo
from jobkit.model.snapshot import JobError
from jobkit.store import wire
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore
from jobkit.store.values import AttemptNews, Claimed, Ending, Submission, WorkerInfo

_ids = itertools.count(1)

#: All transitions that the store may make; any other is a bug in the store.
ALLOWED: Mapping[JobState, frozenset[JobState]] = {
    JobState.SCHEDULED: frozenset({JobState.QUEUED, JobState.CANCELLED, JobState.FAILED}),
    # Succeeds at once with a cached result.
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.FAILED, JobState.SUCCEEDED}),
    # Queued again if lost or released, scheduled if retried after a backoff.
    JobState.RUNNING: TERMINAL | {JobState.QUEUED, JobState.SCHEDULED},
    **dict.fromkeys(TERMINAL, frozenset()),
}

#: For tests that wait until a lease expires by itself.
short_lease = pytest.mark.parametrize("lease_s", [0.4], ids=["short lease"])


def job(id: str = "", task: str = "simulate", **spec: Any) -> Submission:
    id = id or f"job{next(_ids):05}"
    return Submission(JobSpec(id=id, task=task, **spec), f"arguments of {id}".encode())


def worker(id: str = "w1", *queues: str) -> WorkerInfo:
    return WorkerInfo(id=id, queues=queues or ("default",))


async def submit(store: RedisStore, *ids: str, client: str = "", **spec: Any) -> None:
    await store.submit([job(id, **spec) for id in ids], client)


async def claim(store: RedisStore, free: int = 1, by: WorkerInfo | None = None) -> list[Claimed]:
    return (await store.claim(by or worker(), free))[0]


async def started(store: RedisStore, id: str, **spec: Any) -> Claimed:
    """Submit a job and start it; no other job may be waiting."""
    await submit(store, id, **spec)
    [claimed] = await claim(store)
    assert claimed.spec.id == id
    return claimed


def ending(claimed: Claimed, outcome: str = "succeeded", **fields: Any) -> Ending:
    return Ending(claimed.spec.id, claimed.token, outcome, **fields)


def numbers(claimed: Claimed, done: float, total: float | None = None, message: str = "") -> AttemptNews:
    return AttemptNews(claimed.spec.id, claimed.token, True, done, total, message)


async def snapshot(store: RedisStore, id: str) -> JobSnapshot:
    [found] = await store.snapshots([id])
    assert found is not None, f"no job {id}"
    return found


async def error_of(store: RedisStore, id: str) -> JobError:
    found = (await snapshot(store, id)).error
    assert found is not None, f"{id} has no error"
    return found


def types(snapshot: JobSnapshot) -> list[str]:
    return [str(event.type) for event in snapshot.history]


async def lapse(store: RedisStore, *ids: str) -> None:
    """Let the leases of running jobs expire now."""
    for id in ids:
        await store.redis.zadd(f"{store.prefix}leases", {id: 1}, xx=True)


async def come_due(store: RedisStore, id: str, queue: str = "default") -> None:
    """Make a scheduled job due now."""
    await store.redis.zadd(f"{store.prefix}due:{queue}", {id: 1}, xx=True)


# -- the laws ---------------------------------------------------------------------------------------------------------


@dataclass
class Structure:
    """Ids in each index of a namespace."""

    jobs: set[str]
    states: dict[str, set[str]]
    ready: dict[str, set[str]]
    due: dict[str, set[str]]
    leases: set[str]
    expiry: set[str]
    parked: dict[str, set[str]]
    holders: dict[str, set[str]]


async def structure(store: RedisStore) -> Structure:
    queues = [queue.decode() for queue in await store.redis.smembers(f"{store.prefix}queues")]

    async def ids(name: str) -> set[str]:
        return {id.decode() for id in await store.redis.zrange(store.prefix + name, 0, -1)}

    return Structure(
        await ids("jobs"),
        {str(state): await ids(f"state:{state}") for state in JobState},
        {queue: await ids(f"ready:{queue}") for queue in queues},
        {queue: await ids(f"due:{queue}") for queue in queues},
        await ids("leases"),
        await ids("expiry"),
        {gate: await ids(f"parked:{gate}") for gate in await names(store, "parked")},
        {gate: await ids(f"holders:{gate}") for gate in await names(store, "holders")},
    )


async def names(store: RedisStore, kind: str) -> list[str]:
    """Return the names of the keys of one kind."""
    start = f"{store.prefix}{kind}:"
    return [key.decode().removeprefix(start) async for key in store.redis.scan_iter(f"{start}*", count=1000)]


async def check_laws(store: RedisStore) -> None:
    """Check that each job is only in the indexes of its state, and that its events are complete and give its record."""
    where = await structure(store)
    for id in sorted(where.jobs):
        [found] = await store.snapshots([id])
        if found is None:
            assert id in where.expiry, f"{id} is indexed, but has no record"
            continue
        queue, state = found.spec.queue, found.state
        indexes = [name for name, ids in where.states.items() if id in ids]
        assert indexes == [state], f"{id} is {state}, and in the indexes of {indexes}"
        lines = [id in where.ready.get(queue, ()), *(id in ids for ids in where.parked.values())]
        assert sum(lines) == (state is JobState.QUEUED), f"{id} is {state}"
        waits, for_answer = await store.redis.hmget(f"{store.prefix}job:{id}", "waits", "for_answer")
        has_time = not waits and (not for_answer or any(one.due for one in found.asking))
        assert (id in where.due.get(queue, ())) == (state is JobState.SCHEDULED and has_time), f"{id} is {state}"
        asks = await store.redis.zscore(f"{store.prefix}asking", id) is not None
        assert asks == bool(found.asking), f"{id} asks {found.asking}"
        assert (id in where.leases) == (state is JobState.RUNNING), f"{id} is {state}"
        assert (id in where.expiry) == state.is_terminal, f"{id} is {state}"
        [group] = await store.part(FailureStore).groups_of([id])
        assert bool(group) == (state is JobState.FAILED), f"{id} is {state}"
    waiting = set().union(*where.ready.values(), *where.due.values(), where.leases, where.expiry)
    assert {id for id in waiting if id[0] != "!"} <= where.jobs  # a gate may wait for its time in this index, too
    for gate, ids in where.holders.items():
        assert ids <= where.leases, f"slots of {gate} are held by jobs that do not run"
    for ids in where.states.values():
        assert ids <= where.jobs
    await check_events(store, where.jobs)
    await check_groups(store)
    await check_blobs(store)


async def check_events(store: RedisStore, ids: set[str]) -> None:
    stream: dict[str, list[JobEvent]] = {}
    for event in await store.events(limit=100_000):
        lives = stream.setdefault(event.job_id, [])
        if event.type is EventType.SUBMITTED and event.seq == 1:
            lives.clear()  # an id may be used again once its job is deleted
        lives.append(event)
    for id in sorted(ids):
        [found] = await store.snapshots([id])
        if found is None:
            continue
        told = [replace(event, id="") for event in stream[id]]
        seen = [event.seq for event in told]
        assert seen == list(range(1, found.seq + 1)), f"the stream has {seen} of {id}, which is at {found.seq}"
        assert told[:20] == list(found.history[:20])
        assert told[-180:] == list(found.history[-180:])
        check_replay(told, found)


def check_replay(events: list[JobEvent], expected: JobSnapshot) -> None:
    """Check that the events give the record, except progress (news) and the traceback with its source (stored once)."""
    now = JobSnapshot(expected.spec, 0, JobState(events[0].data["state"]))
    for event in events:
        before = now
        after = apply(now, event)
        assert after is not None
        now = after
        if event.type not in _SAME_STATE:
            assert now.state in ALLOWED[before.state], f"{event.type}: {before.state} to {now.state}"
    error = expected.error and replace(expected.error, traceback="", source="")
    news = {name: getattr(expected, name) for name in _NEWS}
    assert replace(now, **news, history=()) == replace(expected, error=error, history=())


#: Fields of a snapshot that no numbered event changes.
_NEWS = (
    "again",
    *("rev", "completed", "total", "message", "typical_s"),
    *("resumed", "resumed_completed", "saved", "saved_at"),
    "batch",
)

#: Events that need not change the state.
_SAME_STATE = (
    *(EventType.SUBMITTED, EventType.CANCEL_REQUESTED, EventType.MOVED),
    *(EventType.ASKED, EventType.ANSWERED, EventType.UNANSWERED),
)

#: Keys that belong to the namespace, not to a job or a worker.
_HOLD = ("parked", "held", "gates", "holders", "starts", "freed", "armed", "wanted", "using", "rules", "once", "cache")
_SHARED = (
    "events", "queues", "tasks", "took", "told", "teller", "workers", "place", "filed", "litter", "audit", "archive",
    "archivist", "asking", "pools",
)  # fmt: skip

#: Keys of a job.
_OF_JOB = (
    "job",
    "args",
    "log",
    "result",
    "preview",
    "artifacts",
    "bodies",
    "checkpoints",
    "metrics",
    "asks",
    "journal",
)


#: Kinds of keys that belong to no job and expire by themselves.
_EXPIRING = (
    "worker", "grace", "starts", "using", "subs", "lending", "died", "room", "barred", "made", "made-on", "load",
    "selections", "autoscaler", "watching", "views", "tell", "later", "unsent", "reachable",
)  # fmt: skip


async def check_keys(store: RedisStore) -> None:
    """Check that every key belongs to the namespace, a stored job or a worker, and is deleted with it."""
    for raw in await keys(store):
        kind, _, name = raw.removeprefix(store.prefix).partition(":")
        if kind in _OF_JOB:
            state = await store.redis.hget(f"{store.prefix}job:{name}", "state")
            assert state is not None, f"{raw} belongs to no job"
            is_ended = JobState(state.decode()).is_terminal
            expires = is_ended or kind == "journal"
            assert (await store.redis.pttl(raw) > 0) == expires, f"{raw} of a job that is {state.decode()}"
        elif kind == "group":
            has_jobs = await store.redis.exists(f"{store.prefix}failed:{name}")
            assert (await store.redis.pttl(raw) > 0) != bool(has_jobs), f"{raw} has {has_jobs or 'no'} jobs"
        elif kind in ("batch", "batch-jobs"):
            record = await store.redis.hgetall(f"{store.prefix}batch:{name}")
            assert record, f"{raw} belongs to no batch"
            batch = BatchInfo.from_wire(name, wire.texts(record))
            assert (await store.redis.pttl(raw) > 0) == (not batch.open), f"{raw} with {batch.open} open jobs"
            assert await store.redis.zscore(f"{store.prefix}batches", name) is not None, f"batch {name} is in no index"
        elif kind == "after":
            assert await store.redis.zscore(f"{store.prefix}needed", name) is not None, f"{raw} is in no index"
        elif kind in ("failed", "again", "healed", "groups", "needed", "left", "needs"):
            continue  # `check_groups` checks their contents
        elif kind in ("schedule", "schedule-args", "schedule-runs"):
            assert await store.part(ScheduleStore).snapshots([name]), f"{raw} belongs to no schedule"
            lives = await store.redis.zscore(f"{store.prefix}schedules", name)
            assert lives is not None, f"schedule {name} is in no index"
        elif kind == "blob":
            is_used = await store.redis.exists(f"{store.prefix}uses:{name}")
            assert (await store.redis.pttl(raw) > 0) != bool(is_used), f"{raw} has {is_used or 'no'} users"
        elif kind == "pool":
            assert await store.redis.hexists(f"{store.prefix}pools", name), f"{raw} belongs to no pool"
        elif kind in ("uses", "blobs"):
            continue  # `check_blobs` checks their contents
        elif kind == "batched":
            members = [id.decode() for id in await store.redis.zrange(raw, 0, -1)]
            assert set(members) <= (await structure(store)).jobs, f"{raw} has jobs that are in no other index"
        elif kind in _EXPIRING:
            assert await store.redis.pttl(raw) != -1, f"{raw} would stay forever"  # -2: it has just expired
        else:
            assert kind in (
                "jobs",
                "state",
                "ready",
                "due",
                "leases",
                "expiry",
                "idle",
                "schedules",
                "batched",
                "batches",
                "batches-open",
                *_HOLD,
                *_SHARED,
            ), f"{raw} has no owner"


async def check_blobs(store: RedisStore) -> None:
    """Check that large parts of calls are kept for exactly the jobs and schedules that name them."""
    by_user = await store.redis.hgetall(f"{store.prefix}blobs")
    expected: dict[str, set[str]] = {}
    for user, blobs in by_user.items():
        for name in blobs.decode().split():
            expected.setdefault(name, set()).add(user.decode())
    found = {
        name: {user.decode() for user in await store.redis.smembers(f"{store.prefix}uses:{name}")}
        for name in await names(store, "uses")
    }
    assert found == expected
    assert set(found) <= set(await names(store, "blob"))
    where = await structure(store)
    assert {user.decode() for user in by_user if not user.startswith(b"schedule ")} <= where.jobs


async def check_groups(store: RedisStore) -> None:
    """Check that groups contain exactly the failed jobs with their task and error."""
    where = await structure(store)
    inside: dict[str, tuple[str, ...]] = {}
    for group in await store.part(FailureStore).groups(limit=10_000):
        ids, cursor = await store.part(FailureStore).jobs(group.id, limit=10_000)
        assert not cursor
        assert group.healed <= group.repeated <= len(ids) == group.jobs
        inside |= dict.fromkeys(ids, (group.task, group.kind, group.type, group.where))
    assert set(inside) == where.states[JobState.FAILED]
    for id in inside:
        [found] = await store.snapshots([id])
        if found is not None and found.error is not None:
            error = found.error
            place = error.where if error.kind in (ErrorKind.EXCEPTION, ErrorKind.CRASH) else ""
            assert inside[id] == (found.spec.task, error.kind, error.type, place), id


async def keys(store: RedisStore) -> list[str]:
    return [key.decode() async for key in store.redis.scan_iter(f"{store.prefix}*", count=1000)]


async def clear(store: RedisStore) -> None:
    """End and delete every job through the verbs; then no key of any job may be left."""
    where = await structure(store)
    everything = sorted(where.jobs)
    await store.cancel(everything)
    await lapse(store, *where.leases)
    while (await structure(store)).leases:
        await store.claim(worker("sweeper", "nothing"), 0)
    await store.delete(everything)
    while (await store.renew("sweeper", {}, {})).has_left:
        pass
    await store.leave("sweeper")
    for schedule in await store.part(ScheduleStore).snapshots():
        assert await store.part(ScheduleStore).remove(schedule.name)
    await store.list(Query(limit=10_000))  # meets what expired before it was pruned
    left = await structure(store)
    lines = (*left.states.values(), *left.ready.values(), *left.due.values())
    assert not any([left.jobs, left.leases, left.expiry, *lines])
    owned = {key.removeprefix(store.prefix).partition(":")[0] for key in await keys(store)}
    assert owned <= {
        *_SHARED,
        "rules",
        "starts",
        "once",
        "subs",
        "cache",
        "worker",
        "idle",
        "lending",
        "watching",
        "died",
        "room",
        "barred",
        "made",
        "made-on",
        "selections",
        "views",
        "tell",
        "later",
        "unsent",
        "reachable",
        "load",
        "blob",  # uploaded, and never used
        "group",
        "groups",
        "autoscaler",
        "pool",
    }  # a group with a verdict outlives its jobs
    if found := await keys(store):
        await store.redis.delete(*found)
