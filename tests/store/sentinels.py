"""A primary with a replica, and three Sentinels that promote the replica."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

import psutil
import redis

from tests.store.server import Server, find_server
from tests.support import free_port, wait_until

NAME = "main"

#: Milliseconds of silence after which a Sentinel counts the primary as down.
_DOWN_MS = 400

_SENTINEL = f"""
sentinel monitor {NAME} 127.0.0.1 {{primary}} 2
sentinel down-after-milliseconds {NAME} {_DOWN_MS}
sentinel failover-timeout {NAME} 3000
sentinel parallel-syncs {NAME} 1
"""


class Sentinels:
    """Two servers and three Sentinels of one program. `url` names the Sentinels.

    Attributes:
        servers: by port; the first one begins as the primary.
    """

    def __init__(self, program: str) -> None:
        self._program = program
        self.servers: dict[int, Server] = {}
        self._ports: list[int] = []
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        first = self._add()
        self._add("--replicaof", "127.0.0.1", str(first), "--repl-diskless-sync-delay", "0")
        home = self.servers[first].home
        for n in range(3):
            port = free_port()
            config = home / f"sentinel{n}.conf"
            config.write_text(f"port {port}\ndir {home}\nlogfile sentinel{n}.log\n{_SENTINEL.format(primary=first)}")
            self._processes.append(subprocess.Popen([self._program, str(config), "--sentinel"]))
            self._ports.append(port)
        wait_until(self._is_ready, what="the Sentinels to know each other and the replica")

    def _add(self, *options: str) -> int:
        port = free_port()
        self.servers[port] = server = Server(self._program, "--port", str(port), *options)
        server.start()
        return port

    def _is_ready(self) -> bool:
        try:
            states = [self._ask(port).sentinel_master(NAME) for port in self._ports]
        except redis.RedisError:
            return False
        has_replica = self.client(self.primary).info("replication")["connected_slaves"] == 1
        return has_replica and all(one["num-other-sentinels"] == 2 and one["num-slaves"] == 1 for one in states)

    def _ask(self, port: int) -> redis.Redis:
        return redis.Redis(port=port, socket_timeout=5)

    def url_for(self, name: str) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self._ports)}/{name}"

    @property
    def url(self) -> str:
        return self.url_for(NAME)

    @property
    def primary(self) -> int:
        """Port of the primary, as the first Sentinel knows it."""
        return int(self._ask(self._ports[0]).sentinel_get_master_addr_by_name(NAME)[1])

    def client(self, port: int) -> redis.Redis:
        return redis.Redis(port=port)

    def replicate(self) -> None:
        """Return when the replica has what was written so far over this connection's server."""
        client = self.client(self.primary)
        client.set("mark", "")
        assert client.wait(1, 10_000) == 1

    @contextlib.contextmanager
    def loss(self, fault: str) -> Iterator[None]:
        """Within the block the primary is killed ("kill") or frozen ("freeze"), or gives its role away ("promote")."""
        server = self.servers[self.primary]
        if fault == "kill":
            server.kill()
        elif fault == "freeze":
            psutil.Process(server.pid).suspend()
        else:
            self._ask(self._ports[0]).sentinel_failover(NAME)
        yield
        if fault == "freeze":
            psutil.Process(server.pid).resume()

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for server in self.servers.values():
            server.stop()


def running_sentinels(program: str = "") -> Iterator[Sentinels]:
    """A fixture."""
    found = Sentinels(program or find_server())
    try:
        found.start()
        yield found
    finally:
        found.stop()
