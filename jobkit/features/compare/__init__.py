"""The page that compares jobs: two side by side, more as a table.

For: people who ask what changed between two runs. A selection in the list of jobs leads there, or the card of a job,
which is then compared with the run of its task before it.
In Redis: `selections`, a stream of the newest 500 selections of jobs; their ids are the short names in addresses.
Promise: each user sees the jobs that this user may see anyway; code is compared as text, and nothing is unpickled.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(
    name="compare",
    parts=frozenset({"page"}),
    after=("provenance", "batches"),
    scripts={"pair": ("feed_page", "csv", "chart")},
)
