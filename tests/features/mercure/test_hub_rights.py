"""Rights at the hub: visible updates, topics for publishers, and limits for each user."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import jwt
import pytest

from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.features.mercure.grants import hub_keys
from jobkit.features.mercure.store import HubStore
from jobkit.features.mercure.topics import reserved_for
from jobkit.features.mercure.update import HUB, JOBS
from jobkit.http.core.handling import Limits
from tests.http.direct import Answer, Direct
from tests.ui.stage import Stage

PATH = "/.well-known/mercure"
HERE = "http://localhost"
BOOK = "https://example.com/books/1"


@pytest.fixture
def hub(kit: Kit) -> Iterator[Direct]:
    """Hub without a socket, for a user on another machine."""
    limits = Limits(heartbeat_s=0.1, topics_per_subject=150, streams_per_subject=3)
    made = Direct(kit, options={"limits": limits})
    yield made
    made.close()


def hub_claims(selectors: list[str]) -> dict[str, Any]:
    """Return what `jobkit token --subscribe` adds to a token."""
    return {"mercure": {"publish": [], "subscribe": selectors}}


async def told(answer: Answer, until: str) -> list[str]:
    """Return the data of a stream's updates, up to the last public one."""
    assert answer.status == 200, answer.body
    found: list[str] = []
    async for part in answer.stream:
        found += [line.removeprefix("data: ") for line in part.decode().splitlines() if line.startswith("data: ")]
        if until in found:
            break
    await answer.stream.aclose()
    return found


def hub_token(hub: Direct, **claims: Any) -> str:
    assert hub.kit is not None
    key = hub_keys(hub.kit.settings)[0]
    return jwt.encode({"mercure": claims}, key, algorithm="HS256")


def read(hub: Direct, token: str = "", query: str = "match=*", **options: Any) -> list[str]:
    """Return all updates for a subscriber up to a last public one."""

    async def run() -> list[str]:
        publisher = hub_token(hub, publish=["*"])
        answer = await hub.asked("GET", PATH, query, token=token, headers={"last-event-id": "earliest"}, **options)
        end = f"end {secrets.token_hex(4)}"
        form = urlencode({"topic": BOOK, "data": end})
        assert (await hub.asked("POST", PATH, token=publisher, form=form)).status == 200
        return [data for data in await told(answer, end) if not data.startswith("end ")]

    return hub.run(run())


def publish(hub: Direct, topic: str, data: str = "x", **fields: str) -> int:
    form = urlencode({"topic": topic, "data": data, **fields})
    return hub.ask("POST", PATH, token=hub_token(hub, publish=["*"]), form=form).status


# -- seeing -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def everything(hub: Direct, stage: Stage) -> dict[str, str]:
    """Jobs of two users, a public and a private update, and a subscriber."""
    jobs = {
        "ada": stage.submit(id="of-ada", task="double", owner="ada"),
        "bob": stage.submit(id="of-bob", task="train_model", owner="bob"),
    }
    assert publish(hub, BOOK, "public") == 200
    assert publish(hub, BOOK, "private", private="on") == 200
    read(hub, hub_token(hub, subscribe=["nothing"]))
    return jobs


def kinds(found: list[str]) -> set[str]:
    """Return the updates by kind, in words."""
    words = set()
    for text in found:
        body = json.loads(text) if text.startswith("{") else text
        words.add(body if isinstance(body, str) else body.get("id") if "task" in body else "subscription")
    return words


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({"scopes": [], "subscribe": ["*"]}, {"of-ada", "of-bob", "public", "private", "subscription"}),
        ({"scopes": [], "subscribe": ["*"], "only_own": True, "subject": "ada"}, {"of-ada", "public"}),
        ({"scopes": ["view"], "subscribe": ["*"], "only_own": True, "subject": "ada"}, {"of-ada", "public"}),
        ({"scopes": [], "subscribe": ["*"], "tasks": ["double"]}, {"of-ada", "public"}),
        ({"scopes": ["view"], "subscribe": ["*"], "tasks": ["double"]}, {"of-ada", "public"}),
        ({"scopes": [], "subscribe": ["{+all}"], "tasks": ["double"]}, {"of-ada", "public"}),
        ({"scopes": [], "subscribe": [f"{HERE}/api/jobs/of-bob"], "tasks": ["double"]}, {"public"}),
        ({"scopes": [], "subscribe": [BOOK], "tasks": ["double"]}, {"public", "private"}),
        ({"scopes": [], "subscribe": ["https://example.com/{+any}"], "tasks": ["double"]}, {"public"}),
        ({"scopes": ["view"]}, {"of-ada", "of-bob", "public"}),
        ({"scopes": ["view"], "only_own": True, "subject": "bob"}, {"of-bob", "public"}),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),  # of a set, str is in any order
)
def test_a_subscription_grant_sees_only_what_its_role_sees(
    hub: Direct, everything: dict[str, str], options: dict[str, Any], seen: set[str]
) -> None:
    """`--own NAME --subscribe '*'` and `--tasks T --subscribe '*'` used to see all users' private updates."""
    scopes, selectors = options.pop("scopes"), options.pop("subscribe", None)
    token = hub.token(*scopes, claims=selectors and hub_claims(selectors), **options)

    assert kinds(read(hub, token)) == seen


