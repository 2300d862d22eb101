"""`CardModel`: one job's card as data: events and log lines in, the card's JSON texts out.

Pure: no clock (`now` is an argument), no Panel, no Redis. `job_feed.py` connects it to a kit, `cards.py` and
`widgets.py` carry its texts to a browser, and the tests drive it with lists of events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from secrets import token_hex
from typing import Any

import msgspec
from msgspec.structs import replace

from jobkit.client.waits import level_of, no_worker_text
from jobkit.model import EventType, JobEvent, JobSnapshot, JobState, LogLine, apply, attempts_of
from jobkit.model.format import FACES, Eta, params_brief, percent, progress_line
from jobkit.model.load import WorkerLoad
from jobkit.model.metrics import NO_METRICS
from jobkit.model.plain import dumps, instant, iso, to_json
from jobkit.model.start import Start, outlook
from jobkit.model.trace import picture_of
from jobkit.store.values import ArtifactInfo
from jobkit.ui.card.curves import CardCurves
from jobkit.ui.card.log_lines import shown_line

#: Log lines that a card starts with; it then keeps up to 2,000.
LOG_LINES = 500

#: The card's texts that replace what it has; from `preview` on, JSON of the attribute of that name.
_WHOLE = ("snapshot", "log", "preview", "artifacts", "sections", "made")

#: The states that a queued or scheduled job comes from.
_TO_QUEUE = (EventType.SUBMITTED, EventType.QUEUED, EventType.LOST, EventType.RELEASED)


@dataclass
class CardModel:
    """One job as its card shows it.

    Attributes:
        sections: data of the sections that features add, by their names.
        defaults: of the task's parameters, if known: arguments that equal them are left out of the brief.
        needs_snapshot: events were missed; the feed must read the snapshot and call `reset`.
        connection: whether events arrive, see `EventHub.connection`.
        lease_s: of the kit's settings; from it follows when a silent worker's job is taken away.
        load: what its worker uses, with this job; None if not known, or it does not run.
        start: its expected start; None if not known, or it does not wait.
        chain: the job that it runs again ("of") and its newest retry ("as"), as far as they are kept.
        held: why it cannot start (pause, limit, resource), "" if nothing blocks it.
        needed: (some of) the jobs that it waits for.
        queue_workers: number of live workers of its queue.
        made: what made it, as labels with texts.
        beat: seconds since its worker's last heartbeat, and when that was read.
        curves: its metrics. pictures: previews of what it has shown, by name; only once it has ended, for saved cards.
    """

    snapshot: JobSnapshot
    defaults: Mapping[str, Any] | None = None
    needs_snapshot: bool = False
    connection: str = "live"
    lease_s: float = 15.0
    lines: deque[LogLine] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    total: int = 0
    dropped: int = 0
    preview: Mapping[str, Any] | None = None
    is_deleted: bool = False
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    sections: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    made: Sequence[tuple[str, str]] = ()
    held: str = ""
    start: Start | None = None
    chain: Mapping[str, JobSnapshot] = field(default_factory=dict)
    load: WorkerLoad | None = None
    needed: Sequence[JobSnapshot | None] = ()
    queue_workers: int | None = None
    beat: tuple[float, datetime] | None = None
    curves: CardCurves = field(default_factory=CardCurves)
    pictures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    _told: JobSnapshot | None = None
    """The snapshot as the card has it, without its metrics."""
    _eta: Eta = field(default_factory=Eta)
    _origin: str = field(default_factory=lambda: token_hex(4))
    _updates: int = 0
    _sent: int = 0
    """Number of the last line that was sent."""
    _dirty: set[str] = field(default_factory=lambda: set(_WHOLE))

    @property
    def snapshots(self) -> tuple[JobSnapshot]:
        return (self.snapshot,)

    @property
    def face(self) -> str:
        return self.snapshot.face

    # -- in ---------------------------------------------------------------------------------------------------------

    def take(self, event: JobEvent) -> bool:
        """Apply one event of this job; return False if it changed nothing."""
        if event.type is EventType.LOGGED:
            if "metrics" in event.data:
                return self.curves.take(event.data["metrics"])
            if "kept" in event.data:
                return self.keep_one(event.data["kept"])
            first = int(event.data.get("first", 1))
            return self.log(LogLine.from_wire(wire, first + i) for i, wire in enumerate(event.data.get("lines") or ()))
        if event.type is EventType.DELETED:
            self.is_deleted = True
            self._dirty.add("snapshot")
            return True
        moved = apply(self.snapshot, event)
        self.needs_snapshot = self.needs_snapshot or moved is None
        if moved is None or moved is self.snapshot:
            return False
        if event.type is EventType.PROGRESSED and replace(moved, rev=0, metrics=NO_METRICS) == self._told:
            self.snapshot = moved  # only its metrics have moved, whose points come by themselves
            return False
        if event.type is EventType.STARTED:
            self.queue_workers, self.held, self.start = None, "", None
        self._move(moved, event.at)
        return True

    def reset(self, snapshot: JobSnapshot, now: datetime) -> None:
        """Start again from a snapshot that was just read; an older one than ours is ignored."""
        self.needs_snapshot = False
        if (snapshot.seq, snapshot.rev) < (self.snapshot.seq, self.snapshot.rev):
            return
        self._move(snapshot, now)

    def _move(self, snapshot: JobSnapshot, at: datetime) -> None:
        if snapshot.attempt != self.snapshot.attempt:
            self._eta = Eta()
        if snapshot.resumed_completed and not self._eta.is_begun:
            self._eta = Eta(_completed=snapshot.resumed_completed)
        self.snapshot, self._told = snapshot, replace(snapshot, rev=0, metrics=NO_METRICS)
        if snapshot.state is JobState.RUNNING and snapshot.completed is not None:
            self._eta.update(snapshot.completed, snapshot.total, snapshot.elapsed_s(at) or 0.0)
        self._dirty.add("snapshot")

    def load_log(self, lines: Sequence[LogLine], total: int, dropped: int) -> None:
        """Replace the log by what was just read; lines that arrived meanwhile and are newer stay."""
        last = lines[-1].n if lines else 0
        newer = [line for line in self.lines if line.n > last]
        self.lines.clear()
        self.lines.extend((*lines, *newer))
        self.total = max(total, newer[-1].n if newer else 0)
        self.dropped = dropped
        self._dirty.add("log")

    def log(self, lines: Iterable[LogLine]) -> bool:
        """Append lines as they arrive, and ignore known ones. Return whether there were new ones."""
        last = self.lines[-1].n if self.lines else 0
        fresh = [line for line in lines if line.n > last]
        if not fresh:
            return False
        self.lines.extend(fresh)
        self.total = max(self.total, fresh[-1].n)
        self._dirty.add("log_append")
        return True

    def show(self, preview: Mapping[str, Any] | None) -> None:
        """Set the result's preview that was read."""
        self.preview = preview
        self._dirty.add("preview")

    def keep(self, artifacts: list[dict[str, Any]]) -> None:
        """Set the artifacts that were read: name, media type, bytes and time of each, oldest first."""
        if artifacts != self.artifacts:
            self.artifacts = artifacts
            self._dirty.add("artifacts")

    def tell(self, name: str, section: Mapping[str, Any]) -> None:
        """Set the data of a section that were read; {} for a section that has nothing to show."""
        self.sections[name] = section
        self._dirty.add("sections")

    def keep_one(self, wire: Mapping[str, Any]) -> bool:
        """Add an artifact that was just saved, or replace the one of its name."""
        try:
            info = msgspec.convert(wire, ArtifactInfo)
        except msgspec.ValidationError:
            return False
        created_at = iso(instant(info.at_ms))
        kept = {**msgspec.structs.asdict(info), "created_at": created_at}
        del kept["at_ms"]
        self.keep([*(each for each in self.artifacts if each["name"] != info.name), kept])
        return True

    def made_by(self, lines: Sequence[tuple[str, str]]) -> None:
        """Set what made it, see `MadeBy.lines`."""
        if lines != self.made:
            self.made = lines
            self._dirty.add("made")

    def connected(self, connection: str) -> None:
        """Set whether events arrive: `EventHub.connection`."""
        if connection != self.connection:
            self.connection = connection
            self._dirty.add("snapshot")

    def learn(self, now: datetime, **facts: Any) -> None:
        """Set what no event reports: `held`, `start`, `chain`, `needed`, `queue_workers`, `beat`, `load`."""
        before = self.alert(now), self.load, self.start, self.chain
        for name, value in facts.items():
            setattr(self, name, value)
        if (self.alert(now), self.load, self.start, self.chain) != before:
            self._dirty.add("snapshot")

    # -- out --------------------------------------------------------------------------------------------------------

    @property
    def is_dirty(self) -> bool:
        return bool(self._dirty) or self.curves.is_dirty

    def updates(self, now: datetime) -> tuple[dict[str, str], dict[str, str]]:
        """Return texts that changed since the last call: any of `_WHOLE` and `metrics`, which replace what the card
        has, and `log_append` and `metrics_append`, which continue it.
        """
        dirty, self._dirty = self._dirty, set()
        self._updates += 1
        whole, parts = self.curves.updates()
        whole |= {name: self._text(name, now) for name in _WHOLE if name in dirty}
        if "log_append" in dirty and "log" not in dirty:
            parts["log_append"] = self.log_json(line for line in self.lines if line.n > self._sent)
        self._sent = self.lines[-1].n if self.lines else 0
        return whole, parts

    def everything(self, now: datetime) -> dict[str, str]:
        return {"metrics": self.curves.text()} | {name: self._text(name, now) for name in _WHOLE}

    @property
    def version(self) -> str:
        """Part of each text, changed by each of `updates`: a browser that has the newest has missed nothing."""
        return f"{self._origin}-{self._updates}"

    def _text(self, name: str, now: datetime) -> str:
        if name == "snapshot":
            return dumps(self.card(now))
        if name == "log":
            return self.log_json(self.lines)
        value = getattr(self, name)
        if name == "preview" and value:  # a chart's specification, up to 400 kB, is drawn by notebooks alone
            value = {key: part for key, part in value.items() if key != "spec"}
        return dumps(value) if value else ""

    def log_json(self, lines: Iterable[LogLine]) -> str:
        """Return lines, and what is known of the log: `{"lines": [...], "total", "dropped", "v"}`."""
        told = list(map(shown_line, lines))
        return dumps({"lines": told, "total": self.total, "dropped": self.dropped, "v": self.version})

    def card(self, now: datetime) -> dict[str, Any]:
        """Return the job for the card: `JobSnapshot.to_json()` and what only a card needs."""
        snapshot = self.snapshot
        queued_at = next((e.at for e in reversed(snapshot.history) if e.type in _TO_QUEUE), snapshot.submitted_at)
        attempts = attempts_of(snapshot.history)
        last = attempts[-1] if attempts else None
        waited = (last.started_at - last.ready_at).total_seconds() if last and last.ready_at else None
        error = snapshot.error
        elapsed_s = snapshot.elapsed_s(now) if error or not snapshot.is_terminal else None
        return snapshot.to_json() | {
            **outlook(snapshot, self.start),
            "message": "" if self.held and snapshot.state is JobState.QUEUED else snapshot.message,  # in the alert
            "lent": snapshot.lent_text,
            "face": snapshot.face,
            "args": params_brief(snapshot.spec.params, self.defaults),
            "count": progress_line(snapshot.completed, snapshot.total, elapsed_s, snapshot.resumed_completed),
            "eta_s": self.eta_s(now),
            "typical_s": snapshot.typical_s or (self.start.usual_s if self.start else None),
            "waited_s": waited,
            "runs_again": {name: {"id": job.id, "face": job.face} for name, job in self.chain.items()},
            "queued_at": iso(queued_at),
            "attempts": [to_json(each) | {"duration_s": each.duration_s} for each in attempts],
            "chain": picture_of(error),
            "now": iso(now),
            "v": self.version,
            "alert": self.alert(now),
            "load": self._load(),
            "deleted": self.is_deleted,
            "connection": self.connection,
        }

    def _load(self) -> dict[str, Any] | None:
        """Return the charts of a running job: CPU and memory of its processes."""
        usage = self.load.jobs.get(self.snapshot.id) if self.load else None
        if self.load is None or usage is None or self.snapshot.state is not JobState.RUNNING:
            return None
        return {"cpu": to_json(usage.cpu), "memory": to_json(usage.memory), "step_s": self.load.step_s}

    def eta_s(self, now: datetime) -> float | None:
        """Return seconds left, smoothed; of a job without progress, as past runs of its task say; or None."""
        if self.snapshot.asking:
            return None
        if self.snapshot.progress is None:
            return self.snapshot.eta_s(now)
        if self.snapshot.state is not JobState.RUNNING or self._eta.left_s is None:
            return None
        passed = (self.snapshot.elapsed_s(now) or 0.0) - self._eta._at_s
        return max(0.0, self._eta.left_s - max(0.0, passed))

    def alert(self, now: datetime) -> dict[str, str] | None:
        """Return one sentence about a problem of the job, or None: `{"level", "text"}`."""
        snapshot = self.snapshot
        if self.is_deleted:
            return {"level": "warning", "text": "This job was deleted; what you see is no longer kept"}
        queues = [snapshot.spec.queue]
        if snapshot.state is JobState.QUEUED and self.held not in ("", no_worker_text(queues)):
            return waits(self.held, level_of(self.held))
        if snapshot.state is JobState.QUEUED and (self.held or self.queue_workers == 0):
            return no_worker(queues)
        if snapshot.state is JobState.RUNNING and self.beat is not None and self.beat[0] > self.lease_s / 2:
            age_s, seen_at = self.beat
            silent = age_s + (now - seen_at).total_seconds()
            left = self.lease_s - silent
            when = f"will be restarted in {left:.0f} s" if left >= 1 else "is about to be restarted"
            return {"level": "warning", "text": f"Stalled: worker last seen {silent:.0f} s ago; the job {when}"}
        if snapshot.state is JobState.SCHEDULED and snapshot.due_at is None and snapshot.spec.needs:
            return {"level": "info", "text": self._waiting()}
        return None

    def _waiting(self) -> str:
        """Return what it waits for, as far as that has been read."""
        needs = self.snapshot.spec.needs
        count = f"the result of job {needs[0][:8]}" if len(needs) == 1 else f"the results of {len(needs)} jobs"
        open_ = [one for one in self.needed if one is not None and not one.is_terminal]
        told = [
            f"{one.spec.title or one.spec.task} {one.id[:8]} is {FACES[one.face].lower()}"
            + (f" ({percent(one.progress)})" if one.progress is not None and one.state is JobState.RUNNING else "")
            for one in open_[:3]
        ]
        if len(open_) > 3:
            told.append(f"{len(open_) - 3} more")
        return f"Waits for {count}" + (f": {', '.join(told)}" if told else "")


def waits(reason: str, level: str) -> dict[str, str]:
    """Return the alert of queued jobs that cannot start."""
    return {"level": level, "text": f"{reason[0].upper()}{reason[1:]}"}


def no_worker(queues: Sequence[str]) -> dict[str, str]:
    """Return the alert of jobs in queues without a worker."""
    return {"level": "warning", "text": f"Queued; {no_worker_text(queues)}"}
