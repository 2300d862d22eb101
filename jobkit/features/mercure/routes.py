"""Routes of Mercure's hub."""

from __future__ import annotations

from typing import Any

from jobkit.features.mercure import hub, subscriptions
from jobkit.features.mercure.grants import PATH
from jobkit.features.mercure.topics import MATCH_TYPES
from jobkit.http.messages import ANY, EVENT_STREAM, Handler, Route


def _hub(method: str, path: str, handler: Handler, *answers: Any, **options: Any) -> Route:
    """A route of the hub, which identifies the caller itself: it accepts more kinds of tokens than the API."""
    return Route(method, f"{PATH}{path}", handler, answers, tag="mercure", asks_itself=True, **options)


def _subscriptions(path: str, handler: Handler, **schemas: Any) -> Route:
    answers = None, subscriptions.LD_JSON
    return _hub("GET", f"/subscriptions{path}", handler, *answers, others=(401, 403, 404), schemas=schemas)


_MATCH = {"match": ANY}
_METADATA = f"/.well-known/oauth-protected-resource{PATH}"

ROUTES = (
    _hub("GET", "", hub.subscribe, EVENT_STREAM, others=(401, 429), rel="mercure", exposes=("Mercure-Last-Event-ID",)),
    _hub("POST", "", hub.publish, "text/plain", others=(401, 403, 413, 415)),
    _hub("QUERY", "", hub.subscribe, EVENT_STREAM, others=(401, 415, 429)),
    _subscriptions("", subscriptions.subscriptions),
    _subscriptions("/{topic}", subscriptions.of_topic, topic=ANY),
    _subscriptions("/{match_type}/{match}", subscriptions.of_match, match_type=ANY, **_MATCH),  # it may be a topic
    _subscriptions(
        "/{match_type}/{match}/{subscriber}",
        subscriptions.one_of_match,
        match_type={"type": "string", "enum": list(MATCH_TYPES)},
        subscriber=ANY,
        **_MATCH,
    ),
    Route("GET", _METADATA, subscriptions.metadata, (None,), tag="mercure"),
)
