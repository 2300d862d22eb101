"""Mercure's hub at `/.well-known/mercure`: pages and services written for one work against jobkit.

Both protocols of today at one address: `topic=` is 0.x, `match=` and `match_urlpattern=` are 1.0. A job's topic is its
URL, and each of its updates is the job's JSON as the list of jobs has it; updates of jobs are private. What others
publish stands in one order with them, so one position resumes both.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from jobkit.http import access, mercure_tokens
from jobkit.http.api import Api, Call, on_loop
from jobkit.http.frames import Part, frame
from jobkit.http.messages import Problem, Response, form, to_json
from jobkit.http.presence import Presence, Subscription, match_type
from jobkit.http.routing import printable
from jobkit.http.streams import HEADERS, Stream, enter, is_known
from jobkit.http.tail import Entry, Key, Tail
from jobkit.http.tokens import Grant, InvalidToken
from jobkit.http.topics import ALL, BadSelector, Selector, new, old, together
from jobkit.http.updates import NEW, OLD, UPDATES_PAGE, Place, Update, Updates, id_of, place_in
from jobkit.model import EventsExpired, JobSpec

MAX_MATCHERS = 100

#: Events that one look takes, since each becomes all that is known of its job.
PAGE = 100

FORM = "application/x-www-form-urlencoded"

_KINDS = {"match": "exact", "match_exact": "exact", "match_urlpattern": "urlpattern"}
_CURSORS = ("last_event_id", "lastEventID", "lastEventId", "Last-Event-ID")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a subscriber asks for. `is_old`: by protocol 0.x."""

    selectors: tuple[Selector, ...]
    is_old: bool
    token: str | None
    cursor: str | None


async def subscribe(call: Call) -> Response:
    """Updates of the topics asked for, as they come, or after an id."""
    asked = read_query(call)
    grant = await identify(call, asked.token, is_old=asked.is_old)
    if grant is None:
        raise access.unauthorized("", "this hub asks subscribers for a token")
    api = call.api
    if slower := api.slower(grant, call.request, len(asked.selectors)):
        raise slower
    tail = await api.tail()
    leave = await enter(call, grant, tail, len(asked.selectors))
    stop_listening = call.kit.hub.listen(lambda _: tail.poke(), "updates")
    presence, subscriber = presence_of(tail, call), uuid.uuid4().urn
    present: list[str] = []

    def stop() -> None:
        stop_listening()
        presence.leave(present)

    try:
        # Before the stream knows where it begins: nobody is told of himself.
        present += await presence.enter(
            [Subscription(subscriber, match_type(one.kind), one.value, grant.payload) for one in asked.selectors]
        )
        view = HubView(call, grant, tail, asked)
        known = await view.begin(asked.cursor)
    except BaseException:
        stop()
        leave()
        raise
    headers = dict(HEADERS)
    if asked.cursor is not None:
        headers["Last-Event-ID" if asked.is_old else "Mercure-Last-Event-ID"] = known
    return Response(200, headers=headers, stream=Stream(api, grant, tail, view, leave, stop, retry_ms=0))


def read_query(call: Call) -> Asked:
    """The query of a subscription.

    Raises:
        Problem: no topic, a matcher that is unknown or cannot be understood, too many of them.
    """
    pairs = call.request.arguments()
    if call.request.method == "QUERY":
        if call.request.media_type != FORM:
            raise Problem(415, "unsupported_media_type", f"a QUERY is sent as Content-Type: {FORM}", "body")
        pairs += form(call.request.body)
    topics = [value for name, value in pairs if name == "topic"]
    matchers = [(name, value) for name, value in pairs if name.lower().startswith("match")]
    for name, _ in matchers:
        if name not in _KINDS:
            raise bad(f"{printable(name)} is no matcher; there are {', '.join(_KINDS)}", name)
    if topics and matchers:
        raise bad("topic is of protocol 0.x and match of 1.0: ask by one of them", "topic")
    if not topics and not matchers:
        raise bad('missing "match"', "match")
    if len(topics) + len(matchers) > MAX_MATCHERS:
        raise bad(f"at most {MAX_MATCHERS} matchers", "match")
    try:
        selectors = together(
            map(old, topics) if topics else (new(_KINDS[name], value, call.hub_url) for name, value in matchers)
        )
    except BadSelector as error:
        raise bad(str(error), "topic" if topics else "match") from None
    tokens = [value for name, value in pairs if name == "authorization"]
    cursors = [value for name, value in pairs if name in _CURSORS]
    if [name for name, _ in pairs].count("last_event_id") > 1:
        raise bad("last_event_id is given twice", "last_event_id")
    header = call.request.headers.get("last-event-id")
    cursor = header if header is not None else cursors[0] if cursors else None
    return Asked(selectors, bool(topics), tokens[0] if topics and tokens else None, cursor)


