"""Facts of jobs that start after packages of the worker's environment have changed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobkit.codec import Codec
from jobkit.features.provenance.attempts import WorkerFacts
from jobkit.features.provenance.facts import _gatherer
from jobkit.features.provenance.made import MadeReader
from jobkit.model import JobSnapshot, JobSpec, JobState, StoreUnavailable
from jobkit.settings import Settings
from tests.support import wait_until
from tests.worker.conftest import Bench


class Kept:
    """Facts in the store, which can be away."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.workers: dict[str, str] = {}
        self.is_away = False
        self.calls = 0

    async def keep(self, sealed: dict[str, bytes], ttl_ms: int, worker: str = "", name: str = "") -> None:
        self.calls += 1
        if self.is_away:
            raise StoreUnavailable("away")
        self.contents |= sealed
        if worker:
            self.workers.setdefault(worker, name)

    async def touch(self, ttls_ms: dict[str, int]) -> None:
        pass

    async def of_workers(self, workers: list[str]) -> list[str]:
        return [self.workers.get(worker, "") for worker in workers]

    async def read(self, names: list[str]) -> list[bytes | None]:
        return [self.contents.get(name) for name in names]


def install(folder: Path, name: str, version: str) -> None:
    (folder / f"{name}-{version}.dist-info").mkdir()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages that this process imports from."""
    made = tmp_path / "site-packages"
    made.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(made)])
    _gatherer.cache_clear()  # the facts of a process are read again after a second only
    return made


async def test_a_job_names_packages_that_were_installed_while_the_worker_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobkit.features.provenance.attempts._LOOK_S", 0.0)
    kept, codec = Kept(), Codec.from_secret("of these tests")
    store: Any = SimpleNamespace(part=lambda _: kept)
    facts = WorkerFacts(Settings(), "w", store, codec)
    install(folder, "old", "1.0")

    async def packages(made: str) -> dict[str, str]:
        usage = {"made": made} if made else {}
        job = JobSnapshot(JobSpec("a", "task"), 1, JobState.SUCCEEDED, worker="w", usage=usage)
        [found] = await MadeReader(store, codec).of([job])
        assert found.ran_on is not None
        return dict(found.ran_on.packages)

    assert await facts.of_packages() == ""  # before they are gathered
    await facts._gathered()
    await facts.store()
    assert await facts.of_packages() == ""
    assert (await packages(""))["old"] == "1.0"

    install(folder, "just_installed", "1.7.2")
    kept.is_away = True
    with pytest.raises(StoreUnavailable):
        await facts.of_packages()
    kept.is_away = False
    made, calls = await facts.of_packages(), kept.calls

    assert (await packages(made))["just-installed"] == "1.7.2"
    assert "just-installed" not in await packages("")  # of jobs before
    assert await facts.of_packages() == made
    assert kept.calls == calls

    (folder / "just_installed-1.7.2.dist-info").rmdir()
    assert await facts.of_packages() == ""


async def test_a_folder_that_changed_without_another_package_gives_no_other_facts(folder: Path) -> None:
    kept = Kept()
    facts = WorkerFacts(Settings(), "w", SimpleNamespace(part=lambda _: kept), Codec.from_secret("s"))  # type: ignore[arg-type]
    await facts._gathered()

    (folder / "module").mkdir()

    assert await facts.of_packages() == ""
    assert kept.calls == 0


def test_a_job_of_a_real_worker_has_a_package_that_was_installed_before_it(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    bench.worker(PYTHONPATH=str(folder))
    before = bench.kit.submit(len, "")
    assert before.result(60) == 0
    wait_until(lambda: before.made_by.ran_on is not None)

    install(folder, "just_installed", "1.7.2")
    after = bench.kit.submit(len, "")
    assert after.result(60) == 0

    packages = [job.made_by.ran_on.packages for job in (before, after)]
    assert ["just-installed" in each for each in packages] == [False, True]
