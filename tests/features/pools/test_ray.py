"""Pools on Ray: the common suite with a cluster of this machine, and what only Ray has."""

from __future__ import annotations

import asyncio
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobkit.features.pools.launcher import EngineUnavailable, Launcher, LaunchRefused, WorkerOrder, checked_options
from jobkit.features.pools.launchers import ray as ray_module
from jobkit.features.pools.launchers.ray import RayLauncher, RayOptions
from jobkit.model import InvalidParams
from tests.features.pools.suite import EngineBench, LauncherSuite, listed, processes, state
from tests.support import environment, until


class RayBench(EngineBench):
    room = 2

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address

    def make(self, pool: str) -> Launcher:
        return RayLauncher(pool, RayOptions(self.address, num_gpus=0))

    def make_away(self) -> Launcher:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return RayLauncher(self.pool, RayOptions(f"127.0.0.1:{free.getsockname()[1]}"))

    def make_refusing(self) -> Launcher:
        return RayLauncher(self.pool, RayOptions(self.address, ray_resources={"big": 0.00001}))  # finer than Ray counts

    async def visible(self) -> str:
        code = (
            "import ray, sys; ray.init(sys.argv[1], log_to_driver=False, configure_logging=False);"
            "from ray._private.state import actors; print(actors())"
        )
        command = [sys.executable, "-c", code, self.address]
        return await asyncio.to_thread(subprocess.check_output, command, text=True)


