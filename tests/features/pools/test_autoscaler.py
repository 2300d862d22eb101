"""The autoscaler with a real store, a made-up engine and stand-ins for workers: tests call `tick` themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace as with_changes
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from jobkit.codec import Codec
from jobkit.features.pools import autoscaler
from jobkit.features.pools.autoscaler import Autoscaler
from jobkit.features.pools.launcher import Unit, WorkerOrder
from jobkit.features.pools.spec import PoolSpec
from jobkit.features.pools.store import PoolPause, PoolRecord, PoolStatus, PoolStore, PoolUnit
from jobkit.model import StoreUnavailable
from jobkit.store.redis import RedisStore
from jobkit.store.values import WorkerInfo
from tests.features.pools.fakes import TEMPO, MadeUpLauncher, spec
from tests.store.support import claim, ending, submit
from tests.support import until

SECRET = "of these tests"


def encoded(status: PoolStatus) -> str:
    return msgspec.json.encode(status).decode()


class Stage:
    """A namespace with one pool, and autoscalers that act when they are asked to."""

    def __init__(self, store: RedisStore, engine: type[MadeUpLauncher]) -> None:
        self.store, self.engine = store, engine
        self.scaler = self.another()

    def another(self, **tempo: Any) -> Autoscaler:
        settings = with_changes(self.store.settings, secret=SECRET)
        return Autoscaler(settings, self.store, tempo=replace(TEMPO, **tempo))

    async def put(self, **fields: Any) -> PoolSpec:
        made = spec(**{"idle_s": 0.0, **fields})
        await self.store.part(PoolStore).put(made.name, made.sealed(Codec.from_secret(SECRET)))
        return made

    async def tick(self, times: int = 1, scaler: Autoscaler | None = None) -> PoolStatus:
        scaler = scaler or self.scaler
        for _ in range(times):
            assert await scaler.leads()
            await scaler.tick()
        return (await self.record()).status

    async def record(self) -> PoolRecord:
        return (await self.store.part(PoolStore).records())["gpu"]

    async def run(self, unit: str, running: int = 0, done: int = 0, slots: int = 1) -> WorkerInfo:
        """Let the engine run a unit, and its worker send a heartbeat and take what waits."""
        self.engine.units[unit] = replace(self.engine.units[unit], state="running", reason="RUNNING", host="n1")
        facts = {"slots": slots, "queues": "gpu", "pool": "gpu", "unit": unit, "running": running, "done": done}
        await self.store.renew(f"w-{unit}", {}, facts)
        return WorkerInfo(id=f"w-{unit}", queues=("gpu",), slots=slots)

    @property
    def started(self) -> list[str]:
        return list(self.engine.orders)


@pytest.fixture
def stage(store: RedisStore, engine: type[MadeUpLauncher]) -> Stage:
    return Stage(store, engine)


async def test_workers_come_with_jobs_and_go_without(stage: Stage) -> None:
    await stage.put()
    await submit(stage.store, "a", "b", queue="gpu")

    status = await stage.tick()
    assert [(unit.phase, unit.reason) for unit in status.units] == [("ordered", "")] * 2
    status = await stage.tick()
    assert [(unit.phase, unit.reason) for unit in status.units] == [("pending", "PENDING (Priority)")] * 2
    workers = [await stage.run(unit) for unit in stage.started]
    jobs = [(await claim(stage.store, 1, worker))[0] for worker in workers]
    for unit in stage.started:
        await stage.run(unit, running=1)
    status = await stage.tick()
    assert [(unit.phase, unit.running) for unit in status.units] == [("up", 1)] * 2
    await stage.store.finish([ending(each) for each in jobs])
    for worker, unit in zip(workers, stage.started, strict=True):
        await stage.run(unit, done=1)
        await stage.store.claim(worker, 1)
    status = await stage.tick(3)

    assert [unit.phase for unit in status.units] == ["ending", "ending"]
    assert status.wanted == 0
    assert len(stage.started) == 2


async def test_the_order_has_what_the_worker_needs(stage: Stage) -> None:
    await stage.put(slots=3, resources={"gpu": 1.0}, setup="module load cuda", walltime_s=3600.0)
    await submit(stage.store, "a", queue="gpu")
    await stage.tick()

    [order] = stage.engine.orders.values()
    assert (order.pool, order.queues, order.slots, order.resources) == ("gpu", ("gpu",), 3, {"gpu": 1.0})
    assert (order.setup, order.walltime_s) == ("module load cuda", 3600.0)
    assert order.environment["JOBKIT_SECRET"] == SECRET
    assert order.environment["JOBKIT_NAMESPACE"] == stage.store.settings.namespace


async def test_what_a_part_of_an_engine_refuses_is_shown_while_workers_start_on_others(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.engine, "problem", "lab2 does not answer", raising=False)
    await stage.put()
    await submit(stage.store, "a", queue="gpu")

    status = await stage.tick(2)
    assert (status.error, status.failures, len(stage.started)) == ("lab2 does not answer", 0, 1)
    await stage.run(stage.started[0], done=1)
    status = await stage.tick(2)
    assert status.error == "lab2 does not answer"

    monkeypatch.setattr(stage.engine, "problem", "")
    assert (await stage.tick()).error == ""


async def test_another_autoscaler_finds_the_units_of_a_dead_autoscaler(stage: Stage) -> None:
    await stage.put()
    await submit(stage.store, "a", "b", queue="gpu")
    await stage.tick()
    await stage.store.redis.delete(f"{stage.store.prefix}autoscaler")  # it died, and its lease is over

    status = await stage.tick(2, stage.another())

    assert len(stage.started) == 2
    assert {unit.unit for unit in status.units} == set(stage.started)


async def test_units_that_only_the_engine_knows_are_adopted(stage: Stage) -> None:
    await stage.put()
    stage.engine.units["gpu-lost"] = Unit("gpu-lost", "4711", "pending")
    await submit(stage.store, "a", queue="gpu")

    status = await stage.tick()

    assert [unit.unit for unit in status.units] == ["gpu-lost"]
    assert stage.started == []


async def test_only_the_leader_reports_and_starts(stage: Stage) -> None:
    await stage.put()
    await submit(stage.store, "a", queue="gpu")
    await stage.tick()
    second = stage.another()

    assert not await second.leads()
    await second.tick()  # one that was frozen, and does not know that its lease is over
    assert len(stage.started) == 1


@pytest.mark.parametrize("has_job", [True, False])
async def test_a_start_has_failed_if_the_worker_dies_at_once_and_without_a_job(stage: Stage, has_job: bool) -> None:
    await stage.put()
    await submit(stage.store, "a", queue="gpu")
    await stage.tick()
    [unit] = stage.started
    worker = await stage.run(unit)
    if has_job:
        await claim(stage.store, 1, worker)
    await stage.tick()

    stage.engine.units[unit] = replace(stage.engine.units[unit], state="ended", error="signal 9")

    assert (await stage.tick()).failures == (0 if has_job else 1)


async def test_workers_that_die_at_once_are_tried_less_often_then_the_pool_is_paused(stage: Stage) -> None:
    await stage.put()
    await submit(stage.store, "a", "b", "c", queue="gpu")
    stage.engine.dies = "python: not found"
    scaler = stage.another(backoff=0.0, failures=20)
    status = await stage.tick(1, scaler)
    assert len(stage.started) == 3
    status = await stage.tick(2, scaler)
    assert status.failures >= 3
    assert len(stage.started) <= 5  # one at a time now

    await stage.tick(45, scaler)

    record = await stage.record()
    assert record.pause is not None
    assert record.pause.reason.startswith("20 starts in a row have failed; the last: worker gpu-")
    assert record.pause.reason.endswith("ended at once: python: not found")
    n = len(stage.started)
    await stage.tick(3, scaler)
    assert len(stage.started) == n <= 23
    stage.engine.dies = ""
    await stage.store.part(PoolStore).change("gpu", paused=None)
    status = await stage.tick(2, scaler)
    assert status.failures == 0
    assert len(stage.started) == n + 3


async def test_a_backoff_keeps_a_failing_engine_from_being_asked(stage: Stage) -> None:
    await stage.put()
    await submit(stage.store, "a", queue="gpu")
    stage.engine.refuses = "sbatch refused: invalid partition"
    scaler = stage.another(backoff=1000.0)

    status = await stage.tick(5, scaler)

    assert status.error == "sbatch refused: invalid partition"
    assert status.failures == 1
    assert status.units == ()


async def test_an_engine_that_accepts_again_has_no_error_any_more(stage: Stage) -> None:
    await stage.put()
    await submit(stage.store, "a", queue="gpu")
    stage.engine.refuses = "sbatch refused: invalid partition"
    scaler = stage.another(backoff=0.0)
    assert (await stage.tick(2, scaler)).failures > 0
    stage.engine.refuses = ""

    status = await stage.tick(3, scaler)

    assert (status.error, status.failures) == ("", 0)
    assert [unit.phase for unit in status.units] == ["pending"]


async def test_an_engine_that_does_not_answer_keeps_what_runs_and_says_so(stage: Stage) -> None:
    await stage.put()
    await submit(stage.store, "a", queue="gpu")
    await stage.tick(2)
    await claim(stage.store, 1, await stage.run(stage.started[0], running=1))
    await stage.tick()
    await submit(stage.store, "b", queue="gpu")
    stage.engine.is_away = True

    status = await stage.tick(3)

    assert status.error == "the engine does not answer"
    assert [unit.phase for unit in status.units] == ["up"]
    assert len(stage.started) == 1
    stage.engine.is_away = False
    status = await stage.tick(2)
    assert status.error == ""
    assert len(stage.started) == 2


async def test_worker_hours_are_counted_across_autoscalers(stage: Stage) -> None:
    await stage.put(idle_s=1000.0)
    await submit(stage.store, "a", queue="gpu")
    await stage.tick(2)
    [name] = stage.started
    await stage.run(name)
    await stage.tick()
    record = await stage.record()
    hour_ago = record.status.units[0].counted_ms - 3_600_000
    old = replace(record.status.units[0], started_ms=hour_ago, counted_ms=hour_ago)
    await stage.store.part(PoolStore).change("gpu", status=encoded(replace(record.status, units=(old,), worker_ms=0)))
    await stage.store.redis.delete(f"{stage.store.prefix}autoscaler")

    status = await stage.tick(1, stage.another())

    assert 3_600_000 <= status.worker_ms < 3_660_000


async def test_a_removed_pool_goes_when_its_last_worker_has_ended(stage: Stage) -> None:
    await stage.put()
    await submit(stage.store, "a", "b", queue="gpu")
    await stage.tick(2)
    first, second = stage.started
    worker = await stage.run(first)
    [job] = await claim(stage.store, 1, worker)
    await stage.run(first, running=1)
    await stage.store.part(PoolStore).change("gpu", removed="1")

    await stage.tick(2)
    assert stage.engine.stopped == [(second, False)]
    assert (await stage.store.renew(worker.id, {}, {})).stop == "retire"
    await stage.store.finish([ending(job)])
    await stage.store.leave(worker.id)
    stage.engine.units[first] = replace(stage.engine.units[first], state="ended")
    for _ in range(3):
        await stage.scaler.tick()

    assert await stage.store.part(PoolStore).records() == {}


async def test_a_definition_that_another_key_has_signed_is_not_run(stage: Stage) -> None:
    made = spec()
    await stage.store.part(PoolStore).put(made.name, made.sealed(Codec.from_secret("of another user")))
    await submit(stage.store, "a", queue="gpu")

    status = await stage.tick()

    assert stage.started == []
    assert "was not signed with the JOBKIT_SECRET" in status.error


async def test_a_unit_whose_worker_never_comes_is_stopped_and_counts_as_a_failure(stage: Stage) -> None:
    await stage.put()
    await submit(stage.store, "a", queue="gpu")
    scaler = stage.another(start=0.0, backoff=1000.0)
    await stage.tick(2, scaler)
    [name] = stage.started
    stage.engine.units[name] = replace(stage.engine.units[name], state="running")

    await stage.tick(1, scaler)
    status = await stage.tick(2, scaler)

    assert (name, True) in stage.engine.stopped
    assert "its worker did not reach the server" in status.error


async def test_a_paused_pool_starts_nothing(stage: Stage) -> None:
    await stage.put(min=2)
    await submit(stage.store, "a", queue="gpu")
    await stage.store.part(PoolStore).change("gpu", paused=PoolPause("ada", 1, "maintenance").text())

    await stage.tick(3)

    assert stage.started == []


async def test_a_worker_that_was_asked_to_end_at_once_is_no_failure(stage: Stage) -> None:
    await stage.put()
    await submit(stage.store, "a", queue="gpu")
    await stage.tick(2)
    [name] = stage.started
    worker = await stage.run(name)
    await stage.tick()
    await stage.store.stop_workers([worker.id], "now")
    await stage.store.leave(worker.id)
    stage.engine.units[name] = replace(stage.engine.units[name], state="ended")

    status = await stage.tick(2)

    assert status.failures == 0
    assert len(stage.started) == 2  # the job still waits


async def test_a_pool_whose_engine_cannot_be_loaded_says_so_and_others_go_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, pool: str, options: object) -> None:
        if pool.endswith("other"):
            raise ImportError("libengine.so: cannot open shared object file")

    monkeypatch.setattr(stage.engine, "__init__", broken)
    await stage.put()
    await stage.put(name="other")
    await submit(stage.store, "a", queue="gpu")

    await stage.tick()

    assert len(stage.started) == 1
    error = (await stage.store.part(PoolStore).records())["other"].status.error
    assert error == "ImportError: libengine.so: cannot open shared object file"


async def test_names_of_units_that_jobkit_would_not_make_are_ignored(stage: Stage) -> None:
    await stage.put()
    forged = PoolStatus(units=(PoolUnit(unit="../other/x", phase="pending"), PoolUnit(unit="--all", phase="pending")))
    await stage.store.part(PoolStore).change("gpu", status=encoded(forged))
    await stage.store.renew("w1", {}, {"slots": 1, "queues": "gpu", "pool": "gpu", "unit": "$(reboot)"})

    status = await stage.tick(2)

    assert status.units == ()
    assert stage.engine.stopped == []


async def test_silent_workers_get_their_time_again_after_a_gap(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an outage, a sleep of the machine or a jump of its clock, workers may come back a moment later."""
    await stage.put()
    await submit(stage.store, "a", queue="gpu")
    await stage.tick(2)
    [name] = stage.started
    await stage.run(name, running=1)
    await stage.tick()
    hour_later_ms = await stage.store.now_ms() + 3_600_000

    async def now_ms() -> int:
        return hour_later_ms

    with monkeypatch.context() as later:
        later.setattr(stage.store, "now_ms", now_ms)
        await stage.tick(2)

    assert stage.engine.stopped == []
    await stage.run(name, running=1)
    assert [unit.phase for unit in (await stage.tick()).units if unit.unit == name] == ["up"]


