"""Verbs of features that submit: a kit and its `options(...)` have them, and `kit.aio` as coroutines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobkit.feature import VerbOf

if TYPE_CHECKING:
    from jobkit.features.executors.kit import KitExecutors
    from jobkit.features.notebooks import kit as notebooks
    from jobkit.features.studies.kit import AioKitStudies, KitStudies

    class _Submits(KitExecutors, KitStudies):
        """Types of the verbs."""

        notebook = notebooks.notebook

    class _AioSubmits(AioKitStudies):
        """Types of the coroutines."""

        notebook = notebooks.notebook_async
else:
    _Submits = _AioSubmits = object


class Submits(_Submits):
    """Base of the submitting verbs, with a line for each of a feature."""

    if not TYPE_CHECKING:
        executor = VerbOf("executors", "KitExecutors.executor")
        notebook = VerbOf("notebooks", "notebook")
        study = VerbOf("studies", "KitStudies.study")


class AioSubmits(_AioSubmits):
    """Base of the submitting coroutines, with a line for each of a feature."""

    if not TYPE_CHECKING:
        notebook = VerbOf("notebooks", "notebook_async", "kit.aio")
        study = VerbOf("studies", "AioKitStudies.study", "kit.aio")
