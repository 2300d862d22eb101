"""`jobkit.log_metrics`: numbers of a running job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

from jobkit.features.metrics.buffer import MetricBuffer
from jobkit.run.inside.context import active_recorder


@overload
def log_metrics(step: float | None = None, **numbers: Any) -> None: ...
@overload
def log_metrics(metrics: Mapping[str, Any], /, step: float | None = None, **numbers: Any) -> None: ...
def log_metrics(first: Any = None, /, step: Any = None, **numbers: Any) -> None:  # type: ignore[misc]  # takes `step=`
    """Add a point to each named curve of this job: `jobkit.log_metrics(epoch, loss=0.3, acc=0.9)`.

    The card and the jobs table draw them while the job runs; `job.metrics()` returns them. Any names are taken as a
    mapping: `jobkit.log_metrics({"train/loss": 0.3}, step=epoch)`. NaN and infinity are kept, and drawn as gaps. It
    does nothing outside a job.

    Args:
        step: the place on the x axis, a finite number; one more than the last step unless given. A later attempt of the
            job that begins again at an earlier step replaces what came after it.
        numbers: anything that `float()` takes, but no text: also scalars of NumPy and PyTorch. What cannot be kept is
            said once in the job's log.

    Example:
        >>> def fit(epochs):
        ...     for epoch in range(epochs):
        ...         jobkit.log_metrics(epoch, loss=1 / (epoch + 1))
        >>> kit.submit(fit, 4).metrics["loss"]
        0.25
    """
    if hasattr(first, "keys"):  # faster than isinstance(first, Mapping)
        numbers = {**first, **numbers}
    elif step is None:
        step = first
    elif first is not None:
        raise TypeError("log_metrics takes one step and the numbers by name: log_metrics(step, loss=0.3)")
    if (recorder := active_recorder()) is not None:
        recorder.buffered(is_full=recorder.buffer("metrics", MetricBuffer).add(step, numbers))
