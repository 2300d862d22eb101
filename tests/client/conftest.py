"""One suite for the three places where jobs go: `sync://`, `local://` and `redis://`, with real servers and workers.

A worker serves a namespace, so the tests of one place share one. After each test its jobs are deleted, and no key
without an owner may be left.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

import jobkit
from jobkit.client import live
from jobkit.client.kit import Kit
from jobkit.embedded import shutdown
from jobkit.settings import Settings
from tests import faults
from tests.store.server import Server
from tests.support import PROGRAM, environment, wait_until


@pytest.fixture(scope="package", params=["sync", "redis", pytest.param("local", marks=pytest.mark.nightly)])
def place(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Arguments of `connect` for one place, with workers if the place has them."""
    if request.param == "sync":
        yield {"url": "sync://"}
    elif request.param == "local":
        home = Path(tempfile.mkdtemp(prefix="jk-", dir="/tmp"))
        yield {"url": f"local://{home}"}
        shutdown(Settings(home=home), now=True)
        shutil.rmtree(home)
    else:
        server = Server(os.environ.get(PROGRAM, ""))
        server.start()
        url = f"redis://127.0.0.1:{server.listen()}" if PROGRAM in os.environ else server.url
        arguments = {"url": url, "namespace": f"t{secrets.token_hex(4)}", "secret": "of these tests"}
        with worker_of(arguments):
            yield arguments
        server.stop()


@contextmanager
def worker_of(arguments: dict[str, str], *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a real worker process for `connect` arguments."""
    names = {f"JOBKIT_{name.upper()}": value for name, value in arguments.items()}
    command = [sys.executable, "-m", "jobkit", "worker", "-c", "4", *options]
    process = subprocess.Popen(command, env=environment(**names), stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


#: Keys of a namespace without jobs: queues, workers, task definitions and the stream of events.
OWNED = (
    "once:",  # expires if its job has ended
    "cache:",
    "starts:",
    "place",
    "queues",
    "told",
    "workers",
    "worker:",
    "tasks",
    "took",
    "events",
    "asking",
    "made:",  # expire
    "made-on:",
    "idle:",
    "watching",
    "load",
    "grace",
    "tell:",  # expire
    "later:",
    "unsent",
    "reachable",
)


@pytest.fixture
def kit(place: dict[str, str]) -> Iterator[Kit]:
    """Kit at that place; afterwards every job is ended and deleted, and no key of it is left."""
    with jobkit.connect(**place) as kit:
        yield kit
        running = [job for job in kit.jobs(limit=10_000) if not job.is_terminal]
        for job in running:
            job.cancel()
        for job in running:
            assert job.wait(60), f"{job} does not end"
        kit.delete([job.id for job in kit.jobs(limit=10_000)])
        if kit.settings.scheme != "sync":
            check_keys(kit)


@pytest.fixture
def queued(kit: Kit) -> Kit:
    """Kit whose jobs wait and run elsewhere: with `sync://` they have ended when their submit returns."""
    if kit.settings.scheme == "sync":
        pytest.skip("with sync:// a job has ended when its submit returns")
    return kit


@pytest.fixture
def by_events_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn off the periodic reads of handles: they change only by events."""
    monkeypatch.setattr(live, "SAFETY_REFRESH_S", 3600.0)


@pytest.fixture
def shell() -> Iterator[Any]:
    """A shell of IPython, as in a notebook's kernel."""
    from IPython.core.interactiveshell import InteractiveShell

    InteractiveShell.clear_instance()
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


# Fixtures of modules whose jobs no worker takes: `place = pytest.fixture(own_place, name="place")`


def own_place(server: Server) -> dict[str, str]:
    """Arguments of `connect` for a namespace of one test."""
    return {"url": server.url, "namespace": f"t{secrets.token_hex(4)}", "secret": "of these tests"}


def own_kit(place: dict[str, str]) -> Iterator[Kit]:
    with jobkit.connect(**place) as kit:
        yield kit


def struck_kit(place: dict[str, str], request: pytest.FixtureRequest) -> Iterator[Kit]:
    """Kit whose submits meet the faults that the test names."""
    faults.arm(request.param)
    try:
        with jobkit.connect(**place) as kit:
            yield kit
    finally:
        faults.arm("")


def check_keys(kit: Kit) -> None:
    prefix = f"jk:{kit.settings.namespace}:"
    with redis.Redis.from_url(kit.settings.url) as client:

        def are_owned() -> bool:
            return all(key.decode().removeprefix(prefix).startswith(OWNED) for key in client.keys(f"{prefix}*"))

        wait_until(are_owned, what="keys without an owner to be gone")