class RayCluster:
    """A cluster in a separate process. Its token of authentication is not that of the user."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.features.pools.ray_cluster"]
        self._log = (folder / "ray.log").open("w")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environment()
        )
        self.address = self._process.stdout.readline().strip()

    def close(self) -> None:
        with self._process, self._log:
            self._process.stdin.close()


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    pytest.importorskip("ray", reason="needs the extra ray")
    folder = tmp_path_factory.mktemp("ray")
    (folder / "token").write_text(secrets.token_hex(32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(folder / "token"))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield folder


@pytest.fixture(scope="module")
def cluster(token: Path) -> Iterator[RayCluster]:
    cluster = RayCluster(token)
    yield cluster
    cluster.close()


@pytest.mark.nightly
class TestRay(LauncherSuite):
    @pytest.fixture
    def engine(self, cluster: RayCluster) -> EngineBench:
        return RayBench(cluster.address)

    async def test_a_unit_that_no_node_can_run_waits_and_says_so(self, bench: RayBench) -> None:
        launcher, order = RayLauncher(bench.pool, RayOptions(bench.address, num_gpus=4)), bench.order()
        await launcher.start([order])

        assert (await listed(launcher))[order.unit].reason == "no node of Ray has CPU=1, GPU=4"

        await launcher.stop([order.unit])
        await state(launcher, [order.unit], "ended")
        await launcher.close()

    async def test_a_request_to_stop_another_unit_does_not_lose_why_one_has_died(self, bench: RayBench) -> None:
        launcher, order = bench.launcher(), bench.order(setup="exit 3")
        await launcher.start([order])

        assert isinstance(launcher, RayLauncher)

        async def has_died() -> bool:
            await launcher.stop(["suite-000000"])
            return bool(launcher._ended)

        await until(has_died, "the unit to die")
        assert (await listed(launcher))[order.unit].error == "worker ended with status 3"

    async def test_a_unit_ends_with_its_actor_and_says_so(self, bench: RayBench) -> None:
        launcher, order = bench.launcher(), bench.order()
        await launcher.start([order])
        await state(launcher, [order.unit], "running")
        (process,) = processes(order)

        process.parent().kill()

        (ended,) = await state(launcher, [order.unit], "ended")
        assert ended.error.startswith("its Ray actor has died: ")
        await until(lambda: not processes(order), "the process to end")


@pytest.mark.nightly
async def test_a_cluster_that_dies_does_not_end_the_process_that_manages_the_pool(
    token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = RayCluster(token)
    launcher = RayBench(cluster.address).launcher()
    assert await launcher.list() == []
    monkeypatch.setattr(ray_module, "_PATIENCE_S", 5.0)

    cluster.close()

    for _ in range(2):
        with pytest.raises(EngineUnavailable, match=r"^Ray at \S+ does not answer: "):
            await launcher.list()
    await launcher.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"address": "somewhere"}, 'address must be "auto", "10.0.0.1:6379" or "ray://10.0.0.1:10001"'),
        ({"num_cpus": -1}, "num_cpus must be 0 or more, not -1"),
        ({"num_gpus": "two"}, "num_gpus of a pool on ray: expected float | null.*; given is 'two'"),
        ({"ray_resources": "big=no"}, 'ray_resources must be amounts above 0 by name, like "big=1"'),
        ({"ray_resources": {"big": 0}}, 'ray_resources must be amounts above 0 by name, like "big=1"'),
        ({"cpus": 1}, "cpus is not an option of pools on ray; allowed are address, num_cpus, num_gpus, ray_resources"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(given: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidParams, match=message):
        checked_options("ray", given)


@pytest.mark.parametrize(
    ("given", "takes"),
    [
        ({}, {"CPU": 2, "GPU": 1}),
        ({"num_cpus": 0.5, "num_gpus": "0"}, {"CPU": 0.5}),
        ({"ray_resources": "big=1"}, {"CPU": 2, "GPU": 1, "big": 1}),
    ],
)
def test_a_unit_takes_a_cpu_for_each_slot_and_its_gpus(given: dict[str, object], takes: dict[str, float]) -> None:
    order = WorkerOrder("gpu", "gpu-3f2a9c", ("gpu",), slots=2, resources={"gpu": 1, "mem": 16})

    assert checked_options("ray", given).takes(order) == takes


@pytest.mark.parametrize(
    ("facts", "room", "expected"),
    [
        ({}, [{"CPU": 2.0}, {"CPU": 1.0, "GPU": 1.0}], ("pending", "no node of Ray has CPU=2, GPU=1", "")),
        ({}, [{"CPU": 2.0, "GPU": 1.0}], ("pending", "waits for Ray to have CPU=2, GPU=1 free", "")),
        ({"error": "node died"}, [], ("ended", "its actor has died", "its Ray actor has died: node died")),
        (
            {"status": None, "asked": True, "host": "lab2", "tail": ""},
            [],
            ("running", "ends when its jobs have ended", ""),
        ),
        (
            {"status": 1, "asked": False, "host": "lab2", "tail": "python: No module named jobkit\n"},
            [],
            (
                "ended",
                "ended",
                "worker ended with status 1: python: No module named jobkit; install panel-jobkit there, or name a "
                "Python that has it: python=",
            ),
        ),
    ],
)
def test_a_unit_has_the_state_of_its_actor(facts: dict[str, Any], room: list[Any], expected: tuple[str, ...]) -> None:
    launcher = RayLauncher("jk-1-gpu", RayOptions())
    launcher._takes["gpu-1"] = {"CPU": 2, "GPU": 1}  # of its order

    unit = launcher._unit("gpu-1", facts, room)

    assert (unit.state, unit.reason, unit.error) == expected


async def test_other_versions_of_ray_and_python_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Version mismatch: The cluster was started with:\n    Ray: 2.40.0\n    Python: 3.10.1"

    class Driver:
        def __init__(self, connect: object) -> None: ...

        def ask(self, method: str, arguments: object) -> dict[str, object]:
            return {"error": said, "is_connected": False}

        def close(self) -> None: ...

    monkeypatch.setattr(ray_module, "_DriverProcess", Driver)
    monkeypatch.setattr(ray_module, "check_extra", lambda *_: None)
    launcher = RayLauncher("jk-1-gpu", RayOptions())

    with pytest.raises(LaunchRefused) as refused:
        await launcher.start([WorkerOrder("gpu", "gpu-1", ("gpu",))])

    assert str(refused.value) == (
        "Ray refused: Version mismatch: The cluster was started with: Ray: 2.40.0 Python: 3.10.1; the pool must be "
        "managed by the same versions"
    )


async def test_a_missing_extra_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    launcher, order = RayLauncher("jk-1-gpu", RayOptions()), WorkerOrder("gpu", "gpu-1", ("gpu",))

    for asked, kind in ((launcher.start([order]), LaunchRefused), (launcher.list(), EngineUnavailable)):
        with pytest.raises(kind, match=r'^pools on ray need it .*: pip install "panel-jobkit\[ray\]"$'):
            await asked
