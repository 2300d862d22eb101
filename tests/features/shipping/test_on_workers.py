"""Code that travels: a worker that never saw the folder of the notebook runs what was submitted from there."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

from jobkit.codec import Codec
from jobkit.features.schedules.coded import introduce
from jobkit.features.schedules.store import ScheduleStore
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from jobkit.tasks.options import check_options
from jobkit.tasks.task import TaskDef
from tests.support import environment
from tests.worker.conftest import Bench

_PROGRAM = """
import sys
import jobkit, helper

def local(n):
    return helper.double(n) + 1

def plain(n):
    return n

with jobkit.connect(sys.argv[1], namespace=sys.argv[2], secret=sys.argv[3]) as kit:
    jobs = [kit.submit(local, 4), kit.options(ship=True).submit(helper.double, 5), kit.submit(plain, 6)]
    print(*(job.id for job in jobs))
"""


def test_modules_beside_the_program_travel_with_its_functions(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "helper.py").write_text("from deeper import FACTOR\ndef double(n):\n    return FACTOR * n\n")
    (folder / "deeper.py").write_text("FACTOR = 2\n")
    (folder / "program.py").write_text(_PROGRAM)
    command = [sys.executable, "program.py", bench.place["url"], bench.place["namespace"], bench.place["secret"]]
    said = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=True).stdout
    local, double, plain = map(bench.kit.get, said.split())
    shutil.rmtree(folder)  # as on another machine, and the code at the submit is what counts
    bench.worker()

    assert (local.result(60), double.result(60), plain.result(60)) == (9, 10, 6)
    assert [job.snapshot.spec.has_parts for job in (local, double, plain)] == [True, True, False]
    again = local.retry()
    assert again.result(60) == 9


def tidy_up() -> None:
    """Scheduled below."""


def test_a_schedule_in_the_code_keeps_the_modules_that_travel(bench: Bench) -> None:
    settings = Settings(url=bench.place["url"], namespace=bench.place["namespace"]).checked()
    task = TaskDef(tidy_up, options=check_options({"ship": True, "schedule": "@hourly"}))

    async def put() -> list[bytes | None]:
        store = RedisStore(settings)
        try:
            await introduce(store, [task], settings, Codec([b"key"]))
            [schedule] = await store.part(ScheduleStore).snapshots()
            found = await store.blobs.read(schedule.spec.blobs)
            await store.part(ScheduleStore).remove(schedule.name)
            return [*found, *await store.blobs.read(schedule.spec.blobs)]
        finally:
            await store.close()

    assert task.ref
    kept, removed = asyncio.run(put())
    assert kept is not None
    assert b"tests/features/shipping/test_on_workers.py" in kept
    assert removed is None
