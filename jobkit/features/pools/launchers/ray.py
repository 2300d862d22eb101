"""Units as detached actors of a Ray cluster, which a separate process (`ray_driver`) starts and asks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from jobkit.features.pools.launcher import (
    EngineUnavailable,
    Launcher,
    LaunchRefused,
    Unit,
    WorkerOrder,
    worker_command,
    worker_environment,
)
from jobkit.features.pools.launchers.support import amounts, check_extra, last_line, one_line, why_ended
from jobkit.tasks import option_values

#: Seconds until Ray counts as away: at the first request, which connects, and at each later one.
_CONNECT_S = 60.0
_PATIENCE_S = 20.0
#: Number of ended units that are remembered, and listed.
_MOST_ENDED = 100

_ADDRESS = re.compile(r"auto|(ray://)?[^\s/:]+:\d+")


class RayOptions(msgspec.Struct, frozen=True):
    """Options of a pool on Ray.

    Attributes:
        address: "auto" for the cluster of this machine, "10.0.0.1:6379" of which it is a node, "ray://10.0.0.1:10001".
        num_cpus, num_gpus: what each unit takes of the cluster. Default: a CPU for each slot, and `gpu` of the pool's
            resources.
        ray_resources: further amounts by name: {"accelerator_type:A100": 0.01} or "big=1".
    """

    address: str = "auto"
    num_cpus: float | None = None
    num_gpus: float | None = None
    ray_resources: Mapping[str, float] | str = {}

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.address):
            raise ValueError(f'address must be "auto", "10.0.0.1:6379" or "ray://10.0.0.1:10001", not {self.address!r}')
        for name in ("num_cpus", "num_gpus"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} must be 0 or more, not {getattr(self, name)!r}")
        try:
            is_right = all(amount > 0 for amount in self._custom().values())
        except ValueError:
            is_right = False
        if not is_right:
            raise ValueError(f'ray_resources must be amounts above 0 by name, like "big=1", not {self.ray_resources!r}')

    def takes(self, order: WorkerOrder) -> dict[str, float]:
        """Return what a unit takes, by Ray's names."""
        cpus = order.slots if self.num_cpus is None else self.num_cpus
        gpus = order.resources.get("gpu", 0) if self.num_gpus is None else self.num_gpus
        return {name: amount for name, amount in {"CPU": cpus, "GPU": gpus, **self._custom()}.items() if amount}

    def _custom(self) -> Mapping[str, float]:
        given = self.ray_resources or {}
        return option_values.resources("ray_resources", given) if isinstance(given, str) else given


