"""`FEATURES`: what jobkit has beside its kernel, in the order in which they take part; `jobkit/feature.py` says how.

A feature that is deleted with its folder and its lines here, in `jobs.py`, `names.py`, `nouns.py` and `verbs.py` leaves
a jobkit that works without it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from jobkit.feature import Door, Feature

#: Names of the features, in the order in which they take part.
_NAMES = (
    "limits",
    "batches",
    "shipping",
    "timeline",
    "failures",
    "views",
    "schedules",
    "sharing",
    "pools",
    "metrics",
    "checkpoints",
    "environments",
    "provenance",
    "compare",
    "tables",
    "figures",
    "bars",
    "notebooks",
    "executors",
    "notify",
    "mercure",
    "moving",
    "archive",
    "search",
    "arq",
    "studies",
    "forecasts",
    "questions",
    "prometheus",
    "audit",
    "doctor",
)

FEATURES: tuple[Feature, ...] = tuple(importlib.import_module(f"jobkit.features.{name}").FEATURE for name in _NAMES)


#: The ways in for jobs of other queues' clients, by name.
DOORS: dict[str, Door] = {feature.name: feature.door for feature in FEATURES if feature.door is not None}


def door(name: str) -> Any:
    """Return the module that runs the jobs of another queue's client."""
    return next(feature for feature in FEATURES if feature.name == name).load("door")


def serving(name: str) -> Any:
    """Return the module of a feature that serves requests of running jobs, or None."""
    found = (feature for feature in FEATURES if feature.name == name and "requests" in feature.parts)
    return next((feature.load("requests") for feature in found), None)


def modules(part: str) -> Iterator[Any]:
    """Yield the modules of this name of all features that have one, in their order."""
    for feature in FEATURES:
        if part in feature.parts:
            yield feature.load(part)


def leading(kind: str, part: str = "led") -> Any:
    """Return a part of the feature whose jobs lead batches of a kind, or None."""
    return next((feature.load(part) for feature in FEATURES if kind and feature.leads == kind), None)


def services(place: str, settings: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and module of each feature that runs at a place, "worker" or "server", with these settings."""
    for feature in FEATURES:
        if any(getattr(settings, name) for name in feature.services.get(place, ())):
            yield feature.name, feature.load(place)
