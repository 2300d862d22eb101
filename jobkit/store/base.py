"""The protocol of a store: verbs that move jobs, and verbs that read them.

`RedisStore` does it; for `sync://` on a private server of the process. Each verb that moves a job checks that the
transition is allowed, increases the job's `seq`, keeps the event with the record and publishes it, as one atomic step.
The store's clock is the only clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from jobkit.model import JobEvent, JobSnapshot, Rule, StoreUnavailable, Waiting
from jobkit.model.audit import AuditEntry
from jobkit.store.failures import Failures
from jobkit.store.query import Brief, Query, QueryPage
from jobkit.store.schedules import Schedules
from jobkit.store.values import (
    ArtifactInfo,
    AttemptNews,
    Claimed,
    Ending,
    Kept,
    LogSlice,
    Renewal,
    Submission,
    SubmitReply,
    WorkerInfo,
)
from jobkit.store.web import Web


class Store(Schedules, Failures, Web, Protocol):
    """See the module's docstring; the verbs about schedules, groups of failures and HTTP are in separate modules.

    All verbs raise `StoreUnavailable` if the server does not answer."""

    # -- moving jobs ------------------------------------------------------------------------------------------------

    async def submit(self, jobs: Sequence[Submission], client: str = "") -> list[SubmitReply]:
        """Store each job once; nothing changes if its id is known.

        A job whose spec says `once` or has a `cache_key` may turn out to be another job; see `SubmitReply`.

        Args:
            client: the submitter's own channel; every event of the jobs after this one goes there too.
        """
        ...

    async def claim(
        self, worker: WorkerInfo, free: int, received: int = 0, awaited: Sequence[str] = (), lent: int = 0
    ) -> tuple[list[Claimed], float]:
        """Up to `free` jobs for this worker, in the order of its queues, and the seconds until the next is due.

        First returns jobs with an expired lease to their queue and makes due ones ready. Registers what stays free,
        so that a submit may hand a job over without a further round trip; `received` counts the ones handed over
        that the worker has seen.

        `awaited` are jobs for which jobs of this worker wait, most urgent first. Up to `lent` of them (or of those
        whose results they need, or that jobs of other workers wait for) are claimed first, whatever their place.
        """
        ...

    async def progress(self, news: Sequence[AttemptNews]) -> list[bool]:
        """Store and publish news; False if the token no longer holds."""
        ...

    async def keep(self, artifacts: Sequence[Kept]) -> list[bool]:
        """Keep artifacts as long as their jobs; False if the token no longer holds."""
        ...

    async def finish(self, endings: Sequence[Ending]) -> list[int]:
        """End attempts: `FINISHED`, `ALREADY` (same token before: the reply was lost), or `FENCED`."""
        ...

    async def cancel(self, job_ids: Sequence[str], reason: str = "") -> list[str]:
        """Request jobs to stop. For each: the state it is in now, or "" if unknown.

        A waiting job is "cancelled" at once; a running one stays "running" until its worker has stopped it; a
        terminal one keeps its state.
        """
        ...

    async def move(
        self, job_ids: Sequence[str], queue: str | None = None, priority: int | None = None, reason: str = ""
    ) -> list[str]:
        """Let waiting jobs wait in another queue or with another priority, from the same time on.

        "" for each that is there now, else why not: "unknown", "arq" (its queue is arq's own), or its state.
        """
        ...

    async def delete(self, job_ids: Sequence[str]) -> list[bool]:
        """Delete terminal jobs with everything they own; False for a job that is unknown or not terminal."""
        ...

    async def prune(self, limit: int = 200, keep: int | None = None) -> int:
        """Delete up to `limit` expired jobs, and ended ones beyond `keep`; return their number.

        Of too many, those go first whose time would be over first.
        """
        ...

    async def set_rule(self, gate: str, change: Mapping[str, Any] | None) -> Rule:
        """Change the rule of a task or queue, which overrides the declaration of the task; return the new rule.

        Args:
            gate: "task:NAME" or "queue:NAME".
            change: parts of the rule: `n`, `count` with `period_ms`, `paused`; None for a part ends that part. {}
                changes nothing, None ends the whole rule.
        """
        ...

    # -- looking ----------------------------------------------------------------------------------------------------

    async def rules(self) -> list[Rule]:
        """Return the rules that were set for tasks and queues, by the gate's name."""
        ...

    async def waiting(self, job_ids: Sequence[str]) -> list[Waiting | None]:
        """Return why each queued job cannot start yet, ignoring free slots; None if nothing blocks it."""
        ...

    async def snapshots(self, job_ids: Sequence[str]) -> list[JobSnapshot | None]: ...

    async def briefs(self, job_ids: Sequence[str]) -> list[Brief | None]:
        """Return the fields by which jobs are found and ordered; None for unknown jobs."""
        ...

    async def versions(self, below: str, limit: int) -> tuple[list[tuple[str, int, int]], str]:
        """`(id, us, seq)` of kept jobs, newest first, from a submit time (us) down; "" for the newest.

        Also the us to go on from, "" at the end. Looks at up to `limit` entries; leaves out those that have expired.
        """
        ...

    async def now_ms(self) -> int:
        """The store's clock, milliseconds since the epoch."""
        ...

    async def result(self, job_id: str) -> bytes | None:
        """The sealed value, or None."""
        ...

    async def payload(self, job_id: str) -> bytes | None:
        """The sealed arguments, kept as long as the job."""
        ...

    async def payloads(self, job_ids: Sequence[str]) -> list[bytes | None]:
        """The same of several jobs."""
        ...

    async def artifacts(self, job_id: str) -> list[ArtifactInfo]:
        """A job's artifacts, oldest first."""
        ...

    async def artifact(self, job_id: str, name: str) -> bytes | None:
        """The sealed artifact (or sealed reference to its file), or None."""
        ...

    async def folder(self, job_id: str) -> str:
        """Return the folder of a job's files, "" if it has none."""
        ...

    async def place(self) -> str:
        """The namespace's own folder among those of others that keep files in the same place: 16 hex digits."""
        ...

    async def litter(self, limit: int = 100) -> list[str]:
        """Return some folders whose jobs are deleted; a process that can reach them removes them."""
        ...

    async def swept(self, folders: Sequence[str]) -> None:
        """Remove deleted folders from the clean-up list."""
        ...

    async def owned(self, submissions: Sequence[tuple[str, int]]) -> list[bool]:
        """For each job id and time of submit (microseconds): whether that very job is kept."""
        ...

    async def preview(self, job_id: str) -> bytes | None:
        """Return the sealed preview of its result (`jobkit.attempts.read_preview`), of the job whose result it reuses
        if it does."""
        ...

    async def logs(self, job_id: str, *, after: int = 0, tail: int | None = None) -> LogSlice:
        """Lines numbered above `after`; with `tail`, only the last so many."""
        ...

    async def counts(self) -> dict[str, int]:
        """Number of kept jobs by state; every state is there."""
        ...

    async def queues(self) -> dict[str, dict[str, int]]:
        """Per queue: `queued`, `scheduled`, `running`, `workers` (alive and serving it)."""
        ...

    async def workers(self) -> list[WorkerInfo]: ...

    async def stop_workers(self, worker_ids: Sequence[str], how: str) -> int:
        """Request workers to end: "drain" finishes their jobs, "now" gives them back. Return how many are known."""
        ...

    async def publish_tasks(self, tasks: Mapping[str, bytes]) -> None:
        """Make task definitions, sealed, known to those who do not import them."""
        ...

    async def tasks(self) -> dict[str, bytes]: ...

    async def events(self, after: str = "", limit: int = 1000) -> list[JobEvent]:
        """Numbered events of the whole namespace after an event id, oldest first; "" or "0-0" for the oldest kept on.

        Raises:
            EventsExpired: some after that id are no longer kept.
        """
        ...

    # Last, since `list` in an annotation below it would mean this verb.
    async def list(self, query: Query) -> QueryPage:
        """A page of jobs. By age it costs what it shows, with other filters what it looks at; in another order it
        looks at all that match.

        Raises:
            InvalidParams: the order is none, or the cursor is of another order.
        """
        ...

    async def renew(self, worker_id: str, held: Mapping[str, str], facts: Mapping[str, Any]) -> Renewal:
        """A worker's heartbeat: its leases (`held` is job id to token) and what others may know of it."""
        ...

    async def leave(self, worker_id: str) -> int:
        """A worker ends in good order: it is not listed any more, and no queue offers it.

        Returns how many jobs were handed over to it since it subscribed; the last may still be on their way.
        """
        ...

    async def note(self, entry: AuditEntry) -> None:
        """Add to the audit trail, within its bounds; see `AuditBounds`."""
        ...

    async def audit(self, limit: int = 100, before: str = "") -> Sequence[AuditEntry]:
        """Up to `limit` entries of the audit trail, newest first; with `before`, an entry's id, older ones.

        Raises:
            InvalidParams: `before` is not the id of an entry.
        """
        ...

    async def hold(self, name: str, owner: str, for_s: float) -> bool:
        """Acquire or keep the duty `name` for `for_s` seconds; return True if `owner`, and so no other, has it."""
        ...

    async def mark(self, name: str, value: str) -> None:
        """Remember how far a duty has come."""
        ...

    async def marked(self, name: str) -> str: ...

    async def last_event_id(self) -> str:
        """Id of the newest event of the namespace, "0-0" if there is none."""
        ...

    async def refused(self) -> StoreUnavailable | None:
        """Return why the server refuses changes although it can be read (full, disk error), or None."""
        ...

    async def close(self) -> None: ...
