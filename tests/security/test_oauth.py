"""Logins at an OAuth provider as users set them up: `jobkit dashboard --oauth` over TLS, and `panel serve` behind a
proxy that terminates TLS. The provider, the servers and the browser are real."""

from __future__ import annotations

import base64
import json
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest

import jobkit
from tests.security.provider import Provider
from tests.store.server import Server
from tests.support import ROOT, environment, free_port, wait_until
from tests.ui.conftest import Window, browser, window
from tests.ui.forwarder import Forwarder
from tests.ui.stage import Stage
from tests.ui.test_all_pages import findings

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["browser", "window"]

pytestmark = pytest.mark.browser

PEOPLE: dict[str, dict[str, Any]] = {
    "ada": {"email": "ada@lab.example", "name": "Ada", "email_verified": True},
    "bob": {"email": "bob@lab.example"},
    "cy": {"email": "cy@other.example", "groups": ["chess", "gpu-team"]},
    "eve": {"email": "eve@other.example", "groups": ["chess"]},
    "mallory": {"email": "ada@lab.example", "email_verified": False},
}

ROLES = "ada@lab.example=admin,@gpu-*=operate,*@lab.example=own"


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    made = Provider(PEOPLE)
    yield made
    made.close()


@pytest.fixture(scope="module")
def redis() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.stop()


@contextmanager
def running(argv: list[str], folder: Path, url: str, certificates: Path, **more: str) -> Iterator[Path]:
    """Run a server's process; yield its log once it answers at `url`."""
    log = folder / "server.log"
    tls = ssl.create_default_context(cafile=str(certificates / "ca.crt"))

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"{url}/login", verify=tls, trust_env=False).status_code in (200, 302)
        except httpx.TransportError:
            return False

    with log.open("wb") as output:
        process = subprocess.Popen(argv, cwd=folder, env=environment(**more), stdout=output, stderr=output)
        try:
            wait_until(answers, what="the server")
            yield log
        finally:
            process.terminate()
            process.wait(60)
    said = log.read_text()
    assert "Traceback" not in said, said


