"""The facts of this process, as its submits name them."""

from __future__ import annotations

import time

from jobkit.client.connection import Connection
from jobkit.client.loop import background
from jobkit.features.provenance.contents import MadeStore
from jobkit.features.provenance.facts import gatherer, sealed
from jobkit.features.provenance.machine import is_users
from jobkit.model import StoreUnavailable
from jobkit.store.silence import Silent

#: Seconds after which facts that are still in use are stored again, which moves their end on.
_AGAIN_S = 3600.0


class FactsKeeper:
    """The facts of this process, stored before the first submit that names them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._gatherer = gatherer(connection.settings)
        self._stored: dict[str, float] = {}
        self._last = ""
        if self._gatherer is not None and is_users():
            self._gatherer.begin()

    @property
    def is_ready(self) -> bool:
        """True if `name` neither gathers nor stores anything."""
        if self._gatherer is None:
            return True
        return self._gatherer.is_ready and self._is_stored(self._gatherer.current().name)

    def _is_stored(self, name: str) -> bool:
        return time.monotonic() - self._stored.get(name, -_AGAIN_S) < _AGAIN_S

    def name(self) -> str:
        """Return the name of the facts of now; "" if they are turned off. Blocks if they have changed.

        On jobkit's own loop, which must not wait for itself, it is the name that was returned last. Raises
        StoreUnavailable if the server is silent.
        """
        if self._gatherer is None or background.is_here:
            return self._last
        made = self._gatherer.current()
        if not self._is_stored(made.name):
            connection = self._connection
            worker = "here" if connection.inline is not None else ""
            ttl_ms = int(connection.settings.result_ttl * 1000)
            try:
                contents = sealed(made, connection.codec)
                connection.call(connection.store.part(MadeStore).keep, contents, ttl_ms, worker, made.name)
            except StoreUnavailable as error:
                if isinstance(error.__cause__, Silent):  # each job of a batch would wait as long again
                    raise
                return made.name  # the submit says it
            self._stored[made.name] = time.monotonic()
        self._last = made.name
        return made.name


submitter = FactsKeeper
