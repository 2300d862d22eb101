"""A page with one bar per attempt, on the lane of its worker, task or batch, and charts of queues and load.

For: people who look for gaps, and for what waits for what. `Timeline` is also a component for any Panel page.
In Redis: nothing; it reads jobs and their events.
Promise: the newest 2,000 attempts are shown, of the jobs that a search finds, live.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(
    name="timeline",
    parts=frozenset({"page"}),
    scripts={"timeline": ("search", "timeline_lanes", "timeline_legend", "timeline_charts", "timeline_pointer")},
)
