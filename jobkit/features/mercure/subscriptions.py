"""Subscriptions to the hub: kept for all servers of a namespace, published as updates, and readable as resources.

    GET /.well-known/mercure/subscriptions                                      all
    GET /.well-known/mercure/subscriptions/{match_type}/{match}[/{subscriber}]  1.0
    GET /.well-known/mercure/subscriptions/{topic}[/{subscriber}]               0.x

Each matcher of a stream is a *subscription*. A server renews its subscriptions while their streams are open. The store
deletes those of a server that dies, and another server publishes that they ended. Subscribers of both protocols see all
of them, in their own form; `application/ld+json` and tokens of 0.x get that of 0.x.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from jobkit.client.kit import Kit
from jobkit.features.mercure.grants import DETAIL, bad, hub_url, identify, sees_subscriptions
from jobkit.features.mercure.store import HubStore
from jobkit.features.mercure.topics import MATCH_TYPES
from jobkit.features.mercure.update import Update
from jobkit.features.mercure.updates import NEW, OLD, Updates, id_of
from jobkit.http.auth import access
from jobkit.http.core.handling import ApiCall
from jobkit.http.core.tail import on_loop
from jobkit.http.messages import JSON, Problem, Response, json_response, printable, to_json
from jobkit.model import JobkitError

logger = logging.getLogger("jobkit.http")

#: Seconds that a subscription is kept without being renewed.
HOLD_S = 30.0

#: Subscriptions of one renewal.
PAGE = 500

LD_JSON = "application/ld+json"

_CONTEXT = "https://mercure.rocks/"


class Subscription(msgspec.Struct, frozen=True):
    """One matcher of one stream. `payload`: that of the subscriber's token."""

    subscriber: str
    match_type: str
    match: str
    payload: Any = None

    def path(self, root: str, form: str) -> str:
        """Return its address below `root`, in the form of a protocol."""
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


class Presence:
    """The subscriptions of one server, with their path `root` in topics; for one event loop, see `Tail.shared`."""

    def __init__(self, kit: Kit, updates: Updates, root: str) -> None:
        self._store: Any = kit.verbs.store.part(HubStore)
        self._updates, self._root = updates, root
        self._here: dict[str, bytes] = {}
        self._renewing: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    async def enter(self, subscriptions: Sequence[Subscription]) -> list[str]:
        """Begin subscriptions. Returns the ids for `leave`. Raises JobkitError: the store does not answer."""
        records = {f"{one.subscriber} {n}": to_json(one) for n, one in enumerate(subscriptions)}
        over = await on_loop(self._store.attend(records, HOLD_S))
        self._here |= records
        if self._renewing is None:
            self._renewing = asyncio.get_running_loop().create_task(self._renew())
        await self._tell(subscriptions, is_active=True)
        await self._tell(_read(over), is_active=False)
        return list(records)

    def leave(self, ids: Sequence[str]) -> None:
        """End subscriptions, in the background."""
        gone = {id: self._here.pop(id) for id in ids}
        if not self._here and self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            task = asyncio.get_running_loop().create_task(self._depart(gone))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _depart(self, gone: Mapping[str, bytes]) -> None:
        with contextlib.suppress(JobkitError):  # the store does not answer, and deletes them by itself later
            was_there = await on_loop(self._store.depart(list(gone)))
            left = {id: record for (id, record), was in zip(gone.items(), was_there, strict=True) if was}
            await self._tell(_read(left), is_active=False)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(HOLD_S / 3)
            try:
                here = list(self._here.items())
                for i in range(0, len(here), PAGE):
                    over = await on_loop(self._store.attend(dict(here[i : i + PAGE]), HOLD_S))
                    await self._tell(_read(over), is_active=False)
            except JobkitError:
                continue
            except Exception:
                logger.exception("subscriptions could not be renewed; trying again")

    async def _tell(self, subscriptions: Sequence[Subscription], *, is_active: bool) -> None:
        """Publish a private update for each subscription, in both forms."""
        for one in subscriptions:
            for form in (OLD, NEW):
                data = to_json(one.to_json(self._root, form, is_active=is_active)).decode()
                type = "" if form == OLD else "mercure"
                update = Update([one.path(self._root, form)], data, type=type, private=True, form=form)
                with contextlib.suppress(JobkitError):  # the store does not answer
                    await self._updates.publish(update)


