"""Malicious requests: forged host names, pages of other sites, odd paths, fields with line breaks."""

from __future__ import annotations

import socket
from collections.abc import Callable

import httpx
import pytest

from jobkit.http.core.handling import is_trusted
from jobkit.http.messages import Request
from tests.http.site import Site


def raw(site: Site, request: bytes) -> bytes:
    """Return the server's response to exactly these bytes."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as connection:
        connection.sendall(request)
        parts = []
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def status_of(site: Site, target: str, *headers: str, method: str = "GET") -> int:
    lines = [f"{method} {target} HTTP/1.1", "Connection: close", *headers]
    answer = raw(site, "\r\n".join([*lines, "", ""]).encode("latin-1"))
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "target",
    [
        "/api/../api/jobs",
        "/api/./jobs",
        "/api//jobs",
        "/api/jobs/..",
        "/api/jobs/%2e%2e",
        "/api/jobs/..%2f..%2fetc%2fpasswd",
        "/api/jobs/x/artifacts/..%2f..%2f..%2fetc%2fpasswd",
        "/api/jobs/x/artifacts/../../../../etc/passwd",
        "/api/jobs/%00",
        "/api/jobs/a%0d%0aX-Injected:%20yes",
        "/api/jobs/*",
        "/api/jobs/" + "a" * 5000,
        "/api/jobs/x;y/result",
        "/api/JOBS",
        "/api/jobs/",
        "/api",
        "/api/docs.html",
        "/api/docs/../docs.html",
    ],
)
def test_odd_paths_are_not_found(site: Site, target: str) -> None:
    answer = raw(site, f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    assert int(answer.split(b" ", 2)[1]) in (400, 404), answer[:300]
    assert b"root:" not in answer
    assert b"\r\nx-injected" not in answer.lower()


@pytest.mark.parametrize("is_said", [True, False])
def test_a_body_of_60_mb_is_answered_and_not_cut(site: Site, is_said: bool) -> None:
    part, count = b"x" * 100_000, 600
    head = b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    head += b"Content-Length: 60000000\r\n\r\n" if is_said else b"Transfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
        connection.sendall(head)
        for _ in range(count):
            connection.sendall(part if is_said else b"186a0\r\n" + part + b"\r\n")
        connection.sendall(b"" if is_said else b"0\r\n\r\n")
        answer = b""
        while b"the body is larger than 1,048,576 bytes" not in answer:
            received = connection.recv(65_536)
            assert received, answer
            answer += received

    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:5006",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "localhost/x",
        "",
    ],
)
def test_a_forged_host_is_refused(site: Site, host: str) -> None:
    assert status_of(site, "/api/stats", f"Host: {host}") in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1:99", "[::1]:5006"])
def test_names_of_this_machine_are_served(site: Site, host: str) -> None:
    assert status_of(site, "/api/stats", f"Host: {host}") == 200


def test_an_allowed_other_host_name_is_served_but_needs_a_token(serve: Callable[..., Site]) -> None:
    site = serve(hosts=["jobs.example"])

    assert status_of(site, "/api/healthz", "Host: jobs.example:5006") == 200
    assert status_of(site, "/api/stats", "Host: jobs.example") == 401
    assert status_of(site, "/api/stats", "Host: other.example") == 421
    token = site.token("view")
    assert status_of(site, "/api/stats", "Host: jobs.example", f"Authorization: Bearer {token}") == 200


@pytest.mark.parametrize("kind", ["tornado", "asgi"])
def test_behind_a_proxy_links_and_topics_are_made_from_the_public_url(serve: Callable[..., Site], kind: str) -> None:
    site = serve(kind, public_url="https://jobs.example/kit/")
    headers = {"Host": "jobs.example", "X-Forwarded-For": "192.0.2.1"}
    with site.client(site.token("view", "submit"), headers=headers) as http:
        job = http.post("/api/jobs", json={"task": "double"}).json()
        link = http.get(f"/api/jobs/{job['id']}").headers["link"]

    assert job["topic"] == f"https://jobs.example/kit/api/jobs/{job['id']}"
    assert link.startswith('<https://jobs.example/kit/.well-known/mercure>; rel="mercure"')


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "Via: 1.1 proxy", "X-Real-IP: ::1"]
)
def test_requests_through_a_proxy_are_not_from_this_machine(site: Site, header: str) -> None:
    assert status_of(site, "/api/stats", "Host: localhost", header) == 401


def test_pages_of_other_sites_can_neither_act_nor_read(http: httpx.Client) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://["):
        acting = http.post("/api/jobs", json={"task": "double"}, headers={"Origin": origin})
        reading = http.get("/api/stats", headers={"Origin": origin})
        asking = http.options("/api/jobs", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
        assert (acting.status_code, acting.json()["error"]) == (403, "forbidden_origin")
        for answer in (acting, reading, asking):
            assert "access-control-allow-origin" not in answer.headers
    simple = http.post("/api/jobs/x/cancel", headers={"Sec-Fetch-Site": "cross-site"})
    assert simple.status_code == 403
    assert http.get("/api/jobs").json()["jobs"] == []


def test_a_page_of_this_server_may_act(http: httpx.Client, site: Site) -> None:
    assert http.post("/api/jobs", json={"task": "double"}, headers={"Origin": site.url}).status_code == 202


@pytest.mark.parametrize("kind", ["tornado", "asgi"])
def test_an_allowed_origin_may_act_with_credentials_and_no_other(serve: Callable[..., Site], kind: str) -> None:
    site = serve(kind, origins=["https://app.example"])
    with site.client() as http:
        asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        preflight = http.options("/api/jobs", headers=asked)
        answer = http.post("/api/jobs", json={"task": "double"}, headers={"Origin": "https://app.example"})
        other = http.post("/api/jobs", json={"task": "double"}, headers={"Origin": "https://app.example.evil"})

    assert preflight.status_code == 204
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    assert "last-event-id" in preflight.headers["access-control-allow-headers"].lower()
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "Origin" in answer.headers["vary"]
    assert other.status_code == 403


def test_a_cursor_cannot_bring_fields_into_a_stream(http: httpx.Client) -> None:
    with http.stream("GET", "/api/events?last_event_id=1%0Adata:%20x%0A%0A") as stream:
        begin = b""
        for part in stream.iter_raw():
            begin += part
            if b"reset" in begin:
                break

    assert b"data: x" not in begin


def test_an_unknown_method_is_refused(site: Site) -> None:
    for method in ("TRACE", "CONNECT", "PATCH", "PUT", "FOO"):
        assert status_of(site, "/api/jobs", "Host: localhost", "Content-Length: 0", method=method) in (400, 405)


def test_a_long_header_or_query_is_refused(site: Site) -> None:
    assert status_of(site, "/api/jobs?" + "a=1&" * 1500, "Host: localhost") in (400, 413)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "9" * 5_000, "1e999", '"\\ud800"', "[" * 100_000])
def test_values_that_break_other_json_readers_are_refused_in_a_sentence(http: httpx.Client, value: str) -> None:
    body = f'{{"task": "double", "params": {{"n": {value}}}}}'

    answer = http.post("/api/jobs", content=body.encode(), headers={"Content-Type": "application/json"})

    assert answer.status_code in (400, 422)
    assert answer.json()["message"]
    assert http.get("/api/jobs").json()["jobs"] == []


@pytest.mark.parametrize(
    "name", ["os:system", "os.system", "builtins:eval", "subprocess.run", "../double", "__main__:x"]
)
def test_unregistered_code_is_not_a_task(http: httpx.Client, name: str) -> None:
    answer = http.post("/api/jobs", json={"task": name, "params": {"command": "true"}})

    assert (answer.status_code, answer.json()["error"]) == (404, "unknown_task")
    assert http.get("/api/jobs").json()["jobs"] == []


def test_a_request_that_names_no_page_is_trusted_by_no_list_of_origins() -> None:
    request = Request("POST", "/api/jobs", {"host": "jobs.example"})

    assert is_trusted("https://jobs.example/app", request, ())
    assert not is_trusted("", request, {""})
