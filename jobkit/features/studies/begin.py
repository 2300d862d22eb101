"""Begins a study: checks all of it, then submits the job that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from msgspec.structs import replace as changed

from jobkit.client.batch import named
from jobkit.client.stop_rules import beside
from jobkit.features.batches.store import BatchStore
from jobkit.features.studies.controller import run_study
from jobkit.features.studies.led import STUDY_TASK
from jobkit.features.studies.space import checked_space, ends, load_optuna, sample_of
from jobkit.features.studies.study import Study
from jobkit.features.studies.trial_jobs import TrialTemplate
from jobkit.model import InvalidParams, JobkitError
from jobkit.settings import checked_name
from jobkit.store.values import Submission
from jobkit.tasks.call import LargeParts
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.options import JobOptions
from jobkit.tasks.params import checked, one_of
from jobkit.tasks.task import TaskDef
from jobkit.tasks.values import short_repr

#: Trials of a study, and those that run at once, at most.
TRIALS_MOST, PARALLEL_MOST = 100_000, 1_000

#: Times that the process of a study may die.
_RETRIES = 50


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
    kit, connection, codec = submitter.kit, submitter.connection, submitter.origin.codec
    connection.ensure_open()
    study_id = str(checked_name("id", id)) if id is not None else submitter.over.id
    if objective is None:
        if study_id:
            found: Study = kit.studies.get(study_id)
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
    task = submitter.definition(objective)
    _check_ends(task, distributions)
    if study_id:
        connection.call(_check_new, connection.store, study_id)
    sample = sample_of(sent_space)
    _checked_call(task, sample)
    over = submitter.options_of(task)
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
    begun: Study = kit.studies.of(submitter.send(changed(made, blobs=(*made.blobs, *like.blobs))))
    return begun


async def _check_new(store: Any, study_id: str) -> None:
    """Raise InvalidParams if a study of this id was deleted without its trials, whose jobs have the ids of new ones."""
    [job] = await store.snapshots([study_id])
    [batch] = await store.part(BatchStore).infos([study_id])
    if job is None and batch is not None:
        raise InvalidParams(
            f"trials of an earlier study {study_id!r} are kept: delete them by kit.batches.delete({study_id!r}), or "
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
