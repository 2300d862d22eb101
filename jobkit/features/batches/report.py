"""The report of a batch: one HTML file for readers without jobkit, see `jobkit/ui/card/report.py`."""

from __future__ import annotations

from html import escape
from pathlib import Path

from jobkit.client.batch import Batch
from jobkit.features.batches.display import BatchDisplay
from jobkit.model.format import number
from jobkit.ui.card.card_html import folded
from jobkit.ui.card.report import checked_path, job_part, write

#: Cards of jobs in one report.
CARDS = 50


def batch_report(batch: Batch, path: object) -> Path:
    """Write the report of a batch: its card, and below it the card of each of its first jobs, failed ones first."""
    target = checked_path(path)
    display = BatchDisplay(batch)
    model = display.model()
    jobs = sorted(batch.jobs, key=lambda job: job.state != "failed")[:CARDS]
    cards = [folded(f"{escape(job.snapshot.label)}", job_part(job)) for job in jobs]
    left = len(batch.jobs) - len(cards)
    more = [f"<p>{number(left)} more jobs have no card here; the table has the first of them.</p>"] if left else []
    return write(target, model.title, [display.html(model), *cards, *more])
