"""Environments: packages that a job's process runs with, whatever its worker has.

For: people whose project has a lock file (`env="project"`), and who repeat a job with the packages that it had
(`rerun(env="recorded")`). The list of packages travels with the call, sealed (`env.py`; `recorded.py` makes it from
what `made_by` says). A worker builds the environment with uv, once per content, and deletes it when it was not used for
a month (`build.py`, `attempts.py`).
In Redis: the list is a large part of its call; nothing else.
Promise: nothing of another user chooses packages; a build that fails ends the job with what uv said.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(name="environments", parts=frozenset({"attempts", "env"}), after=("shipping",))
