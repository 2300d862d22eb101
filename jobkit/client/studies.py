"""`Study`: a search for the best arguments of an objective, live; `StudyVerbs`: the verbs of a kit about studies.

The trials of a study are run by a job, see `controller`.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable, Generator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import msgspec
from msgspec.structs import replace as changed

from jobkit.client import checks
from jobkit.client.batch import Batch, named
from jobkit.client.connection import Connection, no_longer_kept
from jobkit.client.controller import run_study
from jobkit.client.handle import EndingHandle, FromSnapshot, from_snapshot, named_by_id, ui
from jobkit.client.job import Job
from jobkit.client.search_space import checked_space, ends, load_optuna, quiet, sample_of
from jobkit.client.stop_rules import beside
from jobkit.client.tables import Table
from jobkit.client.trial_jobs import TrialTemplate
from jobkit.model import InvalidParams, JobError, JobkitError, JobNotFound, JobSnapshot, JobState
from jobkit.model.batch import BatchInfo, BatchSpec, part_id
from jobkit.model.format import percent
from jobkit.model.table import Columns
from jobkit.settings import checked_name
from jobkit.store.batches import JournalStore
from jobkit.store.values import Submission
from jobkit.tasks.call import LargeParts
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.options import JobOptions
from jobkit.tasks.params import checked, one_of
from jobkit.tasks.shown import Shown
from jobkit.tasks.task import TaskDef
from jobkit.tasks.values import short_repr

if TYPE_CHECKING:
    import optuna
    import pandas as pd

#: Name of the task of the jobs that run studies.
STUDY_TASK = "jobkit.study"

_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}

#: Trials of a study, and those that run at once, at most.
TRIALS_MOST, PARALLEL_MOST = 100_000, 1_000

#: Times that the process of a study may die.
_RETRIES = 50


class BestTrial(msgspec.Struct, frozen=True):
    """The best trial of a study.

    Attributes:
        number: from 0. value: what the objective returned. params: what the space gave it. job: id of its job.
    """

    number: int
    value: float
    params: dict[str, Any]
    job: str


class _BestParameter(FromSnapshot):
    """Reads the journal, not the snapshot, when the study has moved."""

    def __get__(self, obj: Any, objtype: Any = None) -> Any:
        return super().__get__(obj, objtype) if obj is None else obj._read_best()

    def of(self, handle: Any, snapshot: JobSnapshot) -> BestTrial | None:
        """Return the value for watchers, who hear of an older snapshot, too: it had no newer one than is known."""
        if snapshot is handle.snapshot:
            with contextlib.suppress(JobkitError):  # the next news read it again
                handle._read_best()
        best: BestTrial | None = handle._best
        return best


@named_by_id
class Study(Shown, EndingHandle[JobSnapshot]):
    """A search for the best arguments of an objective. Made by `kit.study(...)`; `kit.study(id=...)` opens one again.

    Its parameters move by themselves, like a job's.

    Attributes:
        job: the job that runs it, with the study's id.
        direction: "minimize" or "maximize".

    Example:
        >>> def loss(x): return (x - 2) ** 2
        >>> study = kit.study(loss, trials=5, space={"x": (0.0, 4.0)})
        >>> study.result().value < 4
        True
    """

    id: str = from_snapshot("spec.id", "Id, that of its job and of the batch of its trials.")
    state: JobState = from_snapshot("state", "State of its job.")
    completed: int = from_snapshot(lambda snapshot: int(snapshot.completed or 0), "Number of trials that have ended.")
    progress: float = from_snapshot(lambda snapshot: snapshot.progress or 0.0, "0..1: the share of them.")
    message: str = from_snapshot("message", "A few words: the best value so far.")
    error: JobError | None = from_snapshot("error", "Why it failed, or None.")
    best: BestTrial | None = _BestParameter("seq", "Its best trial so far; None until one is complete.")  # type: ignore[assignment]  # as above

    def __init__(self, kit: Any, job: Job) -> None:
        super().__init__(job.snapshot)
        self._kit, self.job = kit, job
        self.direction = str(job.params.get("direction", "minimize"))
        self._trials = int(job.params.get("trials", 0))
        self._batch: Batch[Any] | None = None
        self._has_all = False  # of its jobs, which have ended
        self._optuna: optuna.Study | None = None
        self._best: BestTrial | None = None
        self._best_of = 0, 0  # number of the news that it was read after
        self._advance(job.observe(lambda before, after: self._advance(after)))

    def _join(self) -> None:
        self.job._come_along()

    @property
    def _own_name(self) -> str:
        return str(self.job.params.get("name") or "")

    @property
    def is_terminal(self) -> bool:
        """True once it has ended."""
        return self.job.is_terminal

    # -- its trials ---------------------------------------------------------------------------------------------------

    @property
    def batch(self) -> Batch[Any]:
        """The jobs of its trials, as a batch that is stored under the study's id. It grows with the study."""
        has_ended = self.is_terminal
        if self._batch is None:
            self._batch = Batch(self._kit, None, self._kit.batch_info(self.id))
            self._kit._batches.load(self._batch)
        elif has_ended and not self._has_all:  # news of its last jobs may be on their way
            self._kit._batches.read_again(self._batch)
        self._has_all = has_ended
        return self._batch

    @property
    def optuna(self) -> optuna.Study:
        """The study as Optuna has it, with all trials so far, for its plots and statistics. It can be read alone."""
        with quiet():
            if self._optuna is None:
                optuna = load_optuna()
                from jobkit.client.journal import storage_of

                journals = JournalStore(self._kit.verbs.store)
                storage = storage_of(self.id, partial(self._kit._connection.call, journals.entries, self.id))
                if not storage.get_all_studies():  # its job has not started
                    return optuna.create_study(study_name=self.id, direction=self.direction)  # type: ignore[no-any-return]
                self._optuna = optuna.load_study(study_name=self.id, storage=storage)
        return self._optuna

    def trials(self) -> pd.DataFrame:
        """One row a trial, at any moment, with its number as index.

        Columns: `state` (complete, pruned, failed or running; cancelled if the study has ended before it), `value`
        (None unless it is complete, or was pruned after a step), one for each parameter, `job` (id) and `error` (""
        unless it failed). A parameter that is called like one of these has "(parameter)" behind its name.
        """
        import pandas as pd

        rows, numbers, is_open = [], [], "cancelled" if self.is_terminal else "running"
        for trial in self.optuna.get_trials(deepcopy=False):
            state, error = _STATES.get(trial.state.name, is_open), trial.user_attrs.get("error", "")
            own = {"state": state, "value": trial.value, "job": part_id(self.id, trial.number), "error": error}
            params = {f"{name} (parameter)" if name in own else name: value for name, value in trial.params.items()}
            rows.append({"state": own["state"], "value": own["value"], **params, "job": own["job"], "error": error})
            numbers.append(trial.number)
        names = dict.fromkeys(name for row in rows for name in row if name not in ("state", "value", "job", "error"))
        columns = ["state", "value", *names, "job", "error"]
        return pd.DataFrame(rows, index=pd.Index(numbers, name="number", dtype="int64"), columns=columns)

    def _read_best(self) -> BestTrial | None:
        """Return the best trial; the journal is read if there are news since the last time."""
        now = self.snapshot.seq, self.snapshot.rev
        if self._best_of != now:
            states = load_optuna().trial.TrialState
            complete = self.optuna.get_trials(deepcopy=False, states=(states.COMPLETE,))
            sign = -1 if self.direction == "maximize" else 1
            found = [(sign * trial.value, trial.number) for trial in complete if trial.value is not None]
            if found:
                best = self.optuna.trials[min(found)[1]]
                self._best = BestTrial(
                    best.number, sign * min(found)[0], dict(best.params), part_id(self.id, best.number)
                )
            self._best_of = now
        return self._best

    # -- waiting and acting -------------------------------------------------------------------------------------------

    def wait(self, timeout: checks.Timeout = None) -> bool:
        """Wait until it has ended; True if it has, False when `timeout` seconds were over first. See `Job.wait`."""
        has_ended = self.job.wait(timeout)
        self._settle()
        return has_ended

    def result(self, timeout: checks.Timeout = None) -> BestTrial | None:
        """Return the best trial once all have ended; None if none is complete.

        Raises:
            JobFailed, JobCancelled: the study itself has failed, or was cancelled.
            TimeoutError: it has not ended in time; it goes on.
        """
        best = self.job.result(timeout)
        self._settle()
        return _best_of(best)

    async def _outcome(self) -> BestTrial | None:
        return _best_of(await self.job)

    def __await__(self) -> Generator[Any, None, BestTrial | None]:
        return self._outcome().__await__()

    def cancel(self, reason: str = "") -> bool:
        """Stop it and its open trials; what has ended is kept. Returns False if it has already ended."""
        return self.job.cancel(reason)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write one HTML file for a colleague without jobkit: the study's card, and the cards of its first 50 trials.

        See `Batch.report`.
        """
        return self.batch.report(path)

    def __reduce__(self) -> NoReturn:
        raise InvalidParams(
            f"study {self.id} cannot travel inside of another object: pass its id, and kit.study(id=...)"
        )

    # -- how it shows itself ------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        own = " ".join(filter(None, (self.id[:16], repr(self._own_name) if self._own_name else "")))
        said = f": {self.message}" if self.message else ""
        return f"<Study {own} {self.state}, {self.completed} of {self._trials} trials{said}>"

    def view(self) -> Any:
        """A Panel component with the live card of the study: bar, best trial, history, importance and trials."""
        return ui().BatchCard(self.batch)

    __panel__ = view

    def _cell(self) -> Any:
        return ui().BatchDisplay(self.batch, shows=self)


def unbegun(job: JobSnapshot) -> BatchInfo:
    """Return the batch of a study that has no trial yet, from the job that runs it."""
    params = job.spec.params
    trials, direction = params.get("trials"), "maximize" if params.get("direction") == "maximize" else "minimize"
    size = trials if isinstance(trials, int) else 0
    task, name = str(params.get("objective", "")), str(params.get("name") or "")
    batch = BatchSpec(job.id, task, size, name=name, owner=job.spec.owner, study=direction)
    return BatchInfo(batch, submitted_at=job.submitted_at, controller=job.state)


def _best_of(value: Any) -> BestTrial | None:
    return None if value is None else msgspec.convert(value, BestTrial)


class Studies(Table, list[Study]):
    """Studies, newest first: a list that prints and shows itself as a table."""

    _columns: ClassVar[Columns] = {
        "Id": lambda study: study.id,
        "State": lambda study: study.state,
        "Done": lambda study: percent(study.progress),
        "Trials": lambda study: study.completed,
        "Submitted": lambda study: study.job.submitted_at,
        "Best so far": lambda study: study.message,
    }
    _empty = "No studies. kit.study(objective, space=...) begins one."


class StudyVerbs:
    """Verbs about studies. They block; every one may raise `StoreUnavailable`."""

    def __init__(self, kit: Any, connection: Connection) -> None:
        self._kit, self._connection = kit, connection
        self._known: weakref.WeakValueDictionary[str, Study] = weakref.WeakValueDictionary()

    def studies(self, limit: int = 50) -> Studies:
        """Studies, newest first; at most so many, from 1 to 10000."""
        most = checked("limit", limit, "int", min=1, max=10_000)
        return Studies([self.of(job) for job in self._kit.jobs(task=STUDY_TASK, limit=most)])

    def open_study(self, study_id: str) -> Study:
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
            job: Job = self._kit._submitter._accepted(made.spec, reply)
            return job


def begin_study(
    submitter: Any,
    objective: Callable[..., Any] | str | None,
    *,
    trials: int,
    parallel: int,
    space: object,
    pruner: Any,
    sampler: Any,
    direction: str,
    metric: str | None,
    name: str,
    id: str | None,
) -> Study:
    """Check a study and submit the job that runs it; see `Kit.study`. `submitter`: a `BoundKit`."""
    kit, connection, codec = submitter._kit, submitter._connection, submitter.origin.codec
    connection.ensure_open()
    study_id = str(checked_name("id", id)) if id is not None else submitter.over.id
    if objective is None:
        if study_id:
            found: Study = kit._studies.open_study(study_id)
            return found
        raise InvalidParams("a study needs an objective, or id= of a study that there is", "objective")
    if not codec.allow_pickle:
        raise JobkitError("studies need a signing key: set JOBKIT_SECRET to one text here and on the workers")
    optuna = load_optuna()
    sent: dict[str, Any] = {
        "trials": checked("trials", trials, "int", min=1, max=TRIALS_MOST),
        "parallel": checked("parallel", parallel, "int", min=1, max=PARALLEL_MOST),
        "direction": one_of("direction", direction, ("minimize", "maximize")),
        "metric": checked("metric", metric, "str", nullable=True) or None,
        "pruner": _of_optuna("pruner", pruner, optuna.pruners.BasePruner, "MedianPruner"),
        "sampler": _of_optuna("sampler", sampler, optuna.samplers.BaseSampler, "TPESampler"),
        "name": named(name),
    }
    if sent["metric"] is not None and pruner is None:
        raise InvalidParams("metric is what a pruner looks at, so it needs pruner=", "metric")
    sent_space, distributions = checked_space(space)
    task = submitter._definition(objective)
    _check_ends(task, distributions)
    if study_id:
        connection.call(_check_new, connection.store, study_id)
    sample = sample_of(sent_space)
    _checked_call(task, sample)
    over = submitter._options_of(task)
    like, template = _template_of(submitter, task, over, sample)
    title = f"Study {name}" if name else f"Study of {task.title}"
    options: dict[str, Any] = {"tags": over.tags, "result_ttl": over.result_ttl_s}
    options |= {"at": over.at} if over.at else {"delay": over.delay_s}
    options |= {"retries": _RETRIES, "retry_on": ("crash", "memory"), "backoff": 1}  # the journal has all of it
    # Sent by value, so that what the user's functions need travels with them.
    task = TaskDef(partial(run_study), name=STUDY_TASK)
    made = beside(submitter, like.spec, title=title, **options).prepared(
        task, (kit, template, sent_space), sent, job_id=study_id or over.id
    )
    # The large parts of the objective's call are kept for as long as the study is.
    begun: Study = kit._studies.of(submitter.send(changed(made, blobs=(*made.blobs, *like.blobs))))
    return begun


async def _check_new(store: Any, study_id: str) -> None:
    """Raise InvalidParams if a study of this id was deleted without its trials, whose jobs have the ids of new ones."""
    [job] = await store.snapshots([study_id])
    [batch] = await store.batches.infos([study_id])
    if job is None and batch is not None:
        raise InvalidParams(
            f"trials of an earlier study {study_id!r} are kept: delete them by kit.delete_batch({study_id!r}), or "
            "choose another id",
            "id",
        )


def _of_optuna(name: str, value: Any, base: type, example: str) -> Any:
    if value is not None and not isinstance(value, base):
        hint = " (call it)" if isinstance(value, type) else ""
        raise InvalidParams(
            f"{name} must be one of Optuna's, like optuna.{name}s.{example}(), or None, not "
            f"{short_repr(value, 60)}{hint}",
            name,
        )
    return value


def _checked_call(task: TaskDef[..., Any] | TaskInfo, arguments: Mapping[str, Any]) -> None:
    """Raise InvalidParams if the objective does not take these arguments."""
    try:
        if isinstance(task, TaskInfo):
            task.check(arguments)
        else:
            task.signature.bind((), arguments)
    except InvalidParams as error:
        raise InvalidParams(f"the space does not fit {task.name}: {error}", "space") from None


def _check_ends(task: TaskDef[..., Any] | TaskInfo, distributions: Mapping[str, Any]) -> None:
    """Raise InvalidParams if the objective refuses the end of a range or a value of a list."""
    for name, distribution in distributions.items():
        for value in ends(distribution):
            try:
                if isinstance(task, TaskInfo):
                    task.changes({name: value})
                else:
                    task.signature.changed({}, {name: value})
            except InvalidParams as error:
                raise InvalidParams(f"space[{name!r}] does not fit {task.name}: {error}", "space") from None


def _template_of(
    submitter: Any, task: TaskDef[..., Any] | TaskInfo, over: JobOptions, sample: Mapping[str, Any]
) -> tuple[Submission, TrialTemplate]:
    """Return a trial that is not submitted, and the template of all."""
    for option, value in (("key", over.key), ("debounce", over.debounce_s)):
        if value:
            raise InvalidParams(f"{option} is of one job; it cannot be of the trials of a study", option)
    params = task.params if isinstance(task, TaskInfo) else task.signature.params
    required = tuple(spec.name for spec in params if spec.required)
    made = submitter.prepared(task, (), {name: sample[name] for name in required}, large=LargeParts(task.name))
    return made, TrialTemplate.of(made, submitter.origin.codec, required)