class RayLauncher(Launcher):
    """See `jobkit.features.pools.launcher.Launcher`. A unit's actor is called "{label of the pool}/{unit}"."""

    Options: ClassVar[type[msgspec.Struct]] = RayOptions

    def __init__(self, pool: str, options: RayOptions) -> None:
        self._prefix, self._options = f"{pool}/", options
        self._driver: _DriverProcess | None = None
        self._lock = asyncio.Lock()
        self._takes: dict[str, dict[str, float]] = {}
        self._ended: dict[str, Unit] = {}

    async def start(self, orders: Sequence[WorkerOrder]) -> list[Unit]:
        check_extra("ray", "ray", LaunchRefused)
        for order in orders:
            environment = worker_environment(order, f"ray {self._prefix}{order.unit}")
            started = (order.setup, order.python, worker_command(order), environment)
            self._takes[order.unit] = self._options.takes(order)
            await self._call("start", order.unit, started, self._takes[order.unit], refusal=LaunchRefused)
        return [self._unit(order.unit, {}, ()) for order in orders]

    async def list(self) -> list[Unit]:
        facts = await self._call("units")
        room = await self._call("room") if {} in facts.values() else ()
        units = [self._unit(unit, each, room) for unit, each in facts.items()]
        listed = [*units, *(ended for unit, ended in self._ended.items() if unit not in facts)]
        self._ended |= {unit.unit: unit for unit in units if unit.state == "ended"}
        self._takes = {unit: takes for unit, takes in self._takes.items() if unit not in self._ended}
        for unit in list(self._ended)[:-_MOST_ENDED]:
            del self._ended[unit]
        return listed

    async def stop(self, units: Sequence[str], *, now: bool = False) -> None:
        await self.list()  # the driver stops what it has seen, and tells only once why a unit has ended
        await self._call("stop", [*units], now)

    async def close(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            await asyncio.to_thread(driver.close)

    def _unit(self, unit: str, facts: Mapping[str, Any], room: Sequence[Mapping[str, float]]) -> Unit:
        name = self._prefix + unit
        if "error" in facts:
            return Unit(
                unit, name, "ended", "its actor has died", error=f"its Ray actor has died: {facts['error']}"[:300]
            )
        if not facts:
            return Unit(unit, name, "pending", self._why_pending(self._takes.get(unit, {}), room))
        if facts["status"] is not None:
            return Unit(unit, name, "ended", "ended", host=facts["host"], error=why_ended(facts))
        reason = "ends when its jobs have ended" if facts["asked"] else f"on Ray node {facts['host']}"
        return Unit(unit, name, "running", reason, host=facts["host"])

    def _why_pending(self, takes: Mapping[str, float], room: Sequence[Mapping[str, float]]) -> str:
        if room and not any(all(node.get(name, 0) >= amount for name, amount in takes.items()) for node in room):
            return f"no node of Ray has {amounts(takes)}"
        return f"waits for Ray to have {amounts(takes)} free" if takes else "waits for room in Ray"

    async def _call(self, method: str, *arguments: Any, refusal: type[LaunchRefused] | None = None) -> Any:
        """Return the reply of the driver's process, which is started if need be; raise what it says.

        Raises EngineUnavailable, or `refusal` if Ray answers, but says no.
        """
        check_extra("ray", "ray", EngineUnavailable)
        where = "Ray" if self._options.address == "auto" else f"Ray at {self._options.address}"
        async with self._lock:
            patience_s = _PATIENCE_S if self._driver is not None else _CONNECT_S
            if self._driver is None:
                self._driver = await asyncio.to_thread(_DriverProcess, (self._options.address, self._prefix))
            driver = self._driver
            try:
                reply = await asyncio.wait_for(asyncio.to_thread(driver.ask, method, arguments), patience_s)
            except TimeoutError:
                reply = {"error": f"no answer after {patience_s:g} s", "is_connected": False}
            except asyncio.CancelledError:
                await self.close()  # its reply would be taken for that of the next request
                raise
            if "error" not in reply:
                return reply["reply"]
            if not reply["is_connected"]:
                await self.close()
        said = " ".join(one_line(line) for line in reply["error"].splitlines() if line.strip())[:400]
        if is_mismatch := said.startswith("Version mismatch"):
            said += "; the pool must be managed by the same versions"
        if is_mismatch or (reply["is_connected"] and refusal):
            raise (refusal or EngineUnavailable)(f"{where} refused: {said}")
        raise EngineUnavailable(f"{where} does not answer: {said}")


class _DriverProcess:
    """A `ray_driver`. Blocks."""

    def __init__(self, connect: tuple[str, str]) -> None:
        self._connect = connect
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jobkit.features.pools.launchers.ray_driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )

    def ask(self, method: str, arguments: Sequence[Any]) -> dict[str, Any]:
        """Return the reply, or an error if the process has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = ""
        with contextlib.suppress(BrokenPipeError):
            print(
                json.dumps({"connect": self._connect, "call": [method, arguments]}),
                file=self._process.stdin,
                flush=True,
            )
            line = self._process.stdout.readline()
        if line:
            reply: dict[str, Any] = json.loads(line)
            return reply
        self._log.seek(0)
        return {"error": last_line(self._log.read(), "its process has ended"), "is_connected": False}

    def close(self) -> None:
        """End the process; actors go on."""
        self._process.kill()
        with self._process, self._log:
            pass
