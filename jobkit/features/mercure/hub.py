"""Mercure's hub at `/.well-known/mercure`: subscribing and publishing, for pages and services written for a hub.

Both protocols share the address: `topic=` is 0.x, `match=` and `match_urlpattern=` are 1.0. A job's topic is its URL;
each of its updates is the job's JSON, and private. Updates of publishers are in one order with them, so one position
resumes both.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

from jobkit.features.mercure.grants import HubGrant, bad, hub_url, identify, sees_subscriptions
from jobkit.features.mercure.subscriptions import Presence, Subscription, root_of
from jobkit.features.mercure.topics import (
    ALL,
    EXACT,
    BadSelector,
    Selector,
    checked,
    new,
    old,
    reserved_for,
    together,
)
from jobkit.features.mercure.update import HUB, JOBS, Place, Update, has_control_characters
from jobkit.features.mercure.updates import NEW, OLD, Updates, id_of, place_in
from jobkit.http.auth import access
from jobkit.http.core.handling import ApiCall, is_trusted
from jobkit.http.core.streams import Frames, enter, streamed
from jobkit.http.core.tail import FramedEvent, Key, Tail, frame, on_loop
from jobkit.http.messages import OLD_CURSORS, TEXT, Problem, Response, form_body, printable, to_json
from jobkit.model import EventsExpired

#: Selectors of one subscription.
MAX_MATCHERS = 100

#: Events of one read, since each becomes the whole JSON of its job.
PAGE = 100

#: Topics of one update.
MAX_TOPICS = 1000

#: Characters of all topics of one update, which the selectors of each subscriber are matched with.
MAX_TOPICS_SIZE = 16_384

_PLAIN_ID = re.compile(r"\d+(-\d+)?")

_KINDS = {"match": "exact", "match_exact": "exact", "match_urlpattern": "urlpattern"}


@dataclass(frozen=True, slots=True)
class SubscriptionQuery:
    """A subscriber's query. `is_old`: by protocol 0.x."""

    selectors: tuple[Selector, ...]
    is_old: bool
    token: str | None
    cursor: str | None


async def subscribe(call: ApiCall) -> Response:
    """Subscribe to topics, by Mercure's protocols 0.x (topic=) and 1.0 (match=)."""
    asked = _read_query(call)
    grant = await identify(call, "this hub asks subscribers for a token", in_query=asked.token, is_old=asked.is_old)
    call.api.count_request(call, len(asked.selectors))
    subscriber = uuid.uuid4().urn
    kinds = [(EXACT if one.kind == ALL else one.kind, one.value) for one in asked.selectors]
    entering = [Subscription(subscriber, kind, value, grant.payload) for kind, value in kinds]
    with ExitStack() as ends:
        tail = await enter(call, ends, len(asked.selectors))
        presence = tail.shared(Presence, tail.shared(Updates), root_of(call))
        ends.callback(call.kit.hub.listen(lambda _: tail.poke(), "updates"))
        # Before the stream has its position: no subscriber is notified of itself.
        ends.callback(presence.leave, await presence.enter(entering))
        news = tail.newest_news
        place, known = await _begin(tail, asked.cursor)
        frames = HubView(call, grant, tail, asked).frames(place, news)
        response = await streamed(call, tail, frames, ends, retry_ms=0)
        if asked.cursor is not None:
            response.headers["Last-Event-ID" if asked.is_old else "Mercure-Last-Event-ID"] = known
        return response


