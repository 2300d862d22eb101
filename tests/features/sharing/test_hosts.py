"""Two machines with a network between them: share, join, a cut link, and a machine that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

import jobkit
from jobkit.embedded.home import Home
from jobkit.features.sharing import hosting
from jobkit.features.sharing.joining import join
from jobkit.features.sharing.members import Members
from tests.embedded.conftest import home_of_test
from tests.features.sharing.conftest import environ_of
from tests.features.sharing.hosts import far, run_ip
from tests.support import free_port, wait_until

__all__ = ["far"]  # the fixture

pytestmark = pytest.mark.nightly

_LEASE = {"JOBKIT_LEASE": "4", "JOBKIT_HEARTBEAT": "1"}


@contextmanager
def on_machine(name: str, home: Path, *command: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of jobkit in this network namespace, under the host name of the namespace; end all of it after."""
    script = f'hostname {name} && exec "$@"'
    process = subprocess.Popen(
        [
            "ip",
            "netns",
            "exec",
            name,
            "unshare",
            "-u",
            "sh",
            "-c",
            script,
            "sh",
            sys.executable,
            "-m",
            "jobkit",
            *command,
        ],
        env=environ_of(home, **environ),
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def test_the_printed_line_works_on_a_machine_with_another_name_and_address(
    far: tuple[str, str], tmp_path: Path
) -> None:
    name, address = far
    with home_of_test() as settings:
        hosting.share(settings, address, free_port())
        word = hosting.new_word(settings).text()
        with on_machine(name, tmp_path, "join", word, "-q", "far"), jobkit.connect(home=settings.home) as kit:
            job = kit.options(queue="far").submit(lambda: __import__("socket").gethostname())
            assert job.result(120) == name
            (member,) = Members(Home.at(settings.home)).read().members
            assert member.name == name


def test_the_port_is_open_on_the_named_address_only(far: tuple[str, str], tmp_path: Path) -> None:
    _, address = far
    with home_of_test() as settings:
        _, port = hosting.share(settings, address, free_port())
        listening = {tuple(c.laddr) for c in psutil.net_connections("tcp") if c.status == "LISTEN"}
        assert [host for host, number in listening if number == port] == [address]


def test_jobs_of_a_machine_that_dies_or_is_cut_off_run_elsewhere(far: tuple[str, str], tmp_path: Path) -> None:
    name, address = far
    with home_of_test() as settings:
        hosting.share(settings, address, free_port())
        url = join(hosting.new_word(settings), tmp_path / "far")[0].url
        near = join(hosting.new_word(settings), tmp_path / "near")[0].url
        signs = tmp_path / "signs"
        signs.mkdir()

        def work(folder: str) -> str:
            import socket
            import time
            from pathlib import Path

            Path(folder, socket.gethostname()).touch()
            while len(list(Path(folder).iterdir())) < 2:
                time.sleep(0.05)
            return socket.gethostname()

        with (
            on_machine(name, tmp_path / "far", "worker", "-q", "far", JOBKIT_URL=url, **_LEASE) as worker,
            jobkit.connect(home=settings.home, lease=4, heartbeat=1) as kit,
        ):
            job = kit.options(queue="far").submit(work, str(signs))
            wait_until(lambda: (signs / name).exists(), what="its start on the far machine")
            run_ip("-n", name, "link", "set", "eth0", "down")
            os.kill(worker.pid, signal.SIGKILL)
            with on_machine(name, tmp_path / "near", "stats", JOBKIT_URL=near) as cut:
                assert cut.wait(120) == 1, "it says that the sharing machine is not reached"
            command = [sys.executable, "-m", "jobkit", "worker", "-q", "far"]
            other = subprocess.Popen(command, env=environ_of(settings.home, **_LEASE), stderr=subprocess.DEVNULL)
            try:
                assert job.result(120) != name
                assert job.attempts[0].outcome == "lost"
            finally:
                other.terminate()
                other.wait(60)
