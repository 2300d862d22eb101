"""The job that runs a study: asks Optuna for trials, submits them, and reports to Optuna how they end.

All of its state is in the study's journal, entry by entry, so a later attempt goes on where an earlier one was killed:
a trial that is open there has its arguments, or gets those that it lacks, and the id of its job is always the same, so
that it is submitted once. Only the attempt that holds the lease may write the journal.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jobkit.features.metrics.inside import log_metrics
from jobkit.features.studies.led import KIND
from jobkit.features.studies.space import Space, load_optuna, quiet, sampler_of
from jobkit.features.studies.store import JournalStore
from jobkit.features.studies.trial_jobs import COMPLETE, FAILED, PRUNED, TrialEnd, TrialJobs, TrialTemplate, patiently
from jobkit.model import InvalidParams, JobkitError
from jobkit.model.batch import BatchSpec, part_id
from jobkit.run.inside import context

if TYPE_CHECKING:
    import optuna

#: So many trials that fail first, all for one reason, end the study.
_ALIKE = 10

#: Name of the artifact with what a card shows of a study, and seconds between two versions of it.
FACTS, _FACTS_S = "study.json", 2.0

#: Importance needs so many complete trials, and may take this share of the time.
_IMPORTANCE_LEAST, _IMPORTANCE_SHARE = 10, 0.05


def run_study(
    kit: Any,
    objective: TrialTemplate,
    space: Space,
    *,
    trials: int,
    parallel: int,
    direction: str,
    metric: str | None,
    pruner: Any,
    sampler: Any,
    name: str,
) -> dict[str, Any] | None:
    """Run the trials of a study; the function of a job, whose id is that of the study.

    Returns:
        Number, value, params and job of the best trial; None if none was completed.

    Raises:
        JobkitError: all trials fail for the same reason, or the metric for the pruner is not clear.
    """
    from jobkit.features.studies.storage import storage_of

    optuna = load_optuna()
    job, connection = context.current(), kit.connection
    if job.recorder is not None:
        job.recorder.emit("can_go_on")  # elsewhere, if its worker stops
    journals = JournalStore(kit.verbs.store)
    [own] = patiently(lambda: connection.call(kit.verbs.store.snapshots, [job.job_id]))
    # Another job may get this id, and an attempt of this number, while this process is frozen.
    token = f"{own.worker if own is not None else ''}:{job.attempt}"
    spec = json.loads(objective.spec)
    batch = BatchSpec(
        job.job_id,
        spec["task"],
        trials,
        spec.get("title", ""),
        name,
        spec.get("owner", ""),
        kind=KIND,
        direction=direction,
    )
    jobs = TrialJobs(kit, batch, objective, has_metrics=pruner is not None)
    with quiet():
        storage = storage_of(
            job.job_id,
            lambda start: patiently(lambda: connection.call(journals.entries, job.job_id, start)),
            lambda known, entries: patiently(
                lambda: connection.call(journals.append, job.job_id, token, known, entries)
            ),
        )
        if not storage.get_all_studies():  # else an entry would say that this attempt has moved on
            optuna.create_study(storage=storage, study_name=job.job_id, direction=direction)
        study = optuna.load_study(
            storage=storage, study_name=job.job_id,
            sampler=sampler or optuna.samplers.TPESampler(constant_liar=parallel > 1),
            pruner=pruner or optuna.pruners.NopPruner(),
        )  # fmt: skip
        progress = StudyProgress(study, trials)
        looked_at: str | bool = False if pruner is None else metric or True
        try:
            Controller(study, sampler_of(space), jobs, trials, parallel, looked_at, progress.show).run()
        finally:
            progress.save()
    return progress.best


class Controller:
    """The loop of a study.

    Args:
        study: over the journal. arguments_of: gives a trial its arguments. jobs: of the trials.
        trials: number of trials that are to end. parallel: number of open ones at most.
        metric: name of the metric that the pruner looks at; True for the only one, False for no pruning.
        show: called with each ended trial, those of earlier attempts first.
    """

    def __init__(
        self,
        study: optuna.Study,
        arguments_of: Callable[[Any], Mapping[str, Any]],
        jobs: TrialJobs,
        trials: int,
        parallel: int,
        metric: str | bool,
        show: Callable[[optuna.trial.FrozenTrial], object],
    ) -> None:
        self._study, self._arguments_of, self._jobs = study, arguments_of, jobs
        self._trials, self._parallel, self._show = trials, parallel, show
        self._metric = metric
        self._open: dict[int, optuna.Trial] = {}
        self._last_step: dict[int, int] = {}
        self._has_warned = False
        self._finished = 0
        self._reasons: set[str] | None = set()  # why trials failed so far; None once one has not
        self._is_exhausted = bool(study.user_attrs.get("exhausted"))
        study.stop = self._exhaust  # type: ignore[method-assign]  # samplers call it; Optuna's raises outside of its loop

    def run(self) -> None:
        """Return when all trials have ended."""
        for trial in self._resumed():
            self._start(trial)
        while self._open or self._has_more():
            has_room = len(self._open) < self._parallel and self._has_more()
            if has_room:
                self._start(self._study.ask())
            number = self._jobs.next(blocks=not has_room)
            if number is not None and number in self._open:
                self._look_at(number)

    def _has_more(self) -> bool:
        """Return True if there are trials to begin. A sampler whose grid is used up may stop."""
        return self._finished + len(self._open) < self._trials and not self._is_exhausted

    def _exhaust(self) -> None:
        self._is_exhausted = True
        self._study.set_user_attr("exhausted", True)

    def _resumed(self) -> Iterator[optuna.Trial]:
        """Pass on the ended trials of earlier attempts; yield the open ones."""
        if self._metric is True:
            self._metric = self._study.user_attrs.get("metric", True)
        known = self._study.get_trials(deepcopy=False)
        finished = [trial for trial in known if trial.state.is_finished()]
        for trial in sorted(finished, key=lambda trial: trial.datetime_complete or datetime.min):
            self._ended(trial)
        for trial in known:
            if not trial.state.is_finished():
                made = load_optuna().trial.Trial(self._study, trial._trial_id)
                self._last_step[trial.number] = max(trial.intermediate_values, default=-1)
                yield made

    def _start(self, trial: optuna.Trial) -> None:
        arguments = self._arguments_of(trial)
        self._open[trial.number] = trial
        self._jobs.start(trial.number, arguments)

    def _look_at(self, number: int) -> None:
        trial, end = self._open[number], self._jobs.end(number)
        if self._metric is not False:
            self._report(trial, end)
        if end is None:
            return
        if end.error:
            trial.set_user_attr("error", end.error)
        states = load_optuna().trial.TrialState
        state = {COMPLETE: states.COMPLETE, PRUNED: states.PRUNED, FAILED: states.FAIL}[end.kind]
        frozen = self._study.tell(trial, end.value, state=state)
        del self._open[number]
        self._last_step.pop(number, None)
        self._jobs.forget(number)
        self._ended(frozen)

    def _ended(self, trial: optuna.trial.FrozenTrial) -> None:
        """Count an ended trial. Raises JobkitError if all have failed alike so far."""
        self._finished += 1
        self._show(trial)
        if self._reasons is None or trial.state is not load_optuna().trial.TrialState.FAIL:
            self._reasons = None
            return
        error = str(trial.user_attrs.get("error", ""))
        self._reasons.add(re.sub(r"[-+]?\d[\d.]*(?:e[-+]?\d+)?", "#", error))
        if self._finished >= min(_ALIKE, self._trials) and len(self._reasons) == 1:
            raise JobkitError(f"the first {self._finished} trials have failed alike, so the study ends: {error}")

    def _report(self, trial: optuna.Trial, end: TrialEnd | None) -> None:
        """Report new steps of a trial; prune it if the pruner says so, unless it has ended."""
        curves = self._jobs.points(trial.number)
        name = self._metric if isinstance(self._metric, str) else self._only(curves)
        if end is not None and end.kind == COMPLETE and name not in curves and not self._has_warned:
            self._has_warned = True
            what = f"no metric {name!r}, only {', '.join(curves)}" if curves else "no metric"
            context.current().log(f"trial {trial.number} has logged {what}: it could not be pruned")
        last = self._last_step.get(trial.number, -1)
        for at, value in curves.get(name, ()):
            step = int(at)
            if step < last or not is_reported(step):
                continue
            if step > last:  # else it is judged again: an earlier attempt may have been killed before it could
                trial.report(value, step)
            last = self._last_step[trial.number] = step
            if end is None and trial.should_prune():
                self._jobs.cancel(trial.number, f"{PRUNED} at step {step}: {name} {value:.4g}")
                self._last_step[trial.number] = sys.maxsize  # it is enough
                return

    def _only(self, curves: Mapping[str, object]) -> str:
        """Return the name of the only metric, for all trials from now on; "" before the first point."""
        if len(curves) > 1:
            raise JobkitError(
                f"the trials log several metrics ({', '.join(sorted(curves))}): say which one the pruner looks at, "
                f"like metric={min(curves)!r}"
            )
        for name in curves:
            self._metric = name
            self._study.set_user_attr("metric", name)
            return name
        return ""


def is_reported(step: int) -> bool:
    """Return True for the steps of which the pruner hears: those of at most three significant digits.

    They are the same in each trial, since pruners compare trials step by step, and 3,700 of a million.
    """
    return step >= 0 and len(str(step).rstrip("0")) <= 3


class StudyProgress:
    """Shows how a study goes: bar, curves, and the artifact `FACTS` for cards.

    Attributes:
        best: number, value, params and job of the best trial so far, or None.
    """

    def __init__(self, study: optuna.Study, trials: int) -> None:
        self._study, self._trials = study, trials
        self._states = {COMPLETE: 0, PRUNED: 0, FAILED: 0}
        self._next_facts = self._next_importance = 0.0
        self._importance: dict[str, float] = {}
        self.best: dict[str, Any] | None = None

    def show(self, trial: optuna.trial.FrozenTrial) -> None:
        """Show an ended trial."""
        kind = {"COMPLETE": COMPLETE, "PRUNED": PRUNED}.get(trial.state.name, FAILED)
        self._states[kind] += 1
        finished = sum(self._states.values())
        if kind == COMPLETE:
            self._compare(trial)
        job, best = context.current(), self.best
        job.report(finished, self._trials, "" if best is None else f"best {best['value']:.4g} (trial {best['number']})")
        if best is not None:
            own = {"value": trial.value} if kind == COMPLETE else {}
            log_metrics(finished, **own, best=best["value"])
        if time.monotonic() >= self._next_facts:
            self._next_facts = time.monotonic() + _FACTS_S
            self.save()

    def save(self) -> None:
        """Save the artifact."""
        self._find_importance(time.monotonic())
        facts = {"direction": self._study.direction.name.lower(), "trials": self._trials, **self._states}
        with contextlib.suppress(InvalidParams):  # parameters of many kB
            context.current().save(FACTS, {**facts, "best": self.best, "importance": self._importance})

    def _compare(self, trial: optuna.trial.FrozenTrial) -> None:
        value, best = trial.value, self.best
        assert value is not None
        sign = 1 if self._study.direction.name == "MINIMIZE" else -1
        if best is None or sign * value < sign * best["value"]:
            job = part_id(self._study.study_name, trial.number)
            self.best = {"number": trial.number, "value": value, "params": dict(trial.params), "job": job}

    def _find_importance(self, now: float) -> None:
        if now < self._next_importance or self._states[COMPLETE] < _IMPORTANCE_LEAST:
            return
        importance = load_optuna().importance
        try:
            found = importance.get_param_importances(self._study, evaluator=importance.PedAnovaImportanceEvaluator())
            self._importance = {name: float(share) for name, share in found.items()}
        except Exception:  # a space in which no parameter is part of all trials, for instance
            self._importance = {}
        self._next_importance = now + (time.monotonic() - now) / _IMPORTANCE_SHARE
