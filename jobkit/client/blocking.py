"""`Blocking`: the verbs of a kit that need no handle of a job: look, stop, delete, read kept values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobkit.attempts import artifact_subject
from jobkit.client.artifacts import Artifact, moment
from jobkit.client.connection import Connection
from jobkit.client.outcome import outcome_of
from jobkit.client.verbs import log_lines
from jobkit.codec import is_reference
from jobkit.files import FileStore
from jobkit.files.file_store import opened
from jobkit.model import InvalidParams, JobEvent, JobSnapshot, JobSpec, JobState, LogLine, ResultExpired, UnknownTask
from jobkit.model.people import AuditEntry
from jobkit.store.export import Dump
from jobkit.store.query import Query, QueryPage
from jobkit.store.values import ArtifactInfo, LogSlice, Submission, SubmitReply, WorkerInfo
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.registry import registry

if TYPE_CHECKING:
    from jobkit.client.job import Job


class Blocking(Connection):
    """Part of `jobkit.client.kit.Kit`. Every method may raise `StoreUnavailable`."""

    # -- looking ------------------------------------------------------------------------------------------------------

    def page(self, query: Query) -> QueryPage:
        """One page of snapshots; go on with `cursor=page.next_cursor`."""
        return self._call(partial(self._verbs.page, query))

    def snapshot(self, job_id: str) -> JobSnapshot:
        """All that is known of a job now, as one frozen value."""
        return self._call(partial(self._verbs.snapshot, job_id))

    def tasks(self) -> dict[str, TaskInfo]:
        """Tasks that can be submitted by name: those of this process and those that workers have made known."""
        found = self._call(self._verbs.tasks)
        return dict(sorted({**found, **{task.name: task.info() for task in registry.all()}}.items()))

    def unknown_task(self, name: str, known: Iterable[str]) -> UnknownTask:
        """The error for a task that `tasks` does not have, perhaps because its definition is not signed."""
        return self._verbs.unknown_task(name, known)

    def queues(self) -> dict[str, dict[str, int]]:
        """Per queue: how many jobs are `queued` and `scheduled`, and how many `workers` serve it."""
        return self._call(self._verbs.queues)

    def workers(self) -> list[WorkerInfo]:
        """Workers, those with the newest heartbeat first; `is_alive` tells."""
        return self._call(self._verbs.workers)

    def refused(self) -> str:
        """Return one sentence that says why the store refuses changes, "" if it accepts them."""
        return self._call(self._verbs.refused)

    def stop_workers(self, *, host: str | None = None, queue: str | None = None, now: bool = False) -> list[WorkerInfo]:
        """Request workers to end; return the requested ones at once.

        Args:
            host, queue: only those of that machine, only those that serve that queue.
            now: give running jobs back, which costs them no attempt, instead of finishing them.
        """
        return self._call(partial(self._verbs.stop_workers, host, queue, "now" if now else "drain"))

    def counts(self) -> dict[str, int]:
        """Return the number of kept jobs by state."""
        return self._call(self._verbs.counts)

    def stats(self) -> dict[str, Any]:
        """Jobs by state, queues, workers and their slots."""
        return self._call(self._verbs.stats)

    def logs(self, job_id: str, *, after: int = 0, tail: int | None = None, **wanted: Any) -> tuple[LogLine, ...]:
        """Lines of a job's log, oldest first; if the middle was dropped, a line says so.

        Args:
            after: only lines numbered above. tail: only the last so many.
            wanted: `before`, `search`, `level` and `limit`, see `log_slice`.
        """
        found = self.log_slice(job_id, after=after, tail=tail, **wanted)
        return found.lines if wanted else log_lines(found)

    def log_slice(
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
        """Lines of a job's log with the number of all, of those that match and of those that were dropped.

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
        read = partial(self._verbs.logs, after=after, before=before, tail=tail, search=search, level=level, limit=limit)
        return self._call(lambda: read(job_id))

    def preview(self, job_id: str) -> dict[str, Any] | None:
        """Return the preview of a job's result that pages may show, or None."""
        return self._call(partial(self._verbs.preview, job_id))

    def events(self, after: str | None = None) -> Iterator[JobEvent]:
        """All jobs' numbered events from now on, or after an event `id`; waits for those to come."""
        return self._iterate(lambda: self._verbs.events(after))

    def job_events(self, job_id: str, after: int = 0) -> Iterator[JobEvent]:
        """One job's events with a `seq` above `after`, to its end."""
        return self._iterate(lambda: self._verbs.job_events(job_id, after))

    def audit(self, limit: int = 100, before: str = "") -> list[AuditEntry]:
        """Return entries of the audit trail (pages, HTTP, command line), newest first.

        Args:
            limit: at most so many.
            before: id of an entry; only older ones.
        """
        return self._call(partial(self._verbs.audit, limit, before))

    # -- stopping and deleting ---------------------------------------------------------------------------------------

    def cancel(self, job_id: str, reason: str = "") -> bool:
        """Request a job to stop; False if it has already ended."""
        return self._call(partial(self._verbs.cancel, job_id, reason))

    def cancel_many(self, job_ids: Sequence[str], reason: str = "") -> list[str]:
        """Request jobs to stop; return the state of each now, "" for an unknown one."""
        return self._call(partial(self._verbs.cancel_many, job_ids, reason))

    def delete(self, job_ids: Sequence[str]) -> list[bool]:
        """Delete ended jobs with all they own; False for a job that is unknown or has not ended."""
        return self._call(partial(self._verbs.delete, job_ids))

    def prune(self, keep: int | None = None) -> int:
        """Delete the expired jobs; return their number.

        Args:
            keep: of the ended jobs that are left, keep at most so many; those whose time would be over first go first.
        """
        if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or keep < 0):
            raise InvalidParams(f"keep must be a whole number from 0, not {keep!r}", "keep")
        return self._call(partial(self._verbs.prune, keep))

    # -- keeping elsewhere --------------------------------------------------------------------------------------------

    def dump(self, job_ids: Sequence[str]) -> list[Dump | None]:
        """Jobs with all that is kept of them, as `jobkit export` writes them; None for those that are not kept."""
        return self._call(partial(self._verbs.dump, job_ids))

    def restore(self, dumps: Sequence[Dump]) -> list[bool]:
        """Put ended jobs back, as `jobkit import` does; False for those whose id is known here."""
        return self._call(partial(self._verbs.restore, dumps))

    def submit_sealed(self, submissions: Sequence[Submission]) -> list[SubmitReply]:
        """Submit jobs that were prepared elsewhere; see `RedisStore.submit`."""
        return self._call(partial(self._verbs.submit_many, submissions))

    # -- results ------------------------------------------------------------------------------------------------------

    def _outcome(self, job: Job, sealed: bytes) -> Any:
        """The value of an ended job, or the exception that says how it ended."""
        snapshot = job.snapshot
        if not sealed and snapshot.state is not JobState.CANCELLED:
            sealed = self._call(partial(self._verbs.sealed_result, job.id)) or b""
        preview = None if sealed or snapshot.state is not JobState.SUCCEEDED else self.preview(job.id)
        if sealed and snapshot.cached_from:
            self._call(partial(self._verbs.check_reuse, snapshot))
        return outcome_of(snapshot, sealed, preview, self.codec, self._file_store if is_reference(sealed) else None)

    def artifacts(self, job_id: str) -> list[Artifact]:
        """Return what a job saved with `jobkit.current().save(name, obj)`, oldest first; also while it runs.

        Raises:
            JobNotFound: the job is not kept.
        """
        spec, infos = self._call(partial(self._verbs.artifacts, job_id))
        return [
            Artifact(info.name, info.media_type, info.size_bytes, moment(info.at_ms), partial(self._read, spec, info))
            for info in infos
        ]

    def artifact(self, job_id: str, name: str) -> Artifact:
        """One of them.

        Raises:
            JobNotFound: the job is not kept.
            InvalidParams: it has none of that name; the message lists those it has.
        """
        found = {one.name: one for one in self.artifacts(job_id)}
        if name not in found:
            has = ", ".join(map(repr, found)) or "none"
            raise InvalidParams(f"job {job_id} has no artifact {name!r}; it has {has}", "name")
        return found[name]

    def _read(self, spec: JobSpec, info: ArtifactInfo) -> bytes:
        sealed = self._call(partial(self._verbs.sealed_artifact, spec.id, info.name))
        if sealed is None:
            raise ResultExpired(f"artifact {info.name!r} of job {spec.id} is no longer kept")
        file_store = self._file_store if is_reference(sealed) else None
        return opened(sealed, artifact_subject(spec, info.name, info.media_type), self.codec, file_store)[1]

    def log_file(self, job_id: str) -> Path | None:
        """Return the file with a job's whole log, once an attempt has ended; None if this machine does not have it.

        A short log has none: `logs` has all of it. The file goes with the job; copy it to keep it.
        """
        folder = self._call(partial(self._verbs.folder, job_id))
        return self._verbs.log_path(folder) if folder else None

    @property
    def _file_store(self) -> FileStore | None:
        return self._verbs.file_store
