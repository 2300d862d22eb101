"""The private server of this process, on which `sync://` keeps its records.

It is started when first needed, listens on a unix socket in a temporary folder, writes nothing to disk, and is shared
by all kits of the process; kits of the same namespace share their jobs. A shell watches it: the process holds the other
end of the shell's standard input, so the kernel closes that however the process ends, and the shell then kills the
server and removes the folder. A forked child closes its copy and starts its own server.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from secrets import token_hex

import redis

from jobkit.model import JobkitError, StoreUnavailable
from jobkit.settings import Settings
from jobkit.store.binary import find_server
from jobkit.store.redis import RedisStore

#: Seconds in which a server has to answer after its start.
_START_S = 15.0

#: A path of a unix socket has at most about 100 bytes.
_PATH_MOST = 80

#: $0 is the folder, the arguments are the server's. Its own output goes to its log.
_WATCH = '"$@" & read -r _; kill -9 $!; wait; rm -rf "$0"'


class PrivateServer:
    """One server of one process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watch: subprocess.Popen[bytes] | None = None
        self._socket = ""

    def url(self) -> str:
        """Return the URL of the running server; start it if there is none.

        Raises:
            StoreUnavailable: no server program was found, or it did not start.
        """
        with self._lock:
            if self._watch is None or not _is_listening(self._socket):
                self._end()
                self._start()
            return f"unix://{self._socket}"

    def stop(self) -> None:
        """End the server and wait for that. The next call of `url` starts another."""
        with self._lock:
            self._end()

    def _start(self) -> None:
        try:
            program = find_server()
        except JobkitError as error:
            raise StoreUnavailable(f"sync:// keeps its records in a private server: {error}") from None
        short = "/tmp" if len(tempfile.gettempdir()) > _PATH_MOST else None
        folder = Path(tempfile.mkdtemp(prefix="jobkit-sync-", dir=short))  # of mode 0700: for this user alone
        self._socket = str(folder / "s")
        options = {"port": "0", "unixsocket": self._socket, "unixsocketperm": "700", "dir": str(folder), "save": ""}
        options |= {"appendonly": "no", "logfile": str(folder / "log"), "maxmemory": "0", "daemonize": "no"}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        # An invalid LC_ALL of the user would end the server; it needs no locale.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, str(folder), str(program.path), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**environment, "LC_ALL": "C"},
            start_new_session=True,  # a Ctrl-C in the terminal is not for it
        )
        if not _answers(self._socket):
            said = (folder / "log").read_text(errors="replace")[-300:] if (folder / "log").exists() else ""
            self._end()
            shown = " ".join(said.split()) or "it wrote no log"
            raise StoreUnavailable(f"the private server of sync:// ({program}) did not start: {shown}")

    def _end(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None and watch.stdin is not None:
            watch.stdin.close()
            try:
                watch.wait(5)
            except subprocess.TimeoutExpired:
                watch.kill()
                watch.wait()
            shutil.rmtree(os.path.dirname(self._socket), ignore_errors=True)

    def after_fork_in_child(self) -> None:
        """Leave the server to the parent."""
        self._lock = threading.Lock()
        watch, self._watch = self._watch, None
        if watch is not None and watch.stdin is not None:
            watch.stdin.close()
            watch.returncode = 0  # no child of ours: nothing to wait for


def _is_listening(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        return connection.connect_ex(path) == 0


def _answers(path: str) -> bool:
    """Wait until a server serves at `path`; False if it does not within `_START_S` seconds."""
    end = time.monotonic() + _START_S
    with redis.Redis(unix_socket_path=path) as client:
        while time.monotonic() < end:
            with contextlib.suppress(redis.RedisError, OSError):
                client.ping()
                return True
            time.sleep(0.002)  # between two questions
    return False


#: The server of this process.
server = PrivateServer()


class Space:
    """A namespace on the server, used by one or more kits. Its keys are deleted when the last kit leaves.

    Attributes:
        settings: of its store.
        paused: ids of jobs that wait for their queue or task to be resumed, in the order of their submits.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.paused: dict[str, None] = {}
        self._users = 0

    @classmethod
    def of(cls, settings: Settings, *, is_shared: bool = True) -> Space:
        """Return the space of `settings.namespace`, a new one if no kit uses it or `is_shared` is False.

        Raises:
            StoreUnavailable: the server cannot be started.
        """
        url, name = server.url(), settings.namespace
        with _spaces_lock:
            space = _spaces.get(name) if is_shared else None
            if space is None or space.settings.url != url:
                # A new name each time, because the keys of the last one may not be deleted yet.
                space = cls(replace(settings, url=url, namespace=f"{name[:150]}.{token_hex(6)}"))
                if is_shared:
                    _spaces[name] = space
            space._users += 1
            return space

    async def leave(self, store: RedisStore) -> None:
        """Leave it; the last user deletes its keys through `store`."""
        with _spaces_lock:
            self._users -= 1
            if self._users > 0:
                return
            for name in [name for name, space in _spaces.items() if space is self]:
                del _spaces[name]
        with contextlib.suppress(redis.RedisError, OSError):  # the server may have ended
            found = [key async for key in store.redis.scan_iter(f"{store.prefix}*", count=1000)]
            for start in range(0, len(found), 1000):
                await store.redis.unlink(*found[start : start + 1000])


_spaces: dict[str, Space] = {}
_spaces_lock = threading.Lock()


def spaces_in_use() -> set[str]:
    """Return the namespaces whose space is shared by open kits."""
    with _spaces_lock:
        return set(_spaces)


def _after_fork_in_child() -> None:
    global _spaces_lock
    _spaces_lock = threading.Lock()
    _spaces.clear()
    server.after_fork_in_child()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(server.stop)
