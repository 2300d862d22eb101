"""A machine behind a slow link, which is cut while a large result passes."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobkit
from jobkit.sharing import hosting
from tests.embedded.conftest import home_of_test
from tests.sharing.conftest import environ_of, member_of
from tests.support import free_port, wait_until

pytestmark = pytest.mark.nightly

#: 2.5 MB/s; 40 ms each way and one lost packet of a hundred, if the kernel can do that.
LINKS = ("netem delay 40ms loss 1% rate 20mbit", "tbf rate 20mbit burst 64kb latency 400ms")
SIZE = 12_000_000


@pytest.fixture
def far() -> Iterator[tuple[str, str]]:
    """Return a network namespace behind such a link, and the address of this machine from there."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("tc") is None:
        pytest.skip("network namespaces need root, ip and tc (Debian: iproute2)")
    name, link, net = f"jk{secrets.token_hex(3)}", f"jk{secrets.token_hex(3)}", f"10.214.{secrets.randbelow(250)}"
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        _run("ip", "addr", "add", f"{net}.1/30", "dev", link)
        _run("ip", "link", "set", link, "up")
        _run("ip", "-n", name, "addr", "add", f"{net}.2/30", "dev", "eth0")
        _run("ip", "-n", name, "link", "set", "eth0", "up")
        if not any(_shaped(link, name, kind.split()) for kind in LINKS):
            pytest.skip("this kernel shapes no traffic")
        yield name, f"{net}.1"
    finally:
        _run("ip", "netns", "del", name)


def test_a_large_result_passes_over_a_slow_link_that_is_cut(far: tuple[str, str], tmp_path: Path) -> None:
    name, address = far
    with home_of_test() as settings:
        hosting.share(settings, address, free_port())
        other = tmp_path / "other"
        url = member_of(settings, other).url
        worker = subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, "-m", "jobkit", "worker", "-q", "far"],
            env=environ_of(other, JOBKIT_URL=url),
            stderr=subprocess.DEVNULL,
        )
        try:
            with jobkit.connect(home=settings.home) as kit:
                job = kit.options(queue="far").submit(lambda: random.Random(1).randbytes(SIZE))
                results = settings.home / "results"
                begun = wait_until(lambda: next(results.glob("*/??/*/.*.part"), None), what="a part")
                wait_until(lambda: begun.stat().st_size > SIZE // 4, what="a quarter of it")
                _run("ip", "-n", name, "link", "set", "eth0", "down")
                time.sleep(8)  # for the worker it is gone: longer than a heartbeat, shorter than a lease
                kept = begun.stat().st_size
                _run("ip", "-n", name, "link", "set", "eth0", "up")
                wait_until(lambda: not begun.exists() or begun.stat().st_size > kept, what="it to go on")
                assert job.result(120) == random.Random(1).randbytes(SIZE)
                assert job.snapshot.attempt == 1
        finally:
            worker.terminate()
            worker.wait(60)


def _shaped(link: str, name: str, kind: list[str]) -> bool:
    """Return whether the kernel can make both ends of a link so."""
    try:
        _run("tc", "qdisc", "replace", "dev", link, "root", *kind)
        _run("tc", "-n", name, "qdisc", "replace", "dev", "eth0", "root", *kind)
        return True
    except subprocess.CalledProcessError:
        return False


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
