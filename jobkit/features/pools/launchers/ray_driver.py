"""The process that speaks to Ray for a `RayLauncher`, as `python -m jobkit.features.pools.launchers.ray_driver`.

Ray knows one cluster per process, and ends the process that has lost its cluster. Requests and replies are lines of
JSON on standard input and output. The first request names the cluster.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from typing import Any

from jobkit.features.pools.launchers import unit_process

Json = dict[str, Any]

#: Namespace of Ray for all actors of jobkit.
_NAMESPACE = "jobkit"
#: Seconds that actors have to answer; those that have not started do not.
_ANSWER_S = 1.0
#: Seconds for a connection.
_CONNECT_S = 5.0


class RayDriver:
    """A connection to a cluster, and the units of one pool: actors called "{label of the pool}/{unit}".

    Attributes:
        takes: what each unit takes of the cluster: {"CPU": 1, "GPU": 1}, which tells why one waits.
    """

    def __init__(self, address: str, prefix: str) -> None:
        import ray

        _check_reachable(address)
        ray.init(address=address, namespace=_NAMESPACE, log_to_driver=False, configure_logging=False)
        self._ray, self._prefix = ray, prefix
        self._actor = ray.remote(unit_process.sent()["RayUnit"])
        self._actors: dict[str, Any] = {}
        self._asked: dict[str, Any] = {}
        self._facts: dict[str, Json] = {}

    def start(self, unit: str, started: list[Any], takes: Mapping[str, float]) -> None:
        """Make the actor of a unit."""
        custom = {name: amount for name, amount in takes.items() if name not in ("CPU", "GPU")}
        self._actors[unit] = self._actor.options(
            name=self._prefix + unit,
            lifetime="detached",
            max_restarts=0,
            num_cpus=takes.get("CPU", 0),
            num_gpus=takes.get("GPU", 0),
            resources=custom or None,
        ).remote(tuple(started))

    def units(self) -> dict[str, Json]:
        """Return the facts of all units; of those that have ended once.

        {} stands for one that has not started, "error" says why the actor of one has died.
        """
        names = [name for name in self._ray.util.list_named_actors() if name.startswith(self._prefix)]
        for name in names:
            unit = name.removeprefix(self._prefix)
            if unit not in self._actors:
                self._actors[unit] = self._ray.get_actor(name)
        for unit, actor in self._actors.items():
            if unit not in self._asked:  # an actor that has not started keeps what it is asked
                self._asked[unit] = actor.facts.remote()
        if self._asked:
            self._ray.wait(list(self._asked.values()), num_returns=len(self._asked), timeout=_ANSWER_S)
        found = {}
        for unit in [*self._actors]:
            found[unit] = self._told(unit)
            if "error" in found[unit] or found[unit].get("status") is not None:
                self._forget(unit)
        return found

    def stop(self, units: list[str], now: bool) -> None:
        """End units that the last call of `units` has seen. One that had not started then is removed."""
        for unit in self._actors.keys() & set(units):
            if unit in self._facts:
                self._actors[unit].stop.remote(now)
            else:
                self._forget(unit)

    def room(self) -> list[Json]:
        """Return the resources of each node."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _told(self, unit: str) -> Json:
        ready, _ = self._ray.wait([self._asked[unit]], timeout=0)
        if ready:
            del self._asked[unit]
            try:
                self._facts[unit] = self._ray.get(ready[0])
            except self._ray.exceptions.RayError as error:
                return {"error": str(error)}
        return self._facts.get(unit, {})

    def _forget(self, unit: str) -> None:
        self._ray.kill(self._actors.pop(unit))
        self._asked.pop(unit, None)
        self._facts.pop(unit, None)


def _check_reachable(address: str) -> None:
    """Raise OSError at once if no server is there; Ray would wait for a minute."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()


def main() -> None:
    """Answer requests until standard input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Ray prints
    driver: RayDriver | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if driver is None:
                driver = RayDriver(*request["connect"])
            method, arguments = request["call"]
            reply = {"reply": getattr(driver, method)(*arguments)}
        except Exception as error:  # whatever Ray raises is for the person who runs the pool
            reply = {"error": f"{error}" or type(error).__name__, "is_connected": driver is not None}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
