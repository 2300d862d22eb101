"""Checks around every test: the user's own settings do not leak in; no process, thread or file leaks out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import settings

import jobkit.demo  # noqa: F401  # registers its tasks once a process: not in a test that has none at first
from jobkit.model import StoreUnavailable
from jobkit.store import private
from jobkit.tasks.registry import registry
from tests.leaks import Before
from tests.store.server import Server
from tests.support import FORKED, MARK, NIGHTLY, NO_FORMAT_PARSER, chromium, examples, living_with, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

#: The mark of this run's processes.
RUN = secrets.token_hex(8)

exec(NO_FORMAT_PARSER)

# Workers start twice as fast if the bytecode of their imports is cached.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Objects that are created during the collection of tests live until the end, so they need no garbage collection.
gc.disable()

# A shell that starts the tests in the background makes them ignore SIGINT. Their child processes need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The default run tries the same examples each time, a nightly run new ones. Examples have no deadline.
settings.register_profile("jobkit", deadline=None, max_examples=examples(200), derandomize=not NIGHTLY)
settings.load_profile("jobkit")


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """Remove the user's `JOBKIT_*` and set a separate home. Its path is short: a socket's has at most ~100 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="jkt-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("JOBKIT_")]:
            patch.delenv(name)
        patch.setenv(MARK, RUN)
        patch.setenv("JOBKIT_HOME", str(folder / "home"))
        with contextlib.suppress(StoreUnavailable):  # without a server program, the tests that need one are skipped
            private.server.url()  # of `sync://`; now, so that the first test does not seem to leave it
        yield
        private.server.stop()
    left = living_with(MARK, RUN)
    for process in left:
        process.kill()
    shutil.rmtree(folder, ignore_errors=True)
    assert not left, f"the tests left these processes behind: {left}"


class _Starts:
    """Counter of started processes: the process table is searched only after a test that started one."""

    _EVENTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", FORKED})

    def __init__(self) -> None:
        self.count = 0
        self._counted = -1
        self._alive: set[int] = set()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, _: tuple[object, ...]) -> None:
        if event in self._EVENTS:
            self.count += 1

    def alive(self) -> set[int]:
        """Return the ids of this run's processes. The last search counts until a process is started."""
        if self._counted != self.count:
            self._counted, self._alive = self.count, {process.pid for process in living_with(MARK, RUN)}
        return self._alive


_starts = _Starts()


@pytest.fixture(autouse=True)
def _no_process_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process behind; those of fixtures with a wider scope may stay."""
    before, count, began = _starts.alive(), _starts.count, _since_boot()
    yield
    if _starts.count != count and not {"terminal", "place", "served"} & set(request.fixturenames):
        try:
            wait_until(lambda: not _new(before, began))
        except AssertionError:
            left = [each.as_dict(["pid", "ppid", "status", "cmdline"]) for each in _new(before, began)]
            raise AssertionError(f"{request.node.name} left these processes behind: {left}") from None


#: Times at which processes were created are at most so many seconds wrong. Linux counts them in ticks since its start;
#: elsewhere the time of the start itself is rounded.
_ROUNDED_S = 0.02 if sys.platform == "linux" else 1.5


def _since_boot() -> float:
    """Return seconds since the system's start, as the times of processes are counted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.time() - psutil.boot_time()


def _new(before: set[int], began: float) -> list[psutil.Process]:
    """Return new processes, except children of earlier ones: a worker of several tests starts warm processes.

    A search misses a process that has only just been started, so the age of what it did not find counts too.
    """
    found, earlier = [], set(before)
    for process in living_with(MARK, RUN):
        try:
            if process.pid not in before and process.create_time() - psutil.boot_time() < began - _ROUNDED_S:
                earlier.add(process.pid)
            elif process.pid not in before:
                found.append((process, {each.pid for each in process.parents()}))
        except psutil.NoSuchProcess:
            continue
    return [process for process, parents in found if earlier.isdisjoint(parents)]


@pytest.fixture(autouse=True)
def _no_thread_or_descriptor_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread or open file behind. Not in browser tests: the driver's end at any time."""
    before = None if request.node.get_closest_marker("browser") else Before()
    yield
    end = time.monotonic() + 5
    while before is not None and (left := before.left()):
        assert time.monotonic() < end, f"{request.node.name} left behind: {left}"
        time.sleep(0.02)  # between two polls


@pytest.fixture(autouse=True)
def _no_kit_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a `sync://` kit open: later tests would find its jobs."""
    before = private.spaces_in_use()
    yield
    left = private.spaces_in_use() - before
    assert not left, f"{request.node.name} left kits of these namespaces open: {left}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Real server of one module's tests, which they may kill and restart."""
    server = Server()
    server.start()
    yield server
    server.stop()


def pytest_xdist_auto_num_workers() -> int:
    """Return the cores plus one, at most four: most tests wait for other processes."""
    return min(4, (os.cpu_count() or 1) + 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without Chromium, skip browser tests; under CI let them fail."""
    if chromium() is None:
        for item in items:
            if item.get_closest_marker("browser"):
                if os.environ.get("CI"):
                    item.add_marker(pytest.mark.usefixtures("_no_browser"))
                else:
                    item.add_marker(pytest.mark.skip(reason="browser tests need a chromium on the PATH"))


def pytest_collection_finish() -> None:
    """Turn garbage collection on again, see above; exclude all objects that exist now."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the number of skipped tests for each reason."""
    reasons = Counter(str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", ()))
    for reason, count in reasons.most_common():
        terminalreporter.line(f"{count} skipped: {reason.removeprefix('Skipped: ')}")


@pytest.fixture(scope="session")
def chromium_of_the_run() -> Iterator[Browser]:
    """One browser for all tests of this process. Playwright's loop must not seem to run in tests without a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        yield launched
        asyncio._set_running_loop(loop)
        launched.close()


@pytest.fixture
def no_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without tasks; afterwards those of other test modules are registered again."""
    monkeypatch.setattr(registry, "_tasks", {})


@pytest.fixture
def _no_browser() -> None:
    pytest.fail("no chromium in PATH: install one in CI")