@pytest.mark.parametrize(
    "query", [f"topic={BOOK}", f"match={BOOK}", "match=*", "match_urlpattern=https://example.com/*"]
)
def test_without_a_token_no_private_update_of_a_publisher_is_sent(
    hub: Direct, everything: dict[str, str], query: str
) -> None:
    """As conformance suites of the protocol require, also for the open server's own machine, which sees all jobs."""
    found = kinds(read(hub, "", query, is_own=True))

    assert "public" in found
    assert "private" not in found


def test_the_open_servers_own_machine_sees_jobs_and_subscriptions(hub: Direct, everything: dict[str, str]) -> None:
    assert kinds(read(hub, is_own=True)) == {"of-ada", "of-bob", "public", "subscription"}
    assert hub.ask("GET", f"{PATH}/subscriptions", is_own=True).status == 200


def test_subscriptions_are_shown_only_to_users_who_may_see_all_jobs(hub: Direct) -> None:
    path = f"{PATH}/subscriptions"
    for options in ({"only_own": True, "subject": "ada"}, {"tasks": ["double"]}):
        token = hub.token(claims=hub_claims(["*", path]), **options)
        assert hub.ask("GET", path, token=token).status == 403
    assert hub.ask("GET", path, token=hub.token(claims=hub_claims([path]))).status == 200


# -- publishing -------------------------------------------------------------------------------------------------------

#: Spellings of the path of a job; a publisher may use none of them.
OF_JOBS = [
    "/api/jobs/x",
    "/api/jobs",
    "../api/jobs/x",
    "//localhost/api/jobs/x",
    "//jobs.example/api/jobs/x",
    "http:/api/jobs/x",
    "http:///api/jobs/x",
    "http://jobs.example/api/jobs/x",
    "HTTP://JOBS.EXAMPLE/api/jobs/x",
    "http://jobs.example:80/api/jobs/x",
    "http://jobs.example:0080/api/jobs/x",
    "http://localhost:05104/api/jobs/x",
    "http://user@jobs.example/api/jobs/x",
    "http://user:word@jobs.example/api/jobs/x",
    "http://127.0.0.1:5006/api/jobs/x",
    "http://localhost:5006/team/api/jobs/x",
    "http://127.1/api/jobs/x",
    "http://[::1]:5006/api/jobs/x",
    "http://jobs.example.:80/api/jobs/x",
    "\\\\jobs.example\\api\\jobs\\x",
    "http://jobs.example\\api\\jobs\\x",
    " /api/jobs/x",
    "/./api/./jobs/x",
    "/x/../api/jobs/x",
    "/api/x/../jobs/x",
    "/api/jobs/../x",
    "/api//jobs/x",
    "/%61pi/jobs/x",
    "/%2561pi/jobs/x",
    "/%252525252561pi/jobs/x",
    "/api%2Fjobs%2Fx",
    "/x/%2e%2e/api/jobs/x",
    "/API/Jobs/x",
    "/api/jobs/x?a=1",
    "/api/jobs/x#f",
    "\N{FULLWIDTH SOLIDUS}api\N{FULLWIDTH SOLIDUS}jobs\N{FULLWIDTH SOLIDUS}x",
    "/\N{FULLWIDTH LATIN SMALL LETTER A}pi/jobs/x",
]


@pytest.mark.parametrize("topic", OF_JOBS)
def test_no_publisher_can_publish_updates_of_a_job(hub: Direct, topic: str) -> None:
    hub.api.hosts = frozenset({"jobs.example"})
    assert publish(hub, topic) == 403
    assert publish(hub, BOOK) == 200
    form = urlencode([("topic", BOOK), ("topic", topic)])
    assert hub.ask("POST", PATH, token=hub_token(hub, publish=["*"]), form=form).status == 403


