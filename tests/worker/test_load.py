"""Samples of a worker, its jobs and its GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from jobkit.client.loop import background
from jobkit.model.load import POINTS, Spark, WorkerLoad
from jobkit.system.hardware import GpuReader
from jobkit.worker.load import LoadSampler
from tests.support import wait_until
from tests.worker import jobs
from tests.worker.conftest import Bench


class NVMLError(Exception):
    pass


class Library(SimpleNamespace):
    """Stand-in for pynvml (nvidia-ml-py), by its documented functions. Two GPUs; a part of one (MIG) has no load."""

    NVMLError = NVMLError
    is_without_driver = False

    def nvmlInit(self) -> None:
        if self.is_without_driver:
            raise NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}000"

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:
        return "NVIDIA A100" if handle else b"NVIDIA T4"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(total=16 * 2**30, used=(1 + handle) * 2**30)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        if handle:
            raise NVMLError("Not Supported")
        return SimpleNamespace(gpu=87, memory=12)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    found = Library()
    monkeypatch.setitem(sys.modules, "pynvml", found)
    monkeypatch.setattr("jobkit.system.hardware.gpus", lambda: ("NVIDIA by its driver",))
    return found


def load_of(sampler: LoadSampler) -> WorkerLoad:
    return msgspec.json.decode(str(sampler.facts()["load"]), type=WorkerLoad)


def test_gpus_have_name_memory_and_load(library: Library) -> None:
    first, second = GpuReader(environ={}).read()

    assert first == (0, "NVIDIA T4", 16384, 1024, 87)
    assert second == (1, "NVIDIA A100", 16384, 2048, 0)


@pytest.mark.parametrize(
    ("visible", "count", "expected"),
    [("1", 0, [1]), ("GPU-0", 0, [0]), ("", 0, []), (None, 1, [0]), (None, 0, [0, 1]), ("1,0", 1, [0, 1])],
)
def test_only_gpus_that_the_worker_may_use_are_shown(
    library: Library, visible: str | None, count: int, expected: list[int]
) -> None:
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}

    assert [gpu.device for gpu in GpuReader(count, environ).read()] == expected


def test_without_a_driver_there_is_the_name_alone(library: Library) -> None:
    library.is_without_driver = True

    assert GpuReader(environ={}).read() == [(0, "NVIDIA by its driver", 0, 0, 0)]


def test_a_job_is_charted_with_all_of_its_processes(library: Library) -> None:
    hold = "import time; x = b'x' * 50_000_000; print('ready', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        sampler = LoadSampler(lambda: {"a": (child.pid, os.getpid()), "gone": (2**22 - 1,)}, GpuReader(environ={}), 5)
        sampler.sample()
        assert load_of(sampler).jobs == {}
        sampler.sample()
        load = load_of(sampler)
        child.kill()

    assert load.jobs["a"].memory.last > 50
    assert load.jobs["gone"].memory == Spark(0, 0, "0")
    assert load.whole.memory.last >= load.jobs["a"].memory.last
    assert [(gpu.name, gpu.memory.last, gpu.total) for gpu in load.gpus] == [
        ("NVIDIA T4", 1024, 16384),
        ("NVIDIA A100", 2048, 16384),
    ]
    assert sampler.gpus == ("NVIDIA T4", "NVIDIA A100")
    assert "load" not in sampler.facts()  # sent once


def test_charts_are_bounded_in_points_and_jobs() -> None:
    jobs = {str(n): () for n in range(100)}
    sampler = LoadSampler(lambda: jobs, GpuReader(environ={}), 5)
    for _ in range(POINTS + 5):
        sampler.sample()

    load = load_of(sampler)

    assert len(load.jobs) == 32
    assert len(load.whole.cpu.shape) == POINTS
    jobs.clear()
    sampler.sample()
    assert load_of(sampler).jobs == {}


def test_a_curve_has_a_digit_for_each_point_up_to_its_top() -> None:
    assert Spark.of([0, 5, 10]) == Spark(10, 10, "0iz")
    assert Spark.of([2, 4], 100).shape == "11"
    assert Spark.of([]) == Spark()
    assert len(Spark.of([1.0] * 200).shape) == POINTS


def test_a_real_worker_tells_what_its_jobs_use_and_forgets_those_that_have_ended(bench: Bench, tmp_path: Path) -> None:
    bench.worker("--resources", "gpu=1")
    sign = tmp_path / "go"
    job = bench.kit.options(resources={"gpu": 1}).submit(jobs.until, bench.file(), str(sign))
    bench.started()
    [worker] = bench.kit.workers()

    def load() -> WorkerLoad:
        return background.call(bench.kit.verbs.store.loads([worker.id])).get(worker.id, WorkerLoad())

    used = wait_until(lambda: load().jobs.get(job.id), what="the use of the job")
    assert used.memory.last > 0
    assert bench.kit.workers()[0].in_use == {"gpu": 1}
    sign.touch()
    job.result(timeout=30)
    wait_until(lambda: not load().jobs, what="the job to be left out")
    assert bench.kit.workers()[0].in_use == {}
