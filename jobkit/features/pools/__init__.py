"""Pools: workers that are started on an engine that exists (ssh, Slurm, Dask, Ray, Kubernetes) while jobs wait.

For: people whose machines belong to a cluster. A pool is made by `kit.pool(...)`, `jobkit pools add` or
`[tool.jobkit.pools]`; one autoscaler of a namespace keeps each at the number of workers that its waiting jobs need.
In Redis: `pools` has the sealed definitions; `pool:{name}` what users want, and the state that the autoscaler reports;
`autoscaler` is its leader lock.
Promise: an order is stored before the engine gets it, so no worker is forgotten; workers go on without an autoscaler.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(
    name="pools",
    parts=frozenset({"store", "section", "doctor", "fleet", "settings"}),
    after=("sharing",),
    commands={"pools": "Keep workers on ssh, Slurm, Dask, Ray or Kubernetes while jobs wait."},
)
