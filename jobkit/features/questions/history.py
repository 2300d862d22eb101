"""Closed questions, as saved cards and `jobkit show` list them."""

from __future__ import annotations

from jobkit.model import JobSnapshot
from jobkit.model.question import closed_questions

NOUN = "question"


def lines(snapshot: JobSnapshot) -> list[str]:
    """Return a sentence for each question that was answered or was not in time, oldest first."""
    return [one.sentence for one in closed_questions(snapshot.history)]
