"""Verbs that look at jobs, stop them and delete them, as coroutines on the background loop.

Nothing here runs code of users or unpickles; the outcome of a job is decoded by the caller that requested it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Protocol, TypeVar

from msgspec.structs import replace

from jobkit.attempts import read_preview
from jobkit.client import checks
from jobkit.client.log_verbs import LogVerbs
from jobkit.client.tables import QueueTable, Stats
from jobkit.client.waits import QueueReason, read_queue_reasons, waits_for
from jobkit.codec import Codec
from jobkit.features import modules
from jobkit.files import FileStore
from jobkit.model import (
    TERMINAL,
    InvalidParams,
    JobNotFound,
    JobSnapshot,
    JobState,
    Pause,
    SignatureError,
    StoreUnavailable,
    UnknownTask,
)
from jobkit.model.format import local_time
from jobkit.model.person import AuditEntry
from jobkit.model.plain import now_ms, to_json
from jobkit.model.start import Start
from jobkit.parts import MAX_STORED_BYTES, MAX_SYNC_BYTES, PartStore
from jobkit.settings import Settings, user_name
from jobkit.store.activity import Activity, activity_of
from jobkit.store.hub import EventHub
from jobkit.store.lines import Lines
from jobkit.store.query import ASKING, Query, QueryPage, indexed
from jobkit.store.redis import RedisStore
from jobkit.store.sending import Sender
from jobkit.store.values import Fleet
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.params import checked
from jobkit.tasks.registry import registry, unknown_task

logger = logging.getLogger("jobkit.client")

T = TypeVar("T")

#: Entries of the audit trail that wait, and seconds until the first and between the later attempts to write them.
_WAITING, _FIRST_S, _LATER_S = 1_000, 0.5, 15.0


#: Ids that a message names.
_NAMED = 5


class JobIndex(Protocol):
    """An index of a feature, faster than the store; see the methods of `Verbs` with the same names."""

    @property
    def is_begun(self) -> bool: ...

    async def page(self, query: Query) -> QueryPage: ...
    async def count(self, query: Query, for_s: float) -> int | None: ...
    async def activity(self, query: Query, for_s: float) -> Activity | None: ...
    async def tally(self, query: Query, fields: Sequence[str], for_s: float) -> Counter[tuple[str, ...]] | None: ...
    async def close(self) -> None: ...


class Verbs:
    """See the module's docstring. Every method may raise `StoreUnavailable`.

    Attributes:
        sender: submits jobs that were prepared elsewhere. parts: keeps large parts of calls. logs: reads logs.
        trail: writes acts into the audit trail.
    """

    def __init__(self, settings: Settings, store: RedisStore, hub: EventHub, codec: Codec) -> None:
        self.settings, self.store, self.hub, self.codec = settings, store, hub, codec
        self.sender = Sender(store, hub.client_id)
        self._index: JobIndex | None = None
        self.trail = Trail(store)
        self._made = [module.reader(store, codec) for module in modules("made")]
        self.logs = LogVerbs(store, lambda: self.file_store)
        self.refused_tasks: dict[str, str] = {}
        self._said_only_reads = self._is_introduced = False
        is_here = settings.scheme == "sync"  # all is in the memory of this process's own server
        most = MAX_SYNC_BYTES if is_here else MAX_STORED_BYTES
        self.parts = PartStore(store, lambda: None if is_here else self.file_store, most)

    async def introduce(self) -> None:
        """Have features keep what stands in the code of this process's tasks, such as `@task(schedule=...)`.

        Once for each kit, as a worker does at its start: a page that is opened does not bring back what was removed.
        """
        if not self._is_introduced:
            self._is_introduced = True
            for module in modules("coded"):
                await module.introduce(self.store, registry.all(), self.settings, self.codec)

    @cached_property
    def file_store(self) -> FileStore | None:
        """The place of large results. Made when first needed: not every client can use the workers' URL."""
        return FileStore.of(self.settings)

    # -- looking ------------------------------------------------------------------------------------------------------

    async def snapshot(self, job_id: str) -> JobSnapshot:
        """All that is known of a job now, as one frozen value.

        Raises:
            JobNotFound: it is not kept.
        """
        (found,) = await self.store.snapshots([checks.job_id(job_id)])
        if found is None:
            raise self._unknown(job_id)
        return found

    async def find_id(self, prefix: str) -> str:
        """Return the id of the job whose id is `prefix`, or the only one that begins with it, as cards show it.

        Raises:
            JobNotFound: no kept job has such an id. InvalidParams: several have.
        """
        if any(await self.store.snapshots([checks.job_id(prefix)])):
            return prefix
        query, cursor, found = Query(search=prefix, limit=200), "", list[str]()
        while checks.is_prefix(prefix) and len(found) < _NAMED:
            page = await self.page(replace(query, cursor=cursor))
            found += [job.id for job in page.jobs if job.id.startswith(prefix)]
            if not (cursor := page.next_cursor):
                break
        return checks.only_one(found[:_NAMED], prefix, self._unknown(prefix))

    def _unknown(self, job_id: str) -> JobNotFound:
        return checks.unknown_job(job_id, self.older.cure(job_id) if self.has_older else "")

    def use_index(self) -> None:
        """Use an index for queries that Redis is slow at; on the background loop. The first such query fills it."""
        if self._index is not None or self.settings.scheme == "sync":
            return
        with contextlib.suppress(ImportError):  # a Python that was built without SQLite
            self._index = next((module.Index(self.store, self.hub) for module in modules("index")), None)

    async def close(self) -> None:
        """Forget the index, and entries of the audit trail that could not be written."""
        self.trail.close()
        if self._index is not None:
            await self._index.close()
            self._index = None

    async def page(self, query: Query) -> QueryPage:
        """One page of snapshots; go on with `cursor=page.next_cursor`.

        Raises:
            InvalidParams: the query is for an archive, and there is none. JobkitError: it cannot be read.
        """
        if query.archived:
            return await asyncio.to_thread(self.older.page, query, now_ms())
        return await (self.store.list(query) if self._index is None else self._index.page(query))

    async def count(self, query: Query, for_s: float = 0.15) -> int | None:
        """Return the number of jobs that match a query on all pages; None if it is not known within `for_s` seconds."""
        if query.archived:
            return await asyncio.to_thread(self.older.total, query, now_ms())
        if self._index is not None:
            return await self._index.count(query, for_s)
        found = await self._all(query, for_s)
        return None if found is None else len(found)

    async def activity(self, query: Query, for_s: float = 0.5, fill_most: int | None = None) -> Activity | None:
        """Return when the jobs that match a query changed last; None if that is not known within `for_s` seconds.

        Also None if an index of more than `fill_most` jobs had to be filled for it alone.
        """
        if self._index is not None:
            if fill_most is not None and not self._index.is_begun and sum((await self.counts()).values()) > fill_most:
                return None
            return await self._index.activity(query, for_s)
        found = await self._all(query, for_s)
        return None if found is None else activity_of(found)

    async def _all(self, query: Query, for_s: float) -> list[JobSnapshot] | None:
        """Read all pages of a query from the store; None if that takes longer than `for_s` seconds."""
        found: list[JobSnapshot] = []
        cursor, began = "", asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - began < for_s:
            page = await self.store.list(replace(query, limit=1000, cursor=cursor, order=""))
            found += page.jobs
            cursor = page.next_cursor
            if not cursor:
                return found
        return None

    async def counts(self) -> dict[str, int]:
        """Return the number of jobs by state."""
        return await self.store.counts()

    async def counts_of(self, query: Query) -> dict[str, int] | None:
        """Return the number of jobs by state, and as "asking", that match a query, whatever states it asks for.

        None if that is not known soon.
        """
        query = replace(query, states=(), flag=None if query.is_asking else query.flag)
        if query.is_plain and not query.is_aging:
            counts, asking = await asyncio.gather(self.store.counts(), self.store.finder.asking())
            return {**counts, ASKING: asking}
        found = await self.tally(query, "state", "flag", for_s=0.5)
        if found is None:
            return None
        counts = {str(state): sum(n for (each, _), n in found.items() if each == state) for state in JobState}
        return {**counts, ASKING: sum(n for (_, flag), n in found.items() if flag == ASKING)}

    async def tally(self, query: Query, *fields: str, for_s: float = 0.15) -> Counter[tuple[str, ...]] | None:
        """Return the number of jobs that match a query by their values of fields: "state", or names of `FILTERS`.

        Values are as in `indexed`. None if that is not known within `for_s` seconds.
        """
        if query.archived:
            if fields != ("state", "flag"):
                return None
            each = {state: await self.count(replace(query, states=(str(state),))) or 0 for state in TERMINAL}
            return Counter({(str(state), ""): n for state, n in each.items()})
        if self._index is None:
            jobs = await self._all(query, for_s)
            return None if jobs is None else Counter(each for job in jobs for each in indexed(job, fields))
        return await self._index.tally(query, fields, for_s)

    async def queues(self) -> QueueTable:
        """Return for each queue `queued`, `scheduled`, `running` and `workers` (alive and serving it)."""
        return QueueTable(await self.store.queues())

    async def pauses(self) -> list[Pause]:
        """Return the paused queues and tasks, by name."""
        return [rule.pause for rule in await self.store.rules() if rule.pause is not None]

    async def stats(self) -> Stats:
        """Jobs by state, queues, the totals of `Fleet`; why the store takes no changes."""
        counts, (queues, workers, _), refused = await asyncio.gather(
            self.counts(), self.store.overview(), self.refused()
        )
        return Stats(
            {
                "jobs": counts,
                "queues": queues,
                **to_json(Fleet.of(workers)),
                "running": counts[JobState.RUNNING],
                "rejected": sum(worker.rejected for worker in workers if worker.is_alive),
                "refused": refused,
            }
        )

    async def refused(self) -> str:
        """Return one sentence that says why the store refuses changes, "" if it accepts them."""
        return str(await self.store.refused() or "")

    async def tasks(self) -> dict[str, TaskInfo]:
        """Tasks that workers (or this process) have made known, by name.

        A definition that was not sealed by a key that we hold is left out: `refused_tasks` says why, by name. Each is
        logged once.
        """
        found: dict[str, TaskInfo] = {}
        refused: dict[str, str] = {}
        if why := self.settings.only_reads:  # it has no key
            if not self._said_only_reads:
                logger.warning("%s", why)
            self._said_only_reads = True
            self.refused_tasks = dict.fromkeys(await self.store.tasks(), why)
            return found
        for name, sealed in (await self.store.tasks()).items():
            try:
                found[name] = TaskInfo.from_sealed(name, sealed, self.codec)
            except SignatureError as error:
                refused[name] = str(error)
                if name not in self.refused_tasks:
                    logger.warning("%s", error)
        self.refused_tasks = refused
        return found

    def unknown_task(self, name: str, known: Iterable[str]) -> UnknownTask:
        """The error for a task that cannot be submitted by name; ask `tasks` before."""
        return UnknownTask(self.refused_tasks.get(name) or unknown_task(name, known))

    async def waits_for(self, job_id: str) -> str:
        """Return why a queued job cannot start yet, in words: "waits for 1 of 2 places of train ada; 3 jobs ahead".

        "" if nothing is known, or it is not queued.
        """
        return (await self.waits_for_many([job_id]))[0]

    async def waits_for_many(self, job_ids: Sequence[str]) -> list[str]:
        """Return for each job why it cannot start yet, see `waits_for`."""
        return await waits_for(self.store, self.codec, job_ids)

    async def expected_starts(self, jobs: Sequence[JobSnapshot], lines: Lines | None = None) -> dict[str, Start]:
        """Return the expected starts of those jobs that wait, by id, as the first feature that knows them.

        Args:
            lines: if they were just read.
        """
        for module in modules("starts"):
            return dict(await module.expected(self.store, self.codec, jobs, lines))
        return {}

    async def queue_reasons(self) -> dict[str, list[QueueReason]]:
        """Return for each queue with waiting jobs why they wait, the gravest reason first; [] if nothing is known."""
        return await read_queue_reasons(self.store, self.codec)

    @cached_property
    def older(self) -> Any:
        """The jobs that the store no longer has, of the first feature that keeps some; see `jobkit.feature`.

        Raises:
            InvalidParams: no feature does.
        """
        for module in modules("older"):
            return module.place_of(self.settings)
        raise InvalidParams("no part of this jobkit keeps jobs that the store has forgotten", "in")

    @property
    def has_older(self) -> bool:
        """True if jobs that the store no longer has can be looked for."""
        return any(module.place_of(self.settings).is_there for module in modules("older"))

    async def made_all(self, snapshots: Sequence[JobSnapshot]) -> list[Any]:
        """Return what made each of these jobs, see `made.py` in `jobkit/feature.py`; [] if no feature knows it."""
        return [made for reader in self._made for made in await reader.of(snapshots)]

    async def preview(self, job_id: str) -> dict[str, Any] | None:
        """Return the preview of a job's result that pages may show, JSON only; None if no result is kept."""
        return await read_preview(self.store, job_id, self.codec)

    # -- acting -------------------------------------------------------------------------------------------------------

    async def cancel(
        self, job_id: str, reason: str = "", *, at_checkpoint: bool = False, by: str | None = None
    ) -> bool:
        """Request a job to stop, or let it first write a checkpoint; return False if it has already ended.

        Args:
            reason: shown with the job. by: name of the caller; the user of this process unless given.

        Raises:
            JobNotFound: it is not kept.
        """
        before = await self.snapshot(job_id)
        await self.cancel_many([job_id], reason, at_checkpoint=at_checkpoint, by=by)
        return not before.is_terminal

    async def cancel_many(
        self, job_ids: Sequence[str], reason: str = "", *, at_checkpoint: bool = False, by: str | None = None
    ) -> list[str]:
        """Request jobs to stop as `cancel` does; return the state of each now, "" for an unknown one."""
        checks.reason(reason)
        by = user_name() if by is None else by
        return await self.store.cancel(checks.job_ids(job_ids), reason, gently=at_checkpoint, by=by)

    async def delete(self, job_ids: Sequence[str]) -> list[bool]:
        """Delete ended jobs with all they own; False for a job that is unknown or has not ended."""
        return await self.store.delete(checks.job_ids(job_ids))

    async def prune(self, keep: int | None = None) -> int:
        """Delete the expired jobs; return their number.

        Args:
            keep: of the ended jobs that are left, keep at most so many; those whose time would be over first go first.
        """
        keep = checked("keep", keep, "int", min=0, nullable=True)
        total = 0
        while pruned := await self.store.prune(keep=keep):
            total += pruned
        return total


