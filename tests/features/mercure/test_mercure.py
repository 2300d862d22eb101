"""The hub by its specification: subscribe, publish, tokens of both forms, resume, and every refusal."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import jwt
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.features.mercure.grants import hub_keys
from jobkit.features.mercure.store import HubStore
from jobkit.features.mercure.updates import UPDATES_PAGE
from jobkit.http.core import tail
from jobkit.http.core.handling import Limits
from jobkit.model import InvalidParams, JobSpec
from jobkit.store.values import Submission
from tests.http.site import Site
from tests.ui.stage import Stage

HUB = "/.well-known/mercure"


@contextmanager
def subscription(http: httpx.Client, query: str, **headers: str) -> Iterator[Iterator[ServerSentEvent]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with connect_sse(http, "GET", f"{HUB}?{query}", headers=named) as source:
        assert source.response.status_code == 200, source.response.read()
        yield source.iter_sse()


def take(source: Iterator[ServerSentEvent], n: int) -> list[ServerSentEvent]:
    return list(itertools.islice(source, n))


def publish(http: httpx.Client, topic: str | list[str] = "https://example.com/books/1", **fields: Any) -> str:
    answer = http.post(HUB, data={"topic": topic, **fields})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    return answer.text


def key_of(site: Site) -> str:
    return hub_keys(site.kit.settings)[0]


def old_token(site: Site, *, key: str | None = None, **claims: Any) -> str:
    return jwt.encode(claims, key or key_of(site), algorithm="HS256")


def new_token(site: Site, actions: list[str], topics: list[dict[str, str]], **claims: Any) -> str:
    whole = {
        "iss": "https://issuer.example",
        "aud": f"{site.url}{HUB}",
        "exp": int(time.time()) + 600,
        "authorization_details": [
            {"type": "https://mercure.rocks/authorization-detail", "actions": actions, "topics": topics}
        ],
        **claims,
    }
    return jwt.encode(
        {k: v for k, v in whole.items() if v is not None}, key_of(site), algorithm="HS256", headers={"typ": "at+jwt"}
    )


# -- subscribing ----------------------------------------------------------------------------------------------------


def test_a_page_for_a_hub_follows_a_job_by_its_url(http: httpx.Client, stage: Stage) -> None:
    job = http.post("/api/jobs", json={"task": "double"}).json()
    with subscription(http, f"topic={job['topic']}") as source:
        stage.start(job["id"])
        (running,) = take(source, 1)
        stage.succeed(job["id"])
        (ended,) = take(source, 1)

    assert (running.event, running.json()["state"]) == ("message", "running")
    read = http.get(job["url"]).json()
    assert read == {**ended.json(), "waits_for": "", "starts_at": None, "ahead": None, "cancelled": None}
    assert ended.id.startswith("#")


@pytest.mark.parametrize(
    "query",
    [
        "topic={base}/api/jobs/{{id}}",
        "topic=*",
        "topic=/api/jobs/{{id}}",
        "match={url}",
        "match_exact={url}",
        "match=*",
        "match_urlpattern={base}/api/jobs/:id",
        "match_urlpattern=/api/jobs/*",
        "match_urlpattern=*",
        "match=nothing&match_urlpattern=/api/:what/:id",
    ],
)
def test_a_job_is_found_by_selectors_of_both_protocols(
    http: httpx.Client, site: Site, stage: Stage, query: str
) -> None:
    job_id = stage.submit()
    url = f"{site.url}/api/jobs/{job_id}"
    with subscription(http, query.format(base=site.url, url=url)) as source:
        stage.start(job_id)

        assert take(source, 1)[0].json()["id"] == job_id


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "match"),
        ("other=1", "match"),
        ("Match=a", "matcher"),
        ("match_regexp=a", "matcher"),
        ("topic=a&match=b", "0.x"),
        ("topic=" + "a" * 5000, "4096"),
        ("match=%00", "control"),
        ("match=%E2%80%8B", "control"),
        ("match=%FF", "UTF-8"),
        ("match_urlpattern=/(%3F=a)", "not understood"),
        ("topic=a{b", "braces"),
        ("&".join(["match=a"] * 101), "at most 100"),
        ("match=a&last_event_id=1&last_event_id=2", "twice"),
    ],
)
def test_an_invalid_subscription_is_a_400(http: httpx.Client, query: str, says: str) -> None:
    answer = http.get(f"{HUB}?{query}")

    assert answer.status_code == 400, answer.text
    assert says in answer.json()["message"]


def test_a_stream_begins_with_a_comment_at_once(http: httpx.Client) -> None:
    with http.stream("GET", f"{HUB}?match=*") as stream:
        assert next(stream.iter_raw()).startswith(b":\n")
        assert stream.headers["content-type"] == "text/event-stream"
        assert stream.headers["cache-control"] == "private, no-cache, no-store, must-revalidate, max-age=0"


# -- publishing -----------------------------------------------------------------------------------------------------


def test_an_update_reaches_its_subscribers_completely(http: httpx.Client) -> None:
    with subscription(http, "topic=https://example.com/books/{id}") as source:
        publish(http, "https://example.com/other")
        id = publish(
            http,
            ["https://example.com/a", "https://example.com/books/1"],
            data="one\ntwo\r\nid: 3",
            type="t",
            id="urn:x:1",
            retry="500",
        )
        (update,) = take(source, 1)

    assert id == "urn:x:1"
    assert (update.id, update.event, update.data, update.retry) == ("urn:x:1", "t", "one\ntwo\nid: 3", 500)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "topic"),
        ({"topic": ""}, "topic"),
        ({"topic": "*"}, "topic"),
        ({"topic": "/.well-known/mercure"}, "topic"),
        ({"topic": "/.well-known/mercure/subscriptions/x"}, "topic"),
        ({"topic": "/.well-known/%6Dercure/subscriptions"}, "topic"),
        ({"topic": "/.well-known/%256Dercure/subscriptions"}, "topic"),
        ({"topic": "/a/../.well-known/mercure/x"}, "topic"),
        ({"topic": "{base}/.well-known/mercure/x"}, "topic"),
        ({"topic": "a\nb"}, "topic"),
        ({"topic": "a\u200b"}, "topic"),
        ({"topic": "a", "id": "#x"}, "id"),
        ({"topic": "a", "id": "earliest"}, "id"),
        ({"topic": "a", "id": "a\rb"}, "id"),
        ({"topic": "a", "id": "1-0"}, "id"),
        ({"topic": "a", "type": "a\nb"}, "type"),
        ({"topic": "a", "type": "mercure"}, "type"),
        ({"topic": "a", "retry": "1.5"}, "retry"),
        ({"topic": "a", "retry": "-1"}, "retry"),
        ({"topic": "a", "retry": "١"}, "retry"),
    ],
)
def test_an_update_that_is_not_allowed_is_a_400(
    http: httpx.Client, site: Site, fields: dict[str, str], field: str
) -> None:
    fields = {name: value.replace("{base}", site.url) for name, value in fields.items()}
    answer = http.post(HUB, data=fields or {"data": "x"})

    assert (answer.status_code, answer.json()["field"]) == (400, field), answer.text


def test_data_that_is_not_utf_8_is_a_400_and_too_many_topics_a_413(http: httpx.Client) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    assert http.post(HUB, content=b"topic=a&data=%FF", headers=form).status_code == 400
    assert http.post(HUB, content=b"topic=a&" * 1001, headers=form).status_code == 413
    assert http.post(HUB, data={"topic": ["a" * 4000] * 5}).status_code == 413
    assert http.post(HUB, json={"topic": "a"}).status_code == 415


def test_the_topics_of_jobs_cannot_be_published_to(http: httpx.Client, site: Site) -> None:
    for topic in (f"{site.url}/api/jobs/x", "/api/jobs/x", "../api/jobs/x", "/%61pi/jobs/x"):
        assert http.post(HUB, data={"topic": topic}).status_code == 403, topic


# -- tokens ---------------------------------------------------------------------------------------------------------


def test_without_a_token_there_is_a_bare_401(guarded: Site) -> None:
    with guarded.client() as http:
        for answer in (http.get(f"{HUB}?match=a"), http.post(HUB, data={"topic": "a"})):
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="jobkit"')


@pytest.mark.parametrize("claim", ["mercure", "https://mercure.rocks/"])
def test_tokens_of_the_old_form_publish_and_subscribe(guarded: Site, claim: str) -> None:
    token = old_token(
        guarded, **{claim: {"publish": ["https://example.com/{id}"], "subscribe": ["https://example.com/1"]}}
    )
    with guarded.client(token) as http, subscription(http, "topic=*") as source:
        refused = http.post(HUB, data={"topic": ["https://example.com/1", "https://example.org/1"]})
        publish(http, "https://example.com/2", private="", data="not for me")
        publish(http, "https://example.com/1", private="on", data="for me")
        publish(http, "https://example.com/2", data="for all")
        told = [update.data for update in take(source, 2)]

    assert refused.status_code == 403
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
    assert told == ["for me", "for all"]


def test_tokens_of_the_new_form_publish_and_subscribe(guarded: Site) -> None:
    token = new_token(
        guarded,
        ["publish", "subscribe", "dance"],
        [{"match": "https://example.com/:id", "match_type": "urlpattern"}, {"match": "other"}],
    )
    with guarded.client(token) as http, subscription(http, "match=*") as source:
        publish(http, "https://example.com/2", private="", data="a")
        publish(http, "other", private="", data="b")
        assert http.post(HUB, data={"topic": "https://example.com/2/3"}).status_code == 403
        assert [update.data for update in take(source, 2)] == ["a", "b"]


def test_tokens_that_are_not_for_this_hub_are_a_401(guarded: Site) -> None:
    any_topic = [{"match": "*"}]
    past = int(time.time()) - 100
    tokens = {
        "another key": old_token(guarded, key="another key that is long enough for it", mercure={"publish": ["*"]}),
        "no claim": old_token(guarded),
        "old and expired": old_token(guarded, mercure={"publish": ["*"]}, exp=past),
        "old and early": old_token(guarded, mercure={"publish": ["*"]}, nbf=past + 1000),
        "another hub": new_token(guarded, ["publish"], any_topic, aud="https://other.example/.well-known/mercure"),
        "no hub": new_token(guarded, ["publish"], any_topic, aud=None),
        "no end": new_token(guarded, ["publish"], any_topic, exp=None),
        "expired": new_token(guarded, ["publish"], any_topic, exp=past),
        "early": new_token(guarded, ["publish"], any_topic, nbf=past + 1000),
        "no issuer": new_token(guarded, ["publish"], any_topic, iss=None),
        "unknown kind": new_token(guarded, ["publish"], [{"match": "a", "match_type": "regexp"}]),
        "no topics": new_token(guarded, ["publish"], "a"),  # type: ignore[arg-type]
        "none": jwt.encode({"mercure": {"publish": ["*"]}}, "", algorithm="none"),
    }
    for name, token in tokens.items():
        with guarded.client(token) as http:
            answer = http.post(HUB, data={"topic": "a"})
        assert answer.status_code in (401, 429), name
        if answer.status_code == 401:
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_a_token_for_localhost_is_for_a_hub_on_loopback_at_any_port(guarded: Site) -> None:
    token = new_token(guarded, ["publish"], [{"match": "*"}], aud=f"https://localhost{HUB}")
    with guarded.client(token) as http:
        publish(http)
        assert http.post(HUB, data={"topic": "a"}, headers={"host": "jobs.example.org"}).status_code in (401, 421)


def test_a_hub_token_does_not_open_the_api(guarded: Site) -> None:
    with guarded.client(old_token(guarded, mercure={"publish": ["*"], "subscribe": ["*"]})) as http:
        assert http.get("/api/jobs").status_code == 401


def test_updates_of_jobs_are_private(guarded: Site, stage: Stage) -> None:
    mine, others = stage.submit(task="train_model"), stage.submit(task="double")
    url = f"{guarded.url}/api/jobs/{mine}"
    by_topic = old_token(guarded, mercure={"subscribe": [url]})
    by_task = guarded.token("view", tasks=["train_*"])
    for token in (by_topic, by_task):
        with guarded.client(token) as http, subscription(http, "topic=*", Last_Event_ID="earliest") as source:
            assert take(source, 1)[0].json()["id"] == mine
    with guarded.client(old_token(guarded, mercure={"subscribe": []})) as http:
        publisher = guarded.client(old_token(guarded, mercure={"publish": ["*"]}))
        with subscription(http, "topic=*", Last_Event_ID="earliest") as source, publisher:
            publish(publisher, "a", data="public")
            assert take(source, 1)[0].data == "public"
    assert others


def test_only_the_old_protocol_takes_tokens_in_the_query_and_cookies_of_its_name(guarded: Site) -> None:
    token = old_token(guarded, mercure={"subscribe": ["*"]})
    with guarded.client() as http:
        assert http.get(f"{HUB}?match=a&authorization={token}").status_code == 401
        assert http.get(f"{HUB}?match=a", headers={"Cookie": f"mercureAuthorization={token}"}).status_code == 401
        for query, cookie in [
            (f"topic=a&authorization={token}", ""),
            ("topic=a", f"mercureAuthorization={token}"),
            ("match=a", f"__Secure-mercure_access_token={token}"),
        ]:
            with http.stream("GET", f"{HUB}?{query}", headers={"Cookie": cookie} if cookie else {}) as stream:
                assert stream.status_code == 200


def test_publishing_by_cookie_needs_a_page_that_is_allowed(serve: Callable[..., Site]) -> None:
    site = serve(is_open_on_loopback=False, origins=["https://app.example"])
    cookie = {"Cookie": f"mercureAuthorization={old_token(site, mercure={'publish': ['*']})}"}
    with site.client(headers=cookie) as http:
        bare = http.post(HUB, data={"topic": "a"})
        evil = http.post(HUB, data={"topic": "a"}, headers={"Referer": "https://evil.example/x"})
        broken = http.post(HUB, data={"topic": "a"}, headers={"Referer": "http://["})
        good = http.post(HUB, data={"topic": "a"}, headers={"Origin": "https://app.example"})
        referred = http.post(HUB, data={"topic": "a"}, headers={"Referer": "https://app.example/x"})

    assert [a.status_code for a in (bare, evil, broken, good, referred)] == [400, 400, 400, 200, 200]


def test_a_stream_ends_with_its_token(guarded: Site) -> None:
    token = old_token(guarded, mercure={"subscribe": ["*"]}, exp=int(time.time()) + 2)
    with guarded.client(token) as http, http.stream("GET", f"{HUB}?topic=*") as stream:
        assert b"data" not in b"".join(stream.iter_raw())


# -- resume ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("query", "header"), [("topic=*", "last-event-id"), ("match=*", "mercure-last-event-id")])
def test_a_reconnected_client_gets_jobs_and_updates_in_one_order(
    http: httpx.Client, stage: Stage, query: str, header: str
) -> None:
    publish(http, data="0")
    job = stage.submit()
    publish(http, data="1")
    publish(http, data="2", id="urn:x:2")
    stage.start(job)
    publish(http, data="3")
    with subscription(http, query, Last_Event_ID="earliest") as source:
        everything = take(source, 6)
    shown = [update.data if len(update.data) < 5 else update.json()["id"] for update in everything]

    assert shown == ["0", job, "1", "2", job, "3"]
    for n, update in enumerate(everything[:-1]):
        with connect_sse(http, "GET", f"{HUB}?{query}", headers={"Last-Event-ID": update.id}) as source:
            assert source.response.headers[header] == update.id
            rest = take(source.iter_sse(), 5 - n)
        assert [each.id for each in rest] == [each.id for each in everything[n + 1 :]]


@pytest.mark.parametrize("name", ["last_event_id", "lastEventID", "lastEventId", "Last-Event-ID"])
def test_the_position_may_be_in_the_query_but_the_header_wins(http: httpx.Client, name: str) -> None:
    ids = [publish(http, data=str(n)) for n in range(3)]
    with subscription(http, f"topic=*&{name}={ids[0].replace('#', '%23')}") as source:
        assert [update.data for update in take(source, 2)] == ["1", "2"]
    with subscription(http, f"topic=*&{name}={ids[0].replace('#', '%23')}", Last_Event_ID=ids[1]) as source:
        assert [update.data for update in take(source, 1)] == ["2"]


def test_for_an_unknown_position_everything_kept_is_sent(http: httpx.Client) -> None:
    publish(http, data="0")
    for cursor in ("urn:unknown", "#9999999999999-0", "earliest"):
        with connect_sse(http, "GET", f"{HUB}?match=*", headers={"Last-Event-ID": cursor}) as source:
            assert source.response.headers["mercure-last-event-id"] == "earliest"
            assert take(source.iter_sse(), 1)[0].data == "0"
    with connect_sse(http, "GET", f"{HUB}?match=*&last_event_id=") as source:
        assert source.response.headers["mercure-last-event-id"] == "earliest"
    with http.stream("GET", f"{HUB}?match=*") as stream:
        assert "mercure-last-event-id" not in stream.headers


def test_an_id_of_two_updates_means_the_earlier_one(http: httpx.Client) -> None:
    for data in "abc":
        publish(http, data=data, id="urn:same" if data != "c" else "urn:other")
    with subscription(http, "topic=*", Last_Event_ID="urn:same") as source:
        assert [update.data for update in take(source, 2)] == ["b", "c"]


def test_a_reconnected_client_does_not_wait_at_pages_without_own_updates(
    serve: Callable[..., Site], stage: Stage
) -> None:
    """It used to wait for the next event or heartbeat at each page, which takes 15 s."""
    stage.submit(id="first")
    others = [Submission(JobSpec(f"other{n}", "double"), b"") for n in range(3 * tail.PAGE)]
    background.call(stage.store.submit(others))
    site = serve(limits=Limits(heartbeat_s=3600))
    with site.client() as http:
        for _ in range(UPDATES_PAGE + 1):
            publish(http, "https://example.com/theirs")
        publish(http, "https://example.com/mine", data="it")
        stage.submit(id="last")
        asked = "match=/api/jobs/first&match=/api/jobs/last&match=https://example.com/mine"
        with subscription(http, asked, Last_Event_ID="earliest") as source:
            first, update, last = take(source, 3)

    assert [first.json()["id"], update.data, last.json()["id"]] == ["first", "it", "last"]


def test_large_updates_are_kept_only_up_to_a_total_size(kit: Kit) -> None:
    ids = [background.call(kit.verbs.store.part(HubStore).publish(b"x" * 4_000_000)) for _ in range(12)]

    assert [id for id, _ in background.call(kit.verbs.store.part(HubStore).updates("", 100))] == ids[-8:]


def test_a_hub_may_have_the_key_that_publishers_have_already(serve: Callable[..., Site], kit: Kit) -> None:
    key = "the key of an app that is older than this hub"
    (derived,) = hub_keys(kit.settings)
    with Kit(replace(kit.settings, mercure_key=key)) as given:
        site, may = serve(kit=given, is_open_on_loopback=False), {"mercure": {"publish": ["*"]}}
        with site.client() as http:
            answers = [
                http.post(
                    HUB,
                    data={"topic": "https://a.example", "data": "x"},
                    headers={"Authorization": f"Bearer {jwt.encode(may, each, algorithm='HS256')}"},
                )
                for each in (key, derived)
            ]

    assert [answer.status_code for answer in answers] == [200, 401]


def test_python_code_publishes_to_subscribers_of_a_topic(http: httpx.Client, kit: Kit) -> None:
    topic = "https://shop.example/orders/7"
    with subscription(http, f"topic={topic}&last_event_id=earliest") as source:
        kit.publish(topic, {"state": "paid"}, private=False, type="order")
        (update,) = take(source, 1)

    assert (update.event, update.json()) == ("order", {"state": "paid"})


def test_private_updates_of_python_code_need_a_token_that_names_the_topic(guarded: Site) -> None:
    mine, other = "https://shop.example/orders/7", "https://shop.example/orders/8"
    may = {"Authorization": f"Bearer {old_token(guarded, mercure={'subscribe': [mine]})}"}
    with guarded.client() as http, subscription(http, "topic=*&last_event_id=earliest", **may) as source:
        guarded.kit.publish(other, "secret")
        guarded.kit.publish(mine, "for me")
        (update,) = take(source, 1)

    assert update.data == "for me"


@pytest.mark.parametrize(
    ("topic", "data", "said"),
    [
        ("https://a.example/api/jobs/1", "x", "those of jobs"),
        ("/.well-known/mercure/subscriptions", "x", "the hub has its own"),
        ("*", "x", "not a topic"),
        ("", "x", "must be text"),
        ("https://a.example", object(), "data must be text"),
        ("https://a.example", "x" * 2_000_000, "at most 1,048,576 bytes"),
    ],
)
def test_updates_of_python_code_that_are_not_allowed_are_refused(kit: Kit, topic: str, data: object, said: str) -> None:
    with pytest.raises(InvalidParams, match=said):
        kit.publish(topic, data)
