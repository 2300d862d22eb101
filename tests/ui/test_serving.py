"""Serving of dashboards: several on one server of two processes, behind a reverse proxy with a prefix."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import jobkit
from tests.store.server import Server
from tests.support import answers, environment, free_port, wait_until
from tests.ui.conftest import Window
from tests.ui.forwarder import Forwarder

pytestmark = pytest.mark.browser

_APP = """
import jobkit
from jobkit.ui import Dashboard
Dashboard(jobkit.connect(), title={title!r}, theme={{"accent": {accent!r}}}).servable()
"""

#: How a proxy may treat its prefix, and the option that tells Panel of it.
WAYS = {"kept": "--prefix", "stripped": "--root-path"}


@pytest.fixture(params=WAYS)
def forwarder(request: pytest.FixtureRequest) -> Iterator[tuple[Forwarder, str]]:
    made = Forwarder("team/jobs", strips=request.param == "stripped")
    yield made, WAYS[request.param]
    made.close()


@pytest.mark.nightly
def test_two_dashboards_of_one_server_with_two_processes_work_below_a_proxys_prefix(
    server: Server, forwarder: tuple[Forwarder, str], window: Window, tmp_path: Path
) -> None:
    proxy, option = forwarder
    for name, accent in (("one", "#0f766e"), ("two", "#be185d")):
        (tmp_path / f"{name}.py").write_text(_APP.format(title=f"Dashboard {name}", accent=accent))
    log = tmp_path / "log"
    with jobkit.connect(server.url, secret="of these tests") as kit, log.open("wb") as output:
        job = kit.submit(len, "abc")
        row = f".jk-table .row[data-id='{job.id}']"
        proxy.target = free_port()
        argv = [sys.executable, "-m", "panel", "serve", "one.py", "two.py", "--port", str(proxy.target)]
        argv += ["--plugins", "jobkit.http"]
        argv += [
            "--address",
            "127.0.0.1",
            "--num-procs",
            "2",
            option,
            "/team/jobs/" if "root" in option else "team/jobs",
        ]
        argv += ["--allow-websocket-origin", f"127.0.0.1:{proxy.port}"]
        variables = environment(JOBKIT_URL=server.url, JOBKIT_SECRET="of these tests")
        process = subprocess.Popen(argv, cwd=tmp_path, env=variables, stdout=output, stderr=output)
        try:
            home = f"http://127.0.0.1:{proxy.port}/team/jobs"
            wait_until(lambda: answers(f"{home}/one"), what=f"the server: {log.read_text()}")
            for name, accent in (("one", "#0f766e"), ("two", "#be185d"), ("one", "#0f766e")):
                page = window.open(f"{home}/{name}")
                page.wait_for_selector(row, timeout=60_000)
                assert page.title() == f"Dashboard {name}"
                colour = "el => getComputedStyle(el).getPropertyValue('--jk-accent').trim()"
                assert page.locator(".jk-nav").evaluate(colour) == accent
                page.click(".tab:has-text('Workers')")
                page.wait_for_selector("text=No worker runs")
                page.go_back()
                page.wait_for_selector(row)
                assert page.evaluate("location.pathname") == f"/team/jobs/{name}"
            page.click(row)
            page.wait_for_selector(".jk-card .chip:has-text('Queued')")
            job.cancel()
            page.wait_for_selector(".jk-card .chip:has-text('Cancelled')")
        finally:
            window.close()  # a page looks for its server when that ends
            processes = psutil.Process(process.pid).children()
            process.terminate()
            process.wait(60)
            _, left = psutil.wait_procs(processes, timeout=20)
            for process in left:
                process.kill()
    assert len(processes) == 2
    assert left == []  # they end with their parent process
    assert [path for path in proxy.paths if not path.startswith("/team/jobs/")] == []
