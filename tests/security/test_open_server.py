"""A server without a login: open to the user who runs it, closed to all others on every route."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import panel as pn
import pytest
from panel.io.state import set_curdoc

from jobkit.access import own_machine
from jobkit.client.kit import Kit
from jobkit.model.person import Role
from jobkit.settings import Settings
from jobkit.ui import JobCard, bounded_server, panel_server
from tests.access.test_own_machine import as_stranger, needs_root
from tests.security.people_site import PeopleSite
from tests.support import ROOT, environment, wait_until
from tests.ui.conftest import Window, _own_registry, browser, window
from tests.ui.stage import Stage

__all__ = ["_own_registry", "browser", "window"]

SECRET_TITLE = "A secret job"


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setenv("JOBKIT_HOME", str(tmp_path / "home"))
    own_machine._home.cache_clear()
    made = Stage(Kit(Settings(url="sync://", secret="of these tests", home=tmp_path / "home")))
    made.submit("double", title=SECRET_TITLE)
    yield made
    made.close()
    own_machine._home.cache_clear()


@pytest.fixture
def site(stage: Stage) -> Iterator[PeopleSite]:
    from jobkit.ui.app.dashboard import Dashboard

    made = PeopleSite(stage.kit, lambda: Dashboard(stage.kit).__panel__())
    yield made
    made.close()


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a Mac: the system does not know the user of a connection."""
    monkeypatch.setattr(own_machine, "tcp_peer_uid", lambda peer, local: None)


def page_of(site: PeopleSite, **options: Any) -> httpx.Response:
    return httpx.get(f"{site.url}/page", timeout=30, trust_env=False, **options)


