"""Whether anybody still needs an embedded server: connections that are not its workers', and jobs that are not over.

The one module of `embedded/` that looks at jobs, through the store; imported only when the question comes up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote

from jobkit.client.loop import background
from jobkit.embedded import resp
from jobkit.embedded.home import Home
from jobkit.model import JobState
from jobkit.settings import Settings

#: Name that the local workers' connections carry, so that they do not count as users of the server.
WORKER_CLIENT = "jobkit-local-worker"


@dataclass(frozen=True, slots=True)
class Activity:
    """`clients`: connections other than workers' and ours. `waiting`, `running`: jobs in all known namespaces, and
    schedules that wait for their time."""

    clients: int
    waiting: int
    running: int

    @property
    def is_idle(self) -> bool:
        return not (self.clients or self.waiting or self.running)


def server_url(home: Home, client_name: str = "") -> str:
    """The URL of the home's server as redis-py reads it."""
    return f"unix://{quote(str(home.socket))}" + (f"?client_name={client_name}" if client_name else "")


def other_clients(home: Home) -> int:
    """How many connections there are besides the local workers' and the one that asks.

    Raises:
        OSError: the server does not answer.
    """
    reply = resp.ask(str(home.socket), "CLIENT", "LIST")
    lines = reply.splitlines() if isinstance(reply, str) else []
    return max(0, sum(f" name={WORKER_CLIENT} " not in line for line in lines if line) - 1)


def activity(home: Home, namespaces: Iterable[str]) -> Activity:
    """Who uses the server of `home` now.

    Raises:
        OSError, JobkitError: the server does not answer.
    """
    clients = other_clients(home)
    if clients:  # no need to count, and to load the store for it
        return Activity(clients, 0, 0)
    counts = background.call(_counts(home, list(namespaces)))  # the caller may be in a loop of its own: a notebook
    waiting = sum(found[JobState.QUEUED] + found[JobState.SCHEDULED] for found in counts)
    return Activity(0, waiting, sum(found[JobState.RUNNING] for found in counts))


async def _counts(home: Home, namespaces: list[str]) -> list[Mapping[str, int]]:
    """Jobs by state; a schedule with a slot to come counts as a job that waits for its time."""
    from jobkit.store.redis import RedisStore

    settings = Settings(url=server_url(home, WORKER_CLIENT), home=home.path)
    found: list[Mapping[str, int]] = []
    for namespace in namespaces:
        store = RedisStore(replace(settings, namespace=namespace))
        try:
            counts = await store.counts()
            counts[JobState.SCHEDULED] += sum(schedule.next_ms > 0 for schedule in await store.schedules())
            found.append(counts)
        finally:
            await store.close()
    return found
