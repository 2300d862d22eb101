"""Helpers of all tests: waiting for conditions, processes by their home or mark, environments, test parameters."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
import redis

T = TypeVar("T")

ROOT = Path(__file__).parent.parent

#: Seconds until a wait for a condition fails; long, since the machine may be busy.
PATIENCE_S = 60.0

#: True in a nightly run, which tries more examples.
NIGHTLY = bool(os.environ.get("NIGHTLY"))

#: True in a run without what macOS lacks (`make portable`).
PORTABLE = getattr(sys.modules.get("sitecustomize"), "IS_PORTABLE", False)


def weaker_without(what: str) -> pytest.MarkDecorator:
    """Return a mark for a test of a promise that is weaker without something, as docs/reliability.md says."""
    return pytest.mark.skipif(PORTABLE, reason=f"weaker without {what}, see docs/reliability.md")


#: Environment variable that marks all processes of a test run, also detached ones.
MARK = "JOBKIT_TEST_RUN"

#: Environment variable with the server program for tests that pretend to run on Windows: it serves TCP.
PROGRAM = "TESTS_ON_WINDOWS"

#: Audit event of a process that was forked from a prepared one.
FORKED = "jobkit.tests.forked"


def wait_until(predicate: Callable[[], T], timeout_s: float = PATIENCE_S, what: str = "") -> T:
    """Return the first true value of `predicate`; raise AssertionError with its last one after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    pauses = _pauses()
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what or predicate}; last saw {value!r}"
        time.sleep(next(pauses))
    return value


def keep_from_writing_audit(client: redis.Redis, namespace: str = "default") -> None:
    """Take the right to write the audit trail from everybody, from now on."""
    others = [f"~jk:{namespace}:{rest}" for rest in ("", "[^a]*", "a[^u]*")]
    rights = ["resetkeys", *others, f"%R~jk:{namespace}:audit", "~jk:libraries"]
    client.execute_command("ACL", "SETUSER", "default", *rights)


def _pauses() -> Iterator[float]:
    """Yield growing pauses between polls, so that long waits use little CPU."""
    pause = 0.005
    while True:
        yield pause
        pause = min(1.2 * pause, 0.05)


async def until(predicate: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """Same as `wait_until` on an event loop; the predicate may be a coroutine function."""
    deadline = time.monotonic() + timeout_s
    pauses = _pauses()
    while True:
        value = predicate()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}; last saw {value!r}"
        await asyncio.sleep(next(pauses))


def living_with(name: str, value: str) -> list[psutil.Process]:
    """Return the other living processes whose environment has `name=value`."""
    sought = f"{name}={value}".encode()
    found = []
    for process in map(_process, _pids_with(sought) if sys.platform == "linux" else psutil.pids()):
        try:
            is_other = process is not None and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE
            if process is not None and is_other and process.environ().get(name) == value:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _pids_with(sought: bytes) -> Iterator[int]:
    """Yield the processes whose environment has these bytes. Five times as fast as psutil, for two calls a test."""
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                if sought in Path("/proc", name, "environ").read_bytes():
                    yield int(name)
            except OSError:  # it has ended, or is another user's
                continue


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def free_port() -> int:
    """Return a free TCP port of 127.0.0.1, below those that connections of other processes take by themselves."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def make_certificates(folder: Path) -> Path:
    """Store `ca.crt` of a test CA, and `server.crt` and `server.key` for `localhost` only; return the folder."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl in PATH")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "server"):
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
    openssl("req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=tests", "-days", "2", "-out", "ca.crt",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip  # Python 3.13 asks for it
    openssl("req", "-new", "-key", "server.key", "-subj", "/CN=localhost", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "names", "-out", "server.crt")  # fmt: skip
    return folder


def listens(port: int) -> bool:
    """Return whether a process takes connections at a port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(url: str) -> bool:
    """Return whether a server gives a page at an address."""
    import httpx

    try:
        return httpx.get(url, trust_env=False, timeout=20).status_code == 200
    except httpx.TransportError:
        return False


def is_alive(pid: int) -> bool:
    """Return True if a process exists and is not a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def processes_of(home: Path) -> list[psutil.Process]:
    """Return the other living processes that were started for a home.

    Their `info` holds command line (`cmdline`) and environment (`environ`), which a process that ends no longer has.
    """

    def is_of_home(process: psutil.Process) -> bool:
        info = process.info
        named = str(home) in " ".join(info["cmdline"]) or info["environ"].get("JOBKIT_HOME") == str(home)
        return named and process.pid != os.getpid() and info["status"] != psutil.STATUS_ZOMBIE

    return [each for each in psutil.process_iter(["cmdline", "environ", "status"], ad_value={}) if is_of_home(each)]


def environment(**more: str) -> dict[str, str]:
    """Return this environment without jobkit's variables (except `MARK`), with this checkout on `PYTHONPATH`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JOBKIT_") or name == MARK}
    path = os.pathsep.join(filter(None, (str(ROOT), inherited.get("PYTHONPATH", ""))))
    return {**inherited, "PYTHONPATH": path, **more}


#: Code for a process that imports jsonschema. Jupyter installs a parser of URI formats, whose import takes 3 s of CPU;
#: jsonschema works without it, and no test checks such a format.
NO_FORMAT_PARSER = "import sys; sys.modules['rfc3987_syntax'] = None"


def chromium() -> str | None:
    """Return the path of a Chromium, or None; the headless shell opens a window in a quarter of the CPU time."""
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def by_default(values: Iterable[Any], count: int = 1) -> list[Any]:
    """Return parameters of a test: the first `count` run by default, the others are nightly."""
    every = [each if isinstance(each, tuple) else (each,) for each in values]
    return [pytest.param(*each, marks=pytest.mark.nightly if n >= count else ()) for n, each in enumerate(every)]


def examples(count: int) -> int:
    """Return how many examples Hypothesis tries: `count` in a nightly run (`NIGHTLY=1`), else a tenth of it."""
    return count if NIGHTLY else max(10, count // 10)
