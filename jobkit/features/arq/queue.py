"""Jobs of arq's own client: its queue and keys beside our records.

The verbs (`lua/verbs/`) give each member of an arq queue a record, and update arq's keys when the job
changes, for arq's readers and workers. Payloads and results of arq are opaque bytes here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import msgspec

from jobkit.model import JobSpec
from jobkit.store import wire
from jobkit.store.namespace import in_slices
from jobkit.store.redis import RedisStore

_json = msgspec.json.encode
_unjson = msgspec.json.decode

#: Number of members of arq's queue, next to run, that a scan considers. In a longer backlog between half of these and
#: all have records; the others get theirs as they move up.
WINDOW = 5_000


class Found(msgspec.Struct, frozen=True):
    """A member of arq's queue without a record.

    Attributes:
        arq_id: its arq id, as in arq's keys.
        score: earliest start in ms.
        ttl_ms: time to live of its payload: None for no limit.
        tries: number of earlier tries.
        is_taken: a record with that id exists.
        payload: arq's bytes; empty if they have expired.
    """

    arq_id: bytes
    score: int
    ttl_ms: int | None
    tries: int
    is_taken: bool
    payload: bytes


class EndedInArq(msgspec.Struct, frozen=True):
    """A job that ended without a worker; arq's readers wait for a result.

    `id` is its jobkit id, `state` its final state, `why` one sentence about it, `payload` arq's bytes.
    """

    arq_id: bytes
    id: str
    state: str
    why: str
    payload: bytes


class Scan(msgspec.Struct, frozen=True):
    """Changes in an arq queue. `now_ms` is the server's clock, `members` the number of members."""

    now_ms: int
    members: int
    ended: tuple[EndedInArq, ...]
    new: tuple[Found, ...]


class Adoption(msgspec.Struct, frozen=True):
    """A record for a member of arq's queue; `payload` is the sealed call, `tries` the number of earlier tries."""

    arq_id: bytes
    spec: JobSpec
    payload: bytes
    tries: int


class ArqQueue:
    """One arq queue in the store.

    Args:
        key: key of the sorted set, `"arq:queue"`.
        name: name of the jobkit queue.
    """

    def __init__(self, store: RedisStore, key: str, name: str) -> None:
        self.store, self.key, self.name = store, key, name

    @property
    def watched(self) -> tuple[str, ...]:
        """Keys whose changes require a scan."""
        return self.key, "arq:abort", f"{self.store.prefix}arq-ended:{self.key}"

    async def scan(self, limit: int, *, obeys_aborts: bool) -> Scan:
        """Process aborts, jobs that were removed from the queue, and up to `limit` new ones."""
        start = b"0"
        while start:
            options = wire.options(
                key=self.key,
                queue=self.name,
                limit=max(1, limit),
                window=WINDOW,
                obeys_aborts=obeys_aborts,
                ttl_ms=self.store.ttl_ms,
                **{"from": start.decode()},
            )
            now_ms, members, ended, new, start = await self.store.run("arq_scan", [options])
        return Scan(
            now_ms,
            members,
            tuple(EndedInArq(arq_id, **_unjson(how), payload=payload) for arq_id, how, payload in ended),
            tuple(
                Found(arq_id, int(float(score)), None if ttl == -1 else max(0, ttl), tries, taken == 1, payload)
                for arq_id, score, ttl, tries, taken, payload in new
            ),
        )

    async def adopt(self, adoptions: Sequence[Adoption]) -> list[bool]:
        """Create records for members; False if one is gone, has a record already, or the id is taken."""
        answers: list[int] = []
        for some in in_slices(adoptions):
            args: list[bytes | str | int] = [self.key, self.name]
            for one in some:
                args += [one.arq_id, one.spec.id, _json(one.spec.to_wire()), one.payload, one.tries]
            answers += await self.store.run("arq_adopt", args)
        return [answer == 1 for answer in answers]

    async def settle(self, results: Sequence[tuple[bytes, bytes, int]]) -> None:
        """Store `(arq_id, result, ttl_ms)` of jobs that ended without a worker."""
        for some in in_slices(results):
            await self.store.run("arq_settle", [self.key, *chain.from_iterable(some)])

    async def enqueue(self, arq_id: str, payload: bytes, *, score: int, ttl_ms: int, is_slot: bool) -> bool:
        """Add a cron job to the queue, unless a job or result with the id exists.

        Args:
            is_slot: the id is unique for this slot: it is enqueued once, even if it has already run.
        """
        options = wire.options(queue=self.key, id=arq_id, is_slot=is_slot, score=score, ttl_ms=max(1, ttl_ms))
        return bool(await self.store.run("arq_enqueue", [options, payload]))

    async def quarantine(self, arq_id: bytes) -> None:
        """Remove a member that is not a valid arq id from the queue, and keep it for a week in a separate set."""
        aside = f"{self.store.prefix}arq-quarantine:{self.key}"
        with self.store.reaching():
            pipe = self.store.redis.pipeline(transaction=True)
            pipe.zrem(self.key, arq_id)
            pipe.sadd(aside, arq_id)
            pipe.expire(aside, 604_800)
            await pipe.execute()
