"""A kit among the arguments or variables of a job: connected again in the process that runs the job.

The pickle has no password and no key. The worker gives its own settings to those jobs whose sealed call has a kit.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jobkit.model import JobkitError
from jobkit.run.inside import context
from jobkit.settings import Settings

if TYPE_CHECKING:
    from jobkit.client.kit import Kit

#: Open kits of this process, by the mark of their namespace (`RedisStore.place`).
_here: weakref.WeakValueDictionary[str, Kit] = weakref.WeakValueDictionary()


def mark_of(kit: Kit) -> str:
    """Return the mark of a kit's namespace, by which `travelled_kit` finds the kit in this process."""
    place: str = kit._connection.call(kit._connection.store.place)
    _here[place] = kit
    return place


def travelled_kit(place: str, namespace: str, url: str) -> Kit:
    """Return the kit of a pickle: that of this process, or a new one in the process of a job.

    Args:
        place: mark of its namespace. url: for messages, without password.

    Raises:
        JobkitError: this is not the process of a job, or the worker serves another server.
    """
    if (known := _here.get(place)) is not None and not known.is_closed:
        return known
    running = context.active()
    settings: Mapping[str, Any] = running.kit_settings if running is not None else {}
    what = f"the kit of {url}, namespace {namespace},"
    if not settings:
        raise JobkitError(f"{what} can be used in jobs only: call jobkit.connect() here")
    from jobkit.client.kit import Kit

    kit = Kit(Settings.load(**settings, namespace=namespace))
    if mark_of(kit) != place:
        kit.close()
        raise JobkitError(f"{what} is that of another server than this worker's: call jobkit.connect(...) in the job")
    return kit
