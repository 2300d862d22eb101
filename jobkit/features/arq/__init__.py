"""arq's users' way in: clients, readers and functions of plain arq use jobkit.

For: people with a settings class of arq's. `jobkit worker --arq PATH` runs it, and `jobkit.worker.Worker` takes what
`arq.worker.Worker` takes (`door.py`). `bridge.py` gives what arq's client enqueues (`queue.py`) records, `runner.py`
calls the functions with arq's `ctx`, hooks and log lines. `docs/from-arq.md` says what is the same and what is better.
In Redis: arq's own keys, kept as arq's readers and workers expect them in the calls that move the job (`lua/`).
`_arq`, `_arqq` and `_arqt` of a record are arq's id, the key of its queue and its earlier tries; `arq:{queue}` has the
ids of the records, `arq-ended:{queue}` the jobs whose result for arq's readers is to be written.
Promise: a job stays a member of arq's queue until it has ended, so arq's own workers may serve the queue beside ours,
and take it back at any time. The call that ends the job gives arq's readers its result.
"""

from __future__ import annotations

from jobkit.feature import Door, Feature

FEATURE = Feature(
    name="arq",
    door=Door(help="Run the jobs of an arq worker: module.WorkerSettings.", path="MODULE.WorkerSettings", keys="arq:"),
)
