"""The store on Redis: jobs, workers and tasks. Every verb is one function of `library` or one pipeline.

Each verb that moves a job checks that the transition is allowed, increases the job's `seq`, stores the event with the
record and publishes it, in one atomic step. The server's clock is the only clock. Only this room and `lua/` spell keys
and channels; `docs/architecture.md` lists them.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis

from jobkit.model import EventsExpired, JobEvent, JobSnapshot, JobState, Rule, StoreUnavailable
from jobkit.model.batch import BatchSpec
from jobkit.settings import Settings
from jobkit.store import wire
from jobkit.store.contents import BlobStore
from jobkit.store.finding import JobFinder
from jobkit.store.logs import LogRecords
from jobkit.store.namespace import StorePart, in_slices
from jobkit.store.query import Query, QueryPage
from jobkit.store.queues import QueueRecords
from jobkit.store.values import (
    ArtifactInfo,
    AttemptNews,
    Claimed,
    Ending,
    Kept,
    Renewal,
    Submission,
    SubmitReply,
    WorkerInfo,
    event_key,
    parse_stream_id,
)
from jobkit.store.web import AuditLog, WebStore

Part = TypeVar("Part", bound=StorePart)

#: The mark of a namespace, see `place`.
_PLACE = re.compile(rb"[0-9a-f]{16}")

#: A lease that outlives any attempt, in ms: ten years.
_FOREVER_MS = 315_360_000_000


class RedisStore(QueueRecords, LogRecords):
    """Jobs, workers and tasks of a namespace; the rest is in its parts.

    Every verb raises `StoreUnavailable` if the server does not answer.

    Attributes:
        finder: pages of jobs.
        web: tokens of HTTP. audit_log: actions of users. blobs: large parts of calls.
        door: by which jobs of another queue's client come that its worker runs, and others do not claim.
        runs_any_python: its worker runs each job in the Python of its submitter.
        has_left: the last exchange has left something over, with which the next one goes on.
    """

    def __init__(self, settings: Settings, redis: Redis | None = None) -> None:
        super().__init__(settings, redis)
        self._lease_ms = int(settings.lease * 1000)
        self.has_left = self.runs_any_python = False
        self.door = ""
        self._parts: dict[type, Any] = {}
        self.finder = JobFinder(self)
        self.web = WebStore(self)
        self.audit_log = AuditLog(self)
        self.blobs = BlobStore(self)

    def part(self, kind: type[Part]) -> Part:
        """Return a feature's part of this store, made when it is first asked for."""
        if kind not in self._parts:
            self._parts[kind] = kind(self)
        found: Part = self._parts[kind]
        return found

    # -- moving jobs --------------------------------------------------------------------------------------------------

    async def submit(
        self, jobs: Sequence[Submission], client: str = "", batch: BatchSpec | None = None, place: int = 0
    ) -> list[SubmitReply]:
        """Store each job once; nothing changes if its id is known.

        A job whose spec says `once` or has a `cache_key` may turn out to be another job; see `SubmitReply`.

        Args:
            client: the submitter's own channel, to which every later event of the jobs is published, too.
            batch: that these jobs are a part of, from `place` on.
        """
        part = wire.part_args(batch, place, self.ttl_ms)
        replies = wire.answers(
            jobs, await self.run("submit", [client, part, *wire.submit_args(jobs, is_part=batch is not None)])
        )
        await self.settle(wire.has_many_needs(jobs))
        return replies

    async def claim(self, worker: WorkerInfo, free: int, received: int = 0, **more: Any) -> tuple[list[Claimed], float]:
        """Claim up to `free` jobs in the order of the worker's queues; also return the seconds until the next is due.

        First returns jobs with an expired lease to their queue and makes due ones ready. Registers the slots that stay
        free, so that a submit may hand a job over without a further round trip. Arguments as of `claim_args`.
        """
        return wire.read_claim(await self.run("claim", self.claim_args(worker, free, received, **more)))

    def claim_args(
        self,
        worker: WorkerInfo,
        free: int,
        received: int,
        awaited: Sequence[str] = (),
        lent: int = 0,
        held: int = 0,
        *,
        is_blocked: bool = False,
    ) -> list[Any]:
        """Return the arguments of `claim`.

        Args:
            received: number of handed-over jobs that the worker has seen; negative starts the count again.
            awaited: jobs for which jobs of this worker wait, most urgent first. Up to `lent` of them (or of those whose
                results they need, or that jobs of other workers wait for) are claimed first, whatever their position.
            held: number of jobs that it has. A job that has lost too many workers beside others starts only if it is 0.
            is_blocked: its loop stands still, so another worker has to watch for due jobs.
        """
        options = wire.options(
            queues=worker.queues,
            lease_ms=self._lease_ms,
            max_losses=self.settings.max_losses,
            ttl_ms=self.ttl_ms,
            limit=50,  # of the due jobs and expired leases that one call handles
            weights=dict(worker.weights) or None,
            has=dict(worker.resources) or None,
            awaited=awaited or None,
            lent=lent if awaited else None,
            blocked=is_blocked or None,
            door=self.door or None,
            python=None if self.runs_any_python else worker.python or None,
        )
        return [worker.id, free, received, held, options]

    async def claim_one(self, worker: WorkerInfo, job_id: str) -> tuple[Claimed | None, bool]:
        """Claim one waiting job, ignoring its position in the queue, due time and limits, with a lease without end.

        Returns:
            None if it does not wait for a worker; and True if that is because its queue or task is paused.
        """
        reply = await self.run("claim_one", [worker.id, job_id, _FOREVER_MS])
        return (wire.read_claimed(reply) if len(reply) > 10 else None), reply == b"paused"

    async def followers(self, job_id: str) -> list[str]:
        """Return the ids of the jobs that wait for the result of this one, in the order of their submits."""
        return self.names(f"after:{job_id}", await self.ask("ZRANGE", f"after:{job_id}", 0, -1))

    async def progress(self, news: Sequence[AttemptNews]) -> list[bool]:
        """Store and publish news; False if the token is no longer valid."""
        answers = await self.run("progress", wire.progress_args(news))
        return [answer == 1 for answer in answers]

    async def keep(self, artifacts: Sequence[Kept]) -> list[bool]:
        """Keep artifacts as long as their jobs; False if the token is no longer valid."""
        return [answer == 1 for answer in await self.run("keep", wire.keep_args(artifacts))]

    async def finish(self, endings: Sequence[Ending]) -> list[int]:
        """End attempts: `FINISHED`, `ALREADY` (same token before: the reply was lost), `FENCED` or `DAMAGED`."""
        answers: list[int] = await self.run("finish", wire.finish_args(endings))
        await self.settle(answers.pop())
        return answers

    async def exchange(
        self,
        news: Sequence[AttemptNews],
        endings: Sequence[Ending],
        claim: tuple[WorkerInfo, int, int, Sequence[str], int, int] | None,
        artifacts: Sequence[Kept] = (),
    ) -> tuple[list[int], list[Claimed], float]:
        """Call `progress`, `keep`, `finish` and `claim`, as far as needed, in this order and one round trip.

        Return the replies to the endings, the claimed jobs and the seconds until the next one is due: 0 if
        something is left over.
        """
        calls: list[tuple[str, Sequence[Any]]] = [
            ("progress", wire.progress_args(news)),
            ("keep", wire.keep_args(artifacts)),
            ("finish", wire.finish_args(endings)),
            ("settle", [self.ttl_ms] if self.has_left else ()),
            ("claim", self.claim_args(*claim) if claim else ()),
        ]
        calls = [(verb, args) for verb, args in calls if args]
        with self.reaching():
            replies = await self.functions.run_many(calls)
        answers = dict(zip((verb for verb, _ in calls), replies, strict=True))
        claimed, wait_s = wire.read_claim(answers["claim"]) if claim else ([], float("inf"))
        *ended, left = answers.get("finish", [0])
        self.has_left = bool(left or answers.get("settle"))
        return ended, claimed, 0.0 if self.has_left else wait_s

    async def cancel(
        self, job_ids: Sequence[str], reason: str = "", *, gently: bool = False, by: str = ""
    ) -> list[str]:
        """Request jobs to stop, or (gently) to stop at a safe point. Return the state of each now, "" if unknown.

        A waiting job is "cancelled" at once; a running one stays "running" until its worker has stopped it; a terminal
        one keeps its state. `by`: name of the caller, if known.
        """
        options = wire.options(reason=reason, ttl_ms=self.ttl_ms, gently=gently or None, by=by[:200] or None)
        states: list[str] = []
        for some in in_slices(job_ids):
            *found, left = await self.run("cancel", [options, *some])
            states += [state.decode("utf-8", "replace") for state in found]
            await self.settle(left)
        return states

    async def move(
        self, job_ids: Sequence[str], queue: str | None = None, priority: int | None = None, reason: str = ""
    ) -> list[str]:
        """Move waiting jobs to another queue or priority; they keep the time since which they wait.

        Return for each "" if it is moved, else why not: "unknown", its state, or the door by which it
        came: it waits in a queue of its client.
        """
        options = wire.options(reason=reason, queue=queue or None, priority=priority)
        return [answer.decode() for answer in await self.run_each("move", job_ids, options)]

    async def delete(self, job_ids: Sequence[str]) -> list[bool]:
        """Delete terminal jobs with everything they own; False for a job that is unknown or not terminal."""
        return [gone == 1 for gone in await self.run_each("delete", job_ids)]

    async def prune(self, limit: int = 200, keep: int | None = None) -> int:
        """Delete up to `limit` expired jobs, and ended ones beyond `keep`; return their number.

        If there are too many, those that would expire first go first.
        """
        pruned: int = await self.run("prune", [wire.options(limit=limit, keep=keep)])
        return pruned

    async def renew(
        self, worker_id: str, held: Mapping[str, str], facts: Mapping[str, Any], barred: Collection[str] = ()
    ) -> Renewal:
        """Send a worker's heartbeat: its leases (`held` is job id to token) and its published state.

        The heartbeat thread sends the same over a separate connection; see `jobkit.worker.lease`.
        """
        args = wire.renew_args(worker_id, facts, held, self._lease_ms, self.settings.max_losses, self.ttl_ms, barred)
        return wire.read_renewal(await self.run("renew", args))

    async def set_rule(self, gate: str, change: Mapping[str, Any] | None) -> Rule:
        """Change the rule of a task or queue, which overrides the declaration of the task; return the new rule.

        Args:
            gate: "task:NAME" or "queue:NAME".
            change: parts of the rule: `n`, `count` with `period_ms`, `paused`; None for a part ends that part. {}
                changes nothing, None ends the whole rule.
        """
        rule, held, left = await self.run("rule", [gate, b"" if change is None else msgspec.json.encode(change)])
        await self.settle(left)
        return Rule.from_wire(gate, msgspec.json.decode(rule) if rule else {}, held)

    # -- reading jobs -------------------------------------------------------------------------------------------------

    async def snapshots(self, job_ids: Sequence[str]) -> list[JobSnapshot | None]:
        """Return the snapshot of each job; None if it is unknown or its record cannot be read."""
        return await self.records("job", job_ids, wire.snapshot_of)

    async def result(self, job_id: str) -> bytes | None:
        """Return the sealed value, or None."""
        return await self._result_part("result", job_id)

    async def preview(self, job_id: str) -> bytes | None:
        """Return the sealed preview beside its result, if it has one (`jobkit.attempts.read_preview`)."""
        return await self._result_part("preview", job_id)

    async def _result_part(self, part: str, job_id: str) -> bytes | None:
        """Return a part of the result: the job's own, or that of the job whose cached result it has."""
        found: bytes | None = await self.ask("GET", f"{part}:{job_id}")
        if found is None and (source := await self.ask("HGET", f"job:{job_id}", "cached")):
            found = await self.ask("GET", f"{part}:{source.decode('utf-8', 'replace')}")
        return found

    async def payload(self, job_id: str) -> bytes | None:
        """Return the sealed arguments, which are kept as long as the job."""
        return (await self.payloads([job_id]))[0]

    async def payloads(self, job_ids: Sequence[str]) -> list[bytes | None]:
        return list(await self.many([("GET", f"args:{job_id}") for job_id in job_ids]))

    async def counts(self) -> dict[str, int]:
        """Return the number of jobs by state, for every state."""
        found = await self.many([("ZCARD", f"state:{state}") for state in JobState])
        return dict(zip(map(str, JobState), found, strict=True))

    async def events(self, after: str = "", limit: int = 1000) -> list[JobEvent]:
        """Return numbered events of all jobs after an event id, oldest first; "" or "0-0" for the oldest stored ones.

        Raises:
            EventsExpired: some after that id are no longer stored.
        """
        newer = ("XRANGE", "events", f"({after}" if after else "-", "+", "COUNT", limit)
        entries, oldest = await self.many([newer, ("XRANGE", "events", "-", "+", "COUNT", 1)])
        first = oldest[0][0].decode() if oldest else ""
        if first and after and (0, 0) < event_key(after) < event_key(first):
            facts = await self.ask("XINFO STREAM", "events")
            if facts["entries-added"] != facts["length"]:  # it has lost an entry
                raise EventsExpired(
                    f"events after {after} are no longer kept; the oldest is {first}: read the jobs again, and go on "
                    'with after="0-0"',
                    first,
                )
        return self.all_readable("events", wire.event, entries)

    async def has_lost(self, unknown: JobSnapshot) -> bool:
        """Return whether the server has never stored a job that it does not know: its submit is not among the events.

        False if events of that time are not kept any more.
        """
        at_ms = 0 if unknown.submitted_at is None else int(unknown.submitted_at.timestamp() * 1000)
        entries, oldest = await self.many(
            [("XRANGE", "events", at_ms - 100, at_ms + 100), ("XRANGE", "events", "-", "+", "COUNT", 1)]
        )
        if oldest and event_key(oldest[0][0].decode())[0] > at_ms - 100:
            return False
        name = f'"id":"{unknown.id}"'.encode()
        return not any(name in event.get(b"e", b"") for _, event in entries)

    async def last_event_id(self) -> str:
        """Return the id of the newest event of the namespace, or "0-0"."""
        entries = await self.ask("XREVRANGE", "events", "+", "-", "COUNT", 1)
        return entries[0][0].decode() if entries else "0-0"

    async def news(self, after: str, wait_s: float) -> None:
        """Return when there is an event after this id, at the latest after `wait_s`; uses a separate connection."""
        wait_s = min(wait_s, self.settings.reply_timeout / 2)  # a longer silence is that of a frozen server
        with self.reaching():
            await self.redis.xread({f"{self.prefix}events": after}, count=1, block=max(1, int(wait_s * 1000)))

    # -- artifacts and files ------------------------------------------------------------------------------------------

    async def artifacts(self, job_id: str) -> list[ArtifactInfo]:
        """Return a job's artifacts, oldest first."""
        found = await self.ask("HGETALL", f"artifacts:{job_id}")
        infos = self.all_readable(f"artifacts:{job_id}", wire.artifact, found.items())
        return sorted(infos, key=lambda info: (info.at_ms, info.name))

    async def artifact(self, job_id: str, name: str) -> bytes | None:
        """Return the sealed artifact (or sealed reference to its file), or None."""
        found: bytes | None = await self.ask("HGET", f"bodies:{job_id}", name)
        return found

    async def submitted_us(self, job_id: str) -> int:
        """Return the time of submit of a job (microseconds), different for each job of an id; 0 if unknown."""
        return wire.number(await self.ask("HGET", f"job:{job_id}", "us"))

    async def folder(self, job_id: str) -> str:
        """Return the folder of a job's files, "" if it has none."""
        return wire.text(await self.ask("HGET", "filed", job_id)).removeprefix("=")

    async def place(self) -> str:
        """Return the namespace's random mark (16 hex digits); a different one means that the store was wiped.

        It is also the namespace's folder in a directory that several servers use.
        """
        value = await self.ask("GET", "place")  # first: a full server accepts no new mark, but has one
        if value is None or not _PLACE.fullmatch(value):
            if value is not None:
                await self.run("mend", ["place", "a mark"])
            await self.ask("SET", "place", secrets.token_hex(8), "NX")
            value = await self.ask("GET", "place")
        return wire.text(value)

    async def orphaned(self, limit: int = 100) -> list[str]:
        """Return some folders whose jobs are deleted; a process that can reach them removes them."""
        return sorted(self.names("litter", await self.ask("SRANDMEMBER", "litter", limit)))

    async def cleaned_up(self, folders: Sequence[str]) -> None:
        """Remove deleted folders from the clean-up list."""
        if folders:
            await self.ask("SREM", "litter", *folders)

    async def owned(self, submissions: Sequence[tuple[str, int]]) -> list[bool]:
        """Return True for each job id and time of submit (microseconds) if that very job is stored."""
        found = await self.fields(("us",), [job_id for job_id, _ in submissions])
        return [raw is not None and wire.number(raw[0]) == us for raw, (_, us) in zip(found, submissions, strict=True)]

    async def put_aside(self) -> set[str]:
        """Return the folders of deleted jobs that wait for the archive; forget those that wait no more."""
        found: dict[str, str] = {}
        cursor: Any = 0
        while True:
            cursor, fields = await self.ask("HSCAN", "filed", cursor, "MATCH", "!*", "COUNT", 1000)
            found |= {wire.text(name): wire.text(folder) for name, folder in fields.items()}
            if int(cursor) == 0:
                break
        kept = await self.many([("EXISTS", f"job:{name}") for name in found]) if found else []
        if gone := [name for name, is_kept in zip(found, kept, strict=True) if not is_kept]:
            await self.ask("HDEL", "filed", *gone)
        return {found[name] for name in found.keys() - {*gone}}

    # -- tasks ----------------------------------------------------------------------------------------------

    async def publish_tasks(self, tasks: Mapping[str, bytes]) -> None:
        """Store sealed task definitions for processes that do not import them."""
        if tasks:
            await self.ask("HSET", "tasks", *chain.from_iterable(tasks.items()))

    async def tasks(self) -> dict[str, bytes]:
        found = await self.ask("HGETALL", "tasks")
        return {name.decode("utf-8", "replace"): sealed for name, sealed in sorted(found.items())}

    async def publish_took(self, seconds: Mapping[str, float]) -> None:
        """Store the usual run time of each task in seconds."""
        await self.ask("HSET", "took", *chain.from_iterable(seconds.items()))

    async def took(self) -> dict[str, float]:
        found = await self.ask("HGETALL", "took")
        return dict(self.all_readable("took", lambda task, value: (task, wire.seconds(value)), found.items()))

    async def marked(self, name: str) -> str:
        """Return the cursor of a leader, or ""."""
        found = wire.text(await self.ask("GET", name))
        return found if parse_stream_id(found) else ""

    async def mark(self, name: str, value: str) -> None:
        """Store the cursor of a leader: how far it has come."""
        await self.ask("SET", name, value)

    async def refused(self) -> StoreUnavailable | None:
        """Return why the server refuses changes although it can be read (full, disk error), or None."""
        try:
            await self.run("submit", ["", ""])  # no job
        except StoreUnavailable as error:
            if not error.only_reads:
                raise
            return error
        return None

    # Last, because `list` in an annotation below it would mean this method.
    async def list(self, query: Query) -> QueryPage:
        """Return a page of jobs.

        By age it costs what it shows, with other filters the records that it reads; in another order it reads all that
        match.

        Raises:
            InvalidParams: the order is unknown, or the cursor belongs to another order.
        """
        ids, cursor = await self.finder.page(query)
        return QueryPage(tuple(found for found in await self.snapshots(ids) if found is not None), cursor)
