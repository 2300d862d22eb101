"""A server that is frozen, with its connections open: verbs give up after `reply_timeout`, waits say so and go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import jobkit
from jobkit.client.kit import Kit
from tests.store.server import Server, running_server
from tests.support import environment, wait_until
from tests.worker import jobs

own_server = pytest.fixture(running_server, name="own_server")

VERBS: dict[str, Callable[[Kit, str], Any]] = {
    "jobs": lambda kit, _: kit.jobs(),
    "get": lambda kit, job_id: kit.get(job_id),
    "cancel": lambda kit, job_id: kit.cancel(job_id),
    "workers": lambda kit, _: kit.workers(),
    "stats": lambda kit, _: kit.stats(),
    "counts": lambda kit, _: kit.counts(),
    "queues": lambda kit, _: kit.queues(),
    "map": lambda kit, _: kit.map(jobs.count_up, range(3)),
    "pause": lambda kit, _: kit.pause("default"),
    "connect": lambda kit, _: jobkit.connect(kit.settings.url).counts(),
}


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    "names", [("jobs", "cancel"), pytest.param((*VERBS,), marks=pytest.mark.nightly)], ids=["some", "all"]
)
def test_verbs_give_up_a_frozen_server_and_work_when_it_is_back(
    own_server: Server, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBKIT_REPLY_TIMEOUT", "3")  # on a busy machine a server that runs is silent for less
    with jobkit.connect(own_server.url) as kit:
        job = kit.submit(jobs.count_up, 1)
        for name in names:
            with frozen(own_server), pytest.raises(jobkit.StoreUnavailable, match="does not answer"):
                VERBS[name](kit, job.id)
            wait_until(lambda: answers(kit), what="the server")
        assert job.id in [each.id for each in kit.jobs()]


def answers(kit: Kit) -> bool:
    try:
        return bool(kit.counts())
    except jobkit.StoreUnavailable:
        return False


@pytest.mark.nightly
def test_the_command_line_gives_up_a_frozen_server(own_server: Server) -> None:
    env = environment(JOBKIT_URL=own_server.url, JOBKIT_REPLY_TIMEOUT="0.5")
    with frozen(own_server):
        ended = subprocess.run([sys.executable, "-m", "jobkit", "stats"], env=env, capture_output=True, timeout=60)

    assert ended.returncode
    assert b"does not answer" in ended.stderr


@pytest.mark.nightly
def test_a_wait_says_so_and_goes_on(own_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with jobkit.connect(own_server.url) as kit:
        job = kit.submit(jobs.count_up, 1)
        waiting = threading.Thread(target=job.wait, args=(60,))
        waiting.start()
        with frozen(own_server):
            wait_until(lambda: "does not answer" in caplog.text, what="the warning")
            assert waiting.is_alive()
        wait_until(lambda: answers(kit), what="the server")
        kit.cancel(job.id)
        waiting.join(30)
        assert job.state == "cancelled"
