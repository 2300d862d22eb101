"""Metrics: numbers that a running job logs by `jobkit.log_metrics`, and their curves.

For: people who train or simulate, and watch. A job gathers points (`inside`, `buffer`) and its worker takes them
(`news`). `job.metrics()` and `batch.metrics()` read them (`kit`), as do `jobkit show --metrics` (`facet`) and HTTP
(`routes`). `jobkit/model/metrics.py` has the curves that workers, cards and studies keep.
In Redis: `metrics:{id}`, a list of lines of JSON.
Promise: a curve stays small however many points are logged, and has its first, last, smallest and largest ones.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(name="metrics", parts=frozenset({"news", "routes", "facet"}), lists=("metrics",))
