"""The audit trail as admins read it: `kit.audit()`, `/api/audit`, `jobkit audit` and a page.

For: teams that ask who cancelled a job. What users do on pages, over HTTP and at the command line is written into the
trail by the gates that check their actions, not here.
In Redis: reads `audit`, a stream that the store bounds (`jobkit/store/web.py`).
Promise: entries are newest first, and only admins read entries of others.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(
    name="audit",
    parts=frozenset({"page", "routes"}),
    commands={"audit": "List the actions of users."},
    scripts={"audit": ("feed_page",)},
)
