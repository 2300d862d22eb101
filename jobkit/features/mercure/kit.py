"""`kit.publish`: updates of Python code for the hub."""

from __future__ import annotations

from typing import Any

from jobkit.client.forms import on_loop
from jobkit.client.verbs import Verbs
from jobkit.features.mercure.store import HubStore
from jobkit.features.mercure.update import new_update


class HubVerbs:
    """The verb about the hub."""

    @staticmethod
    async def publish(verbs: Verbs, topic: str, data: Any, private: bool = True, *, type: str = "") -> None:
        """Send an update to all who have subscribed to a topic at the Mercure hub: a URL of yours, for instance.

        Args:
            topic: text. Those with `/api/jobs` in their path are refused: jobs report about themselves.
            data: text, or a value that is sent as JSON; 1 MiB at most.
            private: only subscribers whose token names the topic get it.
            type: name of the event for `EventSource`; "" for `message`.

        Raises:
            InvalidParams: the topic is reserved, or something is not allowed.
        """
        await verbs.store.part(HubStore).publish(new_update(topic, data, private=private, type=type))


class KitMercure:
    """The verb about the hub that the kit itself has."""

    publish = on_loop("verbs", HubVerbs.publish)
