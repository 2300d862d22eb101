"""The jobs of a store in memory and their transitions: what `lua/head.lua` is to the Lua scripts.

Whoever calls holds the lock of `MemoryStore`, and has set the moment (`now`, `now_us`).
"""

from __future__ import annotations

import secrets
from collections import defaultdict, deque
from dataclasses import dataclass, field, replace
from typing import Any

from jobkit.model import EventType, JobEvent, JobSnapshot, JobState, apply
from jobkit.settings import Settings
from jobkit.store.base import ArtifactInfo, Claimed
from jobkit.store.memory_log import Log
from jobkit.store.ordered import Ordered

#: The same as in `lua/head.lua`, which says why.
EVENTS_KEPT = 20_000
#: A job that lost so many workers is the only such one of the next.
SUSPECT = 2
HISTORY_HEAD, HISTORY_TAIL = 20, 180
PRIORITY_US = 600 * 1_000_000


@dataclass(slots=True)
class Record:
    """One job. `expires_ms` is set when it has ended; from then on it is forgotten, pruned or not."""

    snapshot: JobSnapshot
    us: int
    payload: bytes
    client: str
    token: str = ""
    fin: str | None = None
    result: bytes | None = None
    preview: bytes | None = None
    log: Log = field(default_factory=Log)
    artifacts: dict[str, tuple[ArtifactInfo, bytes]] = field(default_factory=dict)
    expires_ms: float = float("inf")


