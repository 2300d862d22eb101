"""The API as users run it: `jobkit dashboard` with the API in its process, `jobkit token`, curl."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from tests.cli.conftest import Terminal, open_terminal, wait_until
from tests.support import ROOT, free_port

fresh = pytest.fixture(open_terminal, name="fresh")


@contextmanager
def running(fresh: Terminal, *options: str) -> Iterator[str]:
    """Run a dashboard with a separate home; yield its URL."""
    port = free_port()
    with fresh.start("dashboard", "--port", str(port), *options) as process:
        url = f"http://localhost:{port}"

        def answers() -> bool:
            assert process.poll() is None, process.communicate()
            try:
                with urllib.request.urlopen(f"{url}/api/healthz", timeout=2) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        wait_until(answers, what="the dashboard")
        yield url
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@pytest.fixture
def dashboard(fresh: Terminal) -> Iterator[str]:
    with running(fresh) as url:
        yield url


def curl(*arguments: str) -> str:
    assert shutil.which("curl"), "curl has to be installed"
    done = subprocess.run(
        ["curl", "-sS", "--fail-with-body", "--noproxy", "*", "-m", "60", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def test_curl_submits_a_job_to_the_dashboard_and_gets_its_end(dashboard: str) -> None:
    made = json.loads(curl(f"{dashboard}/api/jobs", "--json", '{"task": "count", "params": {"n": 3, "pause": 0.1}}'))

    told = curl("-N", f"{made['events']}?logs=true")

    names = [line.removeprefix("event: ") for line in told.splitlines() if line.startswith("event: ")]
    assert names[0] == "snapshot"
    assert names[-1] == "succeeded"
    assert "line 2" in told
    assert curl(f"{made['url']}/result") == "6"
    assert curl(f"{made['url']}/logs", "-H", "Accept: text/plain") == "line 0\nline 1\nline 2\n"
    assert "<title>" in curl("-L", f"{dashboard}/")  # the dashboard itself


@pytest.mark.nightly
def test_a_token_of_the_command_line_opens_the_api_until_it_is_revoked(fresh: Terminal, dashboard: str) -> None:
    token = fresh.ok("token", "--scope", "view,submit", "--tasks", "co*", "--name", "ada", "--expires", "1h")
    through_a_proxy = ["-H", "X-Forwarded-For: 192.0.2.1"]
    bearer = [*through_a_proxy, "-H", f"Authorization: Bearer {token}"]
    code = ["-o", os.devnull, "-w", "%{http_code}"]

    bare = subprocess.run(
        ["curl", "-s", *code, *through_a_proxy, f"{dashboard}/api/jobs"], capture_output=True, text=True
    )
    made = json.loads(curl(f"{dashboard}/api/jobs", "--json", '{"task": "count"}', *bearer))
    owner = json.loads(curl(made["url"], *bearer))["owner"]
    fresh.ok("token", "--revoke", token)
    after = subprocess.run(["curl", "-s", *code, *bearer, f"{dashboard}/api/jobs"], capture_output=True, text=True)

    assert (bare.stdout, owner, after.stdout) == ("401", "ada", "401")


@pytest.mark.nightly
def test_a_dashboard_with_an_open_stream_ends_by_sigterm(fresh: Terminal) -> None:
    with ExitStack() as streams, running(fresh) as url:
        answer = streams.enter_context(httpx.stream("GET", f"{url}/api/events", trust_env=False, timeout=60))
        assert any(line == "event: ready" for line in answer.iter_lines())
        assert httpx.get(f"{url}/favicon.ico", trust_env=False, timeout=60).status_code == 200
    # `running` has waited for the end, with the stream still open


def test_an_invalid_token_request_is_one_sentence(fresh: Terminal) -> None:
    done = fresh.run("token", "--scope", "root")
    late = fresh.run("token", "--expires", "soon")
    other = fresh.run("token", "--revoke", "abc")

    assert [d.returncode for d in (done, late, other)] == [2, 2, 2]
    assert "view, submit, operate" in done.stderr
    assert "30d" in late.stderr


def test_other_machines_need_a_login(fresh: Terminal) -> None:
    bare = fresh.run("dashboard", "--host", "0.0.0.0")
    users = fresh.folder / "users.json"
    users.write_text('{"ada": "a long password"}')
    users.chmod(0o644)
    readable = fresh.run("dashboard", "--host", "0.0.0.0", "--login", str(users))

    assert (bare.returncode, readable.returncode) == (2, 2)
    assert "--login" in bare.stderr
    assert "chmod 600" in readable.stderr


def test_the_dashboards_login_is_valid_for_the_api_with_xsrf_protection(fresh: Terminal) -> None:
    users = fresh.folder / "users.json"
    users.write_text('{"ada": "a long password"}')
    users.chmod(0o600)
    with running(fresh, "--login", str(users)) as url, httpx.Client(base_url=url, trust_env=False, timeout=20) as http:
        assert http.get("/api/jobs").status_code == 401  # also on this machine: the dashboard requires a login, too
        assert http.post("/login", data={"username": "ada", "password": "a long password"}).status_code == 403
        assert "a long password" not in http.get("/login").text
        form = {"username": "ada", "_xsrf": http.cookies["_xsrf"]}
        assert http.post("/login", data={**form, "password": "wrong"}).status_code == 403
        assert http.get("/api/jobs").status_code == 401
        done = http.post("/login", data={**form, "password": "a long password"})
        cookie = next(each for each in done.headers.get_list("set-cookie") if each.startswith("user="))
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert http.get("/api/jobs").status_code == 200
        bare = http.post("/api/jobs", json={"task": "count"})
        made = http.post("/api/jobs", json={"task": "count"}, headers={"X-XSRFToken": http.cookies["_xsrf"]})
        forms = [{"task": "count", "_xsrf": token} for token in (http.cookies["_xsrf"], "", "wrong")]
        assert [http.post("/api/jobs", data=form).status_code for form in forms] == [202, 403, 403]
        token = fresh.ok("token")
        by_token = httpx.get(f"{url}/api/jobs", headers={"Authorization": f"Bearer {token}"}, trust_env=False)

        assert (bare.status_code, bare.json()["error"]) == (403, "xsrf")
        assert made.status_code == 202
        assert http.get(made.json()["url"]).json()["owner"] == "ada"
        assert by_token.status_code == 200


@pytest.mark.nightly
def test_a_users_folder_is_served_beside_the_api(fresh: Terminal) -> None:
    (fresh.folder / "examples").mkdir()
    shutil.copytree(ROOT / "examples" / "web", fresh.folder / "examples" / "web")
    with running(fresh, "--web", "examples/web") as url:
        assert "Jobs on a plain page" in curl(f"{url}/examples/web/")
        assert "EventSource" in curl(f"{url}/examples/web/app.js")
    assert fresh.run("dashboard", "--web", "nowhere").returncode == 2
