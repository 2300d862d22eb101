"""Tasks of the tests. No worker runs them; the stage decides how they end."""

from __future__ import annotations

from typing import Annotated

import jobkit


@jobkit.task
def double(n: Annotated[int, jobkit.Range(1, 100)] = 3, name: str = "") -> int:
    """Twice as much."""
    return n * 2


@jobkit.task
def train_model(rate: float = 0.1) -> float:
    """Train."""
    return rate
