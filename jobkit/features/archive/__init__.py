"""History for years: every ended job of a namespace in Parquet files, independent of Redis.

For: people who look for a run of last year. Workers with `JOBKIT_ARCHIVE` append (`writer`), everybody reads
(`search`). `folder` names the files, `table` has their columns.
In Redis: the stream `archive:waiting` has the ended jobs that the archive lacks, see `lua/lib/archive.lua`.
Promise: a job is in the archive once. A file's name is the range of the entries that it holds, so a file that is
written twice replaces itself, and a compacted file hides those whose ranges it contains.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(
    name="archive",
    after=("moving",),
    parts=frozenset({"older", "said", "doctor", "actions"}),
    services={"worker": ("archive",)},
    commands={"archive": "List ended jobs from the archive."},
)
