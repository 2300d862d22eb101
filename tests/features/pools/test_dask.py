"""Pools on Dask: the common suite with a cluster of two processes, and what only Dask has."""

from __future__ import annotations

import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from jobkit.features.pools.launcher import EngineUnavailable, Launcher, LaunchRefused, WorkerOrder, checked_options
from jobkit.features.pools.launchers import dask
from jobkit.features.pools.launchers.dask import DaskLauncher, DaskOptions
from jobkit.model import InvalidParams
from tests.features.pools.suite import EngineBench, LauncherSuite, listed, processes, state
from tests.support import environment, until


class DaskBench(EngineBench):
    room = 2

    def __init__(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.address, self._patch = address, monkeypatch

    def make(self, pool: str) -> Launcher:
        return DaskLauncher(pool, DaskOptions(self.address))

    def make_away(self) -> Launcher:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return DaskLauncher(self.pool, DaskOptions(f"tcp://127.0.0.1:{free.getsockname()[1]}"))

    def make_refusing(self) -> Launcher:
        self._patch.setattr(platform, "python_version_tuple", lambda: ("3", "9", "1"))
        return self.make(self.pool)

    async def visible(self) -> str:
        from distributed import Client

        def shown(dask_scheduler: Any) -> str:
            return " ".join(f"{task.key} {task.group_key} {task.annotations}" for task in dask_scheduler.tasks.values())

        async with Client(self.address, asynchronous=True) as client:
            return await client.run_on_scheduler(shown)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Address of a cluster, in a separate process since Dask leaves threads and processes behind."""
    pytest.importorskip("distributed", reason="needs the extra dask")
    command = [sys.executable, "-m", "tests.features.pools.dask_cluster"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as cluster:
        yield cluster.stdout.readline().strip()
        cluster.stdin.close()


@pytest.mark.nightly
class TestDask(LauncherSuite):
    @pytest.fixture
    def engine(self, address: str, monkeypatch: pytest.MonkeyPatch) -> EngineBench:
        monkeypatch.setattr(dask, "_PATIENCE_S", 3.0)
        return DaskBench(address, monkeypatch)

    async def test_a_unit_whose_task_is_cancelled_in_dask_ends_and_says_so(self, bench: DaskBench) -> None:
        from distributed import Client

        launcher, order = bench.launcher(), bench.order()
        await launcher.start([order])
        (unit,) = await state(launcher, [order.unit], "running")

        async with Client(bench.address, asynchronous=True) as client:
            await client.cancel([await client.get_dataset(unit.id)], force=True)

        (ended,) = await state(launcher, [order.unit], "ended")
        assert ended.error == "its task was cancelled in Dask"
        await until(lambda: not processes(order), "the process to end")

    async def test_a_unit_ends_with_its_dask_worker_and_is_not_repeated(self, bench: DaskBench) -> None:
        launcher, order = bench.launcher(), bench.order()
        await launcher.start([order])
        await state(launcher, [order.unit], "running")
        (process,) = processes(order)

        process.parent().kill()

        (ended,) = await state(launcher, [order.unit], "ended")
        assert ended.error == "its Dask worker has ended"
        await until(lambda: not processes(order), "the process to end")

    async def test_a_unit_waits_for_dask_resources_that_no_dask_worker_has(self, bench: DaskBench) -> None:
        launcher, order = DaskLauncher(bench.pool, DaskOptions(bench.address, {"GPU": 1})), bench.order()
        await launcher.start([order])

        async def why() -> bool:
            return (await listed(launcher))[order.unit].reason == "Dask has no worker with GPU=1"

        await until(why, "Dask to look for a worker")
        await launcher.stop([order.unit])
        await state(launcher, [order.unit], "ended")
        await launcher.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"address": "10.0.0.1"}, 'address must be like "tcp://10.0.0.1:8786"'),
        ({"dask_resources": "GPU=no"}, 'dask_resources must be amounts above 0 by name, like "GPU=1"'),
        ({"dask_resources": {"GPU": 0}}, 'dask_resources must be amounts above 0 by name, like "GPU=1"'),
        (
            {"adress": "tcp://10.0.0.1:8786"},
            "adress is not an option of pools on dask; allowed are address, dask_resources",
        ),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(given: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidParams, match=message):
        checked_options("dask", given)


def test_dask_resources_are_read_from_a_text_too() -> None:
    assert checked_options("dask", {"dask_resources": "GPU=1,RAM=2"}).taken() == {"GPU": 1, "RAM": 2}


class FakeFuture:
    def __init__(self, status: str, outcome: Any = None) -> None:
        self.status, self._outcome = status, outcome

    async def result(self) -> Any:
        return self._outcome

    exception = result


RUNNING = {"host": "lab2", "asked": False}
FAILED = {"host": "lab2", "asked": False, "status": 1, "tail": "first\npython: No module named jobkit\n"}
AT = "tcp://10.0.0.3:4000"


@pytest.mark.parametrize(
    ("future", "place", "facts", "expected"),
    [
        (FakeFuture("pending"), ("no-worker", ""), None, ("pending", "Dask has no worker with GPU=1", "")),
        (FakeFuture("pending"), ("queued", ""), None, ("pending", "waits for a free worker of Dask", "")),
        (FakeFuture("pending"), ("processing", AT), None, ("pending", f"waits on Dask worker {AT}, which is busy", "")),
        (FakeFuture("pending"), ("processing", AT), RUNNING, ("running", f"on Dask worker {AT}", "")),
        (
            FakeFuture("pending"),
            ("processing", AT),
            {**RUNNING, "asked": True},
            ("running", "ends when its jobs have ended", ""),
        ),
        (FakeFuture("pending"), None, None, ("ended", "cancelled in Dask", "its task was cancelled in Dask")),
        (FakeFuture("finished", {**FAILED, "asked": True}), None, None, ("ended", "ended", "")),
        (FakeFuture("error", ValueError("no room")), None, None, ("ended", "failed in Dask", "no room")),
        (
            FakeFuture("finished", FAILED),
            None,
            None,
            (
                "ended",
                "ended",
                "worker ended with status 1: python: No module named jobkit; install panel-jobkit there, or name a "
                "Python that has it: python=",
            ),
        ),
    ],
)
async def test_a_unit_has_the_state_of_its_task(
    future: FakeFuture, place: tuple[str, str] | None, facts: dict[str, Any] | None, expected: tuple[str, ...]
) -> None:
    launcher = DaskLauncher("jk-1-gpu", DaskOptions(AT, "GPU=1"))

    unit = await launcher._unit("jk-1-gpu/gpu-1", future, place, facts)

    assert unit.unit == "gpu-1"
    assert (unit.state, unit.reason, unit.error) == expected


async def test_without_an_address_no_cluster_is_started() -> None:
    pytest.importorskip("distributed", reason="needs the extra dask")
    launcher, order = DaskLauncher("jk-1-gpu", DaskOptions()), WorkerOrder("gpu", "gpu-1", ("gpu",))

    for asked, kind in ((launcher.start([order]), LaunchRefused), (launcher.list(), EngineUnavailable)):
        with pytest.raises(kind, match="^Dask's configuration names no scheduler: give the pool its address"):
            await asked
