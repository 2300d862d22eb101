"""Dashboards on a real JupyterHub: two users, a browser, and one Redis for both."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

import jobkit
from tests.store.server import Server
from tests.support import ROOT, answers, environment, free_port, wait_until
from tests.ui.conftest import Window, browser, window

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["browser", "window"]

pytestmark = [pytest.mark.nightly, pytest.mark.browser]

pytest.importorskip("jupyterhub", reason="JupyterHub is not installed: `make hub` does that")
pytest.importorskip("jupyter_server_proxy")
PROXY = shutil.which(
    "configurable-http-proxy", path=f"{ROOT}/build/hub/node_modules/.bin{os.pathsep}{os.environ['PATH']}"
)

SECRET = "of these tests"

#: ada is an admin of the Hub.
CONFIG = """
c.JupyterHub.bind_url = "http://127.0.0.1:{port}/"
c.JupyterHub.hub_port = {hub_port}
c.JupyterHub.db_url = "sqlite://"
c.JupyterHub.cookie_secret_file = "{folder}/cookie-secret"
c.ConfigurableHTTPProxy.command = ["{proxy}"]
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api_port}"
c.ConfigurableHTTPProxy.pid_file = "{folder}/proxy.pid"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {{"ada"}}
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{folder}/{{username}}"
c.Spawner.args = ["--allow-root"]
c.Spawner.start_timeout = c.Spawner.http_timeout = 120
c.Spawner.environment = {environ}
"""


@pytest.fixture
def hub(redis: Server) -> Iterator[str]:
    """A JupyterHub whose users share a Redis; its URL."""
    if PROXY is None:
        pytest.skip("configurable-http-proxy is not installed: `make hub` does that")
    with tempfile.TemporaryDirectory(prefix="jk-", dir="/tmp") as folder:
        port, hub_port, api_port = free_port(), free_port(), free_port()
        environ = {"JOBKIT_URL": redis.url, "JOBKIT_SECRET": SECRET, "TMPDIR": folder, "PYTHONPATH": str(ROOT)}
        values = {"port": port, "hub_port": hub_port, "api_port": api_port, "folder": folder, "proxy": PROXY}
        file = Path(folder, "jupyterhub_config.py")
        file.write_text(CONFIG.format(**values, environ=environ))
        log = file.with_name("log")
        variables = environment(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", TMPDIR=folder)
        with log.open("wb") as output:
            argv = [sys.executable, "-m", "jupyterhub", "-f", str(file)]
            process = psutil.Popen(
                argv, cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            try:
                wait_until(lambda: answers(f"http://127.0.0.1:{port}/hub/login"), what="the JupyterHub")
                yield f"http://127.0.0.1:{port}"
            except BaseException:
                print(log.read_text()[-20_000:])
                raise
            finally:
                below = process.children(recursive=True)
                process.send_signal(signal.SIGTERM)
                process.wait(60)
                psutil.wait_procs(below, 30)


def log_in(window: Window, hub: str, who: str) -> Page:
    """Return the launcher of the user's JupyterLab."""
    page = window.open(f"{hub}/hub/login?next=/hub/spawn")
    page.set_default_timeout(120_000)
    page.fill("#username_input", who)
    page.fill("#password_input", "any")
    page.click("#login_submit")
    page.wait_for_selector(".jp-LauncherCard:has-text('jobkit')")
    return page


def submit(page: Page) -> None:
    page.goto(f"{page.url.partition('?')[0]}?page=submit&task=estimate_pi")
    page.click("button.submit")
    page.wait_for_selector(".jk-card .chip:has-text('Queued')")
    page.click(".tab:has-text('Jobs')")
    page.wait_for_selector(".jk-table .row")


def test_each_user_of_a_hub_has_a_dashboard_and_owns_their_jobs(hub: str, redis: Server, window: Window) -> None:
    lab = log_in(window, hub, "bob@lab.example")
    with lab.context.expect_page() as opened:
        lab.click(".jp-LauncherCard:has-text('jobkit')")
    bob = opened.value
    bob.set_default_timeout(120_000)
    bob.wait_for_selector(".jk-nav .who .name:has-text('bob@lab.example')")
    assert bob.url.startswith(f"{hub}/user/bob@lab.example/jobkit/app")
    submit(bob)

    ada = log_in(window, hub, "ada")
    ada.goto(f"{hub}/user/ada/jobkit/")
    ada.wait_for_selector(".jk-nav .who .name:has-text('ada')")
    submit(ada)
    with jobkit.connect(redis.url, secret=SECRET) as kit:
        assert sorted(job.owner for job in kit.jobs()) == ["ada", "bob@lab.example"]
    ada.wait_for_selector(".jk-table:has-text('2 jobs')")  # an admin of the Hub
    bob.reload()
    bob.wait_for_selector(".jk-table:has-text('1 job')")

    assert not window.errors, window.errors
    # Neither page nor API is open to the other, and a page of another site cannot act with the user's cookies.
    assert bob.goto(f"{hub}/user/ada/jobkit/app").status == 403
    assert bob.request.get(f"{hub}/user/ada/jobkit/api/jobs").status == 403
    own, forged = f"{hub}/user/ada/jobkit", {"Origin": "https://other.example"}
    assert ada.request.get(f"{own}/api/jobs", headers={"Sec-Fetch-Mode": "navigate"}).status == 200
    assert ada.request.post(f"{own}/api/jobs", data={"task": "count_words", "params": {}}, headers=forged).status == 403
    socket = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "a" * 22,
    }
    cookies = {each["name"]: each["value"] for each in ada.context.cookies(own)}
    asked = httpx.get(f"{own}/app/ws", headers={**socket, **forged}, cookies=cookies, trust_env=False)
    assert asked.status_code == 403
    with jobkit.connect(redis.url, secret=SECRET) as kit:
        assert len(kit.jobs()) == 2
    window.errors.clear()  # of the pages that were refused
