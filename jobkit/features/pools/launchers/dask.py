"""Units as long tasks of a Dask cluster.

The published future of a task keeps it alive without a connected client, and is found again by its name. The task runs
in a thread of a Dask worker and keeps the worker's process there (`unit_process`).
"""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
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
from jobkit.features.pools.launchers import unit_process
from jobkit.features.pools.launchers.support import amounts, check_extra, one_line, why_ended
from jobkit.tasks import option_values

logger = logging.getLogger("jobkit.pools")

#: Seconds until a scheduler that does not answer counts as away.
_PATIENCE_S = 20.0
_NO_ADDRESS = 'Dask\'s configuration names no scheduler: give the pool its address, like address="tcp://10.0.0.1:8786"'
#: Number of ended units that are remembered, and listed.
_MOST_ENDED = 100


class DaskOptions(msgspec.Struct, frozen=True):
    """Options of a pool on Dask.

    Attributes:
        address: of the scheduler: "tcp://10.0.0.1:8786". "" for that of Dask's own configuration.
        dask_resources: what each unit takes of the Dask workers' own resources: {"GPU": 1} or "GPU=1".
    """

    address: str = ""
    dask_resources: Mapping[str, float] | str = {}

    def __post_init__(self) -> None:
        if self.address and "://" not in self.address and ":" not in self.address:
            raise ValueError(f'address must be like "tcp://10.0.0.1:8786", not {self.address!r}')
        if self.dask_resources:
            try:
                self.taken()
            except ValueError:
                raise ValueError(
                    f'dask_resources must be amounts above 0 by name, like "GPU=1", not {self.dask_resources!r}'
                ) from None

    def taken(self) -> Mapping[str, float]:
        """Return `dask_resources` as amounts by name."""
        return option_values.resources("dask_resources", self.dask_resources) if self.dask_resources else {}


