"""Tasks that run again and again, or later once.

For: people who want a report each morning. A schedule is made by `kit.schedule(...)`, or by `@task(schedule=...)`.
In Redis: `schedule:{name}` with its arguments in `schedule-args:{name}` and its last runs in `schedule-runs:{name}`;
`schedules` has the time of the next look at each.
Promise: each slot gives one job, however many workers live; a slot that passed without a worker is handled as `missed`
says.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(
    name="schedules",
    parts=frozenset({"store", "routes", "page", "beside", "coded", "due", "options"}),
    commands={
        "schedule": "Run a task repeatedly, or once later.",
        "schedules": "List, show, pause, resume, run or delete schedules.",
    },
    scripts={"schedules": ("feed_page", "fields")},
)