@pytest.fixture(scope="module")
def dashboard(
    provider: Provider, redis: Server, certificates: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    port = free_port()
    url = f"https://localhost:{port}"
    provider.returns.append(url)
    argv = [sys.executable, "-m", "jobkit", "dashboard", "--port", str(port), "--oauth", "generic"]
    argv += ["--cert", str(certificates / "server.crt"), "--key", str(certificates / "server.key")]
    variables = {"JOBKIT_URL": redis.url, "JOBKIT_SECRET": "of these tests", "JOBKIT_ROLES": ROLES}
    with running(argv, tmp_path_factory.mktemp("oauth"), url, certificates, **variables, **provider.environ):
        yield url


@pytest.fixture
def kit(redis: Server) -> Iterator[jobkit.Kit]:
    with jobkit.connect(redis.url, secret="of these tests") as made:
        yield made


@pytest.fixture
def http(certificates: Path, dashboard: str) -> Iterator[httpx.Client]:
    tls = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    with httpx.Client(base_url=dashboard, verify=tls, trust_env=False, timeout=30) as made:
        yield made


def waiting(kit: jobkit.Kit, owner: str) -> None:
    Stage(kit).submit(id=uuid4().hex, owner=f"{owner}@lab.example", title=f"of {owner}")


def enter(window: Window, url: str, who: str, sockets: list[str] | None = None) -> Page:
    page = window.open(url, ignore_https_errors=True)  # the certificate is from the test CA
    page.wait_for_selector("text=ada")
    assert "/authorize?" in page.url
    page.on("websocket", lambda socket: sockets.append(socket.url) if sockets is not None else None)
    page.click(f"button:has-text('{who}')")
    page.wait_for_selector(".jk-nav .who .name")
    return page


def come_back(http: httpx.Client, provider: Provider, who: str, **changes: str) -> httpx.Response:
    """Log in without a browser, with a changed answer of the provider."""
    asked = http.get("/login").headers["Location"]
    back = httpx.get(f"{asked}&who={who}", trust_env=False).headers["Location"]
    return http.get("/login", params={**httpx.URL(back).params, **changes})


@pytest.mark.nightly  # the gate runs it all the same
def test_a_user_of_a_provider_is_named_owns_their_jobs_and_can_log_out(
    dashboard: str, window: Window, kit: jobkit.Kit
) -> None:
    waiting(kit, "ada")

    page = enter(window, f"{dashboard}/app?page=submit&task=estimate_pi", "bob")
    assert page.inner_text(".jk-nav .who .name") == "bob@lab.example"
    assert page.url.startswith(f"{dashboard}/app?page=submit")  # the requested page
    page.click("button.submit")
    page.wait_for_selector(".jk-card .chip:has-text('Queued')")
    assert [job.owner for job in kit.jobs(task="estimate_pi")] == ["bob@lab.example"]
    page.click(".tab:has-text('Jobs')")
    page.wait_for_selector(".jk-table .row")
    assert page.locator(".jk-table .row:has-text('of ada')").count() == 0  # the role is `own`

    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    secret = {"user", "id_token", "access_token", "oauth_expiry"}
    assert secret <= set(cookies)
    for name in secret:
        marks = cookies[name]["secure"], cookies[name]["httpOnly"], cookies[name]["sameSite"]
        assert marks == (True, True, "Lax"), name

    page.click("text=Log out")
    page.wait_for_selector("text=You are logged out here")
    assert not secret & {cookie["name"] for cookie in page.context.cookies()}
    page.goto(f"{dashboard}/app")
    page.wait_for_selector("text=ada")
    assert "/authorize?" in page.url


@pytest.mark.nightly
def test_the_table_of_roles_may_name_groups_of_the_provider(dashboard: str, window: Window, kit: jobkit.Kit) -> None:
    waiting(kit, "ada")

    page = enter(window, f"{dashboard}/app", "cy")
    page.wait_for_selector(".jk-table .row:has-text('of ada')")

    assert page.locator(".tab:has-text('Submit')").count() == 1
    assert page.locator(".tab:has-text('Audit')").count() == 0


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("who", "status", "owners"),
    [
        ("ada", 200, {"ada@lab.example", "bob@lab.example"}),
        ("bob", 200, {"bob@lab.example"}),
        ("cy", 200, {"ada@lab.example", "bob@lab.example"}),
        ("eve", 403, None),  # known to the provider, but not in the table
        ("mallory", 403, None),  # an unverified address
    ],
)
def test_a_login_at_a_provider_opens_the_api_for_its_role(
    provider: Provider, http: httpx.Client, kit: jobkit.Kit, who: str, status: int, owners: set[str] | None
) -> None:
    for owner in ("ada", "bob"):
        waiting(kit, owner)

    assert come_back(http, provider, who).status_code == 302

    answer = http.get("/api/jobs")
    assert answer.status_code == status
    if owners is not None:
        assert {job["owner"] for job in answer.json()["jobs"]} == owners


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"error": "access_denied", "error_description": "ada <b>said</b> no"}, "The login failed: ada said no"),
        ({"error": "é✓\r\nX-Evil: 1", "error_description": "%s {{ 7 * 191 }}"}, "%s {{ 7 * 191 }}"),
        ({"state": "of another login"}, "OAuth state mismatch"),
        ({"code": "made up"}, "this code is not of mine"),
    ],
)
def test_an_error_at_the_login_is_one_sentence(
    provider: Provider, http: httpx.Client, changes: dict[str, str], said: str
) -> None:
    answer = come_back(http, provider, "ada", **changes)

    assert 400 <= answer.status_code < 500, answer.text
    text = re.sub(r"(?s)<style>.*?</style>", "", answer.text)
    assert said in text
    assert "Traceback" not in text
    assert "http" not in text.replace("httponly", "")  # loads nothing from other hosts
    assert "x-evil" not in answer.headers
    assert "user" not in http.cookies
    assert http.get("/api/jobs").status_code == 401


@pytest.mark.nightly
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_accessibility_audit_finds_nothing_serious_at_a_failed_login_and_a_logout(
    dashboard: str, window: Window, theme: Any
) -> None:
    page = window.open(
        f"{dashboard}/login?error=access_denied&error_description=no", ignore_https_errors=True, color_scheme=theme
    )
    page.wait_for_selector("text=The login failed")
    wrong = findings(page, "a failed login")
    page.goto(f"{dashboard}/logout")
    page.wait_for_selector("text=You are logged out here")
    wrong += findings(page, "the way out")

    window.errors = [each for each in window.errors if "status of 40" not in each]  # the login that failed
    assert not wrong, "\n".join(wrong)


