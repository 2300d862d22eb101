"""The examples run unchanged: a FastAPI app with the API in it, and a client without jobkit."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI

from jobkit.client.kit import Kit
from jobkit.http import asgi_app
from tests.docs.reading import blocks
from tests.http.site import Site
from tests.support import ROOT, environment, wait_until
from tests.ui.stage import Stage


@pytest.mark.parametrize("code", ["examples/client.py", "docs/http.md"])
def test_a_client_without_jobkit_submits_and_follows(
    code: str, serve: Callable[..., Site], kit: Kit, stage: Stage
) -> None:
    site = serve()

    def work() -> None:
        (job,) = wait_until(kit.jobs, what="the job")
        stage.start(job.id)
        stage.progress(job.id, 1, 2)
        stage.succeed(job.id, preview={"type": "int", "text": "42", "json": 42})

    if code.endswith(".md"):
        (text,) = (block for block in blocks(code, "python") if "connect_sse" in block)
        text = text.replace("http://localhost:5006", site.url).replace("estimate_pi", "double")
    else:
        text = (ROOT / code).read_text()
    worker = threading.Thread(target=work)
    worker.start()
    done = subprocess.run(
        [sys.executable, "-c", text, site.url, "double"],
        env={**environment(), "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    worker.join()

    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")
    assert lines[0].startswith("snapshot")
    assert lines[-2] == "42"


async def test_the_api_is_mounted_in_an_app_under_a_path(kit: Kit) -> None:
    app = FastAPI()
    app.mount("/jobkit", asgi_app(kit, hosts=["testserver"]))
    from jobkit.http.auth.access import Tokens

    token, _ = Tokens(kit.settings.login_secret, kit.settings.namespace).make(["view", "submit"], lifetime_s=60)
    transport, headers = httpx.ASGITransport(app=app), {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver", headers=headers) as http:
        made = await http.post("/jobkit/api/jobs", json={"task": "double"})
        job = made.json()

        assert made.status_code == 202
        assert job["url"] == f"http://testserver/jobkit/api/jobs/{job['id']}"
        assert (await http.get(job["url"])).json()["state"] == "queued"
        document = await http.get("/jobkit/api/openapi.json")
        assert document.json()["servers"] == [{"url": "http://testserver/jobkit"}]
        assert (await http.get("/jobkit/api/jobs", headers={"Authorization": "Bearer a.b.c"})).status_code == 401


def test_the_fastapi_example_submits_and_streams() -> None:
    code = """
import asyncio, httpx
from examples.fastapi_app import app

async def main():
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as http:
        made = (await http.post("/reports", params={"points": 2_000_000})).json()
        told = (await http.get(made["events"])).text
        assert told.endswith("data: succeeded\\n\\n"), told
        assert (await http.post("/reports", params={"points": -1})).status_code == 422

asyncio.run(main())
print("fine")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment(JOBKIT_URL="sync://"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.stdout.endswith("fine\n"), done.stderr  # after the task's output