def _read_query(call: ApiCall) -> SubscriptionQuery:
    """Return the query of a subscription. Raises Problem: no topic, too many, or one that is not understood."""
    pairs = call.request.arguments()
    if call.request.method == "QUERY":
        pairs += form_body(call.request, "a QUERY")
    topics = [value for name, value in pairs if name == "topic"]
    matchers = [(name, value) for name, value in pairs if name.lower().startswith("match")]
    for name, _ in matchers:
        if name not in _KINDS:
            raise bad(f"{printable(name)} is not a matcher; use {', '.join(_KINDS)}", name)
    if topics and matchers:
        raise bad("topic is of protocol 0.x and match of 1.0; use only one of them", "topic")
    if not topics and not matchers:
        raise bad('missing "match"', "match")
    if len(topics) + len(matchers) > MAX_MATCHERS:
        raise bad(f"at most {MAX_MATCHERS} matchers", "match")
    try:
        selectors = together(
            map(old, topics) if topics else (new(_KINDS[name], value, hub_url(call)) for name, value in matchers)
        )
    except BadSelector as error:
        raise bad(str(error), "topic" if topics else "match") from None
    if [name for name, _ in pairs].count("last_event_id") > 1:
        raise bad("last_event_id is given twice", "last_event_id")
    token = next((value for name, value in pairs if name == "authorization"), None) if topics else None
    in_query = next((value for name, value in pairs if name in ("last_event_id", *OLD_CURSORS)), None)
    return SubscriptionQuery(selectors, bool(topics), token, call.request.headers.get("last-event-id", in_query))


async def _begin(tail: Tail, cursor: str | None) -> tuple[Place, str]:
    """Return the position to begin at, and the id for the response: a known cursor, else "earliest"."""
    updates = tail.shared(Updates)
    if not cursor:  # after everything that was published before this subscription
        newest: Place = (*tail.last, 0)
        while found := await updates.after(newest, tail.version):
            newest = found[-1].place
        return newest, "earliest"
    if cursor == "earliest":
        return (0, 0, 0), cursor
    if (place := place_in(cursor)) is None:
        place = await updates.find(cursor)
    elif not await tail.may_know(place[:2]):
        place = None
    return ((0, 0, 0), "earliest") if place is None else (place, printable(cursor))


class HubView:
    """The updates that one subscriber sees: of jobs and publishers, as far as its token and query cover them."""

    def __init__(self, call: ApiCall, grant: HubGrant, tail: Tail, asked: SubscriptionQuery) -> None:
        self._kit, self._base, self._grant, self._tail = call.kit, call.base, grant, tail
        self._selectors = asked.selectors
        self._form = OLD if asked.is_old else NEW

    async def frames(self, place: Place, news: int) -> Frames:
        """Yield the updates after a place, and those of progress after version `news`."""
        tail, updates_of = self._tail, self._tail.shared(Updates)
        while True:
            before, version = (place, news), tail.version
            try:
                entries = await tail.after(place[:2])
            except EventsExpired:
                place = (0, 0, place[2])
                entries = await tail.after((0, 0))
            entries = entries[:PAGE]
            # Read after the events, so that all updates before these events are included.
            updates = await updates_of.after(place, version)
            last: Key = entries[-1].key if entries else tail.last
            within = [update for update in updates if update.place[:2] <= max(last, place[:2])]
            if within and len(within) == len(updates):  # there may be more updates, before later events
                entries = [entry for entry in entries if (*entry.key, 0) < within[-1].place]
            made = [*await self._of_jobs(entries, place), *((one.place, self._of_update(one)) for one in within)]
            place = max([place, *((*entry.key, 0) for entry in entries), *(one.place for one in within)])
            news, entries = tail.news(news, PAGE)
            made = [*sorted(made, key=lambda one: one[0]), *await self._of_jobs(entries, place)]
            made.reverse()
            while made:  # what is sent is not held longer
                if body := made.pop()[1]:
                    yield body
            if before == (place, news):  # pages without a visible update end nothing
                yield b""

    async def _of_jobs(self, entries: Sequence[FramedEvent], place: Place) -> list[tuple[Place, bytes]]:
        """Return the job's JSON as a frame for each visible event, with its place: `place` if it is progress."""
        wanted = [entry for entry in entries if self._is_asked(self._topics(entry.event.job_id))]
        if not wanted:
            return []
        ids = list(dict.fromkeys(entry.event.job_id for entry in wanted))
        found = {s.id: s for s in await on_loop(self._kit.verbs.store.snapshots(ids)) if s is not None}
        made = []
        for entry in wanted:
            snapshot = found.get(entry.event.job_id)
            if snapshot is None or not self._grant.sees(snapshot.spec):
                continue
            topics, selectors = self._topics(snapshot.id), self._grant.subscribe
            if not self._grant.may("view") and not any(s.matches(t) for s in selectors for t in topics):
                continue
            at = (*entry.key, 0) if entry.event.id else place
            made.append((at, frame(to_json(snapshot.to_json()), id=id_of(at))))
        return made

    def _of_update(self, update: Update) -> bytes:
        if update.form:  # about a subscription: `*` of 0.x does not select it, since pages would take it for data
            selectors = [s for s in self._selectors if self._form == NEW or s.kind != ALL]
            is_asked = update.form == self._form and any(s.matches(t) for s in selectors for t in update.topics)
        else:
            is_asked = self._is_asked(update.topics)
        if not is_asked:
            return b""
        if update.private:
            topics, grant = update.topics, self._grant
            if not (sees_subscriptions(grant, *topics) if update.form else grant.may_subscribe(*topics)):
                return b""
        return frame(update.data, event=update.type, id=update.id, retry=update.retry)

    def _topics(self, job_id: str) -> tuple[str, ...]:
        return (f"{self._base}/api/jobs/{job_id}", f"/api/jobs/{job_id}")

    def _is_asked(self, topics: Sequence[str]) -> bool:
        return any(selector.matches(topic) for selector in self._selectors for topic in topics)


