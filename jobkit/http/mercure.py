"""Mercure's hub at `/.well-known/mercure`: pages and services written for one work against jobkit.

Both protocols of today at one address: `topic=` is 0.x, `match=` and `match_urlpattern=` are 1.0. A job's topic is its
URL, and each of its updates is the job's JSON as `GET` on that URL gives it; updates of jobs are private. What others
publish stands in one order with them, so one position resumes both.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from jobkit.http import access, mercure_tokens
from jobkit.http.api import Api, Call, on_loop
from jobkit.http.frames import frame
from jobkit.http.messages import Problem, Response, form, to_json
from jobkit.http.routing import printable
from jobkit.http.streams import HEADERS, Stream, enter, is_known, key_of, leave
from jobkit.http.tail import Entry, Key, Tail
from jobkit.http.tokens import Grant, InvalidToken
from jobkit.http.topics import ALL, BadSelector, Selector, checked, new, old, together
from jobkit.http.updates import Place, Update, Updates, id_of
from jobkit.model import EventsExpired

MAX_MATCHERS, MAX_TOPICS = 100, 1000

#: Characters of all topics of one update: what each subscriber's selectors have to look through.
MAX_TOPICS_SIZE = 16_384

FORM = "application/x-www-form-urlencoded"

_KINDS = {"match": "exact", "match_exact": "exact", "match_urlpattern": "urlpattern"}
_CURSORS = ("last_event_id", "lastEventID", "lastEventId", "Last-Event-ID")
_PLACE = re.compile(r"#(\d{1,20})-(\d{1,20})(?:\.(\d{1,7}))?")


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
    tail = await api.tail()
    await enter(api, tail)
    stop = call.kit.hub.listen(lambda _: tail.poke(), "updates")
    try:
        view = HubView(call, grant, tail, asked)
        known = await view.begin(asked.cursor)
    except BaseException:
        stop()
        leave(api, tail)
        raise
    headers = dict(HEADERS)
    if asked.cursor is not None:
        headers["Last-Event-ID" if asked.is_old else "Mercure-Last-Event-ID"] = known
    return Response(200, headers=headers, stream=Stream(api, grant, tail, view, stop, retry_ms=0))


def read_query(call: Call) -> Asked:
    """The query of a subscription.

    Raises:
        Problem: no topic, a matcher that is unknown or cannot be understood, too many of them.
    """
    pairs = call.request.arguments()
    topics = [value for name, value in pairs if name == "topic"]
    matchers = [(name, value) for name, value in pairs if name.lower().startswith("match")]
    for name, _ in matchers:
        if name not in _KINDS:
            raise _bad(f"{printable(name)} is no matcher; there are {', '.join(_KINDS)}", name)
    if topics and matchers:
        raise _bad("topic is of protocol 0.x and match of 1.0: ask by one of them", "topic")
    if not topics and not matchers:
        raise _bad('missing "match"', "match")
    if len(topics) + len(matchers) > MAX_MATCHERS:
        raise _bad(f"at most {MAX_MATCHERS} matchers", "match")
    try:
        selectors = together(
            map(old, topics) if topics else (new(_KINDS[name], value, call.hub_url) for name, value in matchers)
        )
    except BadSelector as error:
        raise _bad(str(error), "topic" if topics else "match") from None
    tokens = [value for name, value in pairs if name == "authorization"]
    cursors = [value for name, value in pairs if name in _CURSORS]
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
        return (
            replace(grant, publish=(Selector(ALL, "*"),), subscribe=(Selector(ALL, "*"),))
            if grant and grant.is_open
            else grant
        )
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
        self._updates = updates_of(call.api, tail, call)
        self._place: Place = (*tail.last, 0)
        self._news = tail.newest_news
        self._is_begun = False
        self.is_over = False

    async def begin(self, cursor: str | None) -> str:
        """Find where to begin; the id that the answer names, which is the one asked for or "earliest"."""
        if cursor is None or cursor == "":
            # Behind everything that was published before this subscription.
            newest = await self._updates.after(self._place, self._tail.version)
            self._place = newest[-1].place if newest else self._place
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
        if match := _PLACE.fullmatch(cursor):
            at = (int(match[1]), int(match[2]))
            return (*at, int(match[3] or 0)) if await is_known(self._kit, self._tail, at) else None
        if (key := key_of(cursor)) is not None:  # an id of /api/events
            return (*key, 0) if await is_known(self._kit, self._tail, key) else None
        return await self._updates.find(cursor)

    async def collect(self) -> Sequence[bytes]:
        version = self._tail.version
        try:
            entries = await self._tail.after(self._place[:2])
        except EventsExpired as expired:
            entries = await self._oldest(expired)
        # The updates are read after the events: all that stand before one of these events are there.
        updates = await self._updates.after(self._place, version)
        last: Key = entries[-1].key if entries else self._tail.last
        updates = [update for update in updates if update.place[:2] <= max(last, self._place[:2])]
        made = [*await self._of_jobs(entries), *((update.place, self._of_update(update)) for update in updates)]
        made.sort(key=lambda one: one[0])
        places = [(*entry.key, 0) for entry in entries] + [update.place for update in updates]
        self._place = max([self._place, *places])
        self._news, news = self._tail.news(self._news)
        made += [(self._place, body) for _, body in await self._of_jobs(news)]
        return [body for _, body in made if body]

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
            if snapshot is None or not self._may_see_job(snapshot.id, snapshot.spec.task):
                continue
            place = (*entry.key, 0) if entry.event.id else self._place
            made.append((place, frame(to_json(snapshot.to_json()), id=id_of(place))))
        return made

    def _of_update(self, update: Update) -> bytes:
        if not self._is_asked(update.topics):
            return b""
        if update.is_private and not any(s.matches(topic) for s in self._grant.subscribe for topic in update.topics):
            return b""
        return frame(update.data, event=update.type, id=update.id, retry=update.retry)

    def _topics(self, job_id: str) -> tuple[str, ...]:
        return (f"{self._base}/api/jobs/{job_id}", f"/api/jobs/{job_id}")

    def _is_asked(self, topics: Sequence[str]) -> bool:
        return any(selector.matches(topic) for selector in self._selectors for topic in topics)

    def _may_see_job(self, job_id: str, task: str) -> bool:
        if self._grant.may("view"):
            return self._grant.covers(task)
        return any(s.matches(topic) for s in self._grant.subscribe for topic in self._topics(job_id))


def updates_of(api: Api, tail: Tail, call: Call) -> Updates:
    """The updates that all streams of a tail share."""
    if tail.updates is None:
        tail.updates = Updates(call.kit)
    found: Updates = tail.updates
    return found


# -- publishing ---------------------------------------------------------------------------------------------------


async def publish(call: Call) -> Response:
    """Keep an update and send it to those who see it; its id, as text."""
    request = call.request
    if request.media_type != FORM:
        raise Problem(415, "unsupported_media_type", f"an update is sent as Content-Type: {FORM}", "body")
    if "authorization" not in request.headers and request.headers.get("cookie"):
        origin = request.headers.get("origin") or _origin(request.headers.get("referer", ""))
        if not origin or not (access.is_own_origin(request, origin) or origin in call.api.origins):
            raise access.unauthorized(
                "invalid_request", "with a cookie an allowed Origin or Referer is needed", status=400
            )
    grant = await identify(call, None, is_old=True)
    if grant is None:
        raise access.unauthorized("", "this hub asks publishers for a token")
    topics, fields = read_update(call)
    for topic in topics:
        if not any(selector.matches(topic) for selector in grant.publish):
            raise access.insufficient(f"this token may not publish to {printable(topic)}")
        if resolved(topic, call.hub_url).startswith((f"{urlsplit(call.base).path}/api/",)) and _is_here(topic, call):
            raise access.insufficient("what is told of jobs comes from the store alone")
    id = await updates_of(call.api, await call.api.tail(), call).publish(topics, **fields)
    return Response(200, id.encode(), {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"})


def read_update(call: Call) -> tuple[list[str], dict[str, Any]]:
    """Topics and fields of an update.

    Raises:
        Problem: one of them is not allowed; see "publish checks" of the specification.
    """
    pairs = form(call.request.body)
    values: dict[str, str] = {}
    for name, value in pairs:
        values.setdefault(name, value)
    topics = [value for name, value in pairs if name == "topic"]
    if not topics:
        raise _bad('missing "topic"', "topic")
    if len(topics) > MAX_TOPICS:
        raise Problem(413, "too_large", f"an update has at most {MAX_TOPICS} topics", "topic")
    if sum(map(len, topics)) > MAX_TOPICS_SIZE:
        raise Problem(413, "too_large", f"the topics of an update have at most {MAX_TOPICS_SIZE} characters", "topic")
    for topic in topics:
        try:
            checked(topic)
        except BadSelector as error:
            raise _bad(str(error), "topic") from None
        if topic == "*":
            raise _bad("* is no topic to publish to", "topic")
        hub = urlsplit(call.hub_url).path
        path = resolved(topic, call.hub_url)
        if path == hub or path.startswith(f"{hub}/"):
            raise _bad("the hub's own addresses are no topics to publish to", "topic")
    id, kind, retry = values.get("id", ""), values.get("type", ""), values.get("retry", "")
    for name, value in (("id", id), ("type", kind)):
        if any(unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in value) or len(value) > 1000:
            raise _bad(f"{name} must have at most 1000 characters, and no control characters", name)
    if id.startswith("#") or id == "earliest" or _PLAIN_ID.fullmatch(id):
        raise _bad("an id is not earliest, begins with no #, and is none of the hub's own", "id")
    if kind == "mercure":
        raise _bad("the type mercure is the hub's own", "type")
    if retry and not (retry.isascii() and retry.isdigit() and len(retry) <= 9):
        raise _bad("retry must be a number of milliseconds", "retry")
    return topics, {
        "data": values.get("data", ""),
        "type": kind,
        "id": id,
        "retry": int(retry or 0),
        "is_private": "private" in values,
    }


_PLAIN_ID = re.compile(r"\d+(-\d+)?")


def resolved(topic: str, hub: str) -> str:
    """The path that a topic comes to, seen from the hub: without dots, decoded."""
    try:
        path = unquote(urlsplit(urljoin(hub, topic)).path)
    except ValueError:
        return ""
    for _ in range(3):  # %252e: decoded as often as somebody might
        path = unquote(path)
    parts: list[str] = []
    for part in path.replace("\\", "/").split("/"):
        if part == "..":
            parts = parts[:-1] or [""]
        elif part != ".":
            parts.append(part)
    return re.sub("/+", "/", "/".join(parts))


def _is_here(topic: str, call: Call) -> bool:
    """Whether a topic is an address of this server, or one without a host."""
    host = urlsplit(urljoin(call.hub_url, topic)).netloc.lower()
    return host == urlsplit(call.base).netloc.lower()


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


def _bad(message: str, field: str) -> Problem:
    return Problem(400, "invalid_request", message, printable(field))
