"""Notifications about jobs: webhooks, commands, addresses of people, OpenTelemetry and MLflow.

For: people and programs that want to hear of the end of a job elsewhere; the button "Tell me" of a card.
In Redis: `told` marks the last delivered event; `tell:{id}` has who wants to hear of the end of a job or batch,
`reachable` the people with an address, `later:{address}` messages that wait, `unsent` addresses that refuse them.
Promise: one worker of a namespace at a time delivers each event at least once, in order. What a webhook or an address
does not accept is repeated for a day. Notifications never delay a job.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(
    name="notify",
    parts=frozenset({"store", "reader", "doctor", "settings"}),
    services={"worker": ("notify", "otel", "mlflow")},
    after=("metrics",),
)
