"""Jobs that run with the packages of the submitter's project. The only package is a wheel on the disk: no network."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import zipfile
from pathlib import Path

import pytest

import jobkit
from jobkit.codec import digest
from jobkit.tasks import code
from jobkit.worker.project_env import NotBuilt, ProjectEnvironments
from tests.support import wait_until

from .conftest import Bench

pytestmark = pytest.mark.skipif(shutil.which("uv") is None, reason="needs uv")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a project that needs the package `travelling`."""
    folder = tmp_path / "project"
    folder.mkdir()
    wheel = tmp_path / "travelling-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("travelling.py", "VALUE = 42\n")
        file.writestr("travelling-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: travelling\nVersion: 1.0\n")
        file.writestr(
            "travelling-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr("travelling-1.0.dist-info/RECORD", "")
    (folder / "requirements.txt").write_text(f"travelling @ file://{wheel}\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("UV_OFFLINE", "1")
    return folder


def use() -> tuple[int, str]:
    import sys

    import travelling  # type: ignore[import-not-found]

    return travelling.VALUE, sys.prefix


@pytest.mark.usefixtures("project")
def test_a_job_runs_with_the_packages_of_its_project(bench: Bench, tmp_path: Path) -> None:
    use.__module__ = "__main__"  # sent by value
    bench.worker(TMPDIR=str(tmp_path / "tmp"), UV_OFFLINE="1")
    of_project = bench.kit.options(env="project")

    value, prefix = of_project.submit(use).result(120)

    assert value == 42
    assert str(tmp_path / "tmp" / "jobkit-envs-") in prefix
    assert of_project.options(env={"A": 1}).submit(use).result(60) == (value, prefix)
    assert "travelling" in str(bench.kit.submit(use).exception(60))


async def test_an_environment_is_built_once_and_its_progress_is_told(project: Path, tmp_path: Path) -> None:
    content = code.project_pack(str(project / "below"), "f")
    told: list[str] = []
    builders = [ProjectEnvironments(tmp_path / "envs") for _ in range(3)]

    found = await asyncio.gather(*(each.ready(content, digest(content), told.append) for each in builders))

    assert len({each.prefix for each in found}) == 1
    assert "building the environment, 0 s" in told
    assert told[-1] == ""
    before = len(told)
    assert await builders[0].ready(content, digest(content), told.append) == found[0]
    assert len(told) == before


async def test_a_build_that_fails_says_what_uv_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    (tmp_path / "requirements.txt").write_text("not a requirement\n")
    content = code.project_pack(str(tmp_path), "f")
    environments = ProjectEnvironments(tmp_path / "envs")

    with pytest.raises(NotBuilt, match=r"could not be built on .* \(uv pip\): "):
        await environments.ready(content, digest(content), lambda _: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotBuilt, match="needs uv on .*-m pip install uv"):
        await environments.ready(content, digest(content), lambda _: None)


@pytest.mark.usefixtures("project")
def test_a_build_ends_when_its_job_is_cancelled_and_is_not_disturbed_when_its_worker_is_killed(
    bench: Bench, tmp_path: Path
) -> None:
    programs, pids = tmp_path / "programs", tmp_path / "pids"
    programs.mkdir()
    uv = programs / "uv"
    uv.write_text(f"#!/bin/sh\necho $$ >> {pids}\nexec sleep 600\n")
    uv.chmod(0o755)
    worker = bench.worker(TMPDIR=str(tmp_path / "tmp"), PATH=f"{programs}:{os.environ['PATH']}")
    use.__module__ = "__main__"  # sent by value

    def building(count: int) -> int:
        lines = pids.read_text().split() if pids.exists() else []
        return int(lines[-1]) if len(lines) == count else 0

    first = bench.kit.options(env="project").submit(use)
    wait_until(lambda: building(1), what="the build to begin")
    first.cancel()
    assert first.wait(20)
    assert first.state == "cancelled"

    bench.kit.options(env="project", on_lost="fail").submit(use)
    pid = wait_until(lambda: building(2), what="the second build to begin")
    worker.kill()
    worker.wait()
    try:
        [lock] = (tmp_path / "tmp").glob("jobkit-envs-*/*.lock")
        with lock.open("w") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_folder_without_a_list_of_packages_is_refused_at_the_submit(tmp_path: Path) -> None:
    with pytest.raises(jobkit.InvalidParams, match="env='project' needs a uv.lock"):
        code.project_pack(str(tmp_path), "f")