class DaskLauncher(Launcher):
    """See `jobkit.features.pools.launcher.Launcher`. A unit's name in Dask is "{label of the pool}/{unit}"."""

    Options: ClassVar[type[msgspec.Struct]] = DaskOptions

    def __init__(self, pool: str, options: DaskOptions) -> None:
        self._prefix, self._options = f"{pool}/", options
        self._client: Any = None
        self._has_checked = False
        self._futures: dict[str, Any] = {}
        self._ended: dict[str, Unit] = {}
        self._code = unit_process.sent()

    async def start(self, orders: Sequence[WorkerOrder]) -> list[Unit]:
        check_extra("distributed", "dask", LaunchRefused)
        if not self._address():
            raise LaunchRefused(_NO_ADDRESS)
        started = []
        async with self._connected() as client:
            await self._check_python(client)
            for order in orders:
                key = self._prefix + order.unit
                environment = worker_environment(order, f"dask {key}")
                task = self._code["dask_task"](key, (order.setup, order.python, worker_command(order), environment))
                taken = dict(self._options.taken())
                future = client.submit(task, key=key, pure=False, resources=taken or None)
                await client.publish_dataset(future, name=key)
                self._futures[key] = future
                started.append(Unit(order.unit, key, "pending", "waits for Dask"))
        return started

    async def list(self) -> list[Unit]:
        async with self._connected() as client:
            await self._find(client)
            places, facts = await self._look(client, self._futures)
            units = []
            for key, future in [*self._futures.items()]:
                unit = await self._unit(key, future, places.get(key), facts.get(key))
                units.append(unit)
                if unit.state == "ended":
                    await self._forget(client, key)
                    self._ended[key] = unit
        for key in list(self._ended)[:-_MOST_ENDED]:
            del self._ended[key]
        return [*units, *(unit for unit in self._ended.values() if unit not in units)]

    async def stop(self, units: Sequence[str], *, now: bool = False) -> None:
        async with self._connected() as client:
            await self._find(client)
            keys = [key for unit in units if (key := self._prefix + unit) in self._futures]
            places, facts = await self._look(client, keys)
            running = [key for key in keys if key in facts]
            if running:
                addresses = {places[key][1] for key in running}
                await client.run(self._code["dask_stop"], running, now, workers=list(addresses), on_error="ignore")
            for key in set(keys) - set(running):
                if not self._futures[key].done():
                    await client.cancel([self._futures[key]], force=True)
                    self._ended[key] = Unit(key.removeprefix(self._prefix), key, "ended", "cancelled")
                    await self._forget(client, key)

    async def close(self) -> None:
        client, self._client, self._has_checked = self._client, None, False
        self._futures.clear()
        if client is not None:
            with suppress(Exception):  # the scheduler may be away
                await asyncio.wait_for(client.close(), _PATIENCE_S)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        """Yield the client. What fails closes it, and raises EngineUnavailable."""
        check_extra("distributed", "dask", EngineUnavailable)
        if not (address := self._address()):
            raise EngineUnavailable(_NO_ADDRESS)
        from distributed import Client

        try:
            async with asyncio.timeout(_PATIENCE_S):
                if self._client is not None and self._client.status != "running":
                    await self.close()
                if self._client is None:
                    self._client = await Client(
                        address, asynchronous=True, name="jobkit", set_as_default=False, timeout=_PATIENCE_S / 2
                    )
                yield self._client
        except LaunchRefused:
            raise
        except Exception as error:  # whatever Dask raises when its scheduler is away, of another version, ...
            logger.debug("Dask's scheduler %s", address, exc_info=True)
            await self.close()
            said = one_line(error) if str(error) else f"no answer after {_PATIENCE_S:g} s"
            raise EngineUnavailable(f"Dask's scheduler {address} does not answer: {said}") from None

    def _address(self) -> str:
        """Return the address of the scheduler, or ""; without one, Dask would start a cluster."""
        import dask.config

        return self._options.address or dask.config.get("scheduler-address", None) or ""

    async def _check_python(self, client: Any) -> None:
        """Raise LaunchRefused if the code of a task cannot be read there; once for a connection."""
        if self._has_checked:
            return
        own = platform.python_version_tuple()[:2]
        versions = await client.get_versions()
        for name, each in [("scheduler", versions["scheduler"]), *versions["workers"].items()]:
            found = each["host"]["python"].split(".")[:2]
            if tuple(found) != own:
                who = "scheduler runs" if name == "scheduler" else f"worker {name} runs"
                raise LaunchRefused(
                    f"Dask's {who} Python {'.'.join(found)}, and the pool is managed by Python {'.'.join(own)}; they "
                    "must be the same: run `jobkit pools run` in an environment like Dask's"
                )
        self._has_checked = True

    async def _find(self, client: Any) -> None:
        """Learn of units that another launcher has started."""
        names = [name for name in await client.list_datasets() if str(name).startswith(self._prefix)]
        for gone in self._futures.keys() - set(names):
            del self._futures[gone]
        for key in names:
            if key not in self._futures and (future := await client.get_dataset(key, default=None)) is not None:
                self._futures[key] = future

    async def _look(self, client: Any, wanted: Iterable[str]) -> tuple[dict[str, tuple[str, str]], dict[str, Any]]:
        """Return Dask's states of tasks with their places, and the facts of those that run."""
        keys = list(wanted)
        facts: dict[str, Any] = {}
        places = await client.run_on_scheduler(self._code["dask_places"], keys) if keys else {}
        if addresses := {address for _, address in places.values() if address}:
            told = await client.run(self._code["dask_facts"], workers=list(addresses), on_error="ignore")
            for each in told.values():
                facts |= each
        return places, {key: facts[key] for key in places if key in facts}

    async def _unit(self, key: str, future: Any, place: tuple[str, str] | None, facts: dict[str, Any] | None) -> Unit:
        unit = key.removeprefix(self._prefix)
        if future.status == "finished":
            result = await future.result()
            return Unit(unit, key, "ended", "ended", host=result["host"], error=why_ended(result))
        if future.status == "error":
            return Unit(unit, key, "ended", "failed in Dask", error=one_line(await future.exception()))
        if place is None:
            return Unit(unit, key, "ended", "cancelled in Dask", error="its task was cancelled in Dask")
        if facts is not None:
            reason = "ends when its jobs have ended" if facts["asked"] else f"on Dask worker {place[1]}"
            return Unit(unit, key, "running", reason, host=facts["host"])
        return Unit(unit, key, "pending", self._why_pending(*place))

    def _why_pending(self, state: str, address: str) -> str:
        taken = self._options.taken()
        if state == "no-worker":
            return f"Dask has no worker with {amounts(taken)}" if taken else "Dask has no workers"
        return f"waits on Dask worker {address}, which is busy" if address else "waits for a free worker of Dask"

    async def _forget(self, client: Any, key: str) -> None:
        """Remove what Dask keeps of an ended unit."""
        from distributed import Event

        await client.unpublish_dataset(key)
        del self._futures[key]
        await Event(f"{key} began", client=client).clear()