def websocket_says(
    site: PeopleSite, *, headers: dict[str, str] | None = None, payload: Any = None, host: str = ""
) -> tuple[int, bytes]:
    """Open a websocket session with a session token that anyone can make; return opcode and data of the first frame."""
    from bokeh.util.token import generate_jwt_token, generate_session_id

    token = generate_jwt_token(generate_session_id(), extra_payload=payload or {"headers": {}, "cookies": {}})
    address = urlsplit(site.url)
    host = host or address.netloc
    lines = ["GET /page/ws HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Protocol: bokeh, {token}", "Sec-WebSocket-Version: 13", f"Origin: http://{host}"]
    lines += [f"Sec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    with socket.create_connection(("127.0.0.1", address.port or 0), timeout=30) as stream:
        stream.sendall("\r\n".join([*lines, "", ""]).encode())
        reader = stream.makefile("rb")
        status = int(reader.readline().split()[1])
        while reader.readline().strip():
            pass
        if status != 101:
            return status, b""
        opcode, length = reader.read(2)
        return opcode & 15, reader.read(length if length < 126 else int.from_bytes(reader.read(2), "big"))


CLOSE, TEXT = 8, 1


def test_its_own_user_gets_in_without_typing_anything(site: PeopleSite) -> None:
    assert page_of(site).status_code == 200
    assert httpx.get(f"{site.url}/api/jobs", trust_env=False).json()["jobs"][0]["title"] == SECRET_TITLE
    assert websocket_says(site)[0] == TEXT


@needs_root
def test_another_user_of_the_machine_gets_one_sentence_on_page_api_and_websocket(site: PeopleSite) -> None:
    with as_stranger():
        page = page_of(site)
        jobs = httpx.get(f"{site.url}/api/jobs", trust_env=False)
        submit = httpx.post(f"{site.url}/api/jobs", json={"task": "double"}, trust_env=False)
        stream = httpx.get(f"{site.url}/api/events", trust_env=False)
        hub = httpx.get(f"{site.url}/.well-known/mercure?topic=*", trust_env=False)
        said = websocket_says(site)

    assert page.status_code == 403
    assert "This server belongs to another user of this machine." in page.text
    assert SECRET_TITLE not in page.text
    assert [each.status_code for each in (jobs, submit, stream)] == [401] * 3
    assert hub.status_code in (401, 403)
    assert "this server belongs to another user of this machine" in jobs.json()["message"]
    assert said == (CLOSE, (1008).to_bytes(2, "big") + b"no access")
    assert page_of(site).status_code == 200


def test_a_card_that_is_made_long_after_the_page_is_open_to_its_own_user(stage: Stage) -> None:
    documents: list[Any] = []

    def app() -> str:
        documents.append(pn.state.curdoc)
        return "A page"

    site = PeopleSite(stage.kit, app)
    try:
        with site.client() as http:
            http.get("/page")
        request = documents[0].session_context.request
        wait_until(request.connection.stream.closed, what="the end of the page's connection")
        with set_curdoc(documents[0]):
            assert JobCard(stage.kit, stage.kit.jobs()[0].id)._access.person.role is Role.ADMIN
    finally:
        site.close()


@needs_root
def test_a_session_of_its_own_user_is_closed_to_others_who_know_its_token(site: PeopleSite) -> None:
    token = re.search(r'"token":"([^"]+)"', page_of(site).text)
    assert token is not None
    with as_stranger():
        page = page_of(site, params={"bokeh-token": token[1]})
    assert page.status_code == 403


@needs_root
def test_a_role_for_anonymous_users_opens_a_server(stage: Stage) -> None:
    from jobkit.ui.app.dashboard import Dashboard

    kit = Kit(Settings(url="sync://", roles={"anonymous": "view"}))
    site = PeopleSite(kit, lambda: Dashboard(kit).__panel__())
    try:
        with as_stranger():
            assert page_of(site).status_code == 200
            assert httpx.get(f"{site.url}/api/jobs", trust_env=False).status_code == 200
            submit = httpx.post(f"{site.url}/api/jobs", json={"task": "double"}, trust_env=False)
            assert submit.status_code == 403
    finally:
        site.close()
        kit.close()


def test_headers_in_an_unsigned_session_token_open_nothing(site: PeopleSite) -> None:
    """Bokeh takes a session's headers from its token, which is unsigned by default and may omit a proxy's headers."""
    proxied = {"X-Forwarded-For": "192.0.2.1"}

    assert websocket_says(site, headers=proxied, payload={"headers": {"Host": "localhost"}})[0] == CLOSE


@pytest.mark.parametrize(
    "options",
    [{"websocket_origin": ["localhost", "jobs.example.org"]}, {"websocket_origin": "*"}],
    ids=["a name", "any name"],
)
def test_pages_and_api_are_both_closed_under_another_host_name(stage: Stage, options: dict[str, Any]) -> None:
    from jobkit.ui.app.dashboard import Dashboard

    site = PeopleSite(stage.kit, lambda: Dashboard(stage.kit).__panel__(), **options)
    try:
        page, jobs = page_of(site), httpx.get(f"{site.url}/api/jobs", trust_env=False)
        named = httpx.get(f"{site.url}/api/jobs", headers={"Host": "jobs.example.org"}, trust_env=False)
    finally:
        site.close()

    assert (page.status_code, jobs.status_code, named.status_code) == (403, 401, 401)  # and not 421
    assert "Others reach this server as" in page.text
    assert "others reach this server as" in jobs.json()["message"]


@pytest.mark.parametrize(
    ("host", "page", "login", "api", "socket"),
    [
        ("localhost:5006", 302, 200, 401, 403),
        ("10.77.0.1:5006", 302, 200, 401, 403),  # no site's name leads there under its own name
        ("jobs.example.org", 302, 200, 401, 403),
        ("evil.example", 421, 421, 421, 421),
    ],
)
def test_with_a_login_pages_websockets_and_api_are_served_under_the_same_names(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, host: str, page: int, login: int, api: int, socket: int
) -> None:
    from bokeh.server.auth_provider import AuthModule
    from panel.config import config

    from tests.security.people_site import AUTH

    monkeypatch.setattr(config, "cookie_secret", "of these tests")
    options = {"auth_provider": AuthModule(AUTH), "cookie_secret": "of these tests"}
    site = PeopleSite(stage.kit, str, websocket_origin=["localhost", "jobs.example.org"], **options)
    try:
        paths = "/page", "/login", "/api/jobs"
        answers = [httpx.get(site.url + path, headers={"Host": host}, trust_env=False) for path in paths]
        said = websocket_says(site, host=host)[0]
    finally:
        site.close()

    assert ([answer.status_code for answer in answers], said) == ([page, login, api], socket)
    refused = [answer.text for answer in answers if answer.status_code == 421]
    assert all("is not a name of this server" in text and "JOBKIT_PUBLIC_URL" in text for text in refused)


def test_with_a_public_url_pages_and_api_are_both_closed(stage: Stage) -> None:
    from jobkit.ui.app.dashboard import Dashboard

    kit = Kit(Settings(url="sync://", public_url="https://jobs.example"))
    site = PeopleSite(kit, lambda: Dashboard(kit).__panel__())
    try:
        page, jobs = page_of(site), httpx.get(f"{site.url}/api/jobs", trust_env=False)
    finally:
        site.close()
        kit.close()

    assert (page.status_code, jobs.status_code) == (403, 401)
    assert "Others reach this server as https://jobs.example" in page.text


@pytest.mark.usefixtures("untold")
def test_if_the_system_does_not_know_the_token_of_the_address_gives_a_cookie(site: PeopleSite) -> None:
    with httpx.Client(base_url=site.url, timeout=30, trust_env=False) as http:
        assert http.get("/page").status_code == 403
        assert "the address that the server printed" in http.get("/page").text
        assert http.get("/page?token=wrong").status_code == 403
        assert http.get("/api/jobs").status_code == 401
        assert not http.cookies

        came = http.get(f"/page?q=state:failed&token={own_machine.access_token()}")
        cookie = came.headers["set-cookie"]

        assert (came.status_code, came.headers["location"]) == (302, "/page?q=state%3Afailed")
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert own_machine.access_token() not in cookie
        assert http.get("/page").status_code == 200
        assert http.get("/api/jobs").json()["jobs"][0]["title"] == SECRET_TITLE
        cookies = {"Cookie": f"{next(iter(http.cookies))}={next(iter(http.cookies.values()))}"}

    assert websocket_says(site, headers=cookies)[0] == TEXT
    assert websocket_says(site)[0] == CLOSE
    forged = {"headers": {}, "cookies": {next(iter(cookies.values())).partition("=")[0]: "0" * 64}}
    assert websocket_says(site, payload=forged)[0] == CLOSE


@pytest.mark.browser
@pytest.mark.usefixtures("untold")
def test_a_browser_stays_logged_in_by_the_printed_address(site: PeopleSite, window: Window) -> None:
    page = window.open(own_machine.to_print(f"{site.url}/page"))
    page.wait_for_selector(f".row:has-text('{SECRET_TITLE}')")

    assert "token" not in page.url
    page.reload()
    page.wait_for_selector(f".row:has-text('{SECRET_TITLE}')")


@pytest.mark.browser
def test_a_page_of_another_site_cannot_put_it_into_a_frame(site: PeopleSite, window: Window, tmp_path: Path) -> None:
    (tmp_path / "trap.html").write_text(f"<iframe src='{site.url}/page' width=900 height=600></iframe>")
    page = window.open(f"file://{tmp_path}/trap.html")
    wait_until(lambda: any("frame-ancestors" in error for error in window.errors), what="the refusal of the frame")

    assert page.frames[1].locator("text=jobkit").count() == 0
    window.errors.clear()


@pytest.mark.browser
def test_a_frame_of_a_result_cannot_lead_to_another_host(site: PeopleSite, stage: Stage, window: Window) -> None:
    job = stage.running(title="Draw")
    stage.succeed(job, preview={"page": "<script>location = 'http://127.0.0.1:9/'</script>"})

    page = window.open(f"{site.url}/page?job={job}")

    page.wait_for_selector("iframe.sandbox", state="attached")
    wait_until(lambda: page.title() and any("frame-src" in error for error in window.errors), what="the refusal")
    window.errors.clear()


# -- plain `panel serve` -----------------------------------------------------------------------------------------------


@contextmanager
def serving(folder: Path, *options: str, **variables: str) -> Iterator[str]:
    """Run `panel serve dashboard.py` in a folder with a module that ends the process; yield before a page is opened."""
    (folder / "canary.py").write_text("import os\nos._exit(9)\n")
    (folder / "dashboard.py").write_text((ROOT / "dashboard.py").read_text())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "panel", "serve", "dashboard.py", "--port", str(port), *options],
            cwd=folder,
            env=environment(
                JOBKIT_URL="sync://", JOBKIT_HOME=str(folder / "home"), PYTHONPATH=f"{folder}:{ROOT}", **variables
            ),
            stdout=log,
            stderr=log,
        )
    url = f"http://localhost:{port}"
    try:
        wait_until(lambda: server.poll() is not None or _status(f"{url}/favicon.ico") == 200, what="the server")
        yield url
        assert server.poll() is None, (folder / "log").read_text()
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path) as url:
        yield url


