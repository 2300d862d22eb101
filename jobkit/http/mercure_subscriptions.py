"""The hub's subscriptions as resources, and what it says of itself (RFC 9728), for clients that ask before they begin.

    GET /.well-known/mercure/subscriptions                                      all
    GET /.well-known/mercure/subscriptions/{match_type}/{match}[/{subscriber}]  1.0
    GET /.well-known/mercure/subscriptions/{topic}[/{subscriber}]               0.x

Who asks with a token of 0.x, or for `application/ld+json`, is answered in its form.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from jobkit.http import access
from jobkit.http.api import Call
from jobkit.http.mercure import bad, identify, root_of, sees_subscriptions, updates_of
from jobkit.http.mercure_tokens import DETAIL
from jobkit.http.messages import Problem, Response, json_response, to_json
from jobkit.http.presence import MATCH_TYPES, Subscription, listed, present
from jobkit.http.routing import printable
from jobkit.http.updates import NEW, OLD, id_of

LD_JSON = "application/ld+json"


async def subscriptions(call: Call) -> Response:
    """All that are active."""
    return await _listed(call, await _form_of(call), lambda one: True)


async def of_topic(call: Call) -> Response:
    """Those of one topic (0.x)."""
    form, topic = await _form_of(call), call.params["topic"]
    if form == NEW:
        raise Problem(404, "not_found", "subscriptions are found by match_type and match", "match_type")
    return await _listed(call, form, lambda one: one.match == topic)


async def of_match(call: Call) -> Response:
    """Those of one matcher (1.0), or one of a topic (0.x)."""
    form = await _form_of(call)
    a, b = call.params["match_type"], call.params["match"]  # or topic and subscriber
    if form == OLD:
        return await _one(call, form, lambda one: (one.match, one.subscriber) == (a, b))
    _require_match_type(a)
    return await _listed(call, form, lambda one: (one.match_type, one.match) == (a, b))


async def one_of_match(call: Call) -> Response:
    """One of a matcher (1.0)."""
    form = await _form_of(call)
    wanted = (call.params["match_type"], call.params["match"], call.params["subscriber"])
    _require_match_type(wanted[0])
    if form == OLD:
        raise Problem(404, "not_found", "subscriptions are found by topic and subscriber", "topic")
    return await _one(call, form, lambda one: (one.match_type, one.match, one.subscriber) == wanted)


async def metadata(call: Call) -> Response:
    """What this hub is and understands."""
    return json_response(
        {
            "resource": call.hub_url,
            "authorization_details_types_supported": [DETAIL],
            "bearer_methods_supported": ["header"],
            "mercure_cookie": "__Secure-mercure_access_token",
            "mercure_matcher_types_supported": ["exact", "urlpattern"],
            "mercure_subscriptions": True,
        }
    )


async def _form_of(call: Call) -> str:
    """The protocol to answer in.

    Raises:
        Problem: 401, or 403 where the token does not grant to subscribe to this very address.
    """
    wants_old = call.request.accepts(LD_JSON)
    grant = await identify(call, None, is_old=True)
    if grant is None:
        raise access.unauthorized("", "this hub asks for a token")
    path = f"{urlsplit(call.base).path}{call.request.path}"
    addresses = (path, f"{call.hub_url.removesuffix('/.well-known/mercure')}{call.request.path}")
    if not sees_subscriptions(grant, *addresses):
        raise access.insufficient("this token may not subscribe to this address, so it may not read it either")
    return OLD if wants_old or grant.is_old else NEW


def _require_match_type(name: str) -> None:
    if name not in MATCH_TYPES:
        raise bad(f"{printable(name)!r} is no match_type; there are {', '.join(MATCH_TYPES)}", "match_type")


async def _listed(call: Call, form: str, is_wanted: Callable[[Subscription], bool]) -> Response:
    cursor = await _cursor(call)  # before the list: who goes on from there may hear of one twice, and misses none
    found = [one for one in await present(call.kit) if is_wanted(one)]
    return _answer(call, listed(found, root_of(call), _path(call), cursor, form), cursor, form)


async def _one(call: Call, form: str, is_wanted: Callable[[Subscription], bool]) -> Response:
    cursor = await _cursor(call)
    found = next((one for one in await present(call.kit) if is_wanted(one)), None)
    if found is None:
        raise Problem(404, "not_found", "there is no such subscription, or it has ended", "subscriber")
    body = found.to_json(root_of(call), form)
    return _answer(call, {**body, "lastEventID": cursor} if form == OLD else body, cursor, form)


def _answer(call: Call, body: object, cursor: str, form: str) -> Response:
    content_type = LD_JSON if form == OLD else "application/json"
    link = f'<{call.hub_url}>; rel="mercure"; last-event-id="{cursor}"; type="mercure"; content-type="application/json"'
    headers = {"Content-Type": content_type, "Cache-Control": "private, must-revalidate, max-age=0"}
    return Response(200, to_json(body), {**headers, "Link": link} if form == NEW else headers)


async def _cursor(call: Call) -> str:
    """The position of the newest event or update."""
    tail = await call.api.tail()
    return id_of(await updates_of(call.api, tail, call).newest())


def _path(call: Call) -> str:
    return f"{urlsplit(call.base).path}{call.request.path}"
