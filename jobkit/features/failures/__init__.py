"""Failed jobs in groups: of one task, with the same type of error at the same place.

For: people who look at what fails. A group is muted, resolved, run again or dropped as a whole.
In Redis: `group:{id}` with its jobs in `failed:{id}`, `again:{id}` and `healed:{id}`; `failed` and `groups` find them.
Promise: each failed job is in one group as long as it is kept; a group that was muted or resolved is remembered for 30
days after its last failure, and counts on.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(
    name="failures",
    parts=frozenset({"store", "routes", "page", "card"}),
    commands={"failures": "List, show, retry, delete, mute or resolve groups of failed jobs."},
    scripts={"failures": ("error", "feed_page")},
)
