"""The jobs of a store in memory and their transitions: what `lua/head.lua` is to the Lua scripts.

Whoever calls holds the lock of `MemoryStore`, and has set the moment (`now`, `now_us`).
"""

from __future__ import annotations

import secrets
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jobkit.model import ErrorKind, EventType, JobEvent, JobSnapshot, JobSpec, JobState, apply
from jobkit.settings import Settings
from jobkit.store.memory_groups import Groups
from jobkit.store.memory_hold import Hold
from jobkit.store.memory_log import Log
from jobkit.store.memory_once import SameWork
from jobkit.store.ordered import Ordered
from jobkit.store.values import CONTROL, ArtifactInfo, Claimed

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
    waits: int = 0
    """How many results it still waits for."""
    gates: tuple[str, ...] = ()
    """At which it has a place."""
    parked: str = ""
    freed: str = ""
    said: str = ""
    """The gate that it waits at; the one that let it go, until it starts; what it says of that."""


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
        self.hold = Hold(self)
        self.same = SameWork(self)
        self.expiry = Ordered()
        self.events: deque[JobEvent] = deque(maxlen=EVENTS_KEPT)
        self._event_id = (0, 0)
        self.place = secrets.token_hex(8)
        #: Folders of files by job, and those whose jobs are forgotten.
        self.filed: dict[str, str] = {}
        self.litter: set[str] = set()
        #: Jobs by the one whose result they wait for, in the order of their submits.
        self.after: defaultdict[str, Ordered] = defaultdict(Ordered)
        #: Jobs that have got all results they waited for, for who runs jobs here and now.
        self.freed: deque[str] = deque(maxlen=100_000)
        self._ended: deque[tuple[Record, str, int]] | None = None
        self.failures = Groups()
        self.failures_at = self._noted = 0
        #: Called with spec, state and start (ms) of a schedule's job that has ended.
        self.on_end: Callable[[JobSpec, str, int], None] | None = None
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
            error = {name: value for name, value in data["error"].items() if name != "source"}
            kept = replace(kept, data={**data, "error": {**error, "traceback": ""}})
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

    def tell_control(self) -> None:
        """Something changed that is no job's. As in `lua/head.lua`."""
        self.outbox.append((JobEvent(CONTROL, 1, EventType.LOGGED, self.now), ""))

    def enqueue(self, record: Record, since_us: float) -> None:
        """Puts it into its line, once it is queued. `since_us` is its place: the time from which it has waited."""
        self.back(record, since_us - record.snapshot.spec.priority * PRIORITY_US)

    def back(self, record: Record, score: float) -> None:
        """To that place in its line, or to the gate that holds it back."""
        spec = record.snapshot.spec
        if (spec.limits or spec.resources or record.freed) and self.hold.admit(record, score) is None:
            return
        self.ready[spec.queue].add(spec.id, score)

    def tell(self, record: Record, news: JobEvent) -> None:
        """News of a job that carry no number."""
        moved = apply(record.snapshot, news)
        assert moved is not None, "news of the store itself are always of now"
        record.snapshot = moved
        self.outbox.append((news, record.client))

    def start(self, record: Record, worker_id: str) -> Claimed:
        snapshot = record.snapshot
        attempt = snapshot.attempt + 1
        self.ready[snapshot.spec.queue].remove(snapshot.id)
        self.leases.add(snapshot.id, self.now + self.lease_ms)
        record.token = f"{worker_id}:{attempt}"
        self.hold.take(record, worker_id)
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
        self.hold.leave_line(record)
        self.hold.leave_places(record)
        self.emit(record, kind, {**data, "state": str(kind), "finished": self.now}, rider)
        record.expires_ms = self.now + ttl_ms
        self.expiry.add(spec.id, record.expires_ms)
        if kind is EventType.FAILED:
            self._noted = self._noted + 1 if self.failures_at == self.now_us else 0
            self.failures_at = self.now_us
            self.failures.note(spec, data.get("error") or {}, self.now, self.now_us + self._noted)
        elif kind is EventType.SUCCEEDED and spec.retry_of:
            self.failures.healed(spec.retry_of)
            self.tell_control()
        if record.waits:
            record.waits = 0
            for need in spec.needs:
                self.after[need].remove(spec.id)
        self._settle(record, ttl_ms)
        if spec.schedule and self.on_end is not None:
            started = record.snapshot.started_at
            self.on_end(spec, str(kind), round(started.timestamp() * 1000) if started else 0)
        self.same.ended(record, ttl_ms)
        self.hold.pump()

    # -- jobs that wait for others' results ---------------------------------------------------------------------------

    def need(self, record: Record) -> None:
        """A new job that needs results: it waits, goes on, or ends here. As in `lua/submit.lua`."""
        open_needs: list[str] = []
        broken = ""
        for need in record.snapshot.spec.needs:
            found = self.find(need)
            if found is None or found.snapshot.is_terminal:
                broken = broken or _no_result(need, found)
            else:
                open_needs.append(need)
        if broken:
            self._fail_for(record, broken, 604_800_000)
        elif not open_needs:
            self._free(record)
        else:
            record.waits = len(open_needs)
            for need in open_needs:
                self.after[need].add(record.snapshot.id, record.us)

    def _settle(self, record: Record, ttl_ms: int) -> None:
        """Those that wait for the result of a job that has ended go on, or end as well."""
        if self._ended is not None:
            self._ended.append((record, record.snapshot.id, ttl_ms))
            return
        self._ended = deque([(record, record.snapshot.id, ttl_ms)])
        while self._ended:
            parent, job_id, kept_ms = self._ended.popleft()
            why = _no_result(job_id, parent)
            followers = self.after.pop(job_id, None)
            for follower_id in list(followers or ()):
                follower = self.find(follower_id)
                if follower is None or not follower.waits:
                    continue
                if why:
                    self._fail_for(follower, why, kept_ms)
                    continue
                follower.waits -= 1
                if not follower.waits:
                    self._free(follower)
                    self.freed.append(follower_id)
        self._ended = None

    def _free(self, record: Record) -> None:
        """It has all it needs: it is queued, or goes on to wait for its time."""
        snapshot = record.snapshot
        due = snapshot.due_at
        due_ms = int(due.timestamp() * 1000) if due is not None else 0
        if due_ms > self.now:
            self.due[snapshot.spec.queue].add(snapshot.id, due_ms)
        else:
            self.emit(record, EventType.QUEUED, {"state": "queued"})
            self.enqueue(record, self.now_us)
            self.now_us += 1  # those that one job frees keep their order

    def _fail_for(self, record: Record, why: str, ttl_ms: int) -> None:
        error = {"kind": "dependency", "type": "dependency", "message": why, "traceback": "", "where": ""}
        own_s = record.snapshot.spec.result_ttl_s
        kept_ms = ttl_ms if own_s is None else max(1, int(own_s * 1000))
        self.conclude(record, EventType.FAILED, {"error": error}, kept_ms)

    def kept_ms(self, record: Record) -> int:
        """How long to keep a job that no worker ended: its own wish, else the setting."""
        own_s = record.snapshot.spec.result_ttl_s
        return self._ttl_ms if own_s is None else max(1, int(own_s * 1000))

    def recover(self, limit: int) -> None:
        """Jobs whose lease is over go back to their old place in the line, or end here."""
        for job_id, _ in self.leases.until(self.now, limit):
            self.lose(self.records[job_id], self._max_losses)

    def lose(self, record: Record, max_losses: float, where: str = "", usage: Mapping[str, Any] | None = None) -> None:
        """Its worker died, or what it ran in died under it (`where`): it runs again, or ends here."""
        snapshot = record.snapshot
        self.leases.remove(snapshot.id)
        self.hold.leave_places(record)
        losses = snapshot.losses + 1
        more: dict[str, Any] = {"losses": losses} | ({"usage": usage} if usage else {})
        where = where or f"worker {snapshot.worker} died or lost contact while it ran attempt {snapshot.attempt}"
        if snapshot.cancel_requested_at is not None:
            why = {"reason": f"cancelled; its {where}"}
            self.conclude(record, EventType.CANCELLED, more | why, self.kept_ms(record))
        elif losses >= max_losses or snapshot.spec.on_lost == "fail":
            deaths = [str(event.data["reason"]) for event in snapshot.history if event.type is EventType.LOST]
            message = f"{where}; it is not run again, since it was submitted with on_lost='fail'"
            if losses >= max_losses:
                message = f"its workers died {losses} times while running it; last, {where}"
            trace = "\n".join([*deaths, where])
            error = {"kind": "lost", "type": "lost", "message": message, "traceback": trace, "where": ""}
            self.conclude(record, EventType.FAILED, more | {"error": error}, self.kept_ms(record))
        else:
            record.token = ""
            self.emit(record, EventType.LOST, {"state": "queued", "reason": where} | more)
            self.enqueue(record, record.us)
            self.hold.pump()

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
            self.emit(self.records[job_id], EventType.QUEUED, {"state": "queued"})
            self.enqueue(self.records[job_id], due * 1000)

    def forget(self, job_id: str) -> None:
        record = self.records.pop(job_id, None)
        if record is not None:
            self.by_age.remove(job_id)
            self.expiry.remove(job_id)
            self.states[record.snapshot.state].remove(job_id)
            self.failures.leave(job_id, self.now)
        folder = self.filed.pop(job_id, None)
        if folder is not None:
            self.litter.add(folder)


def _no_result(job_id: str, record: Record | None) -> str:
    """Why a job that has ended gives no result, as a sentence; "" where it gives one. As in `lua/head.lua`."""
    if record is None:
        return f"job {job_id}, whose result it needs, is not kept: it was removed, or has expired"
    snapshot = record.snapshot
    if snapshot.state is JobState.SUCCEEDED:
        return ""
    name = f"job {job_id} ({snapshot.spec.task}), whose result it needs,"
    if snapshot.state is JobState.CANCELLED:
        return f"{name} was cancelled"
    error = snapshot.error
    if error is None:
        return f"{name} failed"
    first = str(error).split("\n", 1)[0]
    if error.kind is ErrorKind.DEPENDENCY:  # what began it is enough
        first = first.partition("cannot run: ")[2] or first
    first = first if len(first.encode()) <= 300 else first.encode()[:300].decode(errors="ignore") + "..."
    return f"{name} {'cannot run' if error.kind is ErrorKind.DEPENDENCY else 'failed'}: {first}"
