"""The role matrix: every action by every role, on own and other users' jobs, over HTTP and from a browser.

Requests to pages are forged: they are sent through the websocket of a real browser, without its buttons.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

from jobkit.access.people import Account, read_login, write_login
from jobkit.client.kit import Kit
from jobkit.http.auth.access import Tokens
from jobkit.model import JobState
from jobkit.model.person import Role
from jobkit.settings import Settings, user_name
from jobkit.tasks.registry import task
from tests.security.people_site import PeopleSite, login_options
from tests.support import by_default, wait_until
from tests.ui.conftest import Window, _own_registry, browser, window
from tests.ui.stage import Stage
from tests.ui.test_all_pages import findings

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["_own_registry", "browser", "window"]

ROLES = ("none", "own", "view", "operate", "admin")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Stage with a login file that has one user of each role, named like the role."""
    login = tmp_path / "users.json"
    login.write_text(json.dumps({role: {"password": "a long password", "role": role} for role in ROLES}))
    login.chmod(0o600)
    monkeypatch.setenv("JOBKIT_HOME", str(tmp_path / "home"))
    made = Stage(Kit(Settings(url="sync://", login=str(login), secret="of these tests", home=tmp_path / "home")))

    @task
    def double(n: int = 1) -> int:
        return 2 * n

    yield made
    made.close()


