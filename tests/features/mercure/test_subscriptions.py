"""Subscriptions as resources and as updates, in the forms of both protocols, across servers and their failures."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from jobkit.client.loop import background
from jobkit.features.mercure.store import HubStore
from tests.features.mercure.test_mercure import HUB, new_token, old_token, publish, subscription, take
from tests.http.site import Site
from tests.support import wait_until

ROOT = f"{HUB}/subscriptions"
BOOK = "https://example.com/books/1"


def active(http: httpx.Client, path: str = ROOT, **headers: str) -> list[dict[str, Any]]:
    answer = http.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["subscriptions"]
    return found


def test_subscriptions_are_listed_while_their_streams_are_open(http: httpx.Client) -> None:
    assert active(http) == []
    with subscription(http, f"match={BOOK}&match_urlpattern=/a/:id"):
        one, other = active(http)
        assert (one["type"], one["match_type"], one["match"], one["active"]) == ("subscription", "exact", BOOK, True)
        assert (other["match_type"], other["match"]) == ("urlpattern", "/a/:id")
        assert one["subscriber"] == other["subscriber"]
        assert one["subscriber"].startswith("urn:uuid:")
        assert one["id"] == f"{ROOT}/exact/{quote(BOOK, safe='')}/{quote(one['subscriber'], safe='')}"
        assert http.get(one["id"]).json() == one
        assert active(http, f"{ROOT}/urlpattern/{quote('/a/:id', safe='')}") == [other]
        assert active(http, f"{ROOT}/exact/none") == []
    wait_until(lambda: active(http) == [], what="the subscriptions to end")
    assert http.get(one["id"]).status_code == 404


def test_the_old_protocol_has_its_own_form(guarded: Site) -> None:
    rights = ["https://example.com/{id}", f"{ROOT}{{/topic}}{{/subscriber}}", ROOT]
    token = old_token(guarded, mercure={"subscribe": rights, "payload": {"name": "ada"}})
    with guarded.client(token) as http, subscription(http, f"topic={BOOK}"):
        answer = http.get(ROOT)
        whole = answer.json()
        (one,) = whole["subscriptions"]
        alone = http.get(one["id"]).json()
        of_topic = active(http, f"{ROOT}/{quote(BOOK, safe='')}")

    assert answer.headers["content-type"] == "application/ld+json"
    assert (whole["@context"], whole["type"], whole["id"]) == ("https://mercure.rocks/", "Subscriptions", ROOT)
    assert whole["lastEventID"].startswith("#")
    assert (one["type"], one["topic"], one["payload"]) == ("Subscription", BOOK, {"name": "ada"})
    assert one["id"] == f"{ROOT}/{quote(BOOK, safe='')}/{quote(one['subscriber'], safe='')}"
    assert {name: alone[name] for name in one} == one
    assert of_topic == [one]


def test_a_list_has_a_position_and_an_etag(http: httpx.Client) -> None:
    first = http.get(ROOT)
    publish(http, data="meanwhile")
    cursor = first.headers["link"].partition('last-event-id="')[2].partition('"')[0]

    assert first.headers["cache-control"] == "private, must-revalidate, max-age=0"
    assert 'rel="mercure"' in first.headers["link"]
    assert http.get(ROOT, headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    with subscription(http, "match=*", Last_Event_ID=cursor) as source:
        assert take(source, 1)[0].data == "meanwhile"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/regexp/a", 400),
        ("/regexp/a/b", 400),
        ("/exact/a/urn:nobody", 404),
        ("/exact/a/b/c", 404),
        ("/a", 404),
        ("/exact/%FF", 400),
        ("/exact/", 404),
    ],
)
def test_missing_and_invalid_subscriptions_are_refused(http: httpx.Client, path: str, status: int) -> None:
    assert http.get(f"{ROOT}{path}").status_code == status


def test_only_a_token_that_may_subscribe_to_the_address_reads_it(guarded: Site) -> None:
    with guarded.client() as http:
        assert http.get(ROOT).status_code == 401
    with guarded.client(old_token(guarded, mercure={"subscribe": ["a"]})) as http:
        refused = http.get(ROOT)
        assert (refused.status_code, refused.json()["error"]) == (403, "insufficient_scope")
    with guarded.client(guarded.token("view")) as http:
        assert http.get(ROOT).status_code == 403
    token = new_token(guarded, ["subscribe"], [{"match": f"{ROOT}/exact/:match", "match_type": "urlpattern"}])
    with guarded.client(token) as http:
        assert http.get(ROOT).status_code == 403
        assert active(http, f"{ROOT}/exact/a") == []


@pytest.mark.parametrize(
    ("query", "kind"), [(f"match_urlpattern={ROOT}/*", "mercure"), (f"topic={ROOT}{{/topic}}{{/who}}", "message")]
)
def test_new_and_ended_subscriptions_are_private_updates(http: httpx.Client, query: str, kind: str) -> None:
    with subscription(http, query) as source:
        with subscription(http, f"match={BOOK}"):  # the first one: a subscriber gets no update about itself
            (came,) = take(source, 1)
        (left,) = take(source, 1)

    for update, is_active in ((came, True), (left, False)):
        told = update.json()
        assert (update.event, told["active"]) == (kind, is_active)
        assert told.get("match", told.get("topic")) == BOOK
    assert came.json()["id"] == left.json()["id"]


def test_updates_about_subscriptions_need_the_right(guarded: Site) -> None:
    """Every client may subscribe to all topics, but gets only updates that the token covers."""
    outsider = old_token(guarded, mercure={"subscribe": [BOOK], "publish": ["*"]})
    with guarded.client(outsider) as http, subscription(http, "match=*") as source:
        with subscription(http, f"match={BOOK}"):
            pass
        publish(http, data="public")
        assert take(source, 1)[0].data == "public"


def test_an_old_protocol_page_with_all_topics_gets_no_updates_about_subscriptions(
    http: httpx.Client,
) -> None:
    with subscription(http, "topic=*") as source:
        with subscription(http, f"topic={BOOK}"):
            pass
        publish(http, data="news")
        assert take(source, 1)[0].data == "news"


def test_all_servers_list_all_subscriptions_and_report_those_of_a_dead_server(serve: Callable[..., Site]) -> None:
    """Its streams were never closed: in the store they expire, and the next server that renews publishes it."""
    first, second = serve("tornado"), serve("asgi")
    with first.client() as one, second.client() as two, subscription(one, f"match={BOOK}"):
        assert [each["match"] for each in active(two)] == [BOOK]
    wait_until(lambda: active_of(first) == [], what="the stream to end")
    with second.client() as http, subscription(http, f"match_urlpattern={ROOT}/exact/*") as source:
        dead = {"subscriber": "urn:uuid:dead", "match_type": "exact", "match": BOOK, "payload": None}
        store: Any = first.kit.verbs.store
        background.call(store.part(HubStore).attend({"urn:uuid:dead 0": json.dumps(dead).encode()}, 30))
        background.call(store.many([("ZADD", "subs:ends", 1, "urn:uuid:dead 0")]))  # its time is over
        assert "urn:uuid:dead 0" not in background.call(store.part(HubStore).attending())
        with subscription(http, "match_urlpattern=/b/:id"):
            told = take(source, 1)[0].json()
    assert (told["subscriber"], told["match"], told["active"]) == ("urn:uuid:dead", BOOK, False)


def active_of(site: Site) -> list[dict[str, Any]]:
    with site.client() as http:
        return active(http)


def test_the_hub_describes_itself(http: httpx.Client, site: Site) -> None:
    told = http.get("/.well-known/oauth-protected-resource/.well-known/mercure").json()

    assert told["resource"] == f"{site.url}{HUB}"
    assert told["authorization_details_types_supported"] == ["https://mercure.rocks/authorization-detail"]
    assert told["mercure_subscriptions"] is True


def test_matchers_may_be_in_a_body(http: httpx.Client) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    with http.stream("QUERY", f"{HUB}?match=a", content=b"match_urlpattern=/b/:id", headers=form) as stream:
        assert stream.status_code == 200
        assert [one["match"] for one in active(http)] == ["a", "/b/:id"]
    assert http.request("QUERY", HUB, content=b"match=a", headers={"Content-Type": "text/plain"}).status_code == 415
