"""Pools with the real autoscaler on real engines: grow, lose a worker, finish all jobs, shrink to nothing."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import jobkit
from jobkit.codec import Codec
from jobkit.features.pools.autoscaler import Autoscaler
from jobkit.features.pools.decide import Tempo
from jobkit.features.pools.launchers.slurm import SlurmLauncher
from jobkit.features.pools.launchers.ssh import SshLauncher
from jobkit.features.pools.spec import pool_spec
from jobkit.features.pools.store import PoolStore
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from tests.features.pools import slurm_cluster, ssh_server
from tests.store.server import Server
from tests.support import environment, living_with, until

pytestmark = pytest.mark.nightly

QUICK = Tempo(tick=0.2, list=0.5, grow=0.2, cancel=1.0, well=1.0, backoff=0.5)
JOBS = 20


@pytest.fixture
def place() -> Iterator[dict[str, str]]:
    server = Server()
    server.start()
    yield {"url": f"redis://127.0.0.1:{server.listen()}", "namespace": "engines", "secret": "of engines"}
    server.stop()


async def test_a_pool_on_ssh_grows_survives_a_killed_worker_and_shrinks(
    place: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why := ssh_server.missing():
        pytest.skip(why)
    monkeypatch.setattr(SshLauncher, "LIST_S", 0.5)
    hosts = ssh_server.SshHosts(tmp_path)
    try:
        table = {hosts.add("lab1"): 2, hosts.add("lab2"): 1}
        await _grow_and_shrink(place, on="ssh", hosts=table, ssh=hosts.ssh)
    finally:
        hosts.close()


async def test_a_pool_on_slurm_grows_survives_a_killed_worker_and_shrinks(
    place: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why := slurm_cluster.missing():
        pytest.skip(why)
    monkeypatch.setattr(SlurmLauncher, "LIST_S", 0.5)
    (tmp_path / "slurm").mkdir()
    cluster = slurm_cluster.SlurmCluster(tmp_path / "slurm")
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    try:
        await asyncio.to_thread(cluster.start)
        await _grow_and_shrink(place, on="slurm", folder=str(tmp_path / "files"))
    finally:
        await asyncio.to_thread(cluster.stop)


async def _grow_and_shrink(place: Mapping[str, str], **options: Any) -> None:
    settings = Settings.load(**place, lease=4.0, heartbeat=1.0)
    given = {**place, "lease": "4", "heartbeat": "1"}
    variables = {f"JOBKIT_{name.upper()}": value for name, value in given.items()}
    pool = f"gpu-{secrets.token_hex(3)}"
    store = RedisStore(settings)
    spec = pool_spec(pool, max=3, idle="1s", python=sys.executable, **options)
    scaler = Autoscaler(settings, store, tempo=QUICK, environment=lambda engine: environment(**variables))
    work = asyncio.create_task(scaler.run())
    try:
        await store.part(PoolStore).put(pool, spec.sealed(Codec.from_secret(settings.secret)))
        with jobkit.connect(**place) as kit:
            queue = kit.aio.options(queue=pool)
            jobs = [await queue.submit(_answer, number) for number in range(JOBS)]

            async def most() -> bool:
                return len([unit for unit in await _units(store, pool) if unit.phase == "up" and unit.running]) == 3

            await until(most, "three workers")
            workers = living_with("JOBKIT_POOL", pool)
            victim = next(each for each in workers if each.cmdline()[1:4] == ["-m", "jobkit", "worker"])
            os.kill(victim.pid, signal.SIGKILL)

            assert [await job for job in jobs] == list(range(JOBS))
            assert sum(job.snapshot.losses for job in jobs) == 1
        await until(lambda: _has_ended(store, pool), "the pool to shrink")
        assert not living_with("JOBKIT_POOL", pool)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await scaler.close()
        await store.close()
        for left in living_with("JOBKIT_POOL", pool):
            left.kill()


async def _units(store: RedisStore, pool: str) -> Any:
    return (await store.part(PoolStore).records())[pool].status.units


async def _has_ended(store: RedisStore, pool: str) -> bool:
    units = await _units(store, pool)
    return bool(units) and all(unit.phase == "ended" for unit in units)


def _answer(number: int) -> int:
    import time

    time.sleep(1.0)
    return number
