"""Who is subscribed to the hub: kept for all servers of a namespace, and told as updates of its own.

Each matcher of a stream is a *subscription*. A server says of its own that they are there as long as their streams are
open; of one that dies the store forgets them, and another server tells that they have left. Both protocols see all of
them, each in its own form, under `/.well-known/mercure/subscriptions`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from jobkit.http.messages import to_json
from jobkit.http.topics import TEMPLATE
from jobkit.http.updates import NEW, OLD, Updates, there
from jobkit.model import JobkitError

if TYPE_CHECKING:
    from jobkit.client import Kit

#: Seconds that a server's word holds, and records that it says at once.
HOLD_S, PAGE = 30.0, 500

#: As 1.0 spells the kinds of selectors; the last is how it shows those of 0.x.
MATCH_TYPES = ("exact", "urlpattern", "uritemplate")

_CONTEXT = "https://mercure.rocks/"


@dataclass(frozen=True, slots=True)
class Subscription:
    """One matcher of one stream. `payload`: what the subscriber's token says of it."""

    subscriber: str
    match_type: str
    match: str
    payload: Any = None

    def path(self, root: str, form: str) -> str:
        """Its address. `root`: of the subscriptions. `form`: of which protocol."""
        parts = [self.match, self.subscriber] if form == OLD else [self.match_type, self.match, self.subscriber]
        return "/".join([root, *(quote(part, safe="") for part in parts)])

    def to_json(self, root: str, form: str, *, is_active: bool = True) -> dict[str, Any]:
        told: dict[str, Any] = {"id": self.path(root, form)}
        if form == OLD:
            told = {"@context": _CONTEXT, **told, "type": "Subscription", "topic": self.match}
        else:
            told |= {"type": "subscription", "match_type": self.match_type, "match": self.match}
        told |= {"subscriber": self.subscriber, "active": is_active}
        return told if self.payload is None else {**told, "payload": self.payload}


def match_type(kind: str) -> str:
    """1.0's word for the kind of a selector."""
    return {TEMPLATE: "uritemplate", "urlpattern": "urlpattern"}.get(kind, "exact")


def listed(found: Iterable[Subscription], root: str, id: str, cursor: str, form: str) -> dict[str, Any]:
    """A list of subscriptions in the form of a protocol."""
    shown = [one.to_json(root, form) for one in sorted(found, key=lambda one: one.path(root, form))]
    if form == OLD:
        return {
            "@context": _CONTEXT,
            "id": id,
            "type": "Subscriptions",
            "lastEventID": cursor,
            "subscriptions": [{k: v for k, v in one.items() if k != "@context"} for one in shown],
        }
    return {"id": id, "type": "subscriptions", "subscriptions": shown}


async def present(kit: Kit) -> list[Subscription]:
    """Those who are subscribed now, at any server of the namespace."""
    return _read(await there(kit.verbs.store.attending()))


class Presence:
    """The subscriptions of one server; for one event loop.

    Args:
        kit: whose store.
        updates: by which it tells of them.
        root: path of the subscriptions, as topics have it.
    """

    def __init__(self, kit: Kit, updates: Updates, root: str) -> None:
        self._store: Any = kit.verbs.store
        self._updates, self._root = updates, root
        self._here: dict[str, bytes] = {}
        self._renewing: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    async def enter(self, subscriptions: Sequence[Subscription]) -> list[str]:
        """They are there from now on; what `leave` takes.

        Raises:
            JobkitError: the store does not answer.
        """
        records = {f"{one.subscriber} {n}": to_json(_wire(one)) for n, one in enumerate(subscriptions)}
        over = await there(self._store.attend(records, HOLD_S))
        self._here |= records
        if self._renewing is None:
            self._renewing = asyncio.get_running_loop().create_task(self._renew())
        await self._tell(subscriptions, is_active=True)
        await self._tell(_read(over), is_active=False)
        return list(records)

    def leave(self, ids: Sequence[str]) -> None:
        """They are there no more; told in the background."""
        gone = {id: self._here.pop(id) for id in ids if id in self._here}
        if not gone:
            return
        if not self._here and self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            task = asyncio.get_running_loop().create_task(self._depart(gone))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _depart(self, gone: Mapping[str, bytes]) -> None:
        with contextlib.suppress(JobkitError):  # the store is away, and forgets them by itself
            was_there = await there(self._store.depart(list(gone)))
            left = {id: record for (id, record), was in zip(gone.items(), was_there, strict=True) if was}
            await self._tell(_read(left), is_active=False)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(HOLD_S / 3)
            with contextlib.suppress(JobkitError):
                here = list(self._here.items())
                for i in range(0, len(here), PAGE):
                    over = await there(self._store.attend(dict(here[i : i + PAGE]), HOLD_S))
                    await self._tell(_read(over), is_active=False)

    async def _tell(self, subscriptions: Sequence[Subscription], *, is_active: bool) -> None:
        """A private update for each, in both forms."""
        for one in subscriptions:
            for form in (OLD, NEW):
                with contextlib.suppress(JobkitError):  # sync:// has nobody to tell
                    await self._updates.publish(
                        [one.path(self._root, form)],
                        to_json(one.to_json(self._root, form, is_active=is_active)).decode(),
                        type="" if form == OLD else "mercure",
                        is_private=True,
                        form=form,
                    )


def _wire(one: Subscription) -> dict[str, Any]:
    return {"subscriber": one.subscriber, "match_type": one.match_type, "match": one.match, "payload": one.payload}


def _read(records: Mapping[str, bytes]) -> list[Subscription]:
    found = []
    for raw in records.values():
        with contextlib.suppress(msgspec.DecodeError, KeyError, TypeError):
            wire = msgspec.json.decode(raw)
            found.append(
                Subscription(str(wire["subscriber"]), str(wire["match_type"]), str(wire["match"]), wire.get("payload"))
            )
    return found
