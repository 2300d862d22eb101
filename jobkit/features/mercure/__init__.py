"""Mercure's hub at `/.well-known/mercure`, and updates of jobs for an external hub (`MERCURE_URL`, `MERCURE_JWT`).

For: pages and services that are written for a Mercure hub, of protocol 0.x or 1.0. The topic of a job is its URL, and
each of its updates the job's JSON; publishers send other topics by HTTP or `jobkit.publish` (`hub`). Tokens of
publishers and subscribers are read by `grants`, topics matched by `topics`; `subscriptions` tells who listens. `server`
sends updates of jobs to a hub that a site has already.
In Redis: the streams `updates` and `presence` keep the newest updates of publishers, and those about subscribers;
`subs` has open subscriptions, with their ends in `subs:ends`; `forwarded` marks what an external hub has accepted last.
Promise: updates of jobs and publishers have one order, so a subscriber resumes both from one id, while they are kept.
No topic of a publisher is taken for that of a job. An external hub gets each change of state at least once, in order.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(
    name="mercure",
    parts=frozenset({"routes", "token"}),
    after=("notify",),
    services={"server": ("mercure_url",)},
)
