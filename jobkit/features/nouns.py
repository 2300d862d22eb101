"""`Nouns`: what a kit has under the names of features."""

from __future__ import annotations

from jobkit.feature import NounOf
from jobkit.features.failures.kit import Failures


class Nouns:
    """Base of the kit, with a line for each feature that has a noun."""

    failures = NounOf(Failures)
