"""`BatchDisplay`: the card of many jobs in a notebook."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from jobkit.client.batch import Batch
from jobkit.client.found import Jobs
from jobkit.features.batches.batch_html import batch_html
from jobkit.features.batches.batch_model import BatchModel, model_of
from jobkit.model import JobkitError, JobSnapshot
from jobkit.ui.notebook import CellDisplay

logger = logging.getLogger("jobkit.ui")


class BatchDisplay(CellDisplay):
    """The card of many jobs in a cell.

    Args:
        is_list: see `BatchModel`. heading: printed above the card.
        shows: the object that has this display, if it is not the batch.
    """

    def __init__(self, batch: Batch, *, is_list: bool = False, heading: str = "", shows: Any = None) -> None:
        self.batch, self.handle = batch, shows or batch
        self.is_list, self.heading = is_list, heading
        self.text = heading or (repr(Jobs(batch.kit, batch)) if is_list else repr(self.handle))
        leader = self.leader()
        is_over = batch.is_terminal and (leader is None or leader.is_terminal)
        self.is_empty, self.is_over = not len(batch) and leader is None, is_over or batch.kit.is_closed

    def leader(self) -> JobSnapshot | None:
        """Return the job that leads the batch, if one does and is kept."""
        with contextlib.suppress(JobkitError):
            return self.batch.kit.snapshot(self.batch.id) if self.batch.spec.kind else None
        return None

    def model(self) -> BatchModel:
        batch = self.batch
        model = model_of(batch.spec, [job.snapshot for job in batch], self.leader(), self.is_list)
        if self.is_over:
            model.stopped_by = batch.stopped_by.id[:8] if batch.stopped_by is not None else ""
            model.rule_problem = batch.rule_problem
            try:
                while wanting := model.wanting():
                    for i in wanting:
                        model.show(i, batch[i].preview())
                if wanted := model.curves.wanting(model.snapshots):
                    model.curves.learn(wanted, batch.kit.metric_lines(list(wanted)))
                model.read_facts(batch.kit)
            except JobkitError:
                logger.debug("results of a batch could not be read for its card", exc_info=True)
        return model

    def html(self, model: BatchModel) -> str:
        return batch_html(model)

    def static(self, model: BatchModel) -> dict[str, Any]:
        if self.handle is not self.batch:
            self.text = repr(self.handle)  # it says how far it is
        return super().static(model)

    def live(self, **hooks: Any) -> Any:
        from jobkit.features.batches.widget import BatchWidget

        return BatchWidget(self.batch, is_list=self.is_list, **hooks)
