"""The same tasks in a worker that has numpy and pandas loaded, if they are installed."""

import contextlib

from benchmarks.systems.jobkit_tasks import *  # noqa: F403  # the tasks register themselves

with contextlib.suppress(ImportError):
    import numpy  # noqa: F401
    import pandas  # noqa: F401
