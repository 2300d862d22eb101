"""Jobs as lines of JSON, for another server: `jobkit export`, `jobkit import`.

For: people who change their server, and the archive. A line is a `Dump`, what a job has in Redis (`dump`); further
lines have what it has elsewhere: large parts of its call, files, contents of features (`belongings`).
In Redis: nothing more.
Promise: what is exported is imported as it was, sealed as it was; a line that was changed is refused. A job that has
not ended comes as a cancelled one, from whose checkpoints another one can go on.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(
    name="moving",
    commands={"export": "Export jobs as JSON lines.", "import": "Import exported jobs."},
)
