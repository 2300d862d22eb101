"""The entry in JupyterLab's launcher: the dashboard behind the proxy and the login of a Jupyter server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError
from urllib.request import Request

import httpx
import psutil
import pytest

import jobkit
from jobkit.access.own_machine import JUPYTER_PID_VARIABLE, PROXIED_VARIABLE
from jobkit.cli.launcher import entry
from jobkit.cli.serve import hub_role
from jobkit.embedded import launch
from jobkit.model.person import Role
from jobkit.settings import Settings
from tests.store.server import Server
from tests.support import NO_FORMAT_PARSER, ROOT, answers, environment, free_port, wait_until
from tests.ui.conftest import Window, browser, window

__all__ = ["browser", "window"]

proxy = pytest.importorskip("jupyter_server_proxy.config", reason="it is not installed: pip install -e .[jupyter]")

SECRET = "of these tests"


@contextmanager
def jupyter(redis: Server, **variables: str) -> Iterator[tuple[psutil.Process, str, Path]]:
    """Run a Jupyter server; yield its process, its URL and its folder."""
    url = f"http://127.0.0.1:{(port := free_port())}/base"
    with tempfile.TemporaryDirectory(prefix="jk-", dir="/tmp") as folder:
        environ = environment(TMPDIR=folder, HOME=folder, JOBKIT_URL=redis.url, JOBKIT_SECRET=SECRET, **variables)
        argv = [sys.executable, "-c", f"{NO_FORMAT_PARSER}; from jupyter_server.serverapp import main; main()"]
        argv += ["--allow-root", "--no-browser", f"--port={port}"]
        argv += ["--ServerApp.base_url=/base", "--IdentityProvider.token=sesame", f"--ServerApp.root_dir={folder}"]
        with (Path(folder) / "log").open("wb") as log:
            process = psutil.Popen(argv, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                wait_until(lambda: answers(f"{url}/login"), what="the Jupyter server")
                yield process, url, Path(folder)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(60)
        # The proxy itself logs some, of browsers that are gone.
        assert f'File "{ROOT}/jobkit/' not in (Path(folder) / "log").read_text()


@pytest.fixture
def served(redis: Server) -> Iterator[tuple[httpx.Client, Path]]:
    """The command of the entry, as jupyter-server-proxy runs it for ada of a JupyterHub; a client on its socket."""
    process = proxy.ServerProcess(name="jobkit", **entry())
    assert Path(process.launcher_entry.icon_path).read_text().startswith("<svg ")
    with tempfile.TemporaryDirectory(prefix="jk-", dir="/tmp") as folder:
        socket = Path(folder) / "socket"
        argv = [part.format(unix_socket=socket, base_url="/user/ada/") for part in process.command]
        hub = {"JUPYTERHUB_USER": "ada", "JUPYTERHUB_API_URL": "http://127.0.0.1:1"}  # it names no admins
        environ = environment(JOBKIT_URL=redis.url, JOBKIT_SECRET=SECRET, PANEL_OAUTH_PROVIDER="github", **hub)
        with subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                wait_until(socket.exists, what="the dashboard's socket")
                transport = httpx.HTTPTransport(uds=str(socket))
                with httpx.Client(
                    transport=transport, base_url="http://hub.example/user/ada/jobkit", timeout=30
                ) as http:
                    http.headers["X-Forwarded-Proto"] = "https"
                    yield http, socket
            finally:
                server.terminate()


def test_the_entry_serves_the_dashboard_of_this_user_on_a_private_socket(
    redis: Server, served: tuple[httpx.Client, Path]
) -> None:
    http, socket = served

    assert [http.get(path).status_code for path in ("/app", "/static/js/bokeh.min.js")] == [200, 200]
    assert "_xsrf" not in http.cookies  # would be Jupyter's own
    made = http.post("/api/jobs", json={"task": "count_words", "params": {}}, headers={"Authorization": "token x"})
    assert made.json()["url"].startswith("https://hub.example/user/ada/jobkit/api/jobs/")
    with jobkit.connect(redis.url, secret=SECRET) as kit:
        assert kit.get(made.json()["id"]).owner == "ada"
        kit.submit(len, "abc")
    assert [job["owner"] for job in http.get("/api/jobs").json()["jobs"]] == ["ada"]  # the role is `own`
    assert socket.stat().st_mode & 0o077 == 0
    assert http.post("/api/jobs", json={"task": "x"}, headers={"Origin": "https://other.example"}).status_code == 403


@pytest.mark.parametrize(
    ("said", "roles", "role"),
    [
        ({"name": "ada", "admin": True}, {"*": "view"}, Role.ADMIN),
        ({"name": "ada", "admin": False}, {}, Role.OWN),
        ({"name": "ada", "admin": "true"}, {}, Role.OWN),
        ({"name": "ada", "groups": ["gpu-1"]}, {"@gpu-*": "operate", "*": "own"}, Role.OPERATE),
        ({"name": "ada"}, {"bob": "admin"}, Role.NONE),
        (None, {"*": "view"}, Role.VIEW),
        (None, {}, Role.OWN),
    ],
)
def test_the_hub_and_the_table_of_roles_decide_what_its_user_may_do(
    said: dict[str, object] | None, roles: dict[str, str], role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: Request, timeout: float) -> BytesIO:
        assert (request.full_url, request.headers["Authorization"]) == ("http://hub/api/user", "token t")
        if said is None:
            raise URLError("refused")
        return BytesIO(json.dumps(said).encode())

    monkeypatch.setenv("JUPYTERHUB_API_URL", "http://hub/api")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "t")
    monkeypatch.setattr("jobkit.cli.serve._hub", SimpleNamespace(open=answer))

    assert hub_role("ada", Settings(url="redis://team", roles=roles)) is role
    assert hub_role("ada", Settings(roles=roles)) is Role.ADMIN  # the embedded server is theirs alone


def test_a_hub_that_cannot_be_asked_names_no_admins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUPYTERHUB_API_URL", raising=False)

    assert hub_role("ada", Settings(url="redis://team")) is Role.OWN


def test_what_the_dashboard_starts_is_not_behind_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedded server that a page starts passes its environment to workers and jobs."""
    monkeypatch.setenv(PROXIED_VARIABLE, "admin:ada")
    monkeypatch.setenv(JUPYTER_PID_VARIABLE, "1")

    assert {PROXIED_VARIABLE, JUPYTER_PID_VARIABLE}.isdisjoint(launch.environment())


