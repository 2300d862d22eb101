"""`kit.studies`: the verbs about studies; `study`: the verb of a kit, and of its `options(...)`, that begins one."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any, ClassVar, ParamSpec, TypeVar

from jobkit.client.connection import Connection, no_longer_kept
from jobkit.client.forms import Noun, in_thread
from jobkit.client.job import Job
from jobkit.client.tables import Table
from jobkit.features.studies.begin import begin_study
from jobkit.features.studies.led import STUDY_TASK
from jobkit.features.studies.study import Study
from jobkit.model import InvalidParams, JobNotFound
from jobkit.model.batch import BatchSpec
from jobkit.model.cells import Columns
from jobkit.model.format import percent
from jobkit.store.values import Submission
from jobkit.tasks.params import checked
from jobkit.tasks.signature import close_names

P = ParamSpec("P")
R = TypeVar("R")


class StudyList(Table, list[Study]):
    """Studies, newest first: a list that prints and shows itself as a table."""

    COLUMNS: ClassVar[Columns] = {
        "Id": lambda study: study.id,
        "State": lambda study: study.state,
        "Done": lambda study: percent(study.progress),
        "Trials": lambda study: study.completed,
        "Submitted": lambda study: study.job.submitted_at,
        "Best so far": lambda study: study.message,
    }
    EMPTY = "No studies. kit.study(objective, space=...) begins one."


class StudyVerbs:
    """Verbs about studies. They block; every one may raise `StoreUnavailable`."""

    def __init__(self, kit: Any) -> None:
        self._kit: Any = kit
        self._connection: Connection = kit.connection
        self._known: weakref.WeakValueDictionary[str, Study] = weakref.WeakValueDictionary()

    def list(self, limit: int = 50) -> StudyList:
        """Studies, newest first; at most so many, from 1 to 10000."""
        most = checked("limit", limit, "int", min=1, max=10_000)
        return StudyList([self.of(job) for job in self._kit.jobs(task=STUDY_TASK, limit=most)])

    def get(self, study_id: str) -> Study:
        """Return the study whose id is, or begins with, `study_id`, from whichever process it came.

        Raises:
            JobNotFound: it is not kept.
            InvalidParams: that is the id of a job that is no study, or several ids begin so.
        """
        try:
            job: Job = self._kit.get(study_id)
        except JobNotFound:
            raise JobNotFound(
                f"no study {study_id[:60]!r} is kept here: it was never begun, was removed, or has expired"
            ) from None
        if job.task != STUDY_TASK:
            raise InvalidParams(f"{study_id!r} is the id of a job of {job.task}, which is no study", "id")
        return self.of(job)

    def of(self, job: Job) -> Study:
        """Return the study that a job runs; one for each handle, as long as that is used."""
        known = self._known.get(job.id)
        if known is None or known.job is not job:
            known = self._known[job.id] = Study(self._kit, job)
        return known

    def submit_trial(self, made: Submission, batch: BatchSpec, number: int) -> Job:
        """Store the job of a trial, unless it is stored, as a part of the batch of its study; return its handle."""
        connection = self._connection
        with connection.live.expecting(made.spec.id):
            [reply] = connection.call(connection.verbs.sender.submit_many, [made], batch, number)
            if reply.lacks:
                raise no_longer_kept(made)
            if reply.created_ms:
                connection.run_here([made.spec.id])
            job: Job = self._kit.submitter.accepted(made.spec, reply)
            return job


class Studies(Noun):
    """`kit.studies`: searches for the best arguments of an objective. Called, it lists them, newest first.

    Example:
        >>> kit.studies()  # doctest: +SKIP
        >>> kit.studies.get("tune-lr").best  # doctest: +SKIP
    """

    _SERVICE = StudyVerbs
    _internal = frozenset({"of", "submit_trial"})

    __call__ = in_thread("verbs", StudyVerbs.list)
    get = in_thread("verbs", StudyVerbs.get)
    of = in_thread("verbs", StudyVerbs.of)
    submit_trial = in_thread("verbs", StudyVerbs.submit_trial)


#: What to write in place of an argument of Optuna, by its name there.
OPTUNAS = {
    "n_trials": "trials=...",
    "n_jobs": "parallel=...",
    "study_name": "name=...",
    "load_if_exists": "id=..., which opens the study of this id if there is one",
    "timeout": "kit.options(timeout=...).study(...), which limits each trial",
}


def _names_options(verb: Callable[P, R]) -> Callable[P, R]:
    """Make a verb refuse an option that it does not have with InvalidParams instead of a TypeError."""
    known = [*inspect.signature(verb).parameters][1:]

    @wraps(verb)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name == "directions":
                raise InvalidParams("a study has one objective: give direction= and return one number", name)
            if name in OPTUNAS:
                raise InvalidParams(f"unknown option {name!r}: write {OPTUNAS[name]}", name)
            if name not in known:
                raise InvalidParams(f"unknown option {name!r}{close_names(name, known)}", name)
        return verb(*args, **kwargs)

    return checked


class KitStudies:
    """The verb that begins a study."""

    submitter: Any

    @_names_options
    def study(
        self,
        objective: Callable[..., Any] | str | None = None,
        *,
        trials: int = 200,
        parallel: int = 8,
        space: Mapping[str, Any] | Callable[..., Any] | None = None,
        pruner: Any = None,
        direction: str = "minimize",
        sampler: Any = None,
        metric: str | None = None,
        name: str = "",
        id: str | None = None,
    ) -> Study:
        """Search for the best arguments of an objective; returns a live `Study` at once. Needs Optuna.

        Args:
            objective: a task or another callable that returns a number. Each trial is a job with these options.
            trials: number of trials, from 1 to 100,000. parallel: of them at once, at most; to 1,000.
            space: where its arguments come from: for each name `(low, high)`, `(low, high, "log")`, a list to choose
                from or a distribution of Optuna; or a function of an Optuna trial that returns the arguments.
            pruner: stops trials early, by the metrics that they log: one of Optuna's, or None.
            direction: "minimize" or "maximize".
            sampler: proposes the arguments: one of Optuna's; None for TPE.
            metric: name of the metric that the pruner looks at; None for the only one that is logged.
            name: for people; names may repeat.
            id: of the study. If there is one of this id, it is returned: also without an objective, and then its first
                characters (at least 4) are enough.

        Raises:
            InvalidParams: an argument is refused; nothing was stored. JobNotFound: no study of this id.
            JobkitError: Optuna or a signing key is missing.
        """
        return begin_study(
            self.submitter, objective, trials=trials, parallel=parallel, space=space, pruner=pruner,
            direction=direction, sampler=sampler, metric=metric, name=name, id=id,
        )  # fmt: skip


class AioKitStudies:
    """The same as a coroutine."""

    async def study(self, objective: Callable[..., Any] | str | None = None, **definition: Any) -> Study:
        """Search for the best arguments of an objective; returns a live `Study`. See `Kit.study`."""
        return await asyncio.to_thread(partial(KitStudies.study, self, objective, **definition))  # type: ignore[arg-type]
