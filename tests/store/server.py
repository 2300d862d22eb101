"""A real server for tests, on a unix socket in a temporary directory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import resource
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
import redis

from jobkit.model import JobkitError
from jobkit.store import binary
from tests.support import free_port

#: Of ptrace(2) and waitpid(2).
_PTRACE_ATTACH, _OF_ANY_KIND = 16, 0x40000000


def find_server() -> str:
    """Return the path of a Redis if this machine has one, since it speaks TLS, else of the server that jobkit starts.

    Without any, skip the test; fail under CI.
    """
    try:
        return str(binary.find_server("redis").path)
    except JobkitError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI has to install a server: {error}")
        pytest.skip(str(error))


class Server:
    """One server process, which may be killed and started again on the same data (append-only file).

    A context manager: it runs within the block.

    Args:
        program: by default that of `find_server`. options: more options of the command line.
    """

    def __init__(self, program: str = "", *options: str) -> None:
        self._binary, self._options = program or find_server(), options
        self.home = Path(tempfile.mkdtemp(prefix="jk-"))  # short: a socket's path is limited to about 100 characters
        self.socket = self.home / "r.sock"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        options = (
            f"--port 0 --unixsocket {self.socket} --dir {self.home} --appendonly yes --appendfsync no --logfile log"
        )
        # The server inherits Python's ignored SIGXFSZ: see `fill_disk`.
        command = [self._binary, *options.split(), "--save", "", *self._options]
        self._process = subprocess.Popen(command, restore_signals=False)
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            deadline = time.monotonic() + 10
            while True:
                try:
                    client.ping()
                    return
                except (redis.ConnectionError, redis.BusyLoadingError):
                    if time.monotonic() > deadline or self._process.poll() is not None:
                        raise RuntimeError(f"no server: {(self.home / 'log').read_text()[-500:]}") from None
                    time.sleep(0.01)  # between two polls

    @property
    def is_running(self) -> bool:
        """True between `start` and `kill`."""
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def listen(self) -> int:
        """Serve TCP on localhost, too, until the next start; return the port."""
        port = free_port()
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            client.config_set("port", port)
        return port

    def fill_disk(self) -> None:
        """Stop the append-only file from growing, as on a full disk; the server notices with its next write."""
        full = max(path.stat().st_size for path in self.home.rglob("*.incr.aof"))
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))

    def free_disk(self) -> None:
        """Let the append-only file grow again."""
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.home)


def stop_flushes(pid: int) -> bool:
    """Stop the thread of a Redis that flushes its append-only file, as a busy disk does, until the Redis dies.

    Return False if this process may not trace that thread.
    """
    names = {int(path.parent.name): path.read_text().strip() for path in Path(f"/proc/{pid}/task").glob("*/comm")}
    [thread] = [thread for thread, name in names.items() if name == "bio_aof"]
    refusals = queue.SimpleQueue[bool]()

    def trace() -> None:
        refused = bool(ctypes.CDLL(None).ptrace(_PTRACE_ATTACH, thread, None, None))
        if not refused:
            os.waitpid(thread, _OF_ANY_KIND)
        refusals.put(refused)
        with contextlib.suppress(ChildProcessError):  # the kernel keeps the dead process until its tracer has looked
            while not refused and os.WIFSTOPPED(os.waitpid(thread, _OF_ANY_KIND)[1]):
                pass

    threading.Thread(target=trace, daemon=True).start()
    return not refusals.get(timeout=30)


def running_server() -> Iterator[Server]:
    """A fixture: a server, which a test may kill and start again."""
    with Server() as server:
        yield server
