"""A namespace of another format is refused with one sentence, before a record in it is changed."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import redis

import jobkit
from jobkit.store import library
from tests.support import environment

from .server import Server, running_server

server = pytest.fixture(running_server, name="server")

SENTENCE = (
    r"the namespace \w+ of Redis at \S+ is of format 2, and this version of jobkit has format 1: "
    "use the version that has made it, or another JOBKIT_NAMESPACE"
)


@pytest.fixture
def place(server: Server) -> dict[str, str]:
    return {"url": server.url, "namespace": f"t{secrets.token_hex(4)}", "secret": "of these tests"}


@pytest.fixture
def contents(server: Server, place: dict[str, str]) -> Iterator[Callable[[], dict[bytes, bytes | None]]]:
    """Mark the namespace when it is called first; return the contents of all of its keys."""
    prefix = f"jk:{place['namespace']}:"
    with redis.Redis.from_url(server.url) as client:

        def read() -> dict[bytes, bytes | None]:
            client.set(f"{prefix}format", "2")
            return {key: client.dump(key) for key in client.scan_iter(f"{prefix}*")}

        yield read


def test_a_client_and_a_worker_refuse_a_store_of_another_format(
    place: dict[str, str], contents: Callable[[], dict[bytes, bytes | None]]
) -> None:
    with jobkit.connect(**place) as kit:
        kit.submit(len, "abc")
    before = contents()

    with pytest.raises(jobkit.StoreUnavailable, match=SENTENCE):
        jobkit.connect(**place)
    names = {f"JOBKIT_{name.upper()}": value for name, value in place.items()}
    command = [sys.executable, "-m", "jobkit", "worker", "--burst"]
    worker = subprocess.run(command, env=environment(**names), capture_output=True, text=True, check=False)

    assert worker.returncode != 0
    assert "is of format 2, and this version of jobkit has format 1" in worker.stderr
    assert "Traceback" not in worker.stderr
    assert contents() == before


def test_a_client_that_was_connected_before_submits_no_job(
    place: dict[str, str], contents: Callable[[], dict[bytes, bytes | None]]
) -> None:
    with jobkit.connect(**place) as kit:
        contents()

        for _ in range(2):
            with pytest.raises(jobkit.StoreUnavailable, match=SENTENCE):
                kit.submit(len, "abc")

    prefix = f"jk:{place['namespace']}:".encode()
    assert {b"job", b"jobs", b"ready", b"args"}.isdisjoint(key[len(prefix) :].partition(b":")[0] for key in contents())


def test_functions_and_clients_have_the_same_format() -> None:
    assert f"local FORMAT, LOOK_AFTER_MS = '{library.FORMAT.decode()}'," in library.current.text