@pytest.mark.nightly
def test_an_altered_cookie_or_one_of_another_login_is_refused(provider: Provider, http: httpx.Client) -> None:
    assert come_back(http, provider, "cy").status_code == 302
    assert http.get("/api/jobs").status_code == 200
    team = http.cookies["id_token"]
    known = http.cookies["user"]
    name = base64.b64encode(b"ada@lab.example").decode()
    for forged in (known[:-1] + "0", known.replace(known.split(":")[4].partition("|")[0], name), "ada@lab.example", ""):
        http.cookies.set("user", forged, domain="localhost.local", path="/")
        assert http.get("/api/jobs").status_code == 401, forged
        assert http.get("/app").status_code == 302, forged

    # Groups of one login are not those of another.
    http.cookies.clear()
    assert come_back(http, provider, "eve").status_code == 302
    assert http.get("/api/jobs").status_code == 403
    http.cookies.set("id_token", team, domain="localhost.local", path="/")
    assert http.get("/api/jobs").status_code == 403
    token = base64.urlsafe_b64encode(json.dumps({"email": "eve@other.example", "groups": ["gpu-team"]}).encode())
    http.cookies.set("id_token", token.decode(), domain="localhost.local", path="/")
    assert http.get("/api/jobs").status_code == 403


@pytest.fixture
def proxied(provider: Provider, redis: Server, certificates: Path, tmp_path: Path) -> Iterator[str]:
    """`panel serve dashboard.py` as documented, behind a proxy that terminates TLS and adds a prefix."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    proxy = Forwarder("team/jobs", strips=False, tls=tls)
    proxy.target = free_port()
    url = f"https://localhost:{proxy.port}/team/jobs"
    provider.returns.append(url)
    argv = [sys.executable, "-m", "panel", "serve", str(ROOT / "dashboard.py"), "--plugins", "jobkit.http"]
    argv += ["--address", "127.0.0.1", "--port", str(proxy.target), "--prefix", "team/jobs", "--use-xheaders"]
    argv += ["--enable-xsrf-cookies", "--session-ids", "signed", "--oauth-provider", "auth_code"]
    argv += ["--allow-websocket-origin", f"localhost:{proxy.port}"]
    for option in ("--oauth-error-template", "--logout-template"):
        argv += [option, str(ROOT / "jobkit" / "http" / "oauth.html")]
    variables = {"JOBKIT_URL": redis.url, "JOBKIT_SECRET": "of these tests", "JOBKIT_ROLES": ROLES}
    variables |= {"JOBKIT_PUBLIC_URL": url, "PANEL_OAUTH_REDIRECT_URI": f"{url}/login"}
    variables |= {"PANEL_COOKIE_SECRET": "a" * 32, "BOKEH_SECRET_KEY": "b" * 32}
    variables |= {"PANEL_OAUTH_ENCRYPTION": base64.urlsafe_b64encode(b"c" * 32).decode(), **provider.environ}
    try:
        with running(argv, tmp_path, url, certificates, **variables):
            yield url
    finally:
        proxy.close()


@pytest.mark.nightly
def test_a_login_by_pkce_works_for_panel_serve_behind_a_proxy_with_tls_and_a_prefix(
    provider: Provider, proxied: str, certificates: Path, window: Window, kit: jobkit.Kit
) -> None:
    tls = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    with httpx.Client(verify=tls, trust_env=False, timeout=30) as http:
        for wrong in (
            {"error": "access_denied", "error_description": "ada said no"},
            {"code": "x", "state": "another"},
        ):
            answer = http.get(f"{proxied}/login", params=wrong)
            assert answer.status_code in (400, 401)
            assert "The login failed: " in answer.text
    provider.tells = "userinfo"
    waiting(kit, "ada")
    sockets: list[str] = []
    page = enter(window, f"{proxied}/dashboard?page=workers", "cy", sockets)
    page.wait_for_selector("text=No worker runs")
    page.click(".tab:has-text('Jobs')")
    page.wait_for_selector(".jk-table .row:has-text('of ada')")
    provider.tells = "id_token"

    assert provider.said == "pkce"
    assert page.url.startswith(f"{proxied}/dashboard")
    assert [each.partition("?")[0] for each in sockets] == [f"{proxied.replace('https', 'wss')}/dashboard/ws"]
    status = page.evaluate("fetch('/team/jobs/api/jobs').then((r) => r.status)")
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    assert status == 200
    assert {name for name, each in cookies.items() if not each["secure"]} <= {"jobkit-theme"}
    assert {name for name, each in cookies.items() if not each["httpOnly"]} <= {"jobkit-theme", "_xsrf"}
    assert {each["sameSite"] for each in cookies.values()} == {"Lax"}
    page.click("text=Log out")
    page.wait_for_selector("text=You are logged out here")
    assert "user" not in {cookie["name"] for cookie in page.context.cookies()}
