"""A batch in a Panel app: one bar and the counts, live."""

from __future__ import annotations

from typing import Any

import panel as pn

from jobkit.client.batch import Batch, told


def batch_view(batch: Batch) -> pn.Column:
    """A column with the batch's bar and its counts by state; both move by themselves."""
    percent: Any = pn.bind(_percent, batch.param.progress)
    words: Any = pn.bind(told, batch.param.counts)
    bar = pn.indicators.Progress(value=percent, max=100, sizing_mode="stretch_width")  # type: ignore[no-untyped-call]
    return pn.Column(bar, pn.pane.Str(words))  # type: ignore[no-untyped-call]  # state names and numbers only


def _percent(progress: float) -> int:
    return round(100 * progress)
