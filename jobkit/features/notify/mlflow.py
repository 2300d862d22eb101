"""MLflow: every ended job becomes a run, in the experiment of its task, with arguments and metrics.

`JOBKIT_MLFLOW` is the tracking server (`http://mlflow:5000`) or another URI that MLflow understands. A job has one run
even if it is delivered twice: the run's tag `jobkit.id` names it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from jobkit.features.metrics.store import lines_of
from jobkit.features.notify.sinks import DeliveryRefused, NotificationSink
from jobkit.model import JobEvent, JobkitError, JobSnapshot, JobState
from jobkit.model.metrics import Curves
from jobkit.model.plain import dumps, to_ms
from jobkit.store.redis import RedisStore

#: MLflow's word for an end; "KILLED" for any other.
_STATUS = {JobState.SUCCEEDED: "FINISHED", JobState.FAILED: "FAILED"}

#: What one call of MLflow takes, and characters of a value.
_METRICS_MOST, _PARAMS_MOST, _CHARS = 1000, 100, 500


class MlflowRuns(NotificationSink):
    """A sink that writes runs. Raises JobkitError: MLflow is not installed, or does not understand the URI."""

    name = "MLflow"

    def __init__(self, uri: str, store: RedisStore) -> None:
        try:
            import mlflow
            from mlflow.exceptions import MlflowException
        except ImportError as error:
            raise JobkitError(
                f"JOBKIT_MLFLOW needs MLflow: pip install 'panel-jobkit[mlflow]' ({error.name} is missing)"
            ) from None
        try:
            self._client: Any = mlflow.MlflowClient(uri)
        except MlflowException as error:
            raise JobkitError(f"JOBKIT_MLFLOW cannot be used: {_first_line(error)}") from None
        self._entities, self._error, self._store = mlflow.entities, MlflowException, store

    def wants(self, event: JobEvent, snapshot: JobSnapshot) -> bool:
        return event.type.is_end

    async def deliver(self, event: JobEvent, snapshot: JobSnapshot) -> None:
        [lines] = await lines_of(self._store, [snapshot.id])
        try:
            await asyncio.to_thread(self._write, snapshot, lines)
        except (self._error, OSError) as error:
            raise DeliveryRefused(_first_line(error)) from None

    def _write(self, job: JobSnapshot, lines: Sequence[bytes]) -> None:
        client, spec = self._client, job.spec
        experiment = self._experiment(spec.task)
        for run in client.search_runs([experiment], f"tags.`jobkit.id` = '{job.id}'"):
            if run.info.status != "RUNNING":
                return
            client.delete_run(run.info.run_id)  # its worker was killed, or MLflow went away, before it was complete
        tags = {
            "jobkit.id": job.id,
            "jobkit.queue": spec.queue,
            "jobkit.tags": ", ".join(spec.tags),
            "jobkit.error": str(job.error or "")[:_CHARS],
            "mlflow.user": spec.owner,
        }
        run = client.create_run(
            experiment,
            start_time=to_ms(job.started_at or job.submitted_at),
            tags={name: value for name, value in tags.items() if value},
            run_name=f"{spec.title or spec.task} {job.id[:8]}",
        )
        params = [self._entities.Param(name, _text(value)) for name, value in spec.params.items()]
        metrics = [
            self._entities.Metric(name, value, at_ms, int(step))
            for name, curve in Curves(lines).curves.items()
            for step, at_ms, value in curve.points
            if math.isfinite(value)
        ]
        for start in range(0, len(params), _PARAMS_MOST):
            client.log_batch(run.info.run_id, params=params[start : start + _PARAMS_MOST])
        for start in range(0, len(metrics), _METRICS_MOST):
            client.log_batch(run.info.run_id, metrics=metrics[start : start + _METRICS_MOST])
        client.set_terminated(run.info.run_id, _STATUS.get(job.state, "KILLED"), end_time=to_ms(job.finished_at))

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        experiment: str = found.experiment_id if found is not None else self._client.create_experiment(name)
        return experiment


def _text(value: object) -> str:
    text = value if isinstance(value, str) else dumps(value)
    return text[:_CHARS]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
