"""`FEATURES`: what jobkit has beside its kernel, in the order in which they take part; `jobkit/feature.py` says how.

A feature that is deleted with its folder and its line here and in `nouns.py` leaves a jobkit that works without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jobkit.feature import Feature
from jobkit.features import failures

FEATURES: tuple[Feature, ...] = (
    failures.FEATURE,
)  # fmt: skip


def modules(part: str) -> Iterator[Any]:
    """Yield the modules of this name of all features that have one, in their order."""
    for feature in FEATURES:
        if part in feature.parts:
            yield feature.load(part)