@pytest.mark.parametrize(
    ("topic", "whose"),
    [
        ("/.well-known/mercure", HUB),
        ("mercure", HUB),
        ("./mercure/subscriptions/x", HUB),
        ("https://other.example/.well-known/%6dercure/x", HUB),
        ("/" + "%25" * 3 + "61", ""),
        ("/%" + "25" * 20 + "61", HUB),
        (BOOK, ""),
        ("https://other.example/team/api/jobs/x", ""),
        ("https:///other.example/api/jobs/x", JOBS),
        ("https://example.com/api/books/1", ""),
        ("https://example.com/jobs/api/1", ""),
        ("https://example.com/?path=/api/jobs/x", ""),
        ("a raw text", ""),
        ("urn:uuid:1", ""),
        ("jobs/x", ""),
        ("..", ""),
        ("x" * 4000, ""),
    ],
)
def test_topics_of_the_hub_are_reserved_and_others_are_not(topic: str, whose: str) -> None:
    assert reserved_for(topic, f"{HERE}{PATH}") == whose
    assert reserved_for(quote("/api/jobs/x", safe=""), f"{HERE}{PATH}") == JOBS


# -- how much ---------------------------------------------------------------------------------------------------------


def test_many_subscriptions_do_not_push_out_published_updates(hub: Direct, kit: Kit) -> None:
    """55 subscribers with 100 topics used to empty the hub's history."""
    store: Any = kit.verbs.store
    assert publish(hub, BOOK, "kept") == 200

    async def come_and_go() -> None:
        for n in range(15_000):
            await store.part(HubStore).publish(b"{}", is_presence=n % 5_000 != 4_999)

    background.call(come_and_go())
    found = background.call(store.part(HubStore).updates("", 50_000))
    ids = [tuple(map(int, id.split("-"))) for id, _ in found]

    assert json.loads(found[0][1])["data"] == "kept"
    assert 2_000 < len(found) < 3_000
    assert ids == sorted(set(ids))


def test_streams_and_topics_are_limited_for_each_user(hub: Direct) -> None:
    """One user used to be able to take all 1,000 streams."""
    ada, too, bob = (hub.token("view", subject=name, claims=hub_claims(["*"])) for name in ("ada", "ada", "bob"))

    async def run() -> None:
        streams = [await hub.asked("GET", path, token=ada) for path in ("/api/events", "/api/events")]
        streams.append(await hub.asked("GET", PATH, "match=a", token=too))
        assert [each.status for each in streams] == [200, 200, 200]
        refused = [await hub.asked("GET", "/api/events", token=each) for each in (ada, too)]
        assert [(each.status, each.json()["error"]) for each in refused] == [(429, "too_many_streams")] * 2
        assert refused[0].headers["Retry-After"] == "5"
        other = await hub.asked("GET", "/api/events", token=bob)
        assert other.status == 200
        for each in (*streams, other):
            await each.stream.aclose()
            await each.stream.aclose()
        many = "&".join(f"match=a{n}" for n in range(100))
        first = await hub.asked("GET", PATH, many, token=ada)
        second = await hub.asked("GET", PATH, many, token=ada)
        assert (first.status, second.status) == (200, 429)
        await first.stream.aclose()
        assert (hub.api.streams, hub.api.streams_of, hub.api.topics_of) == (0, {}, {})

    hub.run(run())


def test_tokens_without_a_name_and_addresses_are_counted_separately(kit: Kit) -> None:
    hub = Direct(kit, options={"limits": Limits(streams_per_subject=1)})

    async def run() -> list[int]:
        first, second = hub.token("view"), hub.token("view")
        answers = [await hub.asked("GET", "/api/events", token=token) for token in (first, second, second)]
        answers += [await hub.asked("GET", "/api/events", is_own=True) for _ in range(2)]
        for answer in answers:
            if answer.stream is not None:
                await answer.stream.aclose()
        return [answer.status for answer in answers]

    assert hub.run(run()) == [200, 200, 429, 200, 200]  # the open server's own machine is not limited
    hub.close()


def test_reconnecting_with_many_topics_is_slowed_down(kit: Kit) -> None:
    hub = Direct(kit, options={"limits": Limits(per_s=1, burst=250)})
    token = hub.token(subject="eve", claims=hub_claims(["*"]))
    many = "&".join(f"match=a{n}" for n in range(100))

    async def run() -> list[int]:
        found = []
        for _ in range(4):
            answer = await hub.asked("GET", PATH, many, token=token)
            found.append(answer.status)
            if answer.stream is not None:
                await answer.stream.aclose()
        return found

    assert hub.run(run()) == [200, 200, 429, 429]
    hub.close()
