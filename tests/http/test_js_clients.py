"""Event stream clients of npm with the API and the hub, as pages and services in JavaScript use them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobkit.client.kit import Kit
from tests.features.mercure.test_mercure import HUB, old_token
from tests.http.site import Site
from tests.support import ROOT, wait_until
from tests.ui.stage import Stage

FOLDER = ROOT / "tests" / "http" / "js"
CLIENTS = ["eventsource", "event-source-polyfill", "fetch-event-source"]
TYPES = ["snapshot", "started", "progressed", "succeeded", "failed", "ready", "submitted"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the installed clients. Skip if they cannot be installed, but not in CI."""
    made: Path = tmp_path_factory.mktemp("js")
    for name in ("package.json", "client.mjs"):
        shutil.copy(FOLDER / name, made)
    why = "these tests need node and npm on the PATH"
    if shutil.which("node") and shutil.which("npm"):
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
        done = subprocess.run(command, cwd=made, capture_output=True, text=True, timeout=100, check=False)
        if done.returncode == 0:
            return made
        why = f"npm could not install the clients: {done.stderr}"
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


class Running:
    """A running client; `told` collects its output."""

    def __init__(self, folder: Path, client: str, url: str, options: dict[str, Any]) -> None:
        import threading

        command = ["node", "client.mjs", client, url, json.dumps({"types": TYPES, **options})]
        self.process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.told: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.told.append(json.loads(line))

    @property
    def types(self) -> list[str]:
        return [each["type"] for each in self.told if "type" in each]

    def wait(self) -> None:
        """Wait until the client has ended by itself."""
        assert self.process.wait(60) == 0, self.process.stderr.read() if self.process.stderr else ""
        self._reader.join(60)


@pytest.fixture
def run(folder: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(client: str, url: str, **options: Any) -> Running:
        started.append(Running(folder, client, url, options))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait(60)
        each._reader.join(60)
        for stream in (each.process.stdout, each.process.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def as_it_is(site: Site) -> Iterator[httpx.Client]:
    with site.client(old_token(site, mercure={"publish": ["*"], "subscribe": ["*"]})) as http:
        yield http


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_with_a_token_follows_a_job_to_its_end(
    guarded: Site, stage: Stage, run: Callable[..., Running], client: str
) -> None:
    job_id = stage.submit(task="double")
    token = guarded.token("view")
    running = run(client, f"{guarded.url}/api/jobs/{job_id}/events", token=token, until="succeeded")
    wait_until(lambda: running.types == ["snapshot"], what="the snapshot")
    stage.start(job_id)
    stage.progress(job_id, 1, 2, "half")
    wait_until(lambda: running.types[-1] == "progressed", what="the progress")
    stage.succeed(job_id)
    running.wait()

    assert running.types == ["snapshot", "started", "progressed", "succeeded"]
    ids = [each["id"] for each in running.told if each.get("type") in ("snapshot", "started", "succeeded")]
    assert len(set(ids)) == 3


@pytest.mark.parametrize("client", ["eventsource", "event-source-polyfill"])
def test_a_client_reconnects_and_gets_each_event_once(
    serve: Callable[..., Site], kit: Kit, stage: Stage, run: Callable[..., Running], client: str
) -> None:
    """The server dies under the open stream, and jobs continue meanwhile."""
    site = serve()
    first = stage.submit(task="double")
    running = run(client, f"{site.url}/api/events?progress=false", until="failed")
    wait_until(lambda: "ready" in running.types, what="the stream")
    stage.start(first)
    wait_until(lambda: running.types[-1] == "started", what="the first event")
    port = site.port
    site.close()
    stage.succeed(first)
    second = stage.submit(task="double")
    again = Site("tornado", kit, port=port)
    try:
        wait_until(lambda: "submitted" in running.types, what="the client to be back")
        stage.start(second)
        stage.fail(second)
        running.wait()
    finally:
        again.close()

    assert running.types == ["ready", "started", "succeeded", "submitted", "started", "failed"]


def test_an_event_source_does_not_reconnect_after_the_end(
    serve: Callable[..., Site], stage: Stage, run: Callable[..., Running]
) -> None:
    site = serve()
    job_id = stage.submit(task="double")
    running = run("eventsource", f"{site.url}/api/jobs/{job_id}/events")
    wait_until(lambda: running.types == ["snapshot"], what="the snapshot")
    stage.start(job_id)
    stage.succeed(job_id)
    running.wait()  # after a 204 it closes and its process ends

    assert running.types == ["snapshot", "started", "succeeded"]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_subscribes_to_the_hub(guarded: Site, run: Callable[..., Running], client: str) -> None:
    token = old_token(guarded, mercure={"subscribe": ["https://example.com/{id}"]})
    with as_it_is(guarded) as http:
        url = f"{guarded.url}{HUB}?topic=https://example.com/1&lastEventID=earliest"
        running = run(client, url, token=token, until="data", last="earliest")
        http.post(HUB, data={"topic": "https://example.com/1", "data": "one\ntwo", "private": "on"})
        wait_until(lambda: running.types == ["message"], what="the first update")
        http.post(HUB, data={"topic": "https://example.com/1", "data": "the last"})
        running.wait()

    assert [each["data"] for each in running.told if "type" in each] == ["one\ntwo", "the last"]


def test_a_client_learns_from_a_header_if_it_missed_updates(guarded: Site, run: Callable[..., Running]) -> None:
    with as_it_is(guarded) as http:
        known = http.post(HUB, data={"topic": "a", "data": "before"}).text
        http.post(HUB, data={"topic": "a", "data": "the last"})
        token = old_token(guarded, mercure={"subscribe": ["*"]})
        for last, position in ((known, known), ("urn:unknown", "earliest")):
            running = run("fetch-event-source", f"{guarded.url}{HUB}?match=a", token=token, until="data", last=last)
            running.wait()
            assert running.told[0]["position"] == position
