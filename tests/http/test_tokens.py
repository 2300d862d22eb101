"""Tokens: their permissions, and that they cannot be made without the secret."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest

from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.http.auth.access import InvalidToken, Tokens
from jobkit.http.routes import ROUTES
from jobkit.model import InvalidParams
from tests.http.site import Site
from tests.support import wait_until
from tests.ui.stage import Stage

NOW = 1_800_000_000.0


@pytest.fixture
def tokens() -> Tokens:
    return Tokens("of these tests", "team")


def accepts(tokens: Tokens, text: str) -> bool:
    try:
        tokens.read(text)
    except InvalidToken:
        return False
    return True


def claims_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(text, options={"verify_signature": False})
    return found


def forged(
    tokens: Tokens, *, key: bytes | str | None = None, algorithm: str = "HS256", headers: Any = None, **claims: Any
) -> str:
    """Return a token like a valid one, with a change."""
    kid, own = next(iter(tokens._keys.items()))
    whole = {**claims_of(tokens.make(["view"], lifetime_s=3600)[0]), **claims}
    whole = {name: value for name, value in whole.items() if value is not None}
    heads = {"typ": "at+jwt", "kid": kid, **(headers or {})}
    return jwt.encode(whole, own if key is None else key, algorithm=algorithm, headers=heads)


def test_a_token_has_its_claims(tokens: Tokens) -> None:
    text, made = tokens.make(["view", "submit"], lifetime_s=60, tasks=["train_*"], subject="ada")

    read = tokens.read(text)

    assert read == made
    assert read.scopes == {"view", "submit"}
    assert (read.covers("train_model"), read.covers("double")) == (True, False)
    assert read.subject == "ada"


@pytest.mark.parametrize("secret", ["of these tests", "old, of these tests", "of these tests,next"])
def test_a_rotated_secret_still_reads_the_old_tokens(tokens: Tokens, secret: str) -> None:
    text, _ = tokens.make(["view"], lifetime_s=60)

    assert Tokens(secret, "team").read(text).may("view")


def test_the_first_secret_signs() -> None:
    text, _ = Tokens("new,old", "team").make(["view"], lifetime_s=60)

    assert Tokens("new", "team").read(text).may("view")
    with pytest.raises(InvalidToken):
        Tokens("old", "team").read(text)


@pytest.mark.parametrize(("secret", "namespace"), [("another", "team"), ("of these tests", "other"), ("", "team")])
def test_another_secret_or_namespace_does_not_read_it(tokens: Tokens, secret: str, namespace: str) -> None:
    with pytest.raises(InvalidToken):
        Tokens(secret, namespace).read(tokens.make(["view"], lifetime_s=60)[0])


def test_an_expired_or_early_token_is_refused(tokens: Tokens) -> None:
    old, _ = tokens.make(["view"], lifetime_s=60, now=time.time() - 120)
    early, _ = tokens.make(["view"], lifetime_s=600, now=time.time() + 300)

    with pytest.raises(InvalidToken, match="expired"):
        tokens.read(old)
    with pytest.raises(InvalidToken, match="not yet"):
        tokens.read(early)


@pytest.mark.filterwarnings("ignore:The HMAC key is")  # older PyJWT does not have its class
def test_forged_tokens_are_refused(tokens: Tokens) -> None:
    whole = claims_of(tokens.make(["view"], lifetime_s=3600)[0])
    kid = next(iter(tokens._keys))
    head, _, signature = tokens.make(["view"], lifetime_s=3600)[0].split(".")
    other_body = tokens.make(["operate"], lifetime_s=3600)[0].split(".")[1]
    attempts = {
        "alg none": jwt.encode(whole, "", algorithm="none", headers={"typ": "at+jwt", "kid": kid}),
        "another algorithm": forged(tokens, algorithm="HS512"),
        "the secret itself as key": forged(tokens, key="of these tests padded to a length"),
        "the key's name as key": forged(tokens, key=kid.encode() * 4),
        "another key's name": forged(tokens, headers={"kid": "0" * 12}),
        "a path as key's name": forged(tokens, headers={"kid": "../../dev/null"}),
        "no type": forged(tokens, headers={"typ": "JWT"}),
        "another audience": forged(tokens, aud="else"),
        "no audience": forged(tokens, aud=None),
        "another issuer": forged(tokens, iss="else"),
        "no end": forged(tokens, exp=None),
        "no id": forged(tokens, jti=None),
        "another body": f"{head}.{other_body}.{signature}",
        "no signature": f"{head}.{other_body}.",
        "nothing": "",
        "nonsense": "a.b.c",
        "not ASCII": "ä.ö.ü",
        "very long": "a" * 100_000,
    }
    for name, text in attempts.items():
        assert not accepts(tokens, text), name


def test_an_unreadable_list_of_tasks_does_not_mean_all(tokens: Tokens) -> None:
    assert not tokens.read(forged(tokens, tasks="double")).covers("double")


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"scopes": ["root"]}, "scope"),
        ({"scopes": []}, "scope"),
        ({"lifetime_s": 0}, "expires"),
        ({"lifetime_s": 3.1536e9}, "expires"),
        ({"tasks": [""]}, "tasks"),
    ],
)
def test_invalid_tokens_are_refused_with_the_field(tokens: Tokens, asked: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidParams) as refused:
        tokens.make(**{"scopes": ["view"], "lifetime_s": 60, **asked})

    assert refused.value.field == field
    assert "e+" not in str(refused.value)


# -- over HTTP ---------------------------------------------------------------------------------------------------------


def test_reading_submitting_and_acting_each_need_their_scope() -> None:
    """`tests/security/test_matrix.py` has the routes that need one."""
    for route in ROUTES:
        wanted = "view" if route.method == "GET" else "submit" if route.path == "/api/jobs" else "operate"
        assert route.scope in ("", wanted), route


@pytest.mark.parametrize("kind", ["tornado", "asgi"])
def test_every_route_requires_a_token_with_its_scope(serve: Callable[..., Site], kind: str) -> None:
    site = serve(kind, is_open_on_loopback=False)
    scopes = {"view", "submit", "operate"}
    for route in ROUTES:
        if not (scope := route.scope):
            continue
        method, path = route.method, re.sub(r"{\w+}", "x", route.path)
        with site.client() as nobody, site.client(site.token(*(scopes - {scope}))) as other:
            bare = nobody.request(method, path)
            short = other.request(method, path)
        assert (bare.status_code, bare.headers["www-authenticate"]) == (401, 'Bearer realm="jobkit"'), (method, path)
        assert short.status_code == 403, (method, path)
        assert 'error="insufficient_scope"' in short.headers["www-authenticate"]
        assert f'scope="{scope}"' in short.headers["www-authenticate"]


def test_a_token_opens_and_names_the_owner(guarded: Site) -> None:
    with guarded.client(guarded.token("view", "submit", subject="ada")) as http:
        job = http.post("/api/jobs", json={"task": "double"}).json()

        assert http.get(job["url"]).json()["owner"] == "ada"


def test_a_refused_token_is_reported_as_such(guarded: Site) -> None:
    with guarded.client("abc") as http:
        answer = http.get("/api/jobs")
    with guarded.client(headers={"Authorization": "Basic YTpi"}) as http:
        basic = http.get("/api/jobs")

    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert (basic.status_code, basic.json()["error"]) == (400, "invalid_request")
    assert 'error="invalid_request"' in basic.headers["www-authenticate"]


def test_a_wrong_token_is_refused_even_by_an_open_server(site: Site) -> None:
    with site.client("abc") as http:
        assert http.get("/api/jobs").status_code == 401


def test_a_token_in_the_query_opens_nothing(guarded: Site) -> None:
    token = guarded.token("view")
    with guarded.client() as http:
        assert http.get(f"/api/jobs?authorization={token}").status_code == 401
        assert http.get(f"/api/jobs?access_token={token}").status_code == 401
        assert http.get("/api/jobs", headers={"Cookie": f"mercureAuthorization={token}"}).status_code == 401


@pytest.mark.parametrize("kind", ["tornado", "asgi"])
def test_a_token_in_the_query_is_not_logged(
    serve: Callable[..., Site], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Protocol 0.x of Mercure puts it there; the server's access log must not have it."""
    site = serve(kind, is_open_on_loopback=False, is_logging=True)
    logger = logging.getLogger("uvicorn.access" if kind == "asgi" else "tornado.access")
    monkeypatch.setattr(logger, "handlers", [caplog.handler])  # not by the root logger: others may have changed the way
    monkeypatch.setattr(logger, "propagate", False)
    caplog.set_level(logging.INFO, logger.name)
    with site.client() as http:
        for token in (site.token("view"), "not.a.token"):
            assert http.get(f"/.well-known/mercure/subscriptions?authorization={token}").status_code == 401
            assert http.get(f"/api/jobs?authorization={token}").status_code == 401
            http.get(f"/.well-known/mercure?topic=a&topic=&authorization={token}")

    wait_until(lambda: caplog.text.count("/.well-known/mercure") >= 4, what=f"the access log, {vars(logger)}")
    assert "eyJ" not in caplog.text
    assert "not.a.token" not in caplog.text


