"""`connect()`: from settings to a kit, and the kit of the process.

It sits above client and embedded, since a `local://` kit needs a server that has to be started.
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobkit.settings import Settings

if TYPE_CHECKING:
    from jobkit.client.kit import Kit

_lock = threading.Lock()
_default: Kit | None = None


def connect(
    url: str | None = None,
    *,
    namespace: str | None = None,
    home: str | Path | None = None,
    secret: str | None = None,
    **settings: Any,
) -> Kit:
    """A kit: where jobs go.

    Without arguments, the process-wide default kit (made at the first call, from environment and `pyproject.toml`).
    With arguments, a separate kit; use it as a context manager or `close()` it.

    Args:
        url: `local://` (embedded server and workers, the default), `redis://...`, `rediss://`, `unix://`,
            `redis+sentinel://`, `rediss+sentinel://`, `joined://NAME` (another machine's embedded server,
            after `jobkit join`), or `sync://` (runs jobs here and now).
        namespace: prefix of every key and channel.
        home: directory of the embedded server. secret: key that signs payloads.
        settings: `lease`, `heartbeat`, `result_ttl`, ...: see `jobkit.settings.Settings`.

    Raises:
        InvalidParams: a setting is not understood.
        StoreUnavailable: the server does not answer.

    Example:
        >>> kit = jobkit.connect("sync://")
        >>> kit.submit(sum, [1, 2, 3]).result()
        6
        >>> kit.close()
    """
    given = {"url": url, "namespace": namespace, "home": home, "secret": secret, **settings}
    if any(value is not None for value in given.values()):
        return open_kit(Settings.load(**given))
    global _default
    with _lock:
        if _default is None or _default.is_closed:
            _default = open_kit(Settings.load())
        else:
            _default.connection.start_stopped()
        return _default


def publish(topic: str, data: Any, private: bool = True, *, type: str = "") -> None:
    """Send an update to all who have subscribed to a topic at the Mercure hub, from a job or any other code.

    Args:
        topic: text, a URL of yours for instance. Those with `/api/jobs` in their path are refused.
        data: text, or a value that is sent as JSON; 1 MiB at most.
        private: only subscribers whose token names the topic get it.
        type: name of the event for `EventSource`; "" for `message`.

    Raises:
        InvalidParams: the topic is reserved, or something is not allowed.
        StoreUnavailable: the server does not answer.

    Example:
        >>> jobkit.publish("https://shop.example/orders/7", {"state": "paid"})
    """
    connect().publish(topic, data, private, type=type)


@contextmanager
def default_kit(kit: Kit) -> Iterator[Kit]:
    """Within the block, the process-wide default kit is this one: `task.submit(...)` goes there."""
    global _default
    with _lock:
        before, _default = _default, kit
    try:
        yield kit
    finally:
        with _lock:
            _default = before


def open_kit(settings: Settings) -> Kit:
    """A kit for settings; starts the embedded server if they need one."""
    if not settings.is_embedded:
        from jobkit.client.kit import Kit

        return Kit(settings, asked=settings)
    from jobkit.embedded.demand import has_other_machines
    from jobkit.embedded.home import Home
    from jobkit.embedded.launch import ensure_running, keyed, revive, want_workers

    start = partial(ensure_running, settings, only_looks=True)
    served = start(meanwhile=partial(import_module, "jobkit.client.kit"))
    # Only now: it takes 0.2 s, and a server or its workers may be starting.
    from jobkit.client.connection import EmbeddedServer
    from jobkit.client.kit import Kit

    embedded = EmbeddedServer(
        start,
        partial(start, revives=True),
        partial(revive, settings),
        partial(want_workers, settings),
        keyed,
        partial(has_other_machines, Home.at(settings.home)),
    )
    return Kit(served, embedded=embedded, asked=settings)


@atexit.register
def _close_all() -> None:
    if (connection := sys.modules.get("jobkit.client.connection")) is not None:
        connection.close_all()
