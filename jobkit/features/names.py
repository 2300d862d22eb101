"""Public names of features, loaded when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["Notebook", "Pool", "Schedule", "Study", "Worker", "ask", "checkpoint", "log_metrics", "resume"]

if TYPE_CHECKING:
    from jobkit.features.arq.door import Worker
    from jobkit.features.checkpoints.inside import checkpoint, resume
    from jobkit.features.metrics.inside import log_metrics
    from jobkit.features.notebooks.notebook_task import Notebook
    from jobkit.features.pools.kit import Pool
    from jobkit.features.questions.asking import ask
    from jobkit.features.schedules.kit import Schedule
    from jobkit.features.studies.study import Study
    from jobkit.features.timeline.page import Timeline as Timeline

#: Names of `jobkit`.
_PUBLIC = {
    "Notebook": "jobkit.features.notebooks.notebook_task",
    "Pool": "jobkit.features.pools.kit",
    "Schedule": "jobkit.features.schedules.kit",
    "Study": "jobkit.features.studies.study",
    "Worker": "jobkit.features.arq.door",
    "ask": "jobkit.features.questions.asking",
    "checkpoint": "jobkit.features.checkpoints.inside",
    "log_metrics": "jobkit.features.metrics.inside",
    "resume": "jobkit.features.checkpoints.inside",
}

#: Names of `jobkit.ui`.
COMPONENTS = {
    "BatchCard": "jobkit.features.batches.batch_card",
    "BatchDisplay": "jobkit.features.batches.display",
    "Timeline": "jobkit.features.timeline.page",
    "batch_report": "jobkit.features.batches.report",
}


def __getattr__(name: str) -> Any:
    if home := _PUBLIC.get(name):
        return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
