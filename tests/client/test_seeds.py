"""`seed=`: random numbers that can be repeated."""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path
from typing import Any

import pytest

import jobkit
from jobkit.client.kit import Kit
from jobkit.model import InvalidParams
from jobkit.run.inside import seeds


def draw() -> tuple[float, int | None]:
    return random.random(), jobkit.current().seed


def draw_with_numpy() -> float:
    import numpy as np

    return float(np.random.rand())


def draw_or_fail() -> float:
    value = random.random()
    if jobkit.current().attempt == 1:
        raise ValueError(str(value))
    return value


async def draw_later() -> float:
    return random.random()


def test_a_drawn_seed_is_repeated_by_rerun_and_retry(kit: Kit) -> None:
    job = kit.options(seed=True).submit(draw)
    value, seed = job.result(60)

    assert seed == job.snapshot.spec.seed
    assert 0 <= seed < 2**32
    assert [again.result(60) for again in (job.rerun(), job.retry(), job.rerun().rerun())] == [(value, seed)] * 3
    assert random.Random(seed).random() == value


def test_each_job_draws_its_own_seed(kit: Kit) -> None:
    values = kit.options(seed=True).map(draw, [{}, {}, {}]).result()

    assert len(set(values)) == 3


def test_a_fixed_seed_gives_the_same_numbers_each_time(kit: Kit) -> None:
    seeded = kit.options(seed=7)

    assert {seeded.submit(draw).result(60) for _ in range(2)} == {(random.Random(7).random(), 7)}
    assert seeded.submit(draw_later).result(60) == random.Random(7).random()
    assert kit.submit(draw).result(60)[1] is None


def test_a_retry_has_the_same_seed(kit: Kit) -> None:
    job = kit.options(seed=True, retries=1, backoff=0).submit(draw_or_fail)

    assert str(job.result(60)) in job.attempts[0].reason


def test_numpy_is_seeded_when_the_job_imports_it(kit: Kit) -> None:
    np = pytest.importorskip("numpy")

    assert kit.options(seed=3).submit(draw_with_numpy).result(60) == np.random.RandomState(3).rand()


def test_a_task_has_a_seed(kit: Kit) -> None:
    @jobkit.task(name="seeded-task", seed=11)
    def seeded_task() -> float:
        return random.random()

    assert kit.submit(seeded_task).result(60) == random.Random(11).random()
    assert kit.options(seed=None).submit(seeded_task).snapshot.spec.seed is None


def test_code_around_a_job_of_sync_keeps_its_random_numbers() -> None:
    with jobkit.connect("sync://") as kit:
        random.seed(5)
        kit.options(seed=7).submit(draw)

        assert random.random() == random.Random(5).random()
        assert not any("random" in getattr(finder, "_actions", ()) for finder in sys.meta_path)


def test_jobs_in_one_process_may_seed_a_library_that_neither_has_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(seeds._LIBRARIES, "drawn_by_two", ("get", "put_back", "seed"))
    (tmp_path / "drawn_by_two.py").write_text("seeds = []\nseed = seeds.append\n")

    with seeds.seeded(1), seeds.seeded(2):
        module = importlib.import_module("drawn_by_two")

    monkeypatch.delitem(sys.modules, "drawn_by_two")
    assert module.seeds == [1, 2]
    assert "exec_module" not in vars(module.__spec__.loader)


def test_integers_of_numpy_are_seeds(kit: Kit) -> None:
    np = pytest.importorskip("numpy")

    drawn = [kit.options(seed=seed).submit(len, "abc").snapshot.spec.seed for seed in np.arange(2)]

    assert [(seed, type(seed)) for seed in drawn] == [(0, int), (1, int)]


@pytest.mark.parametrize("value", [-1, 2**32, 1.5, "7", [1]])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(InvalidParams, match=r"seed must be True to draw one for each job, or a whole number from 0 to"):
        jobkit.task(seed=value)(draw)


def test_each_slot_of_a_schedule_has_another_drawn_seed(kit: Kit) -> None:
    schedule = kit.schedule(draw, every=3600, seed=True)

    jobs = [kit.schedules.run(schedule.name) for _ in range(2)]
    values = {job.result(60) for job in jobs}
    schedule.remove()

    assert len(values) == 2