def test_guessing_tokens_is_slowed_down(guarded: Site) -> None:
    with guarded.client("abc") as http:
        statuses = [http.get("/api/jobs").status_code for _ in range(30)]

    assert statuses[0] == 401
    assert statuses[-1] == 429


def revoke(kit: Kit, token: str) -> None:
    grant = Tokens(kit.settings.login_secret, kit.settings.namespace).read(token)
    background.call(kit.verbs.store.web.revoke(grant.token_id, grant.expires_at))


def test_a_revoked_token_opens_nothing_and_its_streams_end(guarded: Site, kit: Kit) -> None:
    token = guarded.token("view")
    with guarded.client(token) as http, http.stream("GET", "/api/events") as stream:
        parts = stream.iter_raw()
        next(parts)
        revoke(kit, token)

        assert http.get("/api/jobs").status_code == 401
        assert b'"job_id"' not in b"".join(parts)  # to its end


def test_a_busy_stream_ends_with_its_token_too(guarded: Site, kit: Kit, stage: Stage) -> None:
    token = guarded.token("view")
    with guarded.client(token) as http, http.stream("GET", "/api/events") as stream:
        parts = stream.iter_raw()
        next(parts)
        revoke(kit, token)
        for count, _ in enumerate(parts):
            stage.submit()  # so that each time there is something to send
            assert count < 200


