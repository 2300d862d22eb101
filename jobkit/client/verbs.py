"""The kit's verbs as coroutines, on the background loop. `Kit` blocks on them, `kit.aio` awaits them.

Nothing here runs code of users or unpickles; the outcome of a job is decoded by the caller that requested it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jobkit.attempts import check_reuse, read_preview
from jobkit.client import checks
from jobkit.client.listening import Listening
from jobkit.client.sending import Sending
from jobkit.client.trail import Trail
from jobkit.codec import Codec, Subject
from jobkit.files import FileStore
from jobkit.files.log import aside_of, lost_of
from jobkit.files.log_reader import read_log
from jobkit.model import (
    InvalidParams,
    JobNotFound,
    JobSnapshot,
    JobSpec,
    JobState,
    LogLine,
    SignatureError,
    UnknownTask,
    Waiting,
)
from jobkit.model.people import AuditEntry
from jobkit.settings import Settings
from jobkit.store import export
from jobkit.store.events import EventHub
from jobkit.store.export import Dump
from jobkit.store.query import Query, QueryPage
from jobkit.store.redis import RedisStore
from jobkit.store.values import ArtifactInfo, LogSlice, WorkerInfo
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.registry import unknown_task

if TYPE_CHECKING:
    from jobkit.index import Index

logger = logging.getLogger("jobkit.client")

T = TypeVar("T")

#: Maximum number of an owner's jobs that are counted in each state: no index has them.
_OWN_MOST = 1_000


class Verbs(Sending, Listening):
    """See the module's docstring. Every method may raise `StoreUnavailable`."""

    def __init__(self, settings: Settings, store: RedisStore, hub: EventHub, codec: Codec) -> None:
        super().__init__(settings, store, hub)
        self.codec = codec
        self._index: Index | None = None
        self._trail = Trail(store)
        self.refused_tasks: dict[str, str] = {}

    # -- looking ------------------------------------------------------------------------------------------------------

    async def snapshot(self, job_id: str) -> JobSnapshot:
        """All that is known of a job.

        Raises:
            JobNotFound: it is not kept.
        """
        (found,) = await self.store.snapshots([checks.job_id(job_id)])
        if found is None:
            raise JobNotFound(f"no job {job_id!r} is kept here: it was never submitted, was removed, or has expired")
        return found

    def use_index(self) -> None:
        """Use an index for queries that Redis is slow at; on the background loop. The first such query fills it."""
        if self._index is not None or self.settings.scheme == "sync":
            return
        try:
            from jobkit.index import Index
        except ImportError:  # a Python that was built without SQLite
            return
        self._index = Index(self.store, self.hub)

    async def close(self) -> None:
        """Forget the index, and entries of the audit trail that could not be written."""
        self._trail.close()
        if self._index is not None:
            await self._index.close()
            self._index = None

    async def page(self, query: Query) -> QueryPage:
        return await (self.store.list(query) if self._index is None else self._index.page(query))

    async def count(self, query: Query, for_s: float = 0.15) -> int | None:
        """Return the number of jobs that match a query on all pages; None if it is not known within `for_s` seconds."""
        if self._index is not None:
            return await self._index.count(query, for_s)
        total, cursor = 0, ""
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - began < for_s:
            page = await self.store.list(replace(query, limit=1000, cursor=cursor, order=""))
            total, cursor = total + len(page.jobs), page.next_cursor
            if not cursor:
                return total
        return None

    async def counts(self, owner: str | None = None) -> dict[str, int]:
        """Return the number of jobs by state: of all, or of an owner's jobs, at most 1,000 for each state."""
        if owner is None:
            return await self.store.counts()
        if self._index is not None and self._index.is_whole:
            own = [await self._index.count(Query(states=(state,), owner=owner), 1.0) for state in JobState]
            if None not in own:
                return {str(state): count or 0 for state, count in zip(JobState, own, strict=True)}
        pages = await asyncio.gather(
            *(self.store.list(Query(states=(str(state),), owner=owner, limit=_OWN_MOST)) for state in JobState)
        )
        return {str(state): len(page.jobs) for state, page in zip(JobState, pages, strict=True)}

    async def queues(self) -> dict[str, dict[str, int]]:
        return await self.store.queues()

    async def workers(self) -> list[WorkerInfo]:
        return await self.store.workers()

    async def stats(self) -> dict[str, Any]:
        """Jobs by state, queues, how many workers take jobs, with how many slots; why the store takes no changes."""
        counts, queues, workers, refused = await asyncio.gather(
            self.counts(), self.queues(), self.workers(), self.refused()
        )
        alive = [worker for worker in workers if worker.takes_jobs]
        return {
            "jobs": counts,
            "queues": queues,
            "workers": len(alive),
            "slots": sum(worker.slots for worker in alive),
            "running": counts[JobState.RUNNING],
            "rejected": sum(worker.rejected for worker in alive),
            "refused": refused,
        }

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

    async def waits_for_many(self, job_ids: Sequence[str]) -> list[str]:
        """Return for each job why it cannot start yet, as a sentence; "" if it only needs a free slot."""
        found = await self.store.waiting(job_ids)
        workers: list[WorkerInfo] = []
        if any(one is not None and one.use for one in found):
            workers = [worker for worker in await self.store.workers() if worker.takes_jobs]
        return ["" if one is None else one.sentence(_nearest(workers, one)) for one in found]

    async def logs(
        self,
        job_id: str,
        *,
        after: int = 0,
        before: int | None = None,
        tail: int | None = None,
        search: str = "",
        level: str = "",
        limit: int | None = None,
    ) -> LogSlice:
        """Lines of a job's log, oldest first.

        With `after` and `tail` alone: what the store keeps, which is head and tail of a long log. With any other
        argument: the whole log, if this machine has its file.

        Args:
            after, before: only lines numbered above, below.
            tail: only the last so many.
            search: only lines that contain this text, whatever the case.
            level: only lines at least that grave: "info", "warning", "error".
            limit: at most so many, from 1 to 5000; the last of them with `before` or `tail`, else the first.

        Raises:
            InvalidParams: a value is not allowed.
        """
        job_id = checks.job_id(job_id)
        for name, value in (("after", after), ("before", before), ("tail", tail), ("limit", limit)):
            checks.whole(name, value)
        wanted = checks.log_filter(search, level)
        if limit is not None and not 1 <= limit <= 5000:
            raise InvalidParams(f"limit must be a whole number from 1 to 5000, not {limit}", "limit")
        if wanted.is_empty and before is None and limit is None:
            return await self.store.logs(job_id, after=after, tail=tail)
        newest = before is not None or tail is not None
        most = min(5000 if tail is None else tail, limit or 500 if tail is None else limit or 5000)
        folder = await self.store.folder(job_id)
        path = await asyncio.to_thread(self.log_path, folder) if folder else None
        if path is not None:
            with contextlib.suppress(OSError):  # it went with its job, or cannot be read by this user
                read = partial(read_log, path, wanted, after=after, before=before, limit=most, newest=newest)
                found = await asyncio.to_thread(read)
                return LogSlice(
                    tuple(found.lines), found.total, lost_of(path), found.matched, found.is_all, found.cursor
                )
        kept = await self.store.logs(job_id, after=after)
        lines = [line for line in kept.lines if (before is None or line.n < before) and wanted.takes(line)]
        page = lines[max(0, len(lines) - most) :] if newest else lines[:most]
        return LogSlice(tuple(page), kept.total, kept.dropped, len(lines))

    def log_path(self, folder: str) -> Path | None:
        """The file of a job's whole log; None if there is none on this machine. Blocking."""
        path = self.file_store.log_path(folder) if self.file_store is not None else None
        return path if path is not None and (path.is_file() or aside_of(path).is_file()) else None

    @cached_property
    def file_store(self) -> FileStore | None:
        """The place of large results. Made when first needed: not every client can use the workers' URL."""
        return FileStore.of(self.settings)

    async def preview(self, job_id: str) -> dict[str, Any] | None:
        """See `jobkit.attempts.read_preview`."""
        return await read_preview(self.store, job_id, self.codec)

    async def check_reuse(self, snapshot: JobSnapshot) -> None:
        """See `jobkit.attempts.check_reuse`."""
        await check_reuse(self.store, snapshot, self.codec)

    async def artifacts(self, job_id: str) -> tuple[JobSpec, list[ArtifactInfo]]:
        """Return a job's spec and its artifacts, oldest first.

        Raises:
            JobNotFound: it is not kept.
        """
        snapshot = await self.snapshot(job_id)
        return snapshot.spec, await self.store.artifacts(job_id)

    async def sealed_artifact(self, job_id: str, name: str) -> bytes | None:
        return await self.store.artifact(job_id, name)

    async def folder(self, job_id: str) -> str:
        return await self.store.folder(job_id)

    async def sealed_result(self, job_id: str) -> bytes | None:
        return await self.store.result(job_id)

    async def call_of(self, spec: JobSpec) -> tuple[bytes, bytes]:
        """`(format, body)` of a job's verified payload; not unpickled.

        Raises:
            JobNotFound: the arguments are no longer kept.
            SignatureError: they were not sealed for this job.
        """
        payload = await self.store.payload(spec.id)
        if payload is None:
            raise JobNotFound(f"the arguments of job {spec.id!r} are no longer kept")
        return self.codec.verify(payload, Subject("args", spec.id, spec.task))

    # -- acting -------------------------------------------------------------------------------------------------------

    async def cancel(self, job_id: str, reason: str = "") -> bool:
        """Request a job to stop; return False if it has already ended.

        Raises:
            JobNotFound: it is not kept.
        """
        checks.reason(reason)
        before = await self.snapshot(job_id)
        await self.store.cancel([job_id], reason)
        return not before.is_terminal

    async def cancel_many(self, job_ids: Sequence[str], reason: str = "") -> list[str]:
        checks.reason(reason)
        ids, states = checks.job_ids(job_ids), list[str]()
        for i in range(0, len(ids), 500):
            states += await self.store.cancel(ids[i : i + 500], reason)
        return states

    async def stop_workers(self, host: str | None, queue: str | None, how: str) -> list[WorkerInfo]:
        """Request workers to end: all that live, those of a host, or those that serve a queue. Return them."""
        found = [
            worker
            for worker in await self.store.workers()
            if worker.is_alive and host in (None, worker.host) and (queue is None or queue in worker.queues)
        ]
        if found:
            await self.store.stop_workers([worker.id for worker in found], how)
        return found

    async def delete(self, job_ids: Sequence[str]) -> list[bool]:
        return await self.store.delete(checks.job_ids(job_ids))

    async def prune(self, keep: int | None = None) -> int:
        total = 0
        while pruned := await self.store.prune(keep=keep):
            total += pruned
        return total

    async def note(self, entry: AuditEntry) -> None:
        """Write an act into the audit trail; see `Trail`."""
        await self._trail.note(entry)

    async def audit(self, limit: int = 100, before: str = "") -> list[AuditEntry]:
        return list(await self.store.audit_log.entries(limit, before))

    # -- keeping elsewhere --------------------------------------------------------------------------------------------

    async def dump(self, job_ids: Sequence[str]) -> list[Dump | None]:
        """Jobs with all that is kept of them, to write down elsewhere; None for those that are not kept."""
        return await export.read_dumps(self.store, job_ids)

    async def restore(self, dumps: Sequence[Dump]) -> list[bool]:
        """Put ended jobs back; False for those whose id is known here."""
        return await export.restore(self.store, dumps)


def _nearest(workers: Sequence[WorkerInfo], waiting: Waiting) -> Mapping[str, float] | None:
    """Return the resources of the worker that come nearest to those that a job needs; None if it needs none."""
    if not waiting.use:
        return None
    queue = waiting.gate.partition(":")[2].rpartition(":")[0]

    def met(worker: WorkerInfo) -> tuple[int, float]:
        """Return a sort key: the number of met requests, then the met share of the others."""
        shares = [min(1.0, worker.resources.get(name, 0) / amount) for name, amount in waiting.use.items() if amount]
        return sum(share >= 1.0 for share in shares), sum(shares)

    return max((worker for worker in workers if queue in worker.queues), key=met, default=WorkerInfo("")).resources


def log_lines(found: LogSlice) -> tuple[LogLine, ...]:
    """A slice's lines, with a note where the middle was dropped."""
    if not found.dropped:
        return found.lines
    lines = list(found.lines)
    for i in range(1, len(lines)):
        if lines[i].n != lines[i - 1].n + 1:
            note = f"… {lines[i].n - lines[i - 1].n - 1} lines left out …"
            lines.insert(i, LogLine(note, lines[i].at_ms, source="jobkit"))
            break
    return tuple(lines)
