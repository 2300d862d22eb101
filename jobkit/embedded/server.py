"""One redis-server on a unix socket: configuration, start, readiness and end, and a minimal client for these.

The server belongs to the process that started it and dies with it. It writes each change to its append-only file before
it replies, and `flush` brings the file to the disk: the crash of a process loses nothing, a power cut what was written
since the last flush. redis-py would do as a client, but importing it takes 0.2 s, more than everything else in a
supervisor's start.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hiredis

import jobkit.embedded.children as children
from jobkit.access.own_machine import unix_peer_uid, write_private
from jobkit.embedded.home import Home, acquire, append_private, lines_of
from jobkit.model import JobkitError
from jobkit.store.binary import ServerBinary, version_text

#: Maximum seconds that a server may answer "LOADING" while it reads a large append-only file.
LOADING_S = 600.0
#: Maximum seconds until a server must listen.
SILENT_S = 15.0
_STOP_S = 15.0


class ServerReply(JobkitError):
    """The server replied with an error (`LOADING ...`, `NOAUTH ...`)."""

    @property
    def serves(self) -> bool:
        """True if reads work: a server that cannot write to its disk rejects even a PING."""
        return str(self).startswith("MISCONF")


def ask(path: str, *command: str, timeout_s: float = 1.0) -> Any:
    """Return the reply to one command, on a new connection.

    Raises:
        ServerReply: the server replied with an error.
        OSError: no process listens at `path`, or another user's, or no server of ours, or the reply was not complete
            within `timeout_s`.
    """
    reader = hiredis.Reader(protocolError=ConnectionError, replyError=ServerReply, encoding="utf-8", errors="replace")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(path)
        if unix_peer_uid(connection) not in (None, os.geteuid()):
            raise PermissionError(errno.EACCES, "another user listens here", path)
        connection.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub means one word
        while (reply := reader.gets()) is False:
            data = connection.recv(65_536)
            if not data:
                raise ConnectionResetError("the server closed the connection")
            reader.feed(data)
    if isinstance(reply, ServerReply):
        raise reply
    return reply


def answers(path: str, timeout_s: float = 1.0) -> bool:
    """Return True if a server at `path` is ready."""
    try:
        return bool(ask(path, "PING", timeout_s=timeout_s) == "PONG")
    except ServerReply as reply:
        return reply.serves
    except OSError:
        return False


class Server:
    """The server of one home."""

    def __init__(self, home: Home, binary: ServerBinary) -> None:
        self.home = home
        self.binary = binary
        self.process: subprocess.Popen[bytes] | None = None
        self.log = home.logs / "redis.log"
        self._flushed: dict[Path, int] = {}  # sizes of the append-only files at the last flush

    def start(self, on_loading: Callable[[], None] = lambda: None) -> None:
        """Start the server and return when it answers; `on_loading` is called repeatedly while it reads its data.

        Raises JobkitError if it ended or never answered; the message has its output and what to do.
        """
        socket = self.home.socket
        self.home.check_socket_directory()
        self._clear_socket()
        config = config_text(self.home, self.binary)
        if not self.home.config.exists() or self.home.config.read_text("utf-8", "replace") != config:
            write_private(self.home.config, config)
        said_before = self.log.stat().st_size if self.log.exists() else 0
        # An invalid LC_ALL of the user would end redis-server, which needs no locale.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
        with append_private(self.home.data_lock) as lock:
            # Held by the server as long as it lives: one that is stopping may have lost its socket to a cleaner.
            if not acquire(lock, _STOP_S):
                raise JobkitError(
                    f"another server uses {self.home.data} and does not end: stop it, or use another JOBKIT_HOME"
                )
            self.process = children.start(
                [str(self.binary.path), str(self.home.config)],
                log=self.log,
                env={**environment, "LC_ALL": "C"},
                death_signal=signal.SIGTERM,  # the server flushes its file and exits
                keeps=(lock.fileno(),),
            )
        started = time.monotonic()
        while True:
            status = self.process.poll()
            if status is not None:
                self.process = None
                raise JobkitError(self._why_it_ended(status, said_before))
            waited = time.monotonic() - started
            try:
                if ask(str(socket), "PING") == "PONG":
                    # A member of `jobkit share` may have replaced functions before it was revoked.
                    with contextlib.suppress(ServerReply):
                        ask(str(socket), "FUNCTION", "FLUSH")
                    return
            except ServerReply as reply:
                if reply.serves:
                    return
                on_loading()  # the reply is LOADING
                if waited > LOADING_S:
                    self.stop()
                    raise JobkitError(
                        f"redis-server is still loading {self.home.data} after {waited:.0f} s; see {self.log}"
                    ) from None
            except OSError:
                if waited > SILENT_S:
                    self.stop()
                    raise JobkitError(
                        f"redis-server does not answer at {socket} after {waited:.0f} s; see {self.log}"
                    ) from None
            time.sleep(0.005 if waited < 1 else 0.1)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def flush(self) -> None:
        """Bring what the append-only file has gained to the disk, which may take seconds if that is busy."""
        with contextlib.suppress(OSError):  # a rewrite has replaced a file, or the home was deleted
            sizes = {path: path.stat().st_size for path in self.home.data.glob("appendonlydir/*.incr.aof")}
            for path in (path for path, size in sizes.items() if size != self._flushed.get(path)):
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            self._flushed = sizes

    def stop(self) -> None:
        """Stop the server with its data on disk: SHUTDOWN, then SIGTERM, then SIGKILL."""
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(OSError, ServerReply):  # it closes the connection instead of replying
            ask(str(self.home.socket), "SHUTDOWN", timeout_s=_STOP_S)
        for patience_s, ask_harder in ((2.0, process.terminate), (_STOP_S, process.kill)):
            try:
                process.wait(patience_s)
                break
            except subprocess.TimeoutExpired:
                ask_harder()
        process.wait()
        children.release_ended()
        self.home.socket.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill the server; one that stops would remove its socket, or that of another server at its path."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            children.release_ended()

    def _clear_socket(self) -> None:
        """Remove the socket of a dead server, and stop one that outlived its supervisor."""
        socket = str(self.home.socket)
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline:
            try:
                ask(socket, "SHUTDOWN")
            except (ConnectionRefusedError, FileNotFoundError):
                break
            except (OSError, ServerReply):
                pass  # it is stopping, or loading and will stop
            time.sleep(0.02)
        else:
            raise JobkitError(
                f"another process listens on {socket} and does not end: stop it, or use another JOBKIT_HOME"
            )
        self.home.socket.unlink(missing_ok=True)

    def _why_it_ended(self, status: int, said_before: int) -> str:
        said = [line.split(" # ", 1)[-1].split(" * ", 1)[-1] for line in lines_of(self.log, said_before)[-3:]]
        how = f"signal {-status}" if status < 0 else f"status {status}"
        text = " / ".join(said) or "it said nothing"
        lowered = text.lower()
        if os.strerror(errno.ENOSPC).lower() in lowered:
            return f"redis-server did not start, because the disk of {self.home.path} is full: free space"
        if any(word in lowered for word in ("append only file", "aof", "rdb", "manifest")):
            log = next(iter(self.home.data.glob("appendonlydir/*.manifest")), self.home.data / "appendonly.aof")
            return (
                f"redis-server cannot read its data in {self.home.data} ({how}; it said: {text}); nothing was changed: "
                f"copy that directory, then try `redis-check-aof --fix {log}`, or move it away to start empty"
            )
        return f"redis-server ({self.binary}) did not start ({how}; it said: {text}); see {self.log}"


def _quoted(path: Path) -> str:
    """Return a path for the configuration file: in quotes, all but printable ASCII escaped."""
    escaped = re.sub(rb"[^ !#-\[\]-~]", lambda found: b"\\x%02x" % found[0][0], os.fsencode(path))
    return f'"{escaped.decode()}"'


def config_text(home: Home, binary: ServerBinary) -> str:
    """Return the text of the configuration file: what differs from the server's defaults, and why."""
    lines = [
        "# Written by jobkit at every start; changes here are lost.",
        "port 0",
        f"unixsocket {_quoted(home.socket)}",
        "unixsocketperm 700",
        f"dir {_quoted(home.data)}",
        f"logfile {_quoted(home.logs / 'redis.log')}",
        # The append-only file has everything; snapshots are not needed.
        'save ""',
        "appendonly yes",
        # `Server.flush` does it. With "everysec" the server would keep back what it accepts during a flush, and a
        # SIGKILL would lose that.
        "appendfsync no",
        # Commands instead of a snapshot: Redis and Valkey read each other's, so a home survives a change of the server.
        "aof-use-rdb-preamble no",
        "auto-aof-rewrite-min-size 32mb",
        # A queue that evicts keys loses jobs.
        "maxmemory-policy noeviction",
        # Records with values up to this size (bytes) are stored packed, in half the memory.
        "hash-max-listpack-value 1024",
        # Tolerate a client that reads slowly for a moment; disconnect one that never reads.
        "client-output-buffer-limit pubsub 64mb 32mb 60",
        "client-output-buffer-limit normal 256mb 64mb 60",
        # All connections together; above this the largest ends.
        "maxmemory-clients 512mb",
        # Members of the gateway (`jobkit share`) must not become the default user with all its rights: access control
        # lists do not apply to these three. Only the gateway knows the new name of AUTH.
        f"rename-command AUTH {home.login_command()}",
        'rename-command HELLO ""',
        'rename-command RESET ""',
        f"# {binary.flavour} {version_text(binary.version)}",
    ]
    return "\n".join(lines) + "\n"