def test_a_stream_ends_with_its_token(guarded: Site) -> None:
    token = guarded.token("view", lifetime_s=2)
    with guarded.client(token) as http, http.stream("GET", "/api/events") as stream:
        b"".join(stream.iter_raw())

    assert time.time() >= claims_of(token)["exp"] - 1


def test_a_token_for_some_tasks_sees_and_does_nothing_else(guarded: Site, stage: Stage) -> None:
    mine, others = stage.submit(task="train_model"), stage.submit(task="double")
    token = guarded.token("view", "submit", "operate", tasks=["train_*"])
    with guarded.client(token) as http:
        assert [job["id"] for job in http.get("/api/jobs").json()["jobs"]] == [mine]
        assert http.get(f"/api/jobs/{others}").json()["error"] == "job_not_found"
        assert http.post(f"/api/jobs/{others}/cancel").status_code == 404
        assert http.get(f"/api/jobs/{others}/events").status_code == 404
        assert http.post("/api/jobs", json={"task": "double"}).status_code == 403
        assert http.get("/api/events?task=double").status_code == 403
        assert [task["name"] for task in http.get("/api/tasks").json()["tasks"]] == ["train_model"]
        assert http.post("/api/jobs", json={"task": "train_model"}).status_code == 202


def test_health_and_the_document_need_no_token(guarded: Site) -> None:
    with guarded.client() as http:
        assert http.get("/api/healthz").status_code == 200
        assert http.get("/api/openapi.json").status_code == 200
        assert http.get("/api/docs").status_code == 200


def test_a_server_without_a_secret_accepts_no_token(serve: Callable[..., Site], kit: Kit) -> None:
    from dataclasses import replace

    bare = Kit(replace(kit.settings, secret=""))
    try:
        site = serve(kit=bare, is_open_on_loopback=False)
        with site.client("abc") as http:
            assert "JOBKIT_SECRET" in http.get("/api/jobs").json()["message"]
    finally:
        bare.close()


def test_too_many_requests_have_to_wait(serve: Callable[..., Site]) -> None:
    from jobkit.http.core.handling import Limits

    site = serve(limits=Limits(per_s=0.5, burst=5))
    with site.client() as http:
        answers: list[httpx.Response] = [http.get("/api/stats") for _ in range(7)]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 2