def test_if_the_system_does_not_know_panel_serve_prints_and_opens_an_address_with_a_token(tmp_path: Path) -> None:
    """As on a Mac, with two commands: the user types nothing, and the token is on no command line."""
    (tmp_path / "sitecustomize.py").write_text(
        "import jobkit.access.own_machine\njobkit.access.own_machine.tcp_peer_uid = lambda peer, local: None\n"
    )
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened.tmp && mv {tmp_path}/opened.tmp {tmp_path}/opened\n')
    browser.chmod(0o700)
    opened = tmp_path / "opened"
    with serving(tmp_path, "--show", BROWSER=f"{browser} %s") as url:
        wait_until(opened.exists, what="the browser")
        printed = re.search(r"jobkit: open (\S+)", (tmp_path / "log").read_text())
        assert printed is not None
        assert printed[1].startswith(f"{url}/dashboard?token=")
        file = opened.read_text().strip()
        assert file.startswith("file:///")
        assert "token" not in file
        assert printed[1] in Path(file.removeprefix("file://")).read_text()
        with httpx.Client(trust_env=False, timeout=60) as http:
            assert http.get(f"{url}/dashboard").status_code == 403
            came = http.get(printed[1], follow_redirects=True)
            assert (came.status_code, str(came.url)) == (200, f"{url}/dashboard")
            root = printed[1].replace("/dashboard?", "/?q=state:failed&job=j1&")
            assert str(http.get(root, follow_redirects=True).url) == f"{url}/dashboard?q=state%3Afailed&job=j1"
        assert own_machine.TOKEN_FIELD not in (tmp_path / "log").read_text().partition(printed[1])[2]


