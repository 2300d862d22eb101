"""`Study`: a search for the best arguments of an objective, live.

The trials of a study are run by a job, see `controller`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from jobkit.above import ui
from jobkit.client import checks
from jobkit.client.batch import Batch
from jobkit.client.handle import EndingHandle, FromSnapshot, from_snapshot, named_by_id
from jobkit.client.job import Job
from jobkit.features.studies.space import load_optuna, quiet
from jobkit.features.studies.store import JournalStore
from jobkit.model import InvalidParams, JobError, JobkitError, JobSnapshot, JobState
from jobkit.model.batch import part_id
from jobkit.tasks.shown import Shown

if TYPE_CHECKING:
    import optuna
    import pandas as pd

_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


class BestTrial(msgspec.Struct, frozen=True):
    """The best trial of a study.

    Attributes:
        number: from 0. value: what the objective returned. params: its arguments from the space. job: id of its job.
    """

    number: int
    value: float
    params: dict[str, Any]
    job: str


class _BestParameter(FromSnapshot):
    """Reads the journal, not the snapshot, when the study has moved."""

    def __get__(self, obj: Any, objtype: Any = None) -> Any:
        return super().__get__(obj, objtype) if obj is None else obj.read_best()

    def of(self, handle: Any, snapshot: JobSnapshot) -> BestTrial | None:
        """Return the value for watchers, who hear of an older snapshot, too: it had no newer one than is known."""
        if snapshot is handle.snapshot:
            with contextlib.suppress(JobkitError):  # the next news read it again
                handle.read_best()
        best: BestTrial | None = handle.known_best
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

    _OTHER_NAMES = (
        "a Study",
        {
            "best_trial": "study.best",
            "best_value": "study.best.value",
            "best_params": "study.best.params",
            **dict.fromkeys(("trials_dataframe", "get_trials", "runs"), "study.trials()"),
            **dict.fromkeys(("optimize", "fit", "tune"), "kit.study(objective, ...)"),
            "stop": "study.cancel()",
            "sweep_id": "study.id",
        },
    )

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
        self.known_best: BestTrial | None = None
        self.known_best_of = 0, 0  # number of the news that it was read after
        self.advance(job.observe(lambda before, after: self.advance(after)))

    def _join(self) -> None:
        self.job.come_along()

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
            self._batch = Batch(self._kit, None, self._kit.batches.info(self.id))
            self._kit.batches.verbs.load(self._batch)
        elif has_ended and not self._has_all:  # news of its last jobs may be on their way
            self._kit.batches.verbs.read_again(self._batch)
        self._has_all = has_ended
        return self._batch

    @property
    def optuna(self) -> optuna.Study:
        """The study as Optuna has it, with all trials so far, for its plots and statistics. It can be read alone."""
        with quiet():
            if self._optuna is None:
                optuna = load_optuna()
                from jobkit.features.studies.storage import storage_of

                journals = JournalStore(self._kit.verbs.store)
                storage = storage_of(self.id, partial(self._kit.connection.call, journals.entries, self.id))
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

    def read_best(self) -> BestTrial | None:
        """Return the best trial; the journal is read if there are news since the last time."""
        now = self.snapshot.seq, self.snapshot.rev
        if self.known_best_of != now:
            states = load_optuna().trial.TrialState
            complete = self.optuna.get_trials(deepcopy=False, states=(states.COMPLETE,))
            sign = -1 if self.direction == "maximize" else 1
            found = [(sign * trial.value, trial.number) for trial in complete if trial.value is not None]
            if found:
                best = self.optuna.trials[min(found)[1]]
                self.known_best = BestTrial(
                    best.number, sign * min(found)[0], dict(best.params), part_id(self.id, best.number)
                )
            self.known_best_of = now
        return self.known_best

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


def _best_of(value: Any) -> BestTrial | None:
    return None if value is None else msgspec.convert(value, BestTrial)
