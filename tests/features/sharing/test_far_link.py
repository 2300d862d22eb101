"""A machine behind a slow link, which is cut while a large result passes."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

import jobkit
from jobkit.features.sharing import hosting
from tests.embedded.conftest import home_of_test
from tests.features.sharing.conftest import environ_of, member_of
from tests.features.sharing.hosts import far, run_ip
from tests.support import free_port, wait_until

__all__ = ["far"]  # the fixture

pytestmark = pytest.mark.nightly

SIZE = 12_000_000


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
                run_ip("-n", name, "link", "set", "eth0", "down")
                time.sleep(8)  # for the worker it is gone: longer than a heartbeat, shorter than a lease
                kept = begun.stat().st_size
                run_ip("-n", name, "link", "set", "eth0", "up")
                wait_until(lambda: not begun.exists() or begun.stat().st_size > kept, what="it to go on")
                assert job.result(120) == random.Random(1).randbytes(SIZE)
                assert job.snapshot.attempt == 1
        finally:
            worker.terminate()
            worker.wait(60)