def _status(url: str) -> int:
    try:
        return httpx.get(url, trust_env=False, timeout=30).status_code
    except httpx.TransportError:
        return 0


def test_no_path_imports_a_module_before_or_after_the_first_page(plain: str) -> None:
    paths = ["canary/x/_css/y", "unittest.__main__/x/_css/y", "jobkit.ui/Timeline/_css/y", "os/environ/css/y"]
    for _ in ("before", "after"):
        assert [_status(f"{plain}/components/{path}") for path in paths] == [404] * len(paths)
        page = httpx.get(f"{plain}/dashboard", trust_env=False, timeout=60)
        assert page.status_code == 200
    assert page.headers["content-security-policy"] == panel_server.CLOSED
    assert (page.headers["x-content-type-options"], page.headers["referrer-policy"]) == ("nosniff", "same-origin")


@needs_root
@pytest.mark.skipif(not os.access("/usr/bin/curl", os.X_OK), reason="no curl")
def test_curl_of_another_user_is_refused_and_our_own_is_not(plain: str) -> None:
    def code(**user: Any) -> str:
        argv = ["/usr/bin/curl", "-s", "-o", os.devnull, "-w", "%{http_code}", f"{plain}/dashboard"]
        return subprocess.run(argv, cwd="/", capture_output=True, text=True, check=True, **user).stdout

    assert code(user="nobody") == "403"
    assert code() == "200"


# -- every route -------------------------------------------------------------------------------------------------------

#: Handlers that answer before a login: static files of the libraries, the login form, the health check.
PUBLIC = {
    "StaticHandler": {404},
    "MultiRootStaticHandler": {404},
    "IcoHandler": {200},
    "LoginHandler": {200},
    "LogoutHandler": {302},
    "LivenessHandler": {200},
}


