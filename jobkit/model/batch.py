"""Batches as the store keeps them: the definition of a map or sweep, and how many of its jobs are in which state."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from jobkit.model.events import UNSUCCESSFUL, JobState
from jobkit.model.plain import Record, instant, to_json

#: Characters of a batch's name.
MAX_NAME = 200

#: Begin of the words of a rule that has failed; its error follows.
RULE_FAILED = "failed: "

#: States of jobs that have not ended.
OPEN = (JobState.SCHEDULED, JobState.QUEUED, JobState.RUNNING)


def was_stopped(counts: Mapping[str, int]) -> bool:
    """Return True if a rule that held has cancelled jobs, or does so now: if all had ended, it stopped nothing."""
    return any(counts.get(state) for state in (*OPEN, JobState.CANCELLED))


def part_id(batch_id: str, place: int) -> str:
    """Return the id of the job that is submitted first for a place of a batch: always the same one."""
    return hashlib.sha256(f"{batch_id} {place}".encode()).hexdigest()[:16]


def subscription(batch_id: str) -> str:
    """Return the key for `EventHub.listen`: events of its jobs, and an event of this key when it has further jobs."""
    return f"batch {batch_id}"


class BatchSpec(Record, frozen=True):
    """The part of a batch that never changes.

    Attributes:
        id: 1 to 200 characters, as a job's.
        task, title: of its jobs. name: given by its user, or "". owner: user name of the submitter.
        size: number of jobs that it was submitted with.
        axes: names of the arguments that were swept; () for a map. seed: of a random sweep, or None.
        rule: its `stop_when` in words, or "". stop: what the store counts for it, "failed 3"; "" for nothing.
        kind: of a batch that a job leads: the job with its id submits the others. "study": they are trials of a study;
            "" if a client submits them. direction: "minimize" or "maximize" the values of its jobs, or "".
    """

    id: str
    task: str
    size: int
    title: str = ""
    name: str = ""
    owner: str = ""
    axes: tuple[str, ...] = ()
    seed: int | None = None
    rule: str = ""
    stop: str = ""
    kind: str = ""
    direction: str = ""


#: That of jobs which belong to none.
NO_BATCH = BatchSpec("", "", 0)


class BatchInfo(msgspec.Struct, frozen=True):
    """A batch at one moment.

    Attributes:
        counts: number of its jobs by state, those of deleted and expired jobs too; states without a job are left out.
        came: number of submits so far; less than `spec.size` while they go on, or if their process died.
        made: number of its jobs; less than `came` if others do the same work. deleted: number of deleted ones.
        submitted_at: time of its first submit. started_at: of its first start, of a led batch that of its leader.
        ended_at: time of the last end, of a led batch that of its leader; None while a job is open.
        rule: that of `spec`, or a later one; or why it failed, see `RULE_FAILED`.
        is_stopped: it held, for the job `stopped_by` ("" if not known), and stopped others (see `was_stopped`); or
            its leader is `stopped_by`, and has not succeeded.
        us, last_us: times of the submits of its first and of its newest job, in microseconds.
        leader: state of the job that leads it; None for other batches, and if that job is not kept.
    """

    spec: BatchSpec
    counts: Mapping[str, int] = {}
    came: int = 0
    made: int = 0
    deleted: int = 0
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    rule: str = ""
    is_stopped: bool = False
    stopped_by: str = ""
    us: int = 0
    last_us: int = 0
    leader: JobState | None = None

    @classmethod
    def from_wire(cls, batch_id: str, record: Mapping[str, str]) -> BatchInfo:
        """Return the batch in a record. Raises ValueError or KeyError if it is not readable."""
        spec = msgspec.json.decode(record["spec"], type=BatchSpec)
        if spec.id != batch_id:
            raise ValueError(f"its spec has the id {spec.id!r:.100}")
        us = int(record["us"])
        counts = {state: n for state in map(str, JobState) if (n := int(record.get(state, 0))) > 0}
        is_stopped = "stopped" in record and was_stopped(counts)
        return cls(
            spec,
            counts,
            int(record.get("came", 0)),
            int(record.get("n", 0)),
            int(record.get("deleted", 0)),
            instant(us // 1000),
            instant(record.get("first")),
            instant(record.get("ended")),
            record.get("rule", ""),
            is_stopped,
            record.get("stopped", "") if is_stopped else "",
            us,
            int(record.get("last", us)),
        )

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def rule_problem(self) -> str:
        """The error of its rule, a function that raised: "TypeError: ..."; "" if it has not failed."""
        return self.rule.removeprefix(RULE_FAILED) if self.rule.startswith(RULE_FAILED) else ""

    @property
    def open(self) -> int:
        """Number of jobs that have not ended."""
        return sum(self.counts.get(state, 0) for state in OPEN)

    @property
    def progress(self) -> float:
        """0..1: the share of its jobs that have ended."""
        is_ended = self.leader is not None and self.leader.is_terminal  # then no further trials come
        size = self.made + (0 if is_ended else max(0, self.spec.size - self.came))
        return min(1.0, max(0.0, (self.made - self.open) / size)) if size else 1.0

    @property
    def state(self) -> JobState:
        """The state of the whole: running once one has started and while any is open, then its worst end.

        A led batch has that of its leader.
        """
        if self.leader is not None:
            return self.leader
        if self.open:
            waiting = JobState.QUEUED if self.counts.get(JobState.QUEUED) else JobState.SCHEDULED
            return JobState.RUNNING if self.started_at or self.counts.get(JobState.RUNNING) else waiting
        return next((state for state in UNSUCCESSFUL if self.counts.get(state)), JobState.SUCCEEDED)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON for HTTP and the command line."""
        spec: dict[str, Any] = to_json(self.spec)
        mine: dict[str, Any] = to_json(self)
        del mine["spec"], mine["us"], mine["last_us"], mine["leader"]
        del spec["stop"]
        return {**spec, "state": str(self.state), "progress": self.progress, **mine}