async def identify(call: Call, in_query: str | None, *, is_old: bool) -> Grant | None:
    """Who asks: by the header, else by the query (0.x only), else by the cookie, else the open server.

    Raises:
        Problem: what was shown is not accepted.
    """
    request = call.request
    text = access.bearer(request)
    if text is None and is_old:
        text = in_query
    if text is None:
        cookies = request.cookies()
        text = cookies.get("__Secure-mercure_access_token") or (cookies.get("mercureAuthorization") if is_old else None)
    if text is None:
        grant = await call.api.grant(request)
        # Whoever comes from this machine publishes, and sees all jobs; a private update of a publisher takes a token.
        return replace(grant, publish=(Selector(ALL, "*"),)) if grant and grant.is_open else grant
    settings = call.kit.settings
    try:
        grant = mercure_tokens.read(text, mercure_tokens.hub_keys(settings.secret, settings.namespace), call.hub_url)
    except InvalidToken as refused:
        try:
            own = await call.api.grant(replace(request, headers={**request.headers, "authorization": f"Bearer {text}"}))
        except Problem:
            if wait := call.api.failed(request):
                raise wait from None
            raise access.unauthorized("invalid_token", str(refused)) from None
        assert own is not None  # a token was shown
        return _selecting(own)
    if await call.api.is_revoked(grant):
        raise access.unauthorized("invalid_token", "the token was revoked")
    return grant


def _selecting(grant: Grant) -> Grant:
    """A token of `jobkit token`: its topics are written as in 0.x."""
    try:
        return replace(grant, publish=together(map(old, grant.publish)), subscribe=together(map(old, grant.subscribe)))
    except BadSelector:
        raise access.unauthorized("invalid_token", "the token's topics cannot be understood") from None


