"""Metrics of a namespace for Prometheus, at `/api/metrics`.

For: people who watch many machines with Prometheus or Grafana.
In Redis: nothing. Each server of the API counts the jobs that end, from the events, once it is first asked (`endings`).
Promise: a scrape reads the store once, whatever the number of jobs; tasks beyond the first 100 share one label.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(name="prometheus", parts=frozenset({"routes"}))
