"""Metrics: numbers that a running job logs by `jobkit.log_metrics`, and their curves.

For: people who train or simulate, and watch. `job.metrics()` and `batch.metrics()` read the points (`kit`), as do
`jobkit show --metrics` (`facet`) and HTTP (`routes`).
In Redis: `metrics:{id}`, a list of lines of JSON.
Promise: a curve stays small however many points are logged, and has its first, last, smallest and largest ones.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(name="metrics", parts=frozenset({"routes", "facet"}))
