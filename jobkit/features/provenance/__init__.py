"""Provenance: what made a result. Git commit and diff, packages, Python, machine, variables.

For: people who ask in half a year how this number came about. A submitter and a worker gather the facts of their
process once (`facts.py` with `git.py` and `machine.py`, as `JOBKIT_MADE_BY` and `JOBKIT_MADE_ENV` say); `submitter.py`
and `attempts.py` name them with each job, and `made.py` reads them as the `MadeBy` (`made_by.py`) that `job.made_by`,
the card and the comparison of two jobs show. `contents.py` lets them go with jobs to exports and the archive.
In Redis: `made:{hash}` has facts, a list of packages or a diff, compressed and sealed; `made-on:{worker}` the name of
a worker's facts.
Promise: a submit waits a second for git at most, and only the first one. Facts live two weeks longer than their jobs.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(name="provenance", parts=frozenset({"submitter", "attempts", "made", "contents", "facet", "routes"}))
