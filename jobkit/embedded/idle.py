"""Idle check: whether an embedded server is still needed, by connections of clients, and jobs that have not ended.

The only module of `embedded/` that reads jobs, by the store; imported only when needed.
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

#: Client name of local workers' connections, so that they do not count as users of the server.
WORKER_CLIENT = "jobkit-local-worker"


@dataclass(frozen=True, slots=True)
class Activity:
    """Activity of a server.

    Attributes:
        clients: connections of neither workers nor this process.
        waiting, running: jobs in all known namespaces, and schedules with a next slot.
    """

    clients: int
    waiting: int
    running: int

    @property
    def is_idle(self) -> bool:
        return not (self.clients or self.waiting or self.running)


def server_url(home: Home, client_name: str = "") -> str:
    """Return the URL of the home's server for redis-py."""
    return f"unix://{quote(str(home.socket))}" + (f"?client_name={client_name}" if client_name else "")


def other_clients(home: Home) -> int:
    """Return the number of connections except those of local workers and the caller.

    Raises:
        OSError: the server does not answer.
    """
    reply = resp.ask(str(home.socket), "CLIENT", "LIST")
    lines = reply.splitlines() if isinstance(reply, str) else []
    return max(0, sum(f" name={WORKER_CLIENT} " not in line for line in lines if line) - 1)


def activity(home: Home, namespaces: Iterable[str]) -> Activity:
    """Return the current users of the server of `home`.

    Raises:
        OSError, JobkitError: the server does not answer.
    """
    clients = other_clients(home)
    if clients:  # no need to count jobs, which would load the store
        return Activity(clients, 0, 0)
    counts = background.call(_counts(home, list(namespaces)))  # the caller may run in an event loop: a notebook
    waiting = sum(found[JobState.QUEUED] + found[JobState.SCHEDULED] for found in counts)
    return Activity(0, waiting, sum(found[JobState.RUNNING] for found in counts))


async def _counts(home: Home, namespaces: list[str]) -> list[Mapping[str, int]]:
    """Return jobs by state; a schedule with a next slot counts as a scheduled job."""
    from jobkit.store.redis import RedisStore

    settings = Settings(url=server_url(home, WORKER_CLIENT), home=home.path)
    found: list[Mapping[str, int]] = []
    for namespace in namespaces:
        store = RedisStore(replace(settings, namespace=namespace))
        try:
            counts = await store.counts()
            counts[JobState.SCHEDULED] += sum(schedule.next_ms > 0 for schedule in await store.schedules.snapshots())
            found.append(counts)
        finally:
            await store.close()
    return found