async def publish(call: ApiCall) -> Response:
    """Publish an update (a form: topic, data, private, id, type, retry). Returns its id."""
    request = call.request
    pairs = form_body(request, "an update")
    if "authorization" not in request.headers and request.headers.get("cookie"):
        page = request.headers.get("origin") or request.headers.get("referer", "")
        if not is_trusted(page, request, call.api.origins):
            raise access.unauthorized("invalid_request", "a cookie needs an allowed Origin or Referer", status=400)
    grant = await identify(call, "this hub asks publishers for a token")
    update = _read_update(call, pairs)
    names = [*call.api.hosts, *request.server.names, request.host, urlsplit(call.kit.settings.public_url).netloc]
    for topic in update.topics:
        if not any(selector.matches(topic) for selector in grant.publish):
            raise access.insufficient(f"this token may not publish to {printable(topic)}")
        if reserved_for(topic, hub_url(call), names) == JOBS:
            raise access.insufficient("updates of jobs come from the store only; publish to another topic")
    id = await (await call.api.tail()).shared(Updates).publish(update)
    return Response(200, id.encode(), {"Content-Type": TEXT, "Cache-Control": "no-store"})


def _read_update(call: ApiCall, pairs: Sequence[tuple[str, str]]) -> Update:
    """Return the update in a form. Raises Problem: see "publish checks" of the specification."""
    values = dict(reversed(pairs))  # the first of several with one name
    topics = [value for name, value in pairs if name == "topic"]
    if not topics:
        raise bad('missing "topic"', "topic")
    if len(topics) > MAX_TOPICS:
        raise Problem(413, "too_large", f"an update has at most {MAX_TOPICS} topics", "topic")
    if sum(map(len, topics)) > MAX_TOPICS_SIZE:
        raise Problem(413, "too_large", f"the topics of an update have at most {MAX_TOPICS_SIZE} characters", "topic")
    for topic in topics:
        try:
            checked(topic)
        except BadSelector as error:
            raise bad(str(error), "topic") from None
        if topic == "*":
            raise bad("* is not a topic to publish to", "topic")
        if reserved_for(topic, hub_url(call)) == HUB:
            raise bad("addresses of the hub are not topics to publish to", "topic")
    id, kind, retry = values.get("id", ""), values.get("type", ""), values.get("retry", "")
    for name, value in (("id", id), ("type", kind)):
        if has_control_characters(value) or len(value) > 1000:
            raise bad(f"{name} must have at most 1000 characters, and no control characters", name)
    if id.startswith("#") or id == "earliest" or _PLAIN_ID.fullmatch(id):
        raise bad("an id must not be earliest, begin with #, or look like an id of the hub", "id")
    if kind == "mercure":
        raise bad("the type mercure is reserved for the hub", "type")
    if retry and not (retry.isascii() and retry.isdigit() and len(retry) <= 9):
        raise bad("retry must be a number of milliseconds", "retry")
    data, is_private = values.get("data", ""), "private" in values
    return Update(topics, data, type=kind, id=id, retry=int(retry or 0), private=is_private)
