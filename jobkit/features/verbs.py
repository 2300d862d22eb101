"""Verbs of features that submit: a kit and its `options(...)` have them, and `kit.aio` as coroutines."""

from __future__ import annotations

from jobkit.features.executors import kit as executors
from jobkit.features.notebooks import kit as notebooks
from jobkit.features.notebooks.notebook_task import Notebook

__all__ = ["AioSubmits", "Notebook", "Submits"]


class Submits:
    """Base of the submitting verbs, with a line for each of a feature."""

    executor = executors.executor
    notebook = notebooks.notebook


class AioSubmits:
    """Base of the submitting coroutines, with a line for each of a feature."""

    notebook = notebooks.notebook_async
