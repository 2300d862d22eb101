"""The tasks and values that pages take for granted. It is run in the namespace of each page."""

# ruff: noqa: F401
import datetime
import random
from datetime import date
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy
import pandas as pd
import param
from matplotlib.figure import Figure

import jobkit

kit = jobkit.connect()
table = pd.DataFrame({"loss": [0.3, 0.2], "accuracy": [0.8, 0.9]})
loss, acc = 0.2, 0.9


@jobkit.task
def simulate(n: int = 10, method: str = "rk4") -> dict[str, Any]:
    """Simulate the pendulum."""
    return {"steps": n, "method": method}


@jobkit.task
def train(lr: float = 0.1, depth: int = 2, epochs: int = 1) -> dict[str, float]:
    """Fit a model."""
    return {"loss": lr / depth}


@jobkit.task
def report(day: str = "today") -> str:
    """Write the report of a day."""
    return f"report of {day}"


@jobkit.task
def tidy() -> None:
    """Delete old files."""


@jobkit.task
def broken(lr: float = 0.1) -> float:
    """Fail, for the pages of failures and batches."""
    raise KeyError("f1_score")


class Cut(NamedTuple):
    """An answer."""

    noise: int


def choose(wanted: Any) -> Any:
    """Ask, for the page of questions."""
    return jobkit.ask(wanted, "Which one is noise?")


def summarise(values: list[Any]) -> int:
    """Return how many results there are."""
    return len(values)


figure = Figure()
figure.subplots().plot([0.3, 0.2])
