"""`StudyModel`: the card of a study as data: that of the batch of its trials, and what the study's own job tells.

Pure. A trial is a job of the batch: its arguments are what was sampled, and its result is the value.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from operator import itemgetter
from typing import Any

from jobkit.client.kit import Kit
from jobkit.features.batches.batch_model import BatchModel
from jobkit.features.batches.batch_plot import layout
from jobkit.features.studies.controller import FACTS
from jobkit.features.studies.led import NOUN
from jobkit.features.studies.plot import TRIAL, TrialMark, history
from jobkit.model import JobkitError, JobSnapshot, JobState
from jobkit.model.batch import BatchSpec, part_id
from jobkit.model.format import params_brief
from jobkit.model.plain import is_number
from jobkit.model.result import told

#: Parameters whose importance is shown.
_IMPORTANT_MOST = 12

#: Bytes of `FACTS` that are read, at most.
_FACTS_BYTES = 1_000_000


class StudyModel(BatchModel):
    """The trials of a study as its card shows them.

    Args:
        snapshots, spec: as of `BatchModel`.
        leader: the job that runs the study, and has its id and its state; None if it is not kept.

    Attributes:
        facts: what it says of the study: `best` (its number and value) and `importance` (shares by name).
    """

    noun = NOUN

    def __init__(self, snapshots: Iterable[JobSnapshot], leader: JobSnapshot | None, *, spec: BatchSpec) -> None:
        self.leader = leader
        self.led = {"word": "study", "jobs": "Trials", "call": f'study(id="{spec.id}")'}
        self.facts: Mapping[str, Any] = {}
        self._faces: dict[int, str] = {}
        self._numbers: dict[str, int] = {}  # of trials by the ids of their jobs
        super().__init__(snapshots, spec=spec)

    def read_facts(self, kit: Kit) -> None:
        self.facts = facts_of(kit, self.spec.id)

    @property
    def is_maximized(self) -> bool:
        return self.spec.direction == "maximize"

    def number_of(self, i: int) -> int:
        """Return the number of a trial: other than its place if an earlier one has no job."""
        job = self.snapshots[i].spec
        for number in range(len(self._numbers), self.spec.size):
            if job.id in self._numbers:
                break
            self._numbers[part_id(self.spec.id, number)] = number
        return self._numbers.get(job.id, i)

    # -- as a batch ----------------------------------------------------------------------------------------------------

    def _read(self, i: int) -> None:
        snapshot = self.snapshots[i]
        self._faces[i] = "pruned" if is_pruned(snapshot) else snapshot.face
        if snapshot.state is JobState.SUCCEEDED and i not in self._shown:
            value: Any = (told(snapshot.summary) or {}).get("value")
            if isinstance(value, bool) or is_number(value):
                self._put(i, {"value": value + 0})
            else:
                self._put(i, {})
                self._faces[i] = "failed"

    def face_of(self, i: int) -> str:
        return self._faces[i]

    def note_of(self, i: int) -> str:
        snapshot = self.snapshots[i]
        if self._faces[i] == "pruned":
            return next(_reasons(snapshot), "")
        if self._faces[i] == "failed" and snapshot.state is JobState.SUCCEEDED:
            return f"the objective must return a finite number, not {snapshot.summary}"
        return super().note_of(i)

    @property
    def is_terminal(self) -> bool:
        return super().is_terminal and (self.leader is None or self.leader.is_terminal)

    @property
    def face(self) -> str:
        return self.leader.face if self.leader is not None else super().face

    @property
    def title(self) -> str:
        return (self.leader and self.leader.spec.title) or super().title

    @property
    def size(self) -> int:
        """The number of trials that were asked for; of a study that succeeded, of those that there were: a grid may
        have fewer."""
        size, job = len(self.snapshots), self.leader
        if job is None or job.state is JobState.SUCCEEDED:
            return size
        return max(size, int(job.total or 0), self.spec.size)

    def span(self) -> tuple[datetime | None, datetime | None]:
        job = self.leader
        return (job.started_at, job.finished_at) if job is not None else super().span()

    def head(self, now: datetime) -> dict[str, Any]:
        job = self.leader
        head = super().head(now)
        if job is not None and job.error is not None and job.state is JobState.FAILED:
            head["alert"] = {"level": "error", "text": str(job.error)}
        if job is not None and job.is_terminal:  # no further trials come
            head |= {"open": len(self.snapshots) - head["ended"], "rate": "", "eta_s": None}
        given = job.spec.params if job is not None else {}
        options = {name: given[name] for name in ("parallel", "metric") if given.get(name)}
        same = self._differing.others
        return head | {
            "fixed": params_brief({"direction": self.spec.direction, **options, **same}),
            "direction": self.spec.direction,
            "led": self.led,
            "importance": self._importance(),
            "cancelling": job is not None and job.is_cancelling,
        }

    def _importance(self) -> list[tuple[str, float]]:
        """Return name and share (0..1) of parameters, the largest first."""
        shares = (self.facts.get("importance") or {}).items()
        return sorted(shares, key=itemgetter(1), reverse=True)[:_IMPORTANT_MOST]

    def best(self) -> list[Any] | None:
        """Return a name, then an empty word, the best value, and its trial."""
        done = [(values["value"], i) for i, values in self._shown.items() if values]
        if not done:
            return None
        value, i = (max if self.is_maximized else min)(done, key=itemgetter(0))
        exact = self.facts.get("best") or {}
        # The line of a result is rounded, so that several may be the best.
        if math.isclose(exact.get("value", math.nan), value, rel_tol=1e-5):
            value = exact["value"]
            i = next((k for k, each in enumerate(self.snapshots) if each.id == exact.get("job")), i)
        params = self.snapshots[i].spec.params
        brief = params_brief({name: _rounded(params[name]) for name in self.args if name in params})
        return ["best value", ["", value, self.label_of(i) + (f": {brief}" if brief else "")]]

    def better(self) -> list[str] | None:
        return ["value", "highest" if self.is_maximized else "lowest"]

    def label_of(self, i: int) -> str:
        return f"trial {self.number_of(i)}"

    def columns(self) -> list[tuple[str, str]]:
        return [(TRIAL, "trial"), *super().columns()]

    def row(self, i: int) -> list[Any]:
        place, face, cells, *rest = super().row(i)
        return [place, face, [self.number_of(i), *cells], *rest]

    # -- plots ---------------------------------------------------------------------------------------------------------

    def plot(self, chosen: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        """Return the history, or a number over an argument."""
        points, args, names = self.points()
        chosen, choices = chosen or {}, {"x": [TRIAL, *args], "y": names or ["value"], "by": []}
        if chosen.get("x") in args and (plot := layout(points, args, names, chosen, is_joined=False)) is not None:
            return plot | {"choices": plot["choices"] | {"x": choices["x"]}}
        y = chosen["y"] if chosen.get("y") in names else choices["y"][0]
        known = {point.row: point.numbers[y] for point in points if y in point.numbers}
        is_value = y == "value"
        plot = history(self.marks(known, is_value), y, self.is_maximized if is_value else None)
        return plot and {**plot, "x": TRIAL, "by": "", "choices": choices}

    def marks(self, known: Mapping[int, float], has_metrics: bool) -> list[TrialMark]:
        """Return the trials that have ended, with what is known of each by place; if `has_metrics`, the last metric of
        pruned ones."""
        found = []
        for i, snapshot in enumerate(self.snapshots):
            if snapshot.is_terminal:
                face, value = self._faces[i], known.get(i)
                if face == "pruned" and has_metrics:
                    value = next((each for each in snapshot.metrics.newest.values() if is_number(each)), None)
                found.append(TrialMark(i, self.number_of(i), face, value))
        return sorted(found, key=lambda mark: mark.number)


def facts_of(kit: Kit, study_id: str) -> dict[str, Any]:
    """Return `best` and `importance` as the job that runs a study says them; {} for nothing.

    A function of the user runs in that job, and may save any artifact of this name.
    """
    found: Any = None
    with contextlib.suppress(JobkitError, OSError, ValueError, RecursionError):
        artifact = kit.artifact(study_id, FACTS)
        found = json.loads(artifact.read()) if artifact.size_bytes <= _FACTS_BYTES else None
    if not isinstance(found, dict):
        return {}
    best, shares = found.get("best"), found.get("importance")
    return {
        "best": best if isinstance(best, dict) and is_number(best.get("value")) else None,
        "importance": {name: share for name, share in shares.items() if is_number(share)}
        if isinstance(shares, dict) else {},
    }  # fmt: skip


def is_pruned(snapshot: JobSnapshot) -> bool:
    """Return True if a trial was stopped because others were better, or has raised `TrialPruned`."""
    if snapshot.state is JobState.FAILED and snapshot.error is not None:
        return snapshot.error.type.rpartition(".")[2] == "TrialPruned" or any(_reasons(snapshot))
    return snapshot.state is JobState.CANCELLED and any(_reasons(snapshot))


def _reasons(snapshot: JobSnapshot) -> Iterator[str]:
    reasons = (str(event.data.get("reason", "")) for event in snapshot.history)
    return (reason for reason in reasons if reason.startswith("pruned"))


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


#: What a card of a study is made from, see `jobkit.features.batches.batch_model.model_of`.
MODEL = StudyModel