class Jobs:
    """Every record, the lines and indexes it stands in, and the events that nobody was told yet (`outbox`).

    A live job is in exactly one of `ready` (by place in the line), `due` (by due time, ms) and `leases` (by end of the
    lease, ms); an ended one in `expiry`; each in `by_age` and in the index of its state, by time of submit in us.
    """

    def __init__(self, settings: Settings) -> None:
        self.now = self.now_us = 0
        self.lease_ms = int(settings.lease * 1000)
        self._ttl_ms = max(1, int(settings.result_ttl * 1000))
        self._max_losses = settings.max_losses
        self.records: dict[str, Record] = {}
        self.by_age = Ordered()
        self.states: dict[JobState, Ordered] = {state: Ordered() for state in JobState}
        self.ready: defaultdict[str, Ordered] = defaultdict(Ordered)
        self.due: defaultdict[str, Ordered] = defaultdict(Ordered)
        self.leases = Ordered()
        self.expiry = Ordered()
        self.events: deque[JobEvent] = deque(maxlen=EVENTS_KEPT)
        self._event_id = (0, 0)
        self.place = secrets.token_hex(8)
        #: Folders of files by job, and those whose jobs are forgotten.
        self.filed: dict[str, str] = {}
        self.litter: set[str] = set()
        #: `(event, client)`: an event, and who submitted its job.
        self.outbox: deque[tuple[JobEvent, str]] = deque()

    def find(self, job_id: str) -> Record | None:
        record = self.records.get(job_id)
        return record if record is not None and self.now < record.expires_ms else None

    def held(self, job_id: str, token: str) -> Record | None:
        """The record, where this token still holds it."""
        record = self.find(job_id)
        if record is None or record.snapshot.state is not JobState.RUNNING or record.token != token:
            return None
        return record

    def emit(self, record: Record, kind: EventType, data: dict[str, Any], rider: bytes = b"") -> None:
        """The next numbered event: moves the snapshot and its indexes, is kept and told."""
        before = record.snapshot
        event = JobEvent(before.id, before.seq + 1, kind, self.now, data, result=rider)
        kept = replace(event, result=b"")
        if data.get("error"):  # the snapshot's own error has the traceback once
            kept = replace(kept, data={**data, "error": {**data["error"], "traceback": ""}})
        after = apply(before, event)
        assert after is not None, "an event of the store itself is always the next one"
        history = (*before.history, kept)
        if len(history) > HISTORY_HEAD + HISTORY_TAIL:
            history = history[:HISTORY_HEAD] + history[-HISTORY_TAIL:]
        record.snapshot = replace(after, history=history)
        self.states[before.state].remove(before.id)
        self.states[after.state].add(before.id, record.us)
        ms, n = self._event_id
        self._event_id = (ms, n + 1) if self.now <= ms else (self.now, 0)
        self.events.append(replace(kept, id="{}-{}".format(*self._event_id)))
        # The answer to a submit tells the submitter as much as its first event.
        self.outbox.append((event, "" if kind is EventType.SUBMITTED else record.client))

    def enqueue(self, record: Record, since_us: float) -> None:
        """Puts it into its line. `since_us` is its place: the time from which it has waited."""
        spec = record.snapshot.spec
        self.ready[spec.queue].add(spec.id, since_us - spec.priority * PRIORITY_US)

    def start(self, record: Record, worker_id: str) -> Claimed:
        snapshot = record.snapshot
        attempt = snapshot.attempt + 1
        self.ready[snapshot.spec.queue].remove(snapshot.id)
        self.leases.add(snapshot.id, self.now + self.lease_ms)
        record.token = f"{worker_id}:{attempt}"
        data = {"state": "running", "attempt": attempt, "worker": worker_id, "started": self.now}
        self.emit(record, EventType.STARTED, data)
        return Claimed(
            snapshot.spec,
            record.token,
            attempt,
            record.payload,
            snapshot.retried,
            snapshot.losses,
            self.now,
            record.us,
        )

    def conclude(self, record: Record, kind: EventType, data: dict[str, Any], ttl_ms: int, rider: bytes = b"") -> None:
        spec = record.snapshot.spec
        for line in (self.leases, self.ready[spec.queue], self.due[spec.queue]):
            line.remove(spec.id)
        self.emit(record, kind, {**data, "state": str(kind), "finished": self.now}, rider)
        record.expires_ms = self.now + ttl_ms
        self.expiry.add(spec.id, record.expires_ms)

    def kept_ms(self, record: Record) -> int:
        """How long to keep a job that no worker ended: its own wish, else the setting."""
        own_s = record.snapshot.spec.result_ttl_s
        return self._ttl_ms if own_s is None else max(1, int(own_s * 1000))

    def recover(self, limit: int) -> None:
        """Jobs whose lease is over go back to their old place in the line, or end here."""
        for job_id, _ in self.leases.until(self.now, limit):
            self.lose(self.records[job_id], self._max_losses)

    def lose(self, record: Record, max_losses: float, where: str = "") -> None:
        """Its worker died, or what it ran in died under it (`where`): it runs again, or ends here."""
        snapshot = record.snapshot
        self.leases.remove(snapshot.id)
        losses = snapshot.losses + 1
        where = where or f"worker {snapshot.worker} died or lost contact while it ran attempt {snapshot.attempt}"
        if snapshot.cancel_requested_at is not None:
            data: dict[str, Any] = {"losses": losses, "reason": f"cancelled; its {where}"}
            self.conclude(record, EventType.CANCELLED, data, self.kept_ms(record))
        elif losses >= max_losses or snapshot.spec.on_lost == "fail":
            deaths = [str(event.data["reason"]) for event in snapshot.history if event.type is EventType.LOST]
            message = f"{where}; it is not run again, since it was submitted with on_lost='fail'"
            if losses >= max_losses:
                message = f"its workers died {losses} times while running it; last, {where}"
            trace = "\n".join([*deaths, where])
            error = {"kind": "lost", "type": "lost", "message": message, "traceback": trace, "where": ""}
            self.conclude(record, EventType.FAILED, {"losses": losses, "error": error}, self.kept_ms(record))
        else:
            record.token = ""
            self.enqueue(record, record.us)
            self.emit(record, EventType.LOST, {"state": "queued", "losses": losses, "reason": where})

    def takes(self, worker_id: str, record: Record) -> bool:
        """Whether this worker may run it now: a suspect only where it runs no other one. As in `lua/head.lua`."""
        if record.snapshot.losses < SUSPECT:
            return True
        running = (self.records[job_id].snapshot for job_id in self.leases)
        return not any(one.worker == worker_id and one.losses >= SUSPECT for one in running)

    def promote(self, queue: str, limit: int) -> None:
        """Scheduled jobs whose time has come. They wait since then, whenever that is noticed."""
        for job_id, due in self.due[queue].until(self.now, limit):
            self.due[queue].remove(job_id)
            self.enqueue(self.records[job_id], due * 1000)
            self.emit(self.records[job_id], EventType.QUEUED, {"state": "queued"})

    def forget(self, job_id: str) -> None:
        record = self.records.pop(job_id, None)
        if record is not None:
            self.by_age.remove(job_id)
            self.expiry.remove(job_id)
            self.states[record.snapshot.state].remove(job_id)
        folder = self.filed.pop(job_id, None)
        if folder is not None:
            self.litter.add(folder)
