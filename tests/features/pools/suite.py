"""Promises of every launcher: a test class to derive from, with an `engine` fixture that returns an `EngineBench`."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psutil
import pytest

import jobkit
from jobkit.features.pools.launcher import EngineUnavailable, Launcher, LaunchRefused, Unit, WorkerOrder
from tests.store.server import Server
from tests.support import environment, living_with, until

#: Shell line of a unit that does nothing. It ends with SIGTERM.
IDLE = "exec sleep 600"


class EngineBench:
    """An engine under test, and one pool on it. Derived classes say how to reach it."""

    #: True if the engine reports the last output of a unit that has failed.
    tells_output = True
    #: Number of units that run at once, if the engine has such a limit.
    room: int | None = None

    def __init__(self) -> None:
        self.pool = f"jk-{secrets.token_hex(4)}-suite"
        self._made: list[Launcher] = []

    def make(self, pool: str) -> Launcher:
        """Return a launcher of the engine."""
        raise NotImplementedError

    def make_away(self) -> Launcher:
        """Return a launcher whose engine does not answer."""
        raise NotImplementedError

    def make_refusing(self) -> Launcher:
        """Return a launcher whose engine refuses every order."""
        raise NotImplementedError

    async def visible(self) -> str:
        """Return what the engine shows to its other users: names, labels, commands. Processes are looked at anyway."""
        return ""

    def launcher(self, pool: str = "") -> Launcher:
        made = self.make(pool or self.pool)
        self._made.append(made)
        return made

    def order(self, *, setup: str = IDLE, **changes: Any) -> WorkerOrder:
        """Return an order, by default of a unit that starts no worker."""
        unit = f"suite-{secrets.token_hex(3)}"
        values = {"queues": ("default",), "python": sys.executable, "setup": setup, **changes}
        values["environment"] = {**environment(), **values.get("environment", {})}
        return WorkerOrder(self.pool, unit, **values)

    async def close(self) -> None:
        """End all units, also those of other pools."""
        for launcher in self._made:
            if (units := [each.unit for each in await launcher.list() if each.state != "ended"]) != []:
                await launcher.stop(units, now=True)
                await state(launcher, units, "ended")
            await launcher.close()


async def listed(launcher: Launcher) -> dict[str, Unit]:
    return {unit.unit: unit for unit in await launcher.list()}


async def state(launcher: Launcher, units: list[str], wanted: str) -> list[Unit]:
    """Wait until units have this state; those that are not listed any more have ended."""

    async def look() -> list[Unit]:
        found = await listed(launcher)
        states = [found.get(unit, Unit(unit, "", "ended")) for unit in units]
        return states if all(each.state == wanted for each in states) else []

    found: list[Unit] = await until(look, f"{units} to be {wanted}")
    return found


def processes(order: WorkerOrder) -> list[psutil.Process]:
    return living_with("JOBKIT_UNIT", order.unit)


def is_sentence(text: object) -> bool:
    return 5 < len(str(text)) < 600 and "\n" not in str(text) and "Traceback" not in str(text)


class LauncherSuite:
    """Promises of each launcher."""

    @pytest.fixture
    async def bench(self, engine: EngineBench) -> AsyncIterator[EngineBench]:
        yield engine
        await engine.close()

    async def test_it_starts_one_unit_for_each_order_and_lists_them_with_host_and_id(self, bench: EngineBench) -> None:
        launcher, orders = bench.launcher(), [bench.order(), bench.order()]

        started = await launcher.start(orders)

        assert [unit.unit for unit in started] == [order.unit for order in orders]
        running = await state(launcher, [order.unit for order in orders], "running")
        assert all(unit.id and unit.host and is_sentence(unit.reason) for unit in running)
        assert len({unit.id for unit in running}) == 2
        await until(lambda: all(processes(order) for order in orders), "their processes")

    async def test_units_are_found_by_a_new_launcher_and_end_by_it(self, bench: EngineBench) -> None:
        first, order = bench.launcher(), bench.order()
        await first.start([order])
        (before,) = await state(first, [order.unit], "running")
        await first.close()

        second = bench.launcher()

        (after,) = await state(second, [order.unit], "running")
        assert (after.id, after.host) == (before.id, before.host)
        await second.stop([order.unit])
        (ended,) = await state(second, [order.unit], "ended")
        assert ended.error == ""
        await until(lambda: not processes(order), "the process to end")

    async def test_stopping_again_and_stopping_the_unknown_or_ended_change_nothing(self, bench: EngineBench) -> None:
        launcher, order, other = bench.launcher(), bench.order(), bench.order()
        await launcher.start([order, other])
        await state(launcher, [order.unit, other.unit], "running")

        for now in (False, False, True):
            await launcher.stop([order.unit, "suite-000000"], now=now)
        await state(launcher, [order.unit], "ended")
        await launcher.stop([order.unit])

        assert (await listed(launcher))[other.unit].state == "running"

    async def test_a_unit_that_does_not_end_gently_ends_at_once_if_asked(self, bench: EngineBench) -> None:
        launcher, order = bench.launcher(), bench.order(setup="trap '' TERM USR1\nsleep 600 &\nwait")
        await launcher.start([order])
        await until(lambda: ["sleep", "600"] in [each.cmdline() for each in processes(order)], "it to ignore SIGTERM")
        await launcher.stop([order.unit])
        assert processes(order)

        await launcher.stop([order.unit], now=True)

        await state(launcher, [order.unit], "ended")
        await until(lambda: not processes(order), "the process to end")

    async def test_a_unit_that_dies_at_once_is_listed_with_the_reason(self, bench: EngineBench) -> None:
        launcher, order = bench.launcher(), bench.order(setup="echo no such module >&2; exit 3")

        await launcher.start([order])

        (ended,) = await state(launcher, [order.unit], "ended")
        assert is_sentence(ended.error)
        assert "3" in ended.error
        assert "no such module" in ended.error or not bench.tells_output

    async def test_pools_do_not_see_each_other(self, bench: EngineBench) -> None:
        launcher, order = bench.launcher(), bench.order()
        similar = bench.launcher(f"{bench.pool}-2")
        await launcher.start([order])

        assert await similar.list() == []
        await similar.stop([order.unit], now=True)

        await state(launcher, [order.unit], "running")

    async def test_a_unit_without_room_says_why_and_starts_when_there_is_room(self, bench: EngineBench) -> None:
        launcher, waiting = await _full(bench)
        running = [unit.unit for unit in await launcher.list() if unit.state == "running"]
        assert is_sentence(waiting.reason)

        await launcher.stop(running[:1])

        await state(launcher, [waiting.unit], "running")

    async def test_a_unit_that_waits_for_room_ends_at_once_when_it_is_stopped(self, bench: EngineBench) -> None:
        launcher, waiting = await _full(bench)

        await launcher.stop([waiting.unit])

        (ended,) = await state(launcher, [waiting.unit], "ended")
        assert ended.error == ""

    async def test_a_refused_start_says_what_the_engine_says_in_one_sentence(self, bench: EngineBench) -> None:
        launcher = bench.make_refusing()
        try:
            with pytest.raises(LaunchRefused) as refused:
                await launcher.start([bench.order()])
        finally:
            await launcher.close()
        assert is_sentence(refused.value)

    async def test_an_engine_that_is_away_is_a_sentence_whatever_was_asked(self, bench: EngineBench) -> None:
        launcher = bench.make_away()
        try:
            for asked in (launcher.list, lambda: launcher.start([bench.order()]), lambda: launcher.stop(["suite-1"])):
                with pytest.raises(EngineUnavailable) as away:
                    await asked()
                assert is_sentence(away.value)
        finally:
            await launcher.close()

    async def test_secrets_are_in_no_name_label_or_command_line(self, bench: EngineBench) -> None:
        secret = secrets.token_hex(16)
        launcher, order = bench.launcher(), bench.order(environment={"JOBKIT_SECRET": secret})

        started = await launcher.start([order])

        lines, found = [], []
        while not found or found[0].state != "running":
            found = [unit for unit in await launcher.list() if unit.unit == order.unit]
            lines += [" ".join(process.cmdline()) for process in processes(order)]
            await asyncio.sleep(0.02)  # between two looks
        await until(lambda: living_with("JOBKIT_SECRET", secret), "its process")
        assert secret not in f"{lines} {started} {found} {order} {await bench.visible()}"

    async def test_its_worker_runs_jobs_and_finishes_them_when_it_is_stopped(
        self, bench: EngineBench, place: dict[str, str]
    ) -> None:
        launcher = bench.launcher()
        variables = {f"JOBKIT_{name.upper()}": value for name, value in place.items()}
        order = bench.order(setup="", queues=("gpu",), slots=2, resources={"gpu": 1}, environment=variables)
        await launcher.start([order])
        with jobkit.connect(**place) as kit:
            job = await kit.aio.options(queue="gpu", resources={"gpu": 1}).submit(_slow_answer)
            await until(lambda: job.state == "running", "the job to start")
            (worker,) = await kit.aio.workers()

            await launcher.stop([order.unit])

            assert await job == 42
            assert worker.resources == {"gpu": 1}
        (ended,) = await state(launcher, [order.unit], "ended")
        assert ended.error == ""

    @pytest.fixture
    def place(self) -> Iterator[dict[str, str]]:
        server = Server()
        server.start()
        yield {"url": f"redis://127.0.0.1:{server.listen()}", "namespace": "suite", "secret": "of the suite"}
        server.stop()


async def _full(bench: EngineBench) -> tuple[Launcher, Unit]:
    """Return a launcher whose engine is full, and the unit that waits for room."""
    if bench.room is None:
        pytest.skip("this engine starts units at once")
    launcher, orders = bench.launcher(), [bench.order() for _ in range(bench.room + 1)]
    await launcher.start(orders)

    async def waiting() -> list[Unit]:
        units = await launcher.list()
        is_full = sum(unit.state == "running" for unit in units) == bench.room
        return [unit for unit in units if is_full and unit.state == "pending"]

    (unit,) = await until(waiting, "one unit to wait")
    return launcher, unit


def _slow_answer() -> int:
    import time

    time.sleep(1)
    return 42
