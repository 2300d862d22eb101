"""Expected starts of waiting jobs, and how long a job of a task usually takes.

For: people who wait. Cards, the jobs page, `jobkit jobs`, `jobkit show` and HTTP ask for them (`starts`); `reads` has
what is read beside the lines of `jobkit/store/lines.py`, and `forecast` the arithmetic.
In Redis: nothing. Workers keep `took`, the usual run times of tasks, for the bars of running jobs.
Promise: a forecast costs about ten round trips, however many jobs wait. What is unknown is not guessed.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(name="forecasts", parts=frozenset({"starts"}))