@pytest.mark.nightly
@pytest.mark.browser
def test_the_launcher_opens_the_dashboard_of_this_user(redis: Server, window: Window) -> None:
    """Prefix, websocket, API, streams and static files work, with the login of the Jupyter server alone."""
    hub = {"JUPYTERHUB_USER": "ada", "JUPYTERHUB_API_URL": "http://127.0.0.1:1"}  # without its table of admins
    with jupyter(redis, **hub) as (process, url, folder), jobkit.connect(redis.url, secret=SECRET) as kit:
        assert httpx.get(f"{url}/jobkit/app", trust_env=False).status_code == 302  # to the login
        other = kit.submit(len, "abc")  # of this process's user
        with httpx.Client(headers={"Authorization": "token sesame"}, trust_env=False, timeout=120) as http:
            assert http.get(f"{url}/jobkit/api/jobs").json()["jobs"] == []  # its start may outlast a browser's patience

        page = window.open(f"{url}/jobkit/?token=sesame")
        page.wait_for_selector(".jk-nav .who .name:has-text('ada')")
        assert page.url.startswith(f"{url}/jobkit/app")
        page.goto(f"{url}/jobkit/app?page=submit&task=estimate_pi")
        page.click("button.submit")
        page.wait_for_selector(".jk-card .chip:has-text('Queued')")
        (job,) = kit.jobs(task="estimate_pi")
        assert (job.owner, other.owner == "ada") == ("ada", False)

        with httpx.Client(headers={"Authorization": "token sesame"}, trust_env=False) as http:
            api = f"{url}/jobkit/api/jobs"
            assert [each["id"] for each in http.get(api).json()["jobs"]] == [job.id]  # the role is `own`
            made = http.post(api, json={"task": "count_words", "params": {}}).json()
            assert made["url"] == f"{api}/{made['id']}"
            assert kit.get(made["id"]).owner == "ada"
            with http.stream("GET", f"{api}/{made['id']}/events", headers={"Accept": "text/event-stream"}) as stream:
                assert any(line == "event: snapshot" for line in stream.iter_lines())

        (dashboard,) = [child for child in process.children() if "panel" in child.cmdline()]
        (socket,) = folder.glob("jupyter-server-proxy-*/socket")
        assert socket.stat().st_mode & 0o077 == socket.parent.stat().st_mode & 0o077 == 0
        assert not [connection for connection in dashboard.net_connections() if connection.status == "LISTEN"]
        page.wait_for_load_state("networkidle")
        window.close()  # before the server ends
    wait_until(lambda: not dashboard.is_running() or dashboard.status() == psutil.STATUS_ZOMBIE, what="its end")


@pytest.mark.nightly
def test_a_dashboard_ends_if_its_jupyter_server_was_killed_during_the_start(redis: Server, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as jupyter_server:
        pass
    argv = [part.format(unix_socket=tmp_path / "s", base_url="/") for part in entry()["command"]]
    variables = {**entry()["environment"], JUPYTER_PID_VARIABLE: str(jupyter_server.pid)}
    environ = environment(JOBKIT_URL=redis.url, JOBKIT_SECRET=SECRET, **variables)

    with subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        server.wait(60)


@pytest.mark.nightly
def test_the_dashboard_ends_with_a_killed_jupyter_server(redis: Server) -> None:
    with jupyter(redis) as (process, url, _):
        with httpx.Client(headers={"Authorization": "token sesame"}, trust_env=False, timeout=60) as http:
            assert http.get(f"{url}/jobkit/api/stats").json()["jobs"]["queued"] == 0
            (dashboard,) = [child for child in process.children() if "panel" in child.cmdline()]
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: not dashboard.is_running(), what="the dashboard's end")