def _read(records: Mapping[str, bytes]) -> list[Subscription]:
    found = []
    for raw in records.values():
        with contextlib.suppress(msgspec.DecodeError):
            found.append(msgspec.json.decode(raw, type=Subscription))
    return found


def root_of(call: ApiCall) -> str:
    return f"{urlsplit(hub_url(call)).path}/subscriptions"


# -- as resources ------------------------------------------------------------------------------------------------------


async def subscriptions(call: ApiCall) -> Response:
    """List the active subscriptions."""
    return await _selected(call)


async def of_topic(call: ApiCall) -> Response:
    """List the subscriptions to a topic (0.x)."""
    return await _selected(call)


async def of_match(call: ApiCall) -> Response:
    """List the subscriptions of a matcher (1.0), or read one of a topic (0.x)."""
    return await _selected(call)


async def one_of_match(call: ApiCall) -> Response:
    """Read one subscription of a matcher (1.0)."""
    return await _selected(call)


async def metadata(call: ApiCall) -> Response:
    """Read what the hub supports (RFC 9728)."""
    return json_response(
        {
            "resource": hub_url(call),
            "authorization_details_types_supported": [DETAIL],
            "bearer_methods_supported": ["header"],
            "mercure_cookie": "__Secure-mercure_access_token",
            "mercure_matcher_types_supported": ["exact", "urlpattern"],
            "mercure_subscriptions": True,
        }
    )


async def _form_of(call: ApiCall) -> str:
    """Return the protocol of the response. Raises Problem: 401, or 403 if the token does not cover this address."""
    grant = await identify(call, "this hub asks for a token")
    whole = f"{call.base}{call.request.path}"
    if not sees_subscriptions(grant, _path(call), whole):
        raise access.insufficient("this token may not subscribe to this address, so it may not read it")
    return OLD if grant.is_old or call.request.accepts(LD_JSON) else NEW


def _path(call: ApiCall) -> str:
    return f"{urlsplit(call.base).path}{call.request.path}"


async def _selected(call: ApiCall) -> Response:
    """Return the subscriptions that the path selects, or the one if it names a subscriber.

    The id of the newest event or update is read first: resuming there may repeat a subscription, and misses none.
    """
    form, selected = await _form_of(call), list(call.params.values())
    parts = ["match", "subscriber"] if form == OLD else ["match_type", "match", "subscriber"]
    if len(selected) > len(parts) or (form == NEW and len(selected) == 1):
        names = "topic and subscriber" if form == OLD else "match_type and match"
        raise Problem(404, "not_found", f"subscriptions are addressed by {names}", names.partition(" ")[0])
    if form == NEW and selected and selected[0] not in MATCH_TYPES:
        raise bad(f"{printable(selected[0])!r} is not a match_type; use {', '.join(MATCH_TYPES)}", "match_type")
    cursor = id_of(await (await call.api.tail()).shared(Updates).newest())
    present = _read(await on_loop(call.kit.verbs.store.part(HubStore).attending()))
    found = [one for one in present if [getattr(one, part) for part in parts[: len(selected)]] == selected]
    root = root_of(call)
    if len(selected) == len(parts):
        if not found:
            raise Problem(404, "not_found", "there is no such subscription, or it has ended", "subscriber")
        body = found[0].to_json(root, form)
    else:
        shown = [one.to_json(root, form) for one in sorted(found, key=lambda one: one.path(root, form))]
        body = {"id": _path(call), "type": "subscriptions", "subscriptions": shown}
        if form == OLD:
            for one in shown:
                del one["@context"]
            body |= {"@context": _CONTEXT, "type": "Subscriptions"}
    headers = {"Cache-Control": "private, must-revalidate, max-age=0"}
    if form == OLD:
        return Response(200, to_json(body | {"lastEventID": cursor}), {**headers, "Content-Type": LD_JSON})
    link = f'<{hub_url(call)}>; rel="mercure"; last-event-id="{cursor}"; type="mercure"; content-type="{JSON}"'
    return Response(200, to_json(body), {**headers, "Content-Type": JSON, "Link": link})
