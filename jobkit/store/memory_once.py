"""Same work once, of the store in memory: what `lua/once.lua` is to the Lua scripts, which says how it works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobkit.model import EventType, JobSpec, JobState

if TYPE_CHECKING:
    from jobkit.store.memory_jobs import Jobs, Record

_WEEK_MS = 604_800_000


class SameWork:
    """Which job stands for which work, and whose kept result is that of which work."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        #: By key: the job, and until when (ms).
        self._standing: dict[str, tuple[str, float]] = {}
        self._cached: dict[str, tuple[str, float]] = {}

    def known_as(self, spec: JobSpec, is_there: bool) -> tuple[str, Record | None]:
        """What a submit gives instead of a new job, see `known_as` in `lua/once.lua`."""
        once = spec.once
        if once is not None:
            record = self._standing_for(spec)
            if record is not None and once.scope != "debounce":
                return record.snapshot.id, None
            if record is not None and record.snapshot.id != spec.id:
                return f"?{record.snapshot.id}", None
            if record is not None:
                return spec.id, record
            if is_there and once.scope == "debounce":
                return "?", None
        if spec.cache_key and not spec.is_fresh:
            source = self._find(self._cached, spec.cache_key)
            if source is not None and source.snapshot.state is JobState.SUCCEEDED and source.result is not None:
                return "", source
        return "", None

    def _find(self, kept: dict[str, tuple[str, float]], key: str) -> Record | None:
        job_id, until = kept.get(key, ("", 0.0))
        return self._jobs.find(job_id) if self._jobs.now < until else None

    def _standing_for(self, spec: JobSpec) -> Record | None:
        assert spec.once is not None
        record = self._find(self._standing, spec.once.key)
        if record is None or record.snapshot.id == spec.retry_of:
            return None
        snapshot, scope = record.snapshot, spec.once.scope
        stands = {
            "queued": snapshot.state in (JobState.SCHEDULED, JobState.QUEUED),
            "active": not snapshot.is_terminal,
            "debounce": snapshot.state is JobState.SCHEDULED and not record.waits and not snapshot.attempt,
        }
        return record if stands.get(scope, True) else None

    def stand(self, spec: JobSpec) -> None:
        """A new job stands for its work."""
        if spec.once is not None:
            until = self._jobs.now + spec.once.ms if spec.once.scope == "time" else float("inf")
            self._standing[spec.once.key] = spec.id, until

    def replace(self, record: Record, spec: JobSpec, payload: bytes) -> None:
        """Another submit takes the place of one that waits."""
        due = max(self._jobs.now + spec.delay_ms, spec.at_ms)
        self._jobs.due[record.snapshot.spec.queue].remove(spec.id)
        self._jobs.due[spec.queue].add(spec.id, due)
        record.payload = payload
        data = {"state": "scheduled", "due": due, "asked": spec.to_wire()}
        self._jobs.emit(record, EventType.SUBMITTED, data)

    def end_as(self, record: Record, source: Record) -> None:
        """A new job with another one's kept result."""
        own_s = record.snapshot.spec.result_ttl_s
        ttl_ms = _WEEK_MS if own_s is None else max(1, int(own_s * 1000))
        data = {"cached": source.snapshot.id, "summary": source.snapshot.summary}
        self._jobs.conclude(
            record, EventType.SUCCEEDED, data, min(ttl_ms, max(1, int(source.expires_ms - self._jobs.now)))
        )  # fmt: skip

    def ended(self, record: Record, ttl_ms: int) -> None:
        """With the end of a job."""
        snapshot = record.snapshot
        spec, once = snapshot.spec, snapshot.spec.once
        if once is not None and once.scope != "time" and self._standing.get(once.key, ("",))[0] == spec.id:
            del self._standing[once.key]
        is_own = snapshot.state is JobState.SUCCEEDED and not snapshot.cached_from and record.result is not None
        if spec.cache_key and is_own:
            self._cached[spec.cache_key] = spec.id, self._jobs.now + min(spec.cache_ms, ttl_ms)
