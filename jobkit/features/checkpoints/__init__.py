"""Checkpoints: the state of a job, from which its next attempt or another job goes on.

For: people whose jobs run for hours. `jobkit.checkpoint` and `jobkit.resume` (`inside.py`) run in
the job's process, which writes and reads by itself (`attempt_state.py`, `files.py`); `prepare.py` gives it the places
and keys, and `news.py` tells its worker. `job.checkpoints()` reads them (`kit.py`), and `source.py` finds the one from
which `job.rerun(from_checkpoint=True)` goes on. Outside of jobs they are in `jobkit-checkpoints/`.
In Redis: `checkpoints:{id}` (hash) has facts about the newest two and, without a place for files, their bytes.
Promise: a checkpoint is stored when the call that writes it returns, whole or not at all, and whatever the job said
before is stored before it.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(name="checkpoints", parts=frozenset({"prepare", "news", "source", "routes"}), hashes=("checkpoints",))