class HubView:
    """What one subscriber sees: updates of jobs and of publishers, those that its token and its query are about."""

    def __init__(self, call: Call, grant: Grant, tail: Tail, asked: Asked) -> None:
        self._kit, self._base, self._grant, self._tail = call.kit, call.base, grant, tail
        self._selectors = asked.selectors
        self._form = OLD if asked.is_old else NEW
        self._updates = updates_of(call.api, tail, call)
        self._place: Place = (*tail.last, 0)
        self._news = tail.newest_news
        self._is_begun = False
        self.is_over = False

    async def begin(self, cursor: str | None) -> str:
        """Find where to begin; the id that the answer names, which is the one asked for or "earliest"."""
        if cursor is None or cursor == "":
            # Behind everything that was published before this subscription.
            while newest := await self._updates.after(self._place, self._tail.version):
                self._place = newest[-1].place
            return "earliest"
        place = await self._find(cursor)
        if place is None:
            self._place = (0, 0, 0)
            return "earliest"
        self._place = place
        return "earliest" if cursor == "earliest" else printable(cursor)

    async def _find(self, cursor: str) -> Place | None:
        if cursor == "earliest":
            return (0, 0, 0)
        if (place := place_in(cursor)) is not None:
            return place if await is_known(self._kit, self._tail, place[:2]) else None
        return await self._updates.find(cursor)

    async def collect(self) -> Sequence[bytes]:
        """Goes on through what nobody asked for: nothing is said only where nothing is new."""
        while True:
            before = self._place, self._news
            if (bodies := await self._page()) or (self._place, self._news) == before:
                return bodies

    async def _page(self) -> list[bytes]:
        """What comes next; moves the place behind it."""
        version = self._tail.version
        try:
            entries = await self._tail.after(self._place[:2])
        except EventsExpired as expired:
            entries = await self._oldest(expired)
        entries = entries[:PAGE]
        # The updates are read after the events: all that stand before one of these events are there.
        updates = await self._updates.after(self._place, version)
        last: Key = entries[-1].key if entries else self._tail.last
        within = [update for update in updates if update.place[:2] <= max(last, self._place[:2])]
        if len(within) == len(updates) >= UPDATES_PAGE:  # there may be more of them, which stand before later events
            entries = [entry for entry in entries if (*entry.key, 0) < within[-1].place]
        made = [*await self._of_jobs(entries), *((update.place, self._of_update(update)) for update in within)]
        made.sort(key=lambda one: one[0])
        part = Part()
        for place, body in made:
            if part.is_full:
                return part.frames
            part.add(*filter(None, [body]))
            self._place = place
        self._place = max([self._place, *((*entry.key, 0) for entry in entries)])
        self._news, news = self._tail.news(self._news, PAGE)
        part.add(*(body for _, body in await self._of_jobs(news)))
        return part.frames

    async def _oldest(self, expired: EventsExpired) -> Sequence[Entry]:
        self._place = (0, 0, self._place[2])
        return await self._tail.after((0, 0))

    async def _of_jobs(self, entries: Sequence[Entry]) -> list[tuple[Place, bytes]]:
        """Each event of a job that is seen as the job's JSON."""
        wanted = [entry for entry in entries if self._is_asked(self._topics(entry.event.job_id))]
        if not wanted:
            return []
        ids = list(dict.fromkeys(entry.event.job_id for entry in wanted))
        found = {s.id: s for s in await on_loop(self._kit.verbs.store.snapshots(ids)) if s is not None}
        made = []
        for entry in wanted:
            snapshot = found.get(entry.event.job_id)
            if snapshot is None or not self._may_see(snapshot.spec):
                continue
            place = (*entry.key, 0) if entry.event.id else self._place
            made.append((place, frame(to_json(snapshot.to_json()), id=id_of(place))))
        return made

    def _of_update(self, update: Update) -> bytes:
        if update.form:  # of a subscription: `*` of 0.x does not ask for it, since pages would take it for data
            selectors = [s for s in self._selectors if self._form == NEW or s.kind != ALL]
            is_asked = update.form == self._form and any(s.matches(t) for s in selectors for t in update.topics)
        else:
            is_asked = self._is_asked(update.topics)
        if not is_asked:
            return b""
        if update.is_private and not self._may_see_private(update):
            return b""
        return frame(update.data, event=update.type, id=update.id, retry=update.retry)

    def _topics(self, job_id: str) -> tuple[str, ...]:
        return (f"{self._base}/api/jobs/{job_id}", f"/api/jobs/{job_id}")

    def _is_asked(self, topics: Sequence[str]) -> bool:
        return any(selector.matches(topic) for selector in self._selectors for topic in topics)

    def _may_see(self, spec: JobSpec) -> bool:
        """The grant is about this job, and the scope or a selector of the token lets it be seen."""
        topics = self._topics(spec.id)
        is_selected = self._grant.may("view") or any(s.matches(t) for s in self._grant.subscribe for t in topics)
        return is_selected and self._grant.sees(spec)

    def _may_see_private(self, update: Update) -> bool:
        if update.form:
            return sees_subscriptions(self._grant, *update.topics)
        return self._grant.may_subscribe(*update.topics)


def sees_subscriptions(grant: Grant, *addresses: str) -> bool:
    """Whether somebody is told who is subscribed: that is about everybody."""
    return grant.is_open or (grant.sees_all and grant.may_subscribe(*addresses))


def updates_of(api: Api, tail: Tail, call: Call) -> Updates:
    """The updates that all streams of a tail share."""
    if tail.updates is None:
        tail.updates = Updates(call.kit)
    found: Updates = tail.updates
    return found


def presence_of(tail: Tail, call: Call) -> Presence:
    """Who is subscribed at this server, by any stream of a tail."""
    if tail.presence is None:
        tail.presence = Presence(call.kit, updates_of(call.api, tail, call), root_of(call))
    found: Presence = tail.presence
    return found


def root_of(call: Call) -> str:
    """Path of the subscriptions."""
    return f"{urlsplit(call.hub_url).path}/subscriptions"


def bad(message: str, field: str) -> Problem:
    """400 for what cannot be meant."""
    return Problem(400, "invalid_request", message, printable(field))