def test_no_route_reveals_anything_before_the_login(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check all routes of Panel, Bokeh and jobkit: a new route has to be refused or named above."""
    from bokeh.server.auth_provider import AuthModule
    from panel.config import config

    from jobkit.ui.app.dashboard import Dashboard
    from tests.security.people_site import AUTH

    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "x").write_text("of the user")
    monkeypatch.setattr(config, "cookie_secret", "of these tests")
    monkeypatch.setattr(config, "session_history", -1)
    site = PeopleSite(
        stage.kit,
        lambda: Dashboard(stage.kit).__panel__(),
        auth_provider=AuthModule(AUTH),
        cookie_secret="of these tests",
        static_dirs={"files": str(tmp_path / "files")},
        liveness=True,
    )
    told = {}
    try:
        (server, _) = site._running
        for rule in server._tornado.wildcard_router.rules:
            path = re.sub(r"\(\?!.*?\)|\?:", "", rule.matcher.regex.pattern).rstrip("$").replace("/?", "/")
            path = re.sub(r"\([^()]*(\([^()]*\)[^()]*)*\)", "x", path).replace("\\", "").replace(".*", "x")
            path = "/api/jobs" if rule.target.__name__ == "ApiHandler" else path.lstrip("^")
            answer = httpx.get(f"{site.url}{path}?bokeh-autoload-element=x", trust_env=False, timeout=30)
            is_refused = answer.status_code in (401, 403) or "/login" in answer.headers.get("location", "")
            if not is_refused and answer.status_code not in PUBLIC.get(rule.target.__name__, set()):
                told[path] = rule.target.__name__, answer.status_code
        assert _status(f"{site.url}/liveness?endpoint=/page") == 403
        assert _status(f"{site.url}/rest/session_info") == 403
    finally:
        site.close()
    assert told == {}


def test_a_client_that_never_ends_its_headers_or_its_body_is_cut(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobkit.ui import panel_server

    monkeypatch.setattr(panel_server, "HEADER_S", 0.5)
    monkeypatch.setattr(panel_server, "BODY_S", 0.5)
    site = PeopleSite(stage.kit, lambda: None)
    try:
        for begun in (
            "GET /page HTTP/1.1\r\nHost: loc",
            "POST /page HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx",
        ):
            with socket.create_connection(("127.0.0.1", urlsplit(site.url).port or 0), timeout=60) as stream:
                stream.sendall(begun.encode())
                assert stream.recv(10_000) == b""
    finally:
        site.close()


@pytest.mark.parametrize("path", ["/page", "/login", "/static/js/bokeh.min.js", "/api/jobs"])
@pytest.mark.parametrize("is_said", [True, False])
def test_a_body_of_60_mb_gets_a_sentence_and_not_a_cut_connection(site: PeopleSite, path: str, is_said: bool) -> None:
    part = b"x" * 100_000
    how = "Content-Length: 60000000" if is_said else "Transfer-Encoding: chunked"
    with socket.create_connection(("127.0.0.1", urlsplit(site.url).port or 0), timeout=60) as stream:
        stream.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{how}\r\n\r\n".encode())
        for _ in range(600):
            stream.sendall(part if is_said else b"186a0\r\n" + part + b"\r\n")
        stream.sendall(b"" if is_said else b"0\r\n\r\n")
        answer = stream.makefile(
            "rb"
        ).read()  # to its end, or the server may still have the connection when it is closed
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b" is larger than " in answer


@pytest.mark.parametrize("path", ["/page", "/api/jobs"])
@pytest.mark.parametrize("is_behind_proxy", [True, False])
def test_a_body_that_is_too_large_gets_one_response(stage: Stage, path: str, is_behind_proxy: bool) -> None:
    site = PeopleSite(stage.kit, str, use_xheaders=is_behind_proxy)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 5000000\r\n"
    try:
        with socket.create_connection(("127.0.0.1", site.port), timeout=30) as stream:
            stream.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode() + b"x" * 5_000_000)
            answer = stream.makefile("rb").read()
    finally:
        site.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("limit", [5_000, None])
def test_a_limit_for_bodies_that_is_given_holds(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    monkeypatch.setattr(bounded_server, "DRAINED_BYTES", 1_000)
    site = PeopleSite(stage.kit, str, http_server_kwargs={"max_body_size": limit})
    try:
        answer = httpx.post(f"{site.url}/page", content=b"x" * 3_000, timeout=30, trust_env=False)
    finally:
        site.close()
    assert answer.status_code == 405  # of the page itself


def test_strange_paths_are_refused_on_every_route_and_never_an_error(site: PeopleSite) -> None:
    (server, _) = site._running
    rules = [rule.matcher.regex.pattern for rule in server._tornado.wildcard_router.rules]
    folders = {match[0] for pattern in rules if (match := re.match(r"\^?(/[\w/.-]*)", pattern))}
    odd = ["%00", "x%00.js", "%ff", "..", "%2e%2e", "%2e%2e%2f%2e%2e%2fetc/passwd", "%", "%zz", "%c0%ae", "a" * 300]
    told = {
        path: _raw_status(site, path) for path in (f"{folder.rstrip('/')}/{one}" for folder in folders for one in odd)
    }

    assert len(told) >= 100
    assert {path: status for path, status in told.items() if status >= 500} == {}
    assert {status for path, status in told.items() if "%00" in path} == {400}


def _raw_status(site: PeopleSite, path: str) -> int:
    with socket.create_connection(("127.0.0.1", urlsplit(site.url).port or 0), timeout=60) as stream:
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return int(stream.recv(100).split()[1])
