"""The store on Redis: every verb is one function of `library` or one pipeline.

Only this room and `lua/` spell keys and channels; `docs/architecture.md` lists them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from redis.asyncio import Redis

from jobkit.model import JobEvent, JobSnapshot, JobState, LogLine, Rule, StoreUnavailable, Waiting
from jobkit.settings import Settings
from jobkit.store import records
from jobkit.store.connect import explain
from jobkit.store.redis_audit import RedisAudit
from jobkit.store.redis_dump import RedisDump
from jobkit.store.redis_failures import RedisFailures
from jobkit.store.redis_files import RedisFiles
from jobkit.store.redis_list import RedisList
from jobkit.store.redis_part import awaited
from jobkit.store.redis_schedules import RedisSchedules
from jobkit.store.redis_web import RedisWeb
from jobkit.store.values import (
    AttemptNews,
    Claimed,
    Ending,
    Kept,
    LogSlice,
    Renewal,
    Submission,
    SubmitReply,
    WorkerInfo,
    expired,
    is_before,
)
from jobkit.store.wire import (
    claim_args,
    finish_args,
    keep_args,
    progress_args,
    prune_args,
    read_claim,
    read_claimed,
    read_renewal,
    renew_args,
    submit_args,
)

_json = msgspec.json.encode
_unjson = msgspec.json.decode

#: A lease that outlives any attempt, in ms: ten years.
_FOREVER_MS = 315_360_000_000


class RedisStore(RedisFiles, RedisFailures, RedisList, RedisSchedules, RedisDump, RedisWeb, RedisAudit):
    """See `jobkit.store.base.Store`."""

    def __init__(self, settings: Settings, redis: Redis | None = None) -> None:
        super().__init__(settings, redis)
        self._lease_ms = int(settings.lease * 1000)

    def channel(self, kind: str, name: str = "") -> str:
        """Return the channel of "all", of a job ("ch"), of a process ("client") or of a worker ("inbox")."""
        return f"{self.prefix}{kind}:{name}" if name else f"{self.prefix}{kind}"

    # -- moving jobs ------------------------------------------------------------------------------------------------

    async def submit(self, jobs: Sequence[Submission], client: str = "") -> list[SubmitReply]:
        with self._reaching():
            return records.answers(jobs, await self.functions.run("submit", [client, *submit_args(jobs)]))

    async def claim(
        self, worker: WorkerInfo, free: int, received: int = 0, awaited: Sequence[str] = (), lent: int = 0
    ) -> tuple[list[Claimed], float]:
        with self._reaching():
            reply = await self.functions.run("claim", self.claim_args(worker, free, received, awaited, lent))
        return read_claim(reply)

    def claim_args(
        self, worker: WorkerInfo, free: int, received: int, awaited: Sequence[str] = (), lent: int = 0
    ) -> list[Any]:
        return claim_args(
            worker,
            free,
            received,
            lease_ms=self._lease_ms,
            max_losses=self.settings.max_losses,
            ttl_ms=self._ttl_ms,
            awaited=awaited,
            lent=lent,
        )

    async def claim_one(self, worker: WorkerInfo, job_id: str) -> tuple[Claimed | None, bool]:
        """Claim one waiting job, ignoring its position in the queue, due time and limits, with a lease without end.

        Returns:
            None if it does not wait for a worker; and True if that is because its queue or task is paused.
        """
        with self._reaching():
            reply = await self.functions.run("claim_one", [worker.id, job_id, _FOREVER_MS])
        return (read_claimed(reply) if len(reply) > 10 else None), reply == b"paused"

    async def followers(self, job_id: str) -> list[str]:
        """Return the ids of the jobs that wait for the result of this one, in the order of their submits."""
        with self._reaching():
            return [id.decode() for id in await awaited(self.redis.zrange(f"{self.prefix}after:{job_id}", 0, -1))]

    async def progress(self, news: Sequence[AttemptNews]) -> list[bool]:
        with self._reaching():
            answers = await self.functions.run("progress", progress_args(news))
        return [answer == 1 for answer in answers]

    async def finish(self, endings: Sequence[Ending]) -> list[int]:
        with self._reaching():
            answers: list[int] = await self.functions.run("finish", finish_args(endings))
            return answers

    async def exchange(
        self,
        news: Sequence[AttemptNews],
        endings: Sequence[Ending],
        claim: tuple[WorkerInfo, int, int, Sequence[str], int] | None,
        artifacts: Sequence[Kept] = (),
    ) -> tuple[list[int], list[Claimed], float]:
        """Call `progress`, `keep`, `finish` and `claim`, as far as needed, in this order and one round trip.

        Return the replies to the endings, the claimed jobs and the seconds until the next one is due.
        """
        calls: list[tuple[str, Sequence[Any]]] = []
        if news:
            calls.append(("progress", progress_args(news)))
        if artifacts:
            calls.append(("keep", keep_args(artifacts)))
        if endings:
            calls.append(("finish", finish_args(endings)))
        if claim:
            calls.append(("claim", self.claim_args(*claim)))
        with self._reaching():
            replies = await self.functions.run_many(calls)
        answers = replies[bool(news) + bool(artifacts)] if endings else []
        claimed, wait_s = read_claim(replies[-1]) if claim else ([], float("inf"))
        return answers, claimed, wait_s

    async def cancel(self, job_ids: Sequence[str], reason: str = "") -> list[str]:
        with self._reaching():
            states = await self.functions.run("cancel", [_json({"reason": reason, "ttl_ms": self._ttl_ms}), *job_ids])
        return [state.decode("utf-8", "replace") for state in states]

    async def delete(self, job_ids: Sequence[str]) -> list[bool]:
        with self._reaching():
            return [gone == 1 for gone in await self.functions.run("delete", list(job_ids))]

    async def prune(self, limit: int = 200, keep: int | None = None) -> int:
        with self._reaching():
            pruned: int = await self.functions.run("prune", prune_args(limit, keep))
            return pruned

    async def renew(self, worker_id: str, held: Mapping[str, str], facts: Mapping[str, Any]) -> Renewal:
        """Send a worker's heartbeat: its leases (`held` is job id to token) and its published state.

        The heartbeat thread sends the same over a separate connection; see `jobkit.worker.lease`.
        """
        args = renew_args(worker_id, facts, held, self._lease_ms, self.settings.max_losses, self._ttl_ms)
        with self._reaching():
            return read_renewal(await self.functions.run("renew", args))

    async def leave(self, worker_id: str) -> int:
        """Deregister a worker that shuts down, so that no queue offers it. Return the number of jobs that it was
        handed.
        """
        with self._reaching():
            handed: int = await self.functions.run("leave", [worker_id])
            return handed

    async def move(
        self, job_ids: Sequence[str], queue: str | None = None, priority: int | None = None, reason: str = ""
    ) -> list[str]:
        options: dict[str, Any] = {"reason": reason}
        if queue:
            options["queue"] = queue
        if priority is not None:
            options["priority"] = priority
        with self._reaching():
            answers = await self.functions.run("move", [_json(options), *job_ids])
        return [answer.decode() for answer in answers]

    async def set_rule(self, gate: str, change: Mapping[str, Any] | None) -> Rule:
        with self._reaching():
            rule, held = await self.functions.run("rule", [gate, b"" if change is None else _json(change)])
        return Rule.from_wire(gate, _unjson(rule) if rule else {}, held)

    async def rules(self) -> list[Rule]:
        with self._reaching():
            found = await awaited(self.redis.hgetall(f"{self.prefix}rules"))
            gates = sorted(gate.decode() for gate in found)
            pipe = self.redis.pipeline(transaction=False)
            for gate in gates:
                pipe.zcard(f"{self.prefix}holders:{gate}")
            held = await pipe.execute()
        return [
            Rule.from_wire(gate, _unjson(found[gate.encode()]), n) for gate, n in zip(gates, held, strict=True)
        ]  # fmt: skip

    async def waiting(self, job_ids: Sequence[str]) -> list[Waiting | None]:
        if not job_ids:
            return []
        with self._reaching():
            answers = await self.functions.run("waiting", list(job_ids))
        return [Waiting.from_wire(_unjson(answer)) if answer else None for answer in answers]

    async def handed(self, worker_id: str) -> int:
        """Return the number of jobs handed to a worker since it subscribed; the last may still be in transit."""
        with self._reaching():
            return int(await awaited(self.redis.hget(f"{self.prefix}worker:{worker_id}", "handed")) or 0)

    # -- looking ----------------------------------------------------------------------------------------------------

    async def snapshots(self, job_ids: Sequence[str]) -> list[JobSnapshot | None]:
        if not job_ids:
            return []
        with self._reaching():
            pipe = self.redis.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hgetall(f"{self.prefix}job:{job_id}")
            found = await pipe.execute(raise_on_error=False)
        snapshots = []
        for job_id, record in zip(job_ids, found, strict=True):
            if isinstance(record, Exception) and not records.is_wrong_type(record):
                raise explain(record, self.settings)
            snapshots.append(records.readable(f"the record of job {job_id}", records.snapshot, record))
        return snapshots

    async def result(self, job_id: str) -> bytes | None:
        return await self._result_part("result", job_id)

    async def payload(self, job_id: str) -> bytes | None:
        return await self._get(f"{self.prefix}args:{job_id}")

    async def preview(self, job_id: str) -> bytes | None:
        return await self._result_part("preview", job_id)

    async def _result_part(self, part: str, job_id: str) -> bytes | None:
        """Return a part of the result: the job's own, or that of the job whose cached result it has."""
        found = await self._get(f"{self.prefix}{part}:{job_id}")
        if found is None:
            with self._reaching():
                source: Any = await awaited(self.redis.hget(f"{self.prefix}job:{job_id}", "cached"))
            if source:
                found = await self._get(f"{self.prefix}{part}:{source.decode()}")
        return found

    async def _get(self, key: str) -> bytes | None:
        with self._reaching():
            value: bytes | None = await self.redis.get(key)
            return value

    async def logs(self, job_id: str, *, after: int = 0, tail: int | None = None) -> LogSlice:
        with self._reaching():
            pipe = self.redis.pipeline(transaction=False)
            pipe.hmget(f"{self.prefix}job:{job_id}", ["logn", "logdropped"])
            pipe.xrange(f"{self.prefix}log:{job_id}")
            (total, dropped), entries = await pipe.execute()
        lines: list[LogLine] = []
        for _, entry in entries:
            lines += records.readable(f"log lines of job {job_id}", partial(records.lines, after), entry) or ()
        if tail is not None:
            lines = lines[-tail:] if tail > 0 else []
        return LogSlice(tuple(lines), int(total or 0), int(dropped or 0))

    async def counts(self) -> dict[str, int]:
        with self._reaching():
            pipe = self.redis.pipeline(transaction=False)
            for state in JobState:
                pipe.zcard(f"{self.prefix}state:{state}")
            return dict(zip(map(str, JobState), await pipe.execute(), strict=True))

    async def queues(self) -> dict[str, dict[str, int]]:
        workers = await self.workers()
        with self._reaching():
            members = await awaited(self.redis.smembers(f"{self.prefix}queues"))
            names = sorted(
                {name.decode("utf-8", "replace") for name in members}
                | {q for w in workers if w.is_alive for q in w.queues}
            )
            pipe = self.redis.pipeline(transaction=False)
            for name in names:
                pipe.zcard(f"{self.prefix}ready:{name}")
                pipe.zcard(f"{self.prefix}due:{name}")
                pipe.zcard(f"{self.prefix}held:{name}")
            pipe.hvals(f"{self.prefix}armed")  # gates in the same sorted sets that wait for a time
            *sizes, gates = await pipe.execute()
            armed = Counter(gates)
            for job_id in await self.redis.zrange(f"{self.prefix}state:running", 0, -1):
                pipe.hget(f"{self.prefix}job:{job_id.decode('utf-8', 'replace')}", "queue")
            running = Counter(await pipe.execute())
        return {
            name: {
                "queued": sizes[3 * i] + sizes[3 * i + 2],
                "scheduled": max(0, sizes[3 * i + 1] - armed[name.encode()]),
                "running": running[name.encode()],
                "workers": sum(w.takes_jobs and name in w.queues for w in workers),
            }
            for i, name in enumerate(names)
        }

    async def workers(self) -> list[WorkerInfo]:
        with self._reaching():
            ids = [raw.decode("utf-8", "replace") for raw in await self.redis.zrevrange(f"{self.prefix}workers", 0, -1)]
            pipe = self.redis.pipeline(transaction=False)
            for worker_id in ids:
                pipe.hgetall(f"{self.prefix}worker:{worker_id}")
            pipe.time()
            *found, (seconds, micros) = await pipe.execute()
        now_ms = seconds * 1000 + micros // 1000
        read = [
            records.readable(f"the record of worker {id}", partial(records.worker, id, now_ms), record)
            for id, record in zip(ids, found, strict=True)
        ]
        return [worker for worker in read if worker is not None]

    async def stop_workers(self, worker_ids: Sequence[str], how: str) -> int:
        with self._reaching():
            asked: int = await self.functions.run("stop", [how, *worker_ids])
            return asked

    async def publish_tasks(self, tasks: Mapping[str, bytes]) -> None:
        if tasks:
            with self._reaching():
                await awaited(self.redis.hset(f"{self.prefix}tasks", mapping=dict(tasks)))

    async def tasks(self) -> dict[str, bytes]:
        with self._reaching():
            found = await awaited(self.redis.hgetall(f"{self.prefix}tasks"))
        return {name.decode("utf-8", "replace"): sealed for name, sealed in sorted(found.items())}

    async def publish_took(self, seconds: Mapping[str, float]) -> None:
        """Store the usual run time of each task in seconds."""
        with self._reaching():
            wire = {task: str(value) for task, value in seconds.items()}
            await awaited(self.redis.hset(f"{self.prefix}took", mapping=wire))

    async def took(self) -> dict[str, float]:
        with self._reaching():
            found = await awaited(self.redis.hgetall(f"{self.prefix}took"))
        return {task.decode(): float(value) for task, value in found.items()}

    async def events(self, after: str = "", limit: int = 1000) -> list[JobEvent]:
        start = f"({after}" if after else "-"
        key = f"{self.prefix}events"
        with self._reaching():
            pipe = self.redis.pipeline(transaction=False)
            pipe.xrange(key, start, "+", count=limit)
            pipe.xrange(key, count=1)
            entries, oldest = await pipe.execute()
            if oldest and is_before(after, oldest[0][0].decode()) and await self._is_trimmed(key):
                raise expired(after, oldest[0][0].decode())
        read = [records.readable(f"event {id.decode()}", partial(records.event, id.decode()), e) for id, e in entries]
        return [event for event in read if event is not None]

    async def _is_trimmed(self, key: str) -> bool:
        """Return True if a stream has ever lost an entry."""
        facts: Any = await self.redis.xinfo_stream(key)
        return bool(facts["entries-added"] != facts["length"])

    async def last_event_id(self) -> str:
        """Return the id of the newest event of the namespace, or "0-0"."""
        with self._reaching():
            entries = await self.redis.xrevrange(f"{self.prefix}events", count=1)
        return entries[0][0].decode() if entries else "0-0"

    async def ping(self) -> None:
        """Return when the server answers. Not by PING, which a server with a full disk rejects like a write."""
        with self._reaching():
            await self.redis.exists(f"{self.prefix}place")

    async def refused(self) -> StoreUnavailable | None:
        try:
            with self._reaching():
                await self.functions.run("refused", [])
        except StoreUnavailable as error:
            if not error.only_reads:
                raise
            return error
        return None

    def open(self) -> None:
        """Allow requests again after `close`; a new store is open."""
        self._is_closed = False

    async def close(self) -> None:
        self._is_closed = True
        await self.redis.aclose()
        # A call that ends now, cancelled or cut, returns its connection to the pool; it may have opened it just now.
        for _ in range(3):
            await asyncio.sleep(0)
        await self.redis.connection_pool.disconnect()