class Trail:
    """Writes acts of one kit into the audit trail. What cannot be written is logged, kept, and written when it can be.

    An entry is a separate command after the act: acts are a dozen verbs of the store, and there is no one verb that
    could carry the entry of a bulk that is partly done, or of a refused act. So an act may succeed and its entry not,
    when the server goes away or fills up in between. Entries kept here end with the process.
    """

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._late: deque[AuditEntry] = deque(maxlen=_WAITING)
        self._runner: asyncio.Task[None] | None = None

    async def note(self, entry: AuditEntry) -> None:
        """Write it.

        Raises:
            StoreUnavailable: it is not written, but will be.
        """
        try:
            await self._store.audit_log.note(entry)
        except StoreUnavailable as error:
            logger.warning(
                "%s by %s is not in the audit trail yet: %s", entry.action, entry.who or "an unnamed user", error
            )
            at = local_time(datetime.now(UTC), seconds=True)
            self._late.append(replace(entry, note=f"{entry.note} (written down late; it was at {at})".strip()))
            if self._runner is None:
                self._runner = asyncio.get_running_loop().create_task(self._write_late())
            raise

    def close(self) -> None:
        if self._runner is not None:
            self._runner.cancel()
            self._runner = None

    async def _write_late(self) -> None:
        wait_s = _FIRST_S
        while self._late:
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LATER_S)
            try:
                while self._late:
                    await self._store.audit_log.note(self._late[0])
                    self._late.popleft()
            except Exception as error:
                logger.debug("%d entries still wait for the audit trail: %s", len(self._late), error)
        self._runner = None
