"""`kit.batches`: stored batches, found in any process; they are followed, cancelled, retried and deleted."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Sequence
from typing import Any

from jobkit.above import ui
from jobkit.client import checks
from jobkit.client.batch import Batch, Batches
from jobkit.client.connection import Connection
from jobkit.client.forms import Noun, in_thread, on_loop, submitting
from jobkit.client.found import Jobs
from jobkit.client.job import Job
from jobkit.client.loop import background
from jobkit.client.repeat import Repeated, Repeater
from jobkit.client.stop_rules import FUNCTION_RULE, StopRule, judge_of, sends_rules
from jobkit.features import modules
from jobkit.features.batches.store import BatchStore
from jobkit.model import TERMINAL, JobEvent, JobkitError, JobNotFound, JobState, StoreUnavailable
from jobkit.model.batch import OPEN, RULE_FAILED, BatchInfo, subscription
from jobkit.model.format import shortened
from jobkit.settings import user_name
from jobkit.tasks.params import checked

#: Jobs whose snapshots are read at a time.
_READ = 500

#: Seconds from the news that a batch has other jobs to the read of them, so that many need one.
_REREAD_S = 0.2


def view(jobs: Jobs) -> Any:
    """A Panel component with the jobs as a live table."""
    return ui().BatchCard(Batch(jobs.kit, jobs), is_list=True)


def cell(jobs: Jobs) -> Any:
    """Return the display of a list of jobs in a notebook."""
    return ui().BatchDisplay(Batch(jobs.kit, jobs), is_list=True)


class BatchVerbs:
    """Verbs about batches. Every one may raise `StoreUnavailable`."""

    def __init__(self, kit: Any) -> None:
        self._kit = kit
        self._connection: Connection = kit.connection
        self._repeater: Repeater = kit.repeater

    @property
    def _store(self) -> BatchStore:
        return self._connection.store.part(BatchStore)

    def get(self, batch_id: str, limit: int | None = None) -> Batch:
        """Return the batch of an id or name, from whichever process it came, live.

        Args:
            batch_id: the id, its first characters (at least 4), or the name (the newest batch that has this name).
            limit: read at most so many of its jobs, the first ones.

        Raises:
            JobNotFound: it is not kept. InvalidParams: several ids begin so.
        """
        most = checked("limit", limit, "int", min=1, nullable=True)
        batch: Batch = Batch(self._kit, None, self._connection.call(self.find, batch_id))
        self.load(batch, most or 0)
        return batch

    def list(self, limit: int = 50, *, name: str | None = None, owner: str | None = None) -> Batches:
        """Return batches, newest first. Each reads its jobs, and is live, from the first use of them on.

        Args:
            limit: at most so many, from 1 to 10000. name, owner: only those of this name, of this user.
        """
        found = self._connection.call(self.infos, limit, name=name, owner=owner)
        return Batches(Batch(self._kit, None, info) for info in found)

    def load(self, batch: Batch, most: int = 0) -> None:
        """Read the jobs of a batch, or the first so many, and follow them from now on."""
        followed = _Followed(self._connection, batch, most)
        self._connection.call(self._connection.hub.ready, subscription(batch.id))
        self._connection.call(followed.read)

    def read_again(self, batch: Batch) -> None:
        """Read the jobs of a loaded batch that it does not have yet."""
        followed: Any = batch.follower
        self._connection.call(followed.read)

    async def info(self, batch_id: str) -> BatchInfo:
        """Return a batch without its jobs; of a led one also before it has jobs.

        Raises:
            JobNotFound: it is not kept.
        """
        (found,) = await self._store.infos([checked("batch_id", batch_id, "str")])
        if found is not None:
            return found
        (job,) = await self._connection.store.snapshots([batch_id])
        if job is not None:
            for led in modules("led"):
                if (begun := led.unbegun(job)) is not None:
                    return begun  # type: ignore[no-any-return]
        raise checks.unknown_batch(batch_id)

    async def find(self, text: str, *, owner: str | None = None) -> BatchInfo:
        """Return a batch without its jobs: of an id, else of the first characters of one, else the newest of a name.

        owner: only this user's ids may begin so, and names be so; None for all.

        Raises:
            JobNotFound: it is not kept. InvalidParams: several of the newest 10,000 ids begin so.
        """
        try:
            return await self.info(text)
        except JobNotFound as missing:
            if named := await self.infos(1, name=text, owner=owner):
                return named[0]
            if not checks.is_prefix(text):
                raise
            found = {info.id: info for info in await self.infos(10_000, owner=owner) if info.id.startswith(text)}
            return found[checks.only_one(list(found)[:5], text, missing)]

    async def infos(self, limit: int = 50, *, name: str | None = None, owner: str | None = None) -> Sequence[BatchInfo]:
        """Return batches without their jobs, newest first; see `list`."""
        most = checked("limit", limit, "int", min=1, max=10_000)
        for field, value in {"name": name, "owner": owner}.items():
            checked(field, value, "str", nullable=True)
        return await self._store.newest(most, name=name, owner=owner)

    async def cancel(self, batch_id: str, reason: str = "", by: str | None = None) -> int:
        """Ask every job of a batch that has not ended to stop; return how many were asked.

        Also the job that leads it.

        Raises:
            JobNotFound: it is not kept.
        """
        checks.reason(reason)
        by = user_name() if by is None else by
        open_jobs, leader = await self._in_states(batch_id, *map(str, OPEN))
        await self._connection.store.cancel([*leader, *open_jobs], reason, by=by)  # first what submits others
        return len(open_jobs)

    def give_rule(self, batch: Batch, rule: StopRule) -> bool:
        """Give a batch a rule; True if the store or a worker applies it, False if this process must."""
        submitter = self._repeater.submitter
        is_sent = rule.function is None or sends_rules(submitter)
        judge = None
        if rule.function is not None and is_sent:
            judge = judge_of(submitter, batch.spec, rule, batch.jobs[0].snapshot.spec)
        self._connection.call(self._store.set_rule, batch.id, rule.words, rule.counted)
        if judge is not None:
            submitter.send(judge)
        return is_sent

    def rule_failed(self, batch: Batch) -> None:
        """Keep why the function that is the rule of a batch has failed, unless the batch has another rule since."""
        with contextlib.suppress(JobkitError):
            if self._connection.call(self.info, batch.id).rule == FUNCTION_RULE:
                words = shortened(f"{RULE_FAILED}{batch.rule_problem}", checks.MAX_REASON)
                self._connection.call(self._store.set_rule, batch.id, words, "")

    async def stop(self, batch_id: str, job_id: str) -> bool:
        """Cancel the rest of a batch: its rule held for a job. False if the batch is not kept."""
        return await self._store.stop(batch_id, job_id)

    def delete(self, batch_id: str) -> int:
        """Delete the ended jobs of a batch, and with the last one the batch; return how many are gone.

        Also the job that leads it.

        Raises:
            JobNotFound: it is not kept.
        """
        ended_jobs, leader = self._connection.call(self._in_states, batch_id, *map(str, TERMINAL))
        return self._repeater.delete_many([*ended_jobs, *leader])

    def retry(self, batch_id: str, *, owner: str = "") -> Repeated:
        """Run the failed jobs of a batch once more; the new jobs take their places.

        Raises:
            JobNotFound: it is not kept.
        """
        failed, _ = self._connection.call(self._in_states, batch_id, str(JobState.FAILED))
        return self._repeater.retry_many(failed, owner=owner)

    async def _in_states(self, batch_id: str, *states: str) -> tuple[Sequence[str], Sequence[str]]:
        """Return the ids of jobs of a batch in any of these states, and that of the job that leads it.

        Raises:
            JobNotFound: it is not kept.
        """
        info = await self.info(batch_id)
        ids = [job_id for job_id, _ in await self._store.members(batch_id)]
        fields = await self._connection.store.fields(("state",), ids)
        found = [job_id for job_id, raw in zip(ids, fields, strict=True) if raw and raw[0].decode() in states]
        return found, [batch_id] if info.spec.kind else []


class KitBatches(Noun):
    """`kit.batches()` lists the batches, newest first; `kit.batches.get(id)` and others are of one.

    Example:
        >>> batch = kit.batches.get("sweep of july")
        >>> kit.batches.cancel(batch.id)
        12
    """

    ON = "batch"
    _SERVICE = BatchVerbs
    _internal = frozenset({"info", "infos", "stop"})

    __call__ = in_thread("verbs", BatchVerbs.list)
    get = in_thread("verbs", BatchVerbs.get)
    find = on_loop("verbs", BatchVerbs.find)
    info = on_loop("verbs", BatchVerbs.info)
    infos = on_loop("verbs", BatchVerbs.infos)
    cancel = on_loop("verbs", BatchVerbs.cancel)
    stop = on_loop("verbs", BatchVerbs.stop)
    retry = submitting("verbs", BatchVerbs.retry)
    delete = in_thread("verbs", BatchVerbs.delete)


class _Followed:
    """A batch that follows its jobs in the store: one subscription brings their events, and news of further ones."""

    def __init__(self, connection: Connection, batch: Batch, most: int) -> None:
        self._connection, self._batch, self._key = connection, weakref.ref(batch), subscription(batch.id)
        self._is_due, self._most = False, most
        self._reading = asyncio.Lock()  # what is read later is newer
        self._places: dict[int, int] = {}  # places in the list by those in the batch, which deleted jobs keep here
        batch.follower = self
        stops = [
            connection.hub.listen(_weakly(self, "take"), self._key),
            connection.hub.on_heard(_weakly(self, "heard")),
        ]
        for stop in stops:
            weakref.finalize(self, stop)

    def take(self, event: JobEvent) -> None:
        """On the background loop."""
        if event.job_id == self._key:
            self._reread()
        else:
            self._connection.live.take(event)

    def heard(self, key: str) -> None:
        if key == self._key:  # after a cut connection
            self._reread()

    def _reread(self) -> None:
        if not self._is_due and self._batch() is not None:
            self._is_due = True
            background.spawn(self._read_soon())

    async def _read_soon(self) -> None:
        await asyncio.sleep(_REREAD_S)
        try:
            if self._is_due:  # else a read has begun since then
                await self.read()
        except StoreUnavailable:
            return  # read again when the connection is back

    async def read(self) -> None:
        """Read the jobs of the batch that are not there yet: one read at a time, then one for all news during it."""
        async with self._reading:
            self._is_due = False
            await self._read()

    async def _read(self) -> None:
        batch, store = self._batch(), self._connection.store
        if batch is None:
            return
        members = await store.part(BatchStore).members(batch.id, self._most)
        jobs = list(batch._jobs or ())
        known: dict[str, Job] = {job.id: job for job in jobs}
        wanted = [job_id for job_id, _ in members if job_id not in known]
        for start in range(0, len(wanted), _READ):
            some, live = wanted[start : start + _READ], self._connection.live
            with live.expecting(*some):
                known |= {job.id: job for job in live.handles(await store.snapshots(some), self)}
        for job_id, place in members:
            if job_id in known:
                i = self._places.setdefault(place, len(jobs))
                jobs[i : i + 1] = [known[job_id]]
        batch.take_jobs(jobs)


def _weakly(obj: object, method: str) -> Any:
    """Return a callback that calls a method as long as its object lives."""
    ref = weakref.ref(obj)

    def call(*args: Any) -> None:
        if (alive := ref()) is not None:
            getattr(alive, method)(*args)

    return call