async def test_an_autoscaler_outlasts_its_server(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.part(PoolStore).put("gpu", b"of another key")
    settings = with_changes(store.settings, secret=SECRET)
    scaler = Autoscaler(settings, store, tempo=replace(TEMPO, tick=0.05), ends_after_s=1.0)
    work = asyncio.create_task(scaler.run())
    await until(store.part(PoolStore).manager, "an autoscaler leads")

    async def away() -> None:
        raise StoreUnavailable("the server is away")

    with monkeypatch.context() as outage:
        outage.setattr(store.part(PoolStore), "records", away)
        await asyncio.sleep(2.5)
        assert not work.done()
    await store.part(PoolStore).change("gpu", removed="1")
    await store.part(PoolStore).drop("", "gpu")

    await asyncio.wait_for(work, 20.0)


async def test_a_start_that_waits_long_after_failures_does_not_hold_up_others(stage: Stage) -> None:
    await stage.put()
    await submit(stage.store, "a", "b", queue="gpu")
    status = PoolStatus(failures=3, error="it ended", error_ms=1)
    await stage.store.part(PoolStore).change("gpu", status=encoded(status))
    scaler = stage.another(backoff_most=0.2)

    await stage.tick(2, scaler)
    assert len(stage.started) == 1
    await asyncio.sleep(0.3)
    await stage.tick(2, scaler)

    assert len(stage.started) == 2


async def test_surplus_workers_take_no_more_jobs_while_others_wait(stage: Stage) -> None:
    await stage.put()
    await submit(stage.store, "a", "b", "c", "d", queue="gpu")
    await stage.tick(2)
    first, second, *others = stage.started
    for name in others:
        del stage.engine.units[name]
    workers = [await stage.run(name, running=1) for name in (first, second)]
    for worker in workers:
        await claim(stage.store, 1, worker)
    await stage.tick()
    await stage.store.part(PoolStore).change("gpu", fixed="1")

    status = await stage.tick(2)

    [ending] = [unit for unit in status.units if unit.phase == "ending" and unit.worker]
    assert await claim(stage.store, 1, next(w for w in workers if w.id == ending.worker)) == []


async def test_units_of_a_pool_that_was_removed_at_once_end_at_the_engine(stage: Stage) -> None:
    await stage.put()
    await submit(stage.store, "a", queue="gpu")
    await stage.tick(2)
    [name] = stage.started
    await stage.store.part(PoolStore).change("gpu", removed="1")
    await stage.store.part(PoolStore).drop("", "gpu")

    await stage.scaler.tick()

    assert stage.engine.stopped == [(name, False)]


async def test_an_engine_that_hangs_gets_each_order_once_and_holds_up_no_other_pool(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, start = asyncio.Event(), MadeUpLauncher.start

    async def hanging(self: MadeUpLauncher, orders: Sequence[WorkerOrder]) -> list[Unit]:
        if self.pool.endswith("gpu"):
            await answers.wait()
        return await start(self, orders)

    async def own(self: MadeUpLauncher) -> list[Unit]:
        return [unit for name, unit in self.units.items() if name.startswith(self.pool[-3:])]

    monkeypatch.setattr(autoscaler, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(MadeUpLauncher, "start", hanging)
    monkeypatch.setattr(MadeUpLauncher, "list", own)
    await stage.put()
    await stage.put(name="cpu", queues=("cpu",))
    await submit(stage.store, "a", queue="gpu")
    await stage.tick()
    await submit(stage.store, "b", queue="cpu")

    status = await stage.tick(3)

    assert [name[:3] for name in stage.started] == ["cpu"]
    assert [unit.phase for unit in status.units] == ["ordered"]
    answers.set()
    status = await stage.tick(3)
    assert [(unit.unit, unit.phase) for unit in status.units] == [(stage.started[1], "pending")]
    await stage.scaler.close()
