"""Handles of jobs, and what is kept of a job that its reader unpickles or reads from a file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from jobkit.attempts import artifact_subject, check_reuse
from jobkit.client import checks
from jobkit.client.connection import Connection
from jobkit.client.found import Jobs
from jobkit.client.job import Job
from jobkit.client.log_verbs import log_lines
from jobkit.client.outputs import (
    Artifact,
    outcome_of,
)
from jobkit.client.tables import TaskTable
from jobkit.codec import is_reference
from jobkit.files.file_store import opened
from jobkit.model import InvalidParams, JobNotFound, JobSpec, JobState, LogLine, ResultExpired
from jobkit.store.grammar import parse
from jobkit.store.query import Query
from jobkit.store.values import ArtifactInfo
from jobkit.tasks.params import checked
from jobkit.tasks.registry import registry

if TYPE_CHECKING:
    pass


class JobReader:
    """Verbs that find jobs and tasks and read results. They block; every one may raise `StoreUnavailable`."""

    def __init__(self, kit: Any, connection: Connection) -> None:
        self._kit, self._connection = kit, connection

    def get(self, job_id: str) -> Job:
        """The job with that id, from whichever process it came, with its whole past.

        Args:
            job_id: the id, or its first characters (at least 4), as a card shows them.

        Raises:
            JobNotFound: it is not kept. InvalidParams: several ids begin so.
        """
        try:
            return self._connection.job(checks.job_id(job_id))
        except JobNotFound:
            if not checks.is_prefix(job_id):
                raise
        return self._connection.job(self._connection.call(self._connection.verbs.find_id, job_id))

    def last(self) -> Job | None:
        """The job that was submitted last, or None."""
        return next(iter(self.jobs(limit=1)), None)

    def jobs(
        self,
        state: str | Sequence[str] | None = None,
        task: str | None = None,
        queue: str | None = None,
        search: str | None = None,
        limit: int = 50,
        *,
        where: str = "",
        order: str = "",
    ) -> Jobs:
        """Jobs, newest first: a list, which a notebook shows as a live table.

        Args:
            state: one state or several. task, queue: their names; `*` stands for any text.
            search: text that stands in id, arguments, tags, message, error or result line.
            limit: at most so many.
            where: what the dashboard's search box takes: `"state:failed since:yesterday owner:ada lr=0.003"`. Times
                are in the time zone of this process.
            order: "took", "-started", "task", ...: another order than newest first; "-" for the largest first.

        Raises:
            InvalidParams: names the value that is refused, and what is allowed.
        """
        for name, value in {"task": task, "queue": queue, "search": search, "where": where, "order": order}.items():
            checked(name, value, "str", nullable=True)
        limit = checked("limit", limit, "int", min=1, max=100_000)
        if isinstance(state, str) and ":" in state:
            raise InvalidParams(f"state must be a state; a search is where={state!r}", "state")
        states = checks.states(state, JobState)
        base = Query(states=states, task=task, queue=queue, limit=limit, order=order).checked()
        wanted = parse(where, base)
        if search:
            wanted = replace(wanted, search=(*wanted.texts, search))
        page = self._connection.call(self._connection.verbs.page, wanted)
        return Jobs(self._kit, map(self._connection.live.handle, page.jobs))

    def tasks(self) -> TaskTable:
        """Tasks that can be submitted by name: those of this process and those that workers have made known."""
        found = self._connection.call(self._connection.verbs.tasks)
        return TaskTable(sorted({**found, **{task.name: task.info() for task in registry.all()}}.items()))

    # -- outputs ------------------------------------------------------------------------------------------------------

    def outcome(self, job: Job) -> Any:
        """The value of an ended job; see `Job.result` for the exceptions. Unpickles it."""
        verbs, snapshot, sealed = self._connection.verbs, job.snapshot, job.sealed_result
        preview = None
        if not has_outcome(job):
            sealed = sealed or self._connection.call(verbs.store.result, job.id) or b""
            if not sealed and snapshot.state is JobState.SUCCEEDED:
                preview = self._connection.call(verbs.preview, job.id)
            if sealed and snapshot.cached_from:
                self._connection.call(check_reuse, verbs.store, snapshot, verbs.codec)
        file_store = verbs.file_store if is_reference(sealed) else None
        return outcome_of(snapshot, sealed, preview, self._connection.codec, file_store)

    def logs(self, /, job_id: str, *, after: int = 0, tail: int | None = None, **wanted: Any) -> tuple[LogLine, ...]:
        """Lines of a job's log, oldest first; if the middle was dropped, a line says so.

        Args:
            after: only lines numbered above. tail: only the last so many.
            wanted: `before`, `search`, `level` and `limit`, see `log_slice`.
        """
        found = self._connection.call(self._connection.verbs.logs.log_slice, job_id, after=after, tail=tail, **wanted)
        return found.lines if wanted else log_lines(found)

    def log_file(self, job_id: str) -> Path | None:
        """Return the file with a job's whole log, once an attempt has ended; None if this machine does not have it.

        A short log has none: `logs` has all of it. The file goes with the job; copy it to keep it.
        """
        folder = self._connection.call(self._connection.store.folder, job_id)
        return self._connection.verbs.logs.log_path(folder) if folder else None

    def artifacts(self, job_id: str) -> list[Artifact]:
        """Return what a job saved with `jobkit.current().save(name, obj)`, oldest first; also while it runs.

        Raises:
            JobNotFound: the job is not kept.
        """
        spec = self._connection.call(self._connection.verbs.snapshot, job_id).spec
        infos = self._connection.call(self._connection.store.artifacts, job_id)
        return [
            Artifact(
                info.name, info.media_type, info.size_bytes, datetime.fromtimestamp(info.at_ms / 1000, UTC),
                partial(self._connection.run, self._read, spec, info),
            )
            for info in infos
        ]  # fmt: skip

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
        sealed = self._connection.call(self._connection.store.artifact, spec.id, info.name)
        if sealed is None:
            raise ResultExpired(f"artifact {info.name!r} of job {spec.id} is no longer kept")
        file_store = self._connection.verbs.file_store if is_reference(sealed) else None
        return opened(sealed, artifact_subject(spec, info.name, info.media_type), self._connection.codec, file_store)[1]


def has_outcome(job: Job) -> bool:
    """Return True if the outcome of an ended job is here: it came with the last event, so it is small."""
    if job.snapshot.state is JobState.CANCELLED:
        return True
    return bool(job.sealed_result) and not is_reference(job.sealed_result) and not job.snapshot.cached_from
