"""Lines of `jobkit doctor` about notifications."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from jobkit.cli import out
from jobkit.cli.findings import Finding, warn
from jobkit.features.notify.store import ToldStore, Unsent
from jobkit.store.redis import RedisStore


async def findings(store: RedisStore) -> Iterable[Finding]:
    """Return a line for each address that does not accept its messages."""
    return refusals((await store.part(ToldStore).unsent()).values())


def refusals(unsent: Iterable[Unsent]) -> Iterator[Finding]:
    for state in unsent:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(state.since_ms / 1000))
        lost = f", {out.count(state.lost, 'message')} lost" if state.lost else ""
        text = f"{state.name} does not accept messages since {since}: {state.why}{lost}"
        yield warn("notify", text, "messages are kept and repeated for a day; repair it, or change its rule")
