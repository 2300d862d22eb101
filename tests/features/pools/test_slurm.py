"""Pools on Slurm: options, script and messages; with a real cluster of one node the common suite and Slurm's own."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import jobkit
from jobkit.features.pools.launcher import (
    EngineUnavailable,
    Launcher,
    LaunchRefused,
    Unit,
    WorkerOrder,
    checked_options,
)
from jobkit.features.pools.launchers import slurm
from jobkit.features.pools.launchers.slurm import SlurmLauncher, SlurmOptions
from jobkit.features.pools.launchers.support import Ran
from jobkit.model import InvalidParams
from tests.features.pools.slurm_cluster import SlurmCluster, missing
from tests.features.pools.suite import EngineBench, LauncherSuite, listed, processes, state
from tests.support import until

ORDER = WorkerOrder("gpu", "gpu-1", ("gpu",), 4, {"gpu": 2, "mem": 16}, walltime_s=14_400, setup="module load cuda")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cpus": -1}, "cpus must be 1 or more, or 0 for as many as slots, not -1"),
        ({"mem": "lots"}, "mem must be a whole number with K, M, G or T, like \"64G\", not 'lots'"),
        ({"partition": "a\nb"}, "partition must be one line"),
        ({"sbatch": "rm -rf ~"}, 'sbatch must be options of sbatch, like "--exclusive", not'),
        ({"sbatch": ["--exclusive", "-a 1-9"]}, "sbatch must not set -a, which jobkit needs itself"),
        ({"queue": "a100"}, "queue is not an option of pools on slurm; allowed are partition, account"),
    ],
)
def test_wrong_options_are_refused_with_what_is_allowed(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParams, match=message.replace("*", r"\*")):
        checked_options("slurm", given)


def test_lines_of_the_user_are_accepted_as_they_stand_in_scripts() -> None:
    options = checked_options("slurm", {"sbatch": "#SBATCH --exclusive\n--mail-type=FAIL\n"})

    assert options.lines() == ["#SBATCH --exclusive", "#SBATCH --mail-type=FAIL"]


def test_resources_of_the_pool_become_options_of_sbatch_unless_others_are_given(tmp_path: Path) -> None:
    def arguments(**options: Any) -> list[str]:
        return SlurmLauncher("jk-1-gpu", SlurmOptions(folder=str(tmp_path), **options))._arguments(ORDER, ["gpu-1"])

    assert {"--cpus-per-task=4", "--mem=16384M", "--gres=gpu:2", "--time=240"} <= set(arguments())
    given = arguments(cpus=8, mem="20G", gres="gpu:a100:2", partition="a100", account="lab")
    assert {"--cpus-per-task=8", "--mem=20G", "--gres=gpu:a100:2", "--partition=a100", "--account=lab"} <= set(given)
    assert not [option for option in arguments() if option.startswith("--array")]
    several = SlurmLauncher("jk-1-gpu", SlurmOptions())._arguments(ORDER, ["gpu-1", "gpu-2"])
    assert {"--array=0-1", "--comment=gpu-1 gpu-2"} <= set(several)


def test_the_script_names_the_unit_of_each_array_task_and_what_is_left_of_its_walltime(tmp_path: Path) -> None:
    python, private = tmp_path / "my python", tmp_path / "it's private"
    python.write_text('#!/bin/sh\necho "$JOBKIT_UNIT|$JOBKIT_ENGINE|$JOBKIT_WALLTIME|$JOBKIT_SECRET|$SET_UP|$*"\n')
    python.chmod(0o700)
    private.write_text("export JOBKIT_SECRET='a b'\n")
    order = WorkerOrder("gpu", "", ("gpu",), setup="export SET_UP=yes", python=str(python))
    script = SlurmLauncher("jk-1-gpu", SlurmOptions()).script(order, ["gpu-1", "gpu-2"], str(private))
    allocation = {"SLURM_ARRAY_JOB_ID": "47", "SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_ID": "48"}
    times = {"SLURM_JOB_START_TIME": "1000", "SLURM_JOB_END_TIME": "4600"}

    def ran(**environ: str) -> str:
        found = subprocess.run(["bash"], input=script, env={"PATH": os.environ["PATH"], **environ}, **CAPTURED)
        return found.stdout.strip() + found.stderr.strip()

    name, engine, left_s, *others = ran(**allocation, **times).split("|")
    assert (name, engine, others[:2]) == ("gpu-2", "slurm 47_1", ["a b", "yes"])
    assert 3600 - 60 < int(left_s) <= 3600  # less what the script itself has taken
    assert others[2].startswith("-m jobkit worker")
    assert ran(SLURM_JOB_ID="48").startswith("gpu-1|slurm 48||a b")
    (tmp_path / "gpu-2.stop").touch()
    assert ran(**allocation) == ""
    python.unlink()
    assert "my python was not found on" in ran()
    private.unlink()
    assert "it's private cannot be read on" in ran()
    assert "must be one that login and compute nodes share" in ran()


CAPTURED: dict[str, Any] = {"capture_output": True, "text": True}


@pytest.mark.parametrize(
    ("said", "kind", "sentence"),
    [
        (
            "sbatch: error: invalid partition specified: nope\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified\n",
            LaunchRefused,
            "sbatch refused: Invalid partition name specified (invalid partition specified: nope)",
        ),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
            LaunchRefused,
            "sbatch refused: Invalid account or account/partition combination specified",
        ),
        (
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
            EngineUnavailable,
            "Slurm does not answer: Unable to contact slurm controller (connect failure)",
        ),
        (
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
            EngineUnavailable,
            "Slurm does not answer: Socket timed out on send/recv operation",
        ),
        (
            "sbatch: unrecognized option '--nonsense'\nTry \"sbatch --help\" for more information\n",
            LaunchRefused,
            "sbatch refused: unrecognized option '--nonsense'",
        ),
    ],
)
def test_messages_of_sbatch_become_a_sentence(said: str, kind: type[Exception], sentence: str) -> None:
    found = slurm._refused(Ran(1, "", said))

    assert (type(found), str(found)) == (kind, sentence)


async def test_without_slurm_a_pool_says_where_to_run_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    launcher = SlurmLauncher("jk-1-gpu", SlurmOptions(folder=str(tmp_path)))

    with pytest.raises(
        LaunchRefused, match="sbatch was not found on .*: a pool on Slurm runs on a login node.*jobkit down"
    ):
        await launcher.start([ORDER])
    with pytest.raises(EngineUnavailable, match="squeue was not found on .*: a pool on Slurm runs on a login node"):
        await launcher.list()
    assert not list(tmp_path.rglob("*.env"))


def test_programs_of_slurm_and_its_jobs_get_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JOBKIT_SECRET", "JOBKIT_URL", "HF_TOKEN", "SLURM_JOB_ID", "SQUEUE_PARTITION", "SCANCEL_INTERACTIVE"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")

    given = slurm._environment()

    assert "secret" not in given.values()
    assert given["SLURM_CONF"] == "/etc/slurm.conf"


# -- with a real cluster -----------------------------------------------------------------------------------------------


class SlurmBench(EngineBench):
    room = 8

    def __init__(self, cluster: SlurmCluster, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.cluster, self.folder, self._patch = cluster, folder, monkeypatch
        monkeypatch.setenv("SLURM_CONF", str(cluster.conf))

    def make(self, pool: str, **options: Any) -> Launcher:
        return SlurmLauncher(pool, SlurmOptions(folder=str(self.folder), **options))

    def make_away(self) -> Launcher:
        text = self.cluster.conf.read_text()
        away = self.folder / "away.conf"
        away.write_text(
            text.replace(f"SlurmctldPort={self.cluster.ports[0]}", f"SlurmctldPort={self.cluster.ports[1] + 1}")
        )
        self._patch.setenv("SLURM_CONF", str(away))
        return self.make(self.pool)

    def make_refusing(self) -> Launcher:
        return self.make(self.pool, partition="nonsense")

    async def visible(self) -> str:
        def shown() -> str:
            jobs = (
                ["scontrol", "show", "job"],
                ["squeue", "--format=%all"],
                ["scontrol", "write", "batch_script", "1", "-"],
            )
            return " ".join(subprocess.run(argv, env=self.cluster.env, **CAPTURED).stdout for argv in jobs)

        return await asyncio.to_thread(shown)

    async def close(self) -> None:
        self._patch.setenv("SLURM_CONF", str(self.cluster.conf))
        await super().close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    if why := missing():
        pytest.skip(why)
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.nightly
class TestSlurm(LauncherSuite):
    @pytest.fixture
    def engine(self, cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineBench:
        return SlurmBench(cluster, tmp_path, monkeypatch)

    async def test_orders_of_one_call_are_one_array_with_private_files(self, bench: SlurmBench) -> None:
        launcher, orders = bench.launcher(), [bench.order() for _ in range(3)]

        started = await launcher.start(orders)

        array = started[0].id.partition("_")[0]
        assert [unit.id for unit in started] == [f"{array}_0", f"{array}_1", f"{array}_2"]
        await state(launcher, [order.unit for order in orders], "running")
        (private,) = bench.folder.rglob("*.env")
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
        assert stat.S_IMODE(private.parent.stat().st_mode) == 0o700

    async def test_units_that_wait_for_a_gpu_say_for_what_and_until_when(self, bench: SlurmBench) -> None:
        launcher = bench.launcher()
        orders = [bench.order(resources={"gpu": 2}, walltime_s=600.0) for _ in range(2)]
        await launcher.start(orders)

        async def waiting() -> Unit | None:
            found = [unit for unit in await launcher.list() if unit.state == "pending" and unit.expected_ms]
            return next((unit for unit in found if unit.reason == "PENDING (Resources)"), None)

        unit = await until(waiting, "Slurm to plan the start")
        assert 0 < unit.expected_ms / 1000 - time.time() < 700

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"gres": "gpu:9"}, "sbatch refused: Requested node configuration is not available"),
            ({"mem": "900G"}, "Memory specification can not be satisfied"),
            ({"constraint": "a100"}, "sbatch refused: Invalid feature specification"),
        ],
    )
    async def test_what_no_node_has_is_refused(self, bench: SlurmBench, options: dict[str, Any], said: str) -> None:
        with pytest.raises(LaunchRefused, match=said):
            await bench.make(bench.pool, **options).start([bench.order()])

    async def test_a_walltime_beyond_the_partition_says_why_it_waits(self, bench: SlurmBench) -> None:
        launcher, order = bench.make(bench.pool, partition="short"), bench.order(walltime_s=6000.0)
        await launcher.start([order])

        async def told() -> bool:
            return "longer than the partition allows" in (await listed(launcher))[order.unit].reason

        await until(told, "Slurm to look at it")
        await launcher.stop([order.unit])
        await state(launcher, [order.unit], "ended")

    async def test_a_unit_that_a_user_cancels_in_slurm_says_so(self, bench: SlurmBench) -> None:
        launcher, order = bench.launcher(), bench.order()
        await launcher.start([order])
        (unit,) = await state(launcher, [order.unit], "running")

        bench.cluster.ask("scancel", unit.id)

        (ended,) = await state(launcher, [order.unit], "ended")
        assert ended.error == "CANCELLED: it was cancelled in Slurm (scancel)"

    async def test_units_go_on_while_the_controller_restarts(self, bench: SlurmBench) -> None:
        launcher, order = bench.launcher(), bench.order()
        await launcher.start([order])
        (before,) = await state(launcher, [order.unit], "running")

        await asyncio.to_thread(bench.cluster.end, "slurmctld")
        with pytest.raises(EngineUnavailable, match="Unable to contact slurm controller"):
            await launcher.list()
        bench.cluster.run("slurmctld", "-D")
        await asyncio.to_thread(bench.cluster.ready)

        (after,) = await state(launcher, [order.unit], "running")
        assert after.id == before.id
        assert processes(order)

    @pytest.mark.parametrize("how", ["stop", "scancel"])
    async def test_jobs_of_a_unit_that_ends_at_once_are_released(
        self, bench: SlurmBench, place: dict[str, str], how: str
    ) -> None:
        variables = {f"JOBKIT_{name.upper()}": value for name, value in place.items()}
        launcher, order = bench.launcher(), bench.order(setup="", environment=variables)
        with jobkit.connect(**place) as kit:
            job = await kit.aio.submit(time.sleep, 600)
            [unit] = await launcher.start([order])
            await until(lambda: job.state == "running", "the job to start")

            if how == "stop":
                await launcher.stop([order.unit], now=True)
            else:
                bench.cluster.ask("scancel", unit.id)

            await until(lambda: job.state == "queued", "the job to be back")
            assert (job.snapshot.releases, job.snapshot.losses, job.snapshot.retried) == (1, 0, 0)
        await state(launcher, [order.unit], "ended")

    async def test_many_units_with_long_names_are_several_arrays(self, bench: SlurmBench) -> None:
        launcher, orders = bench.launcher(), [replace(bench.order(), unit=f"{'x' * 40}-{n}") for n in range(30)]

        started = await launcher.start(orders)

        assert len({unit.id.partition("_")[0] for unit in started}) == 2
        assert (await listed(launcher)).keys() == {order.unit for order in orders}

    async def test_a_job_goes_on_in_the_next_worker_when_the_walltime_ends(
        self, bench: SlurmBench, place: dict[str, str], tmp_path: Path
    ) -> None:
        """Slurm counts walltimes in minutes; the script believes that 50 s of its minute are over."""
        variables = {f"JOBKIT_{name.upper()}": value for name, value in place.items()}
        launcher = bench.launcher()
        late = "SECONDS=50"
        orders = [bench.order(setup=setup, walltime_s=60.0, environment=variables) for setup in (late, "")]
        with jobkit.connect(**place) as kit:
            job = await kit.aio.submit(_count, str(tmp_path / "steps"), 200)
            await launcher.start(orders[:1])
            await until(lambda: job.state == "running", "the job to start")

            (ended,) = await state(launcher, [orders[0].unit], "ended")
            assert ended.error == ""
            await launcher.start(orders[1:])

            assert await job == 200
            assert (job.snapshot.releases, job.snapshot.losses, job.snapshot.retried) == (1, 0, 0)
            (worker,) = await kit.aio.workers()
            (unit,) = [unit for unit in await launcher.list() if unit.unit == orders[1].unit]
            assert worker.engine == f"slurm {unit.id}"
        assert (tmp_path / "steps").read_text().split() == [str(step) for step in range(200)]


def _count(path: str, steps: int) -> int:
    import time

    import jobkit

    for step in range(jobkit.resume(0), steps):
        with open(path, "a") as file:
            print(step, file=file)
        time.sleep(0.05)
        jobkit.checkpoint(step + 1)
    return steps
