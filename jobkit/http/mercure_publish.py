"""Publishing to the hub: what an update may be, and who may send it."""

from __future__ import annotations

import re
import unicodedata
from typing import Any
from urllib.parse import urlsplit

from jobkit.http import access
from jobkit.http.api import Call
from jobkit.http.mercure import FORM, bad, identify, updates_of
from jobkit.http.messages import Problem, Response, form
from jobkit.http.routing import printable
from jobkit.http.topics import HUB, JOBS, BadSelector, checked, reserved_for

MAX_TOPICS = 1000

#: Characters of all topics of one update: what each subscriber's selectors have to look through.
MAX_TOPICS_SIZE = 16_384

_PLAIN_ID = re.compile(r"\d+(-\d+)?")


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
    names = [*call.api.hosts, *request.server.names, request.host, urlsplit(call.base).netloc]
    names.append(urlsplit(call.kit.settings.public_url).netloc)
    for topic in topics:
        if not any(selector.matches(topic) for selector in grant.publish):
            raise access.insufficient(f"this token may not publish to {printable(topic)}")
        if reserved_for(topic, call.hub_url, filter(None, names)) == JOBS:
            raise access.insufficient("updates of jobs come from the store alone: no publisher speaks for a job")
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
            raise bad("* is no topic to publish to", "topic")
        if reserved_for(topic, call.hub_url) == HUB:
            raise bad("the hub's own addresses are no topics to publish to", "topic")
    id, kind, retry = values.get("id", ""), values.get("type", ""), values.get("retry", "")
    for name, value in (("id", id), ("type", kind)):
        if any(unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in value) or len(value) > 1000:
            raise bad(f"{name} must have at most 1000 characters, and no control characters", name)
    if id.startswith("#") or id == "earliest" or _PLAIN_ID.fullmatch(id):
        raise bad("an id is not earliest, begins with no #, and is none of the hub's own", "id")
    if kind == "mercure":
        raise bad("the type mercure is the hub's own", "type")
    if retry and not (retry.isascii() and retry.isdigit() and len(retry) <= 9):
        raise bad("retry must be a number of milliseconds", "retry")
    return topics, {
        "data": values.get("data", ""),
        "type": kind,
        "id": id,
        "retry": int(retry or 0),
        "is_private": "private" in values,
    }


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