@pytest.fixture
def site(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[PeopleSite]:
    from jobkit.ui.app.dashboard import Dashboard

    options = login_options(stage.kit.settings, monkeypatch)
    made = PeopleSite(stage.kit, lambda: Dashboard(stage.kit).__panel__(), **options)
    yield made
    made.close()


def jobs_of(stage: Stage, owner: str) -> dict[str, str]:
    """Submit a waiting, a running and an ended job of a user."""
    made = {"running": stage.submit("double", {"n": 1}, owner=owner, title=f"{owner}s running", queue=owner)}
    stage.start(made["running"], queue=owner)
    made["waiting"] = stage.submit("double", {"n": 1}, owner=owner, title=f"{owner}s waiting")
    made["ended"] = stage.kit.submit_info("double", {"n": 3}, owner=owner).id
    return made


@pytest.fixture
def jobs(stage: Stage, request: pytest.FixtureRequest) -> dict[str, dict[str, str]]:
    return {whose: jobs_of(stage, whose) for whose in ("foreign", request.getfixturevalue("role"))}


#: Status of each role over HTTP: for an own job, and for another user's.
LOOKS = {"none": (403, 403), "own": (200, 404), "view": (200, 200), "operate": (200, 200), "admin": (200, 200)}
ACTS = {"none": (403, 403), "own": (202, 404), "view": (403, 403), "operate": (202, 202), "admin": (202, 202)}


@pytest.mark.parametrize("role", ROLES)
def test_each_role_sees_and_does_over_http_what_it_may(
    stage: Stage, site: PeopleSite, role: str, jobs: dict[str, dict[str, str]]
) -> None:
    with site.client(role) as http:
        for n, whose in enumerate((role, "foreign")):
            mine = jobs[whose]
            for path in ("", "/result", "/logs", "/metrics", "/artifacts", "/events"):
                got = http.get(f"/api/jobs/{mine['ended']}{path}")
                assert got.status_code == LOOKS[role][n] or (got.status_code, path) == (204, "/events"), (whose, path)
            allowed = ACTS[role][n]
            assert http.post(f"/api/jobs/{mine['waiting']}/cancel").status_code == allowed
            assert (stage.kit.snapshot(mine["waiting"]).state == JobState.CANCELLED) is (allowed == 202)
            retried = http.post(f"/api/jobs/{mine['ended']}/retry")
            assert retried.status_code == allowed
            if allowed == 202:
                assert stage.kit.snapshot(retried.json()["id"]).spec.owner == role
            assert http.delete(f"/api/jobs/{mine['ended']}").status_code == (204 if allowed == 202 else allowed)

        listed = http.get("/api/jobs")
        if listed.status_code == 200:
            owners = {job["owner"] for job in listed.json()["jobs"]}
            assert ("foreign" in owners) is (LOOKS[role][1] == 200)
        made = http.post("/api/jobs", json={"task": "double", "params": {"n": 2}})
        assert made.status_code == (202 if role in ("own", "operate", "admin") else 403)
        if made.status_code == 202:
            assert stage.kit.snapshot(made.json()["id"]).spec.owner == role
        for path in ("/api/stats", "/api/metrics"):
            assert http.get(path).status_code == (403 if role in ("none", "own") else 200), path

    outcomes = {entry.outcome for entry in stage.kit.audit() if entry.action == "cancel" and entry.who == role}
    assert outcomes == {"none": {"refused"}, "view": {"refused"}, "own": {"done", "failed"}}.get(role, {"done"})


@pytest.mark.parametrize("role", ["own"])
def test_a_stream_of_all_events_has_only_the_users_own(
    stage: Stage, site: PeopleSite, role: str, jobs: dict[str, dict[str, str]]
) -> None:
    with site.client("own") as http, http.stream("GET", "/api/events", timeout=20) as stream:
        lines = stream.iter_lines()
        assert "event: ready" in [next(lines) for _ in range(3)]
        stage.kit.cancel(jobs["foreign"]["waiting"])
        stage.kit.cancel(jobs["own"]["waiting"])
        told = ""
        for line in lines:
            told += line
            if jobs["own"]["waiting"] in line:
                break

    assert jobs["foreign"]["waiting"] not in told


def test_a_token_for_own_jobs_sees_no_others(stage: Stage, site: PeopleSite) -> None:
    mine, foreign = jobs_of(stage, "ada"), jobs_of(stage, "foreign")
    tokens = Tokens("of these tests", "default")
    text, _ = tokens.make(["view", "operate"], lifetime_s=60, subject="ada", only_own=True)
    with httpx.Client(base_url=site.url, trust_env=False, headers={"Authorization": f"Bearer {text}"}) as http:
        assert http.get(f"/api/jobs/{mine['waiting']}").status_code == 200
        assert http.get(f"/api/jobs/{foreign['waiting']}").status_code == 404
        assert http.post(f"/api/jobs/{foreign['waiting']}/cancel").status_code == 404
        assert {job["owner"] for job in http.get("/api/jobs").json()["jobs"]} == {"ada"}
        assert http.get("/api/jobs", params={"search": "foreign"}).json()["jobs"] == []


#: The page has the server's document; what is drawn before that has no models yet.
LIVE = ".jk-nav .status[data-status=live]"

#: Sends requests to any component without its buttons. The drawer's head can only close it.
FORGE = """(asked) => {
  const sent = [];
  for (const document of Bokeh.documents) for (const model of document._all_models.values()) {
    const data = model.data, names = Object.keys((data && data.attributes) || {});
    const asks = names.some((name) => ['snapshot', 'page', 'picture', 'tasks'].includes(name));
    if (!asks || !names.includes('request')) continue;
    const told = asked.map((each, n) => ({...each, n: `forged-${model.id}-${n}-${Math.random()}`}));
    data.request = JSON.stringify({...told.at(-1), earlier: told.slice(0, -1)});
    sent.push(told.at(-1).n);
  }
  return sent;
}"""


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Requests to components, in order of arrival."""
    from jobkit.ui.live.control import Requests

    texts: list[str] = []
    known = Requests.of

    def spy(self: Requests, text: str) -> Any:
        texts.append(text)
        return known(self, text)

    monkeypatch.setattr(Requests, "of", spy)
    return texts


def forge(page: Page, heard: list[str], *asked: dict[str, Any]) -> None:
    """Send a request, and wait until the server has received it."""
    sent = page.evaluate(FORGE, list(asked))
    assert sent
    wait_until(lambda: all(any(n in text for text in heard) for n in sent), what="the request")


def log_in(page: Page, name: str) -> None:
    page.fill("[name=username]", name)
    page.fill("[name=password]", "a long password")
    page.click("button")
    page.wait_for_selector(".jk-nav .brand")


@pytest.mark.browser
@pytest.mark.parametrize("role", by_default(ROLES[1:] + ROLES[:1]))
def test_forged_requests_of_a_browser_do_no_more_than_the_role_may(
    stage: Stage, site: PeopleSite, window: Window, heard: list[str], role: str, jobs: dict[str, dict[str, str]]
) -> None:
    stage.beat("gpu-1")
    mine, foreign = jobs[role], jobs["foreign"]
    page = window.open(f"{site.url}/page?job={foreign['running']}")
    log_in(page, role)
    may_all, may_own = role in ("operate", "admin"), role in ("own", "operate", "admin")

    # The card of another user's job, by a direct link.
    if role in ("own", "none"):
        if role == "own":
            page.wait_for_selector(".jk-card:has-text('Job not found')")
    else:
        page.wait_for_selector(".jk-card:has-text('foreigns running')")
    forge(
        page,
        heard,
        {"action": "cancel"},
        {"action": "bulk", "what": "cancel", "ids": [foreign["waiting"], mine["waiting"]]},
        {"action": "retry", "ids": [foreign["ended"], mine["ended"]]},
        *({"action": action, "name": "secret"} for action in ("show", "save", "whole-log")),
    )
    if may_own:  # the confirmation with the count
        page.wait_for_selector(".jk-table .danger")
    forge(page, heard, {"action": "go"})
    if may_own:
        wait_until(lambda: stage.kit.snapshot(mine["waiting"]).state == JobState.CANCELLED, what="the own job to end")
    page.goto(f"{site.url}/page?page=workers")
    page.wait_for_selector(LIVE)
    if role in ("view", "operate", "admin"):
        page.wait_for_selector(".worker:has-text('gpu-1')")
    forge(page, heard, {"action": "drain_worker", "id": "gpu-1"})
    page.goto(f"{site.url}/page?page=submit")
    page.wait_for_selector(LIVE)
    if may_own:
        page.wait_for_selector(".jk-form")
    forge(page, heard, {"action": "submit", "task": "double", "fields": {"n": {"text": "7"}}, "options": {}})

    kit = stage.kit
    if may_own:
        wait_until(lambda: any(e.action == "submit" for e in kit.audit(100)), what="the submit to be handled")
        wait_until(lambda: kit.snapshot(mine["waiting"]).state == JobState.CANCELLED, what="the own job to end")
    if may_all:
        wait_until(lambda: kit.snapshot(foreign["waiting"]).state == JobState.CANCELLED, what="the other job, too")
        wait_until(lambda: kit.snapshot(foreign["running"]).is_cancelling, what="a cancel by its card")
    page.goto(f"{site.url}/page")
    page.wait_for_selector(LIVE)
    if role != "none":
        page.wait_for_selector(f".row:has-text('{role}s running')")

    assert (kit.snapshot(foreign["waiting"]).state == JobState.CANCELLED) is may_all
    assert (kit.snapshot(mine["waiting"]).state == JobState.CANCELLED) is may_own
    assert kit.snapshot(foreign["running"]).is_cancelling is may_all
    submitted = [job for job in kit.jobs(limit=100) if job.params == {"n": 7}]
    assert [job.owner for job in submitted] == ([role] if may_own else [])
    ended = any(worker.is_draining for worker in kit.workers()) or any(
        entry.action == "drain_worker" and entry.outcome == "done" for entry in kit.audit(100)
    )
    assert ended is (role == "admin")
    shown = page.evaluate(TEXT)
    assert ("foreigns" in shown) is (role in ("view", "operate", "admin")), shown
    if role == "none":
        assert "has no role here" in shown
    if role == "own":
        assert kit.audit(200)
        assert all(e.outcome in ("failed", "partly") for e in kit.audit(200) if foreign["waiting"] in e.targets)


#: All text of a page, across shadow roots.
TEXT = """() => {
  const parts = [];
  const walk = (node) => {
    if (node.nodeType === 3) parts.push(node.textContent);
    else { if (node.shadowRoot) walk(node.shadowRoot); node.childNodes.forEach(walk); }
  };
  walk(document.body);
  return parts.join(' ');
}"""


def test_without_a_login_every_route_is_refused(stage: Stage, site: PeopleSite) -> None:
    job = jobs_of(stage, "foreign")["ended"]
    with site.client() as http:
        for path in ("", "/result", "/logs", "/metrics", "/artifacts", "/artifacts/x", "/events"):
            assert http.get(f"/api/jobs/{job}{path}").status_code == 401
        for path in (
            "/api/jobs",
            "/api/tasks",
            "/api/queues",
            "/api/workers",
            "/api/stats",
            "/api/metrics",
            "/api/events",
        ):
            assert http.get(path).status_code == 401, path
        assert http.get("/page").status_code == 302
        assert http.get("/page/ws", headers=UPGRADE).status_code == 403
        for name, value in (("user", "admin"), ("is_guest", "1"), ("user_seal", "x")):
            http.cookies.set(name, value)
        assert http.get("/page").status_code == 302
        assert http.get("/api/jobs").status_code == 401


UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "bokeh, x.y",
}


def test_a_page_of_another_site_opens_no_websocket_and_forges_no_form(stage: Stage, site: PeopleSite) -> None:
    with site.client("admin") as http:
        evil = {"Origin": "https://evil.example"}
        assert http.get("/page/ws", headers={**UPGRADE, **evil}).status_code == 403
        del http.headers["X-XSRFToken"]
        assert http.post("/api/jobs", json={"task": "double"}).status_code == 403
        assert http.post("/login", data={"username": "admin", "password": "a long password"}).status_code == 403
        assert stage.kit.counts()["queued"] == 0


def test_a_login_ends_when_its_line_in_the_file_changes(stage: Stage, site: PeopleSite) -> None:
    file = Path(stage.kit.settings.login)
    with site.client("view") as http:
        assert http.get("/api/jobs").status_code == 200
        people = json.loads(file.read_text())
        people["view"]["password"] = "another long password"
        file.write_text(json.dumps(people))
        assert http.get("/api/jobs").status_code == 401
        assert http.get("/page").status_code == 302


def change(stage: Stage, name: str, **values: str) -> None:
    """Replace a user's line in the login file; without values, delete it."""
    file = Path(stage.kit.settings.login)
    people = read_login(file)
    write_login(
        file,
        {each: people[each] for each in people if each != name}
        | (
            {name: Account(values.get("password", "a long password"), Role(values.get("role", name)))} if values else {}
        ),
    )


def test_an_open_stream_ends_with_the_login_that_opened_it(stage: Stage, site: PeopleSite) -> None:
    with site.client("view") as http, http.stream("GET", "/api/events", timeout=20) as stream:
        parts = stream.iter_raw()
        next(parts)
        change(stage, "view")

        assert b'"job_id"' not in b"".join(parts)  # to its end


@pytest.mark.browser
def test_a_change_of_role_affects_the_next_action_and_then_the_page(
    stage: Stage, site: PeopleSite, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobkit.ui.access import session
    from jobkit.ui.app import dashboard

    async def not_at_all(*_: object) -> None:
        await asyncio.Event().wait()

    job = stage.submit("double", title="A job")
    monkeypatch.setattr(session, "_LOOK_S", 0.1)
    page = window.open(f"{site.url}/page?job={job}")
    with pytest.MonkeyPatch.context() as unwatched:  # holds also if a slow page reloads itself
        unwatched.setattr(dashboard, "role_changed", not_at_all)
        log_in(page, "operate")
        page.wait_for_selector(".tab:has-text('Submit')")
        page.wait_for_selector(".jk-card button:has-text('Cancel')")
        change(stage, "operate", role="view")
        page.click(".jk-card button:has-text('Cancel')")
        page.wait_for_selector("text=operate may not cancel here: that takes the role operate")
    assert stage.kit.snapshot(job).state == JobState.QUEUED

    page.reload()
    page.wait_for_selector(".tab:has-text('Failures')")
    assert page.locator(".tab:has-text('Submit')").count() == 0
    change(stage, "operate", role="operate")
    page.wait_for_selector(".tab:has-text('Submit')")  # by itself
    change(stage, "operate", password="another long password")
    page.wait_for_selector("[name=password]")
    assert page.locator("text=A job").count() == 0


def test_jobs_that_a_page_submits_belong_to_the_logged_in_user(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    owners: list[str] = []

    def app() -> str:
        jobs = [stage.kit.submit(divmod, 7, 2), *stage.kit.map(abs, [7, 8])]
        owners.extend(job.snapshot.spec.owner for job in jobs)
        return "A page"

    site = PeopleSite(stage.kit, app, **login_options(stage.kit.settings, monkeypatch))
    try:
        for name in ("view", "own"):
            with site.client(name) as http:
                http.get("/page")
            assert owners == [name] * 3
            assert len(stage.kit.batches(owner=name)) == 1
            owners.clear()
    finally:
        site.close()
    assert stage.kit.submit(divmod, 7, 2).snapshot.spec.owner == user_name()


def test_guessing_is_slowed_down(stage: Stage, site: PeopleSite) -> None:
    with site.client() as http:
        http.get("/login")
        form = {"username": "admin", "_xsrf": http.cookies["_xsrf"]}
        codes = [403]
        while codes[-1] == 403 and len(codes) < 100:  # a slow machine gains further tries meanwhile
            codes.append(http.post("/login", data={**form, "password": f"guess {len(codes)}"}).status_code)
        blocked = http.post("/login", data={**form, "password": "a long password"})

    assert codes[1] == 403
    assert codes[-1] == 429
    assert blocked.status_code == 429
    assert int(blocked.headers["Retry-After"]) >= 1


@pytest.mark.parametrize(
    "begun", ["Content-Length: 70000\r\n\r\n", f"Transfer-Encoding: chunked\r\n\r\n11170\r\n{'a' * 66_000}"]
)
def test_a_login_form_larger_than_64_kb_is_refused_before_all_of_it_is_read(site: PeopleSite, begun: str) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(site.url).port or 0), timeout=30) as stream:
        stream.sendall(f"POST /login HTTP/1.1\r\nHost: localhost\r\n{begun}".encode())
        assert b" 413 " in stream.recv(10_000)
    with site.client("view") as http:
        assert http.get("/api/jobs").status_code == 200


def test_reading_the_login_page_with_a_large_body_is_refused_once(
    site: PeopleSite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "tornado.access")
    with socket.create_connection(("127.0.0.1", urlsplit(site.url).port or 0), timeout=30) as stream:
        stream.sendall(b"GET /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 70000\r\n\r\n")
        stream.sendall(b"x" * 70_000)
        answer = stream.makefile("rb").read()
    assert answer.count(b"HTTP/1.1 413 ") == answer.count(b"<form") == 1
    wait_until(lambda: "413 GET /login" in caplog.text)
    assert "after headers written" not in caplog.text


def test_a_logout_ends_the_login_also_for_a_copy_of_its_cookie(site: PeopleSite) -> None:
    with site.client("view") as http, site.client("view") as other:
        copy = dict(http.cookies)
        with http.stream("GET", "/api/events", timeout=20) as stream:
            assert stream.status_code == 200
            assert http.get("/logout").status_code == 302
            for _ in stream.iter_raw():  # until the server ends it
                pass

        assert "user" not in http.cookies
        with httpx.Client(base_url=site.url, cookies=copy, trust_env=False, timeout=30) as thief:
            assert thief.get("/api/jobs").status_code == 401
            assert thief.get("/page").status_code == 302
        assert other.get("/api/jobs").status_code == 200  # another login of the same person


@pytest.mark.nightly
@pytest.mark.browser
def test_a_logout_ends_the_other_windows_of_its_login(stage: Stage, site: PeopleSite, window: Window) -> None:
    page = window.open(f"{site.url}/page")
    log_in(page, "view")
    second = page.context.new_page()
    second.goto(f"{site.url}/page")
    second.wait_for_selector(".tab:has-text('Failures')", timeout=60_000)

    page.goto(f"{site.url}/logout")

    second.wait_for_selector("[name=password]", timeout=60_000)


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_a_login_redirects_only_to_this_server(site: PeopleSite, wanted: str) -> None:
    with site.client() as http:
        http.get("/login")
        form = {"username": "view", "password": "a long password", "next": wanted, "_xsrf": http.cookies["_xsrf"]}
        assert http.post("/login", data=form).headers["Location"] == "/"


@pytest.mark.nightly
@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_accessibility_audit_finds_nothing_serious_at_the_login_and_at_a_refusal(
    site: PeopleSite, window: Window, theme: Any
) -> None:
    page = window.open(f"{site.url}/page", width=380, color_scheme=theme)
    page.wait_for_selector("text=Password")
    wrong = findings(page, "the login")

    for password in ("a wrong one", "a long password"):
        page.fill("[name=username]", "none")
        page.fill("[name=password]", password)
        page.click("button")
        page.wait_for_selector(".problem, .jk-notice[data-theme] .big:has-text('No access')")
        page.wait_for_timeout(300)  # after fading in
        wrong += findings(page, page.title())

    window.errors = [each for each in window.errors if "401" not in each and "403" not in each]  # the wrong password
    assert not wrong, "\n".join(wrong)


@pytest.mark.nightly
@pytest.mark.browser
def test_without_a_login_other_machines_get_one_sentence(
    stage: Stage, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobkit.access import own_machine
    from jobkit.ui.app.dashboard import Dashboard

    stage.submit("double", title="A secret job")
    made = PeopleSite(stage.kit, lambda: Dashboard(stage.kit).__panel__())
    try:
        page = window.open(f"{made.url}/page")
        page.wait_for_selector(".row:has-text('A secret job')")

        monkeypatch.setattr(own_machine, "is_loopback", lambda address: False)
        page = window.open(f"{made.url}/page")
        page.wait_for_selector("text=jobkit dashboard --host 0.0.0.0 --login users.json")
        page.wait_for_selector("text=from its own machine only")
        assert "A secret job" not in page.evaluate(TEXT)
        font = "el => getComputedStyle(el).fontFamily"
        assert "mono" not in page.locator("p:has-text('has no login')").evaluate(font)  # a sentence, not a traceback
        window.errors = [each for each in window.errors if "403" not in each]
    finally:
        made.close()
