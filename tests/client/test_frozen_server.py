"""A server that is frozen, with its connections open: verbs give up after `reply_timeout`, waits say so and go on."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pytest

import jobkit
from jobkit.client.kit import Kit
from jobkit.embedded.home import Home
from jobkit.embedded.server import ask
from jobkit.settings import Settings
from tests.features.sharing.conftest import environ_of, member_of
from tests.features.sharing.conftest import shared as shared
from tests.store.server import Server, running_server
from tests.support import environment, wait_until
from tests.worker import jobs
from tests.worker.conftest import Bench

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
    "pause": lambda kit, _: kit.queues.pause("default"),
    "connect": lambda kit, _: jobkit.connect(kit.settings.url, home=kit.settings.home).counts(),
}


@contextmanager
def frozen(server: Server | int) -> Iterator[None]:
    """Stop a server, or the process with this id, during the block."""
    pid = server if isinstance(server, int) else server.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Link:
    """A way to a server for the block: `port` of this machine.

    Attributes:
        is_dead: connections stay open, and what is sent is lost. rate: bytes/s of each direction; 0 for no limit.
    """

    def __init__(self, server: Server, rate: int = 0) -> None:
        self.is_dead, self.rate = False, rate
        self._target, self._ends = str(server.socket), list[socket.socket]()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)  # else megabytes wait there
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._ends):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, far = self._listener.accept()[0], socket.socket(socket.AF_UNIX)
                self._ends += near, far
                far.connect(self._target)
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if self.is_dead:
                    continue
                target.sendall(data)
                if self.rate:
                    time.sleep(len(data) / self.rate)
            target.shutdown(socket.SHUT_RDWR)


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


@pytest.mark.nightly
@pytest.mark.parametrize("place", ["home", "member"])
def test_verbs_and_commands_give_up_a_frozen_server_of_a_home(
    shared: Settings, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBKIT_REPLY_TIMEOUT", "3")
    home = shared.home if place == "home" else tmp_path
    url = "local://" if place == "home" else member_of(shared, home).url
    with jobkit.connect(url, home=home) as kit:
        job = kit.options(delay=3600).submit(len, "abc")
        (pid,) = re.findall(r"process_id:(\d+)", str(ask(str(Home.at(shared.home).socket), "INFO", "server")))
        for verb in VERBS.values():
            with frozen(int(pid)), pytest.raises(jobkit.StoreUnavailable, match="does not answer"):
                verb(kit, job.id)
            wait_until(lambda: answers(kit), what="the server")
        env = environ_of(home, JOBKIT_URL=url, JOBKIT_REPLY_TIMEOUT="3")
        for command in ("jobs", "stats", "submit estimate_pi"):
            argv = [sys.executable, "-m", "jobkit", *command.split()]
            with frozen(int(pid)):
                ended = subprocess.run(argv, env=env, capture_output=True, timeout=25)  # a start may take 30 s
            assert b"does not answer" in ended.stderr
        wait_until(lambda: answers(kit), what="the server")
        assert job.id in [each.id for each in kit.jobs()]


@pytest.mark.nightly
def test_a_batch_waits_once_for_a_frozen_server(own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBKIT_REPLY_TIMEOUT", "3")
    with jobkit.connect(own_server.url) as kit:
        kit.counts()
        with frozen(own_server), pytest.raises(jobkit.StoreUnavailable, match="silent for 3 s") as told:
            kit.map(jobs.count_up, range(20))
        assert not isinstance(told.value, jobkit.SubmitUnanswered)  # nothing was sent: the facts come first


@pytest.mark.nightly
def test_a_connection_that_is_dead_in_one_place_is_given_up(
    own_server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBKIT_REPLY_TIMEOUT", "3")
    with Link(own_server) as link, jobkit.connect(f"redis://127.0.0.1:{link.port}") as kit:
        job = kit.submit(jobs.count_up, 1)
        waiting = threading.Thread(target=job.wait, args=(60,))
        waiting.start()
        link.is_dead = True
        wait_until(lambda: "does not answer" in caplog.text, what="the warning")
        link.is_dead = False
        wait_until(lambda: answers(kit), what="the server")
        kit.cancel(job.id)
        waiting.join(30)
        assert job.state == "cancelled"
        for name in ("jobs", "stats", "map"):
            link.is_dead = True
            with pytest.raises(jobkit.StoreUnavailable, match="does not answer"):
                VERBS[name](kit, job.id)
            link.is_dead = False
            wait_until(lambda: answers(kit), what=f"the server after {name}")


@pytest.mark.nightly
def test_a_slow_link_is_not_taken_for_a_frozen_server(
    own_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBKIT_REPLY_TIMEOUT", "2")
    with closing(Bench(own_server, tmp_path)) as bench, Link(own_server, rate=250_000) as link:
        bench.worker()
        with jobkit.connect(**bench.place | {"url": f"redis://127.0.0.1:{link.port}"}) as kit:
            parts = [os.urandom(900_000) for _ in range(3)]
            assert [job.result(60) for job in kit.map(len, parts)] == [900_000] * 3
            assert kit.submit(len, parts[0] + parts[1]).result(60) == 1_800_000
            assert len(kit.submit(os.urandom, 2_000_000).result(60)) == 2_000_000
