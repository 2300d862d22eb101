"""Jobs that run with the packages of the submitter's project or of an earlier run. All are wheels on the disk."""

from __future__ import annotations

import asyncio
import fcntl
import os
import platform
import shutil
import signal
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import redis

import jobkit
from jobkit.client.loop import background
from jobkit.codec import Codec, digest
from jobkit.features.environments.build import Environments, NotBuilt
from jobkit.features.environments.env import submitted
from jobkit.features.environments.recorded import LOCK, PROJECT, PYTHON, REQUIREMENTS
from jobkit.features.provenance.attempts import WorkerFacts
from jobkit.features.provenance.contents import MadeStore
from jobkit.features.provenance.facts import Made, name_of, sealed
from jobkit.features.provenance.made_by import ProcessFacts
from jobkit.features.shipping.pack import pack_of
from jobkit.settings import Settings
from jobkit.tasks.call import Environment
from tests.support import wait_until
from tests.worker.conftest import Bench

pytestmark = pytest.mark.skipif(shutil.which("uv") is None, reason="needs uv")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")


async def ready(below: Path, content: bytes) -> Environment:
    """Return the environment for a list of packages, in a folder of the test."""
    environment, _ = await Environments(below / "envs").ready(content, digest(content), lambda _: None)
    return environment


def wheel(folder: Path, version: str, value: int) -> Path:
    """Return the wheel of a version of the package `travelling`."""
    path = folder / f"travelling-{version}-py3-none-any.whl"
    info = f"travelling-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("travelling.py", f"VALUE = {value}\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: travelling\nVersion: {version}\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a project that needs the package `travelling`."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "requirements.txt").write_text(f"travelling @ file://{wheel(tmp_path, '1.0', 42)}\n")
    monkeypatch.chdir(folder)
    return folder


def use() -> tuple[int, str]:
    import sys

    import travelling  # type: ignore[import-not-found]

    return travelling.VALUE, sys.prefix


@pytest.mark.usefixtures("project")
def test_a_job_runs_with_the_packages_of_its_project(bench: Bench, tmp_path: Path) -> None:
    use.__module__ = "__main__"  # sent by value
    bench.worker(TMPDIR=str(tmp_path / "tmp"))
    of_project = bench.kit.options(env="project")

    value, prefix = of_project.submit(use).result(120)

    assert value == 42
    made = of_project.submit(use)
    made.wait(60)
    assert (made.made_by.packages["travelling"], made.made_by.packages["numpy"]) == ("1.0", np.__version__)
    assert "travelling" not in bench.kit.submit(len, "").made_by.packages
    assert str(tmp_path / "tmp" / "jobkit-envs-") in prefix
    assert of_project.options(env={"A": 1}).submit(use).result(60) == (value, prefix)
    assert "travelling" in str(bench.kit.submit(use).exception(60))


async def test_facts_of_an_environment_are_stored_also_soon_after_the_machine_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They used to be stored only on a machine that had run for an hour."""
    kept: list[str] = []

    async def keep(sealed: dict[str, bytes], *_: object) -> None:
        kept.extend(sealed)

    store: Any = SimpleNamespace(part=lambda _: SimpleNamespace(keep=keep))
    facts = WorkerFacts(Settings(), "w", store, Codec.from_secret("of these tests"))
    monkeypatch.setattr("jobkit.features.provenance.attempts.time", SimpleNamespace(monotonic=lambda: 60.0))
    environment = Environment(str(tmp_path), sys.executable, "3.13.0")

    name = await facts.of_environment(environment, [str(tmp_path)])

    assert name in kept
    kept.clear()
    assert await facts.of_environment(environment, [str(tmp_path)]) == name
    assert kept == []  # for an hour


def put_facts(bench: Bench, worker: str, packages: str, local: tuple[str, ...] = ("mine",)) -> None:
    """Store other facts about a worker, sealed as its own are."""
    text = packages.encode()
    facts = ProcessFacts(python=platform.python_version(), packages=name_of(text), local=local)
    content = msgspec.json.encode(facts)
    made = Made(name_of(content), {name_of(text): text, name_of(content): content})
    store = bench.kit.verbs.store.part(MadeStore)
    background.call(store.keep(sealed(made, bench.kit.codec), 60_000))
    with redis.Redis.from_url(bench.server.url) as server:
        server.set(f"jk:{bench.place['namespace']}:made-on:{worker}", made.name, px=60_000)


def test_a_job_runs_again_with_the_packages_that_made_its_result(bench: Bench, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for version, value in (("1.0", 1), ("2.0", 2)):
        wheel(links, version, value)
    use.__module__ = "__main__"  # sent by value
    bench.worker(TMPDIR=str(tmp_path / "tmp"), UV_NO_INDEX="1", UV_FIND_LINKS=str(links))
    job = bench.kit.submit(use)
    job.wait(60)
    put_facts(bench, job.worker, "mine==0.1\npanel-jobkit==0.0.1\ntravelling==1.0")

    again = job.rerun(env="recorded")

    assert again.result(120)[0] == 1
    assert again.snapshot.spec.retry_of == job.id
    made = wait_until(lambda: again.made_by if "travelling" in again.made_by.packages else None)
    assert (made.packages["travelling"], made.packages["numpy"]) == ("1.0", np.__version__)  # the latter of the worker
    assert "not as recorded, but as the worker has them, since no index has them: mine" in str(again.logs())
    assert again.retry().result(60) == again.result()
    put_facts(bench, job.worker, "travelling==3.0")
    failed = job.rerun(env="recorded").exception(60)
    assert "travelling==3.0, with which the result was made, cannot be had on" in str(failed)


async def test_a_recorded_python_that_is_not_here_is_named(tmp_path: Path) -> None:
    content = pack_of({REQUIREMENTS: b"", PYTHON: b"3.99"})

    with pytest.raises(NotBuilt, match=r"made with Python 3.99, which is not on .*: uv python install 3.99"):
        await ready(tmp_path, content)


async def test_an_environment_is_built_once_and_its_progress_is_told(project: Path, tmp_path: Path) -> None:
    content = submitted(str(project / "below"), "f")
    told: list[str] = []
    builders = [Environments(tmp_path / "envs") for _ in range(3)]

    found = await asyncio.gather(*(each.ready(content, digest(content), told.append) for each in builders))

    assert len({environment.prefix for environment, _ in found}) == 1
    assert "building the environment, 0 s" in told
    assert told[-1] == ""
    before = len(told)
    assert await builders[0].ready(content, digest(content), told.append) == found[0]
    assert len(told) == before


async def test_a_build_that_fails_says_what_uv_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "requirements.txt").write_text("not a requirement\n")
    content = submitted(str(tmp_path), "f")

    with pytest.raises(NotBuilt, match=r"could not be built on .* \(uv pip\): "):
        await ready(tmp_path, content)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotBuilt, match="needs uv on .*-m pip install uv"):
        await ready(tmp_path, content)


async def test_settings_of_uv_that_another_user_left_beside_the_environments_are_not_read(tmp_path: Path) -> None:
    """The environments are in the directory for temporary files, in which every user may create files."""
    (tmp_path / "links").mkdir()
    wheel(tmp_path / "links", "6.6", 6)
    (tmp_path / "uv.toml").write_text(f"no-index = true\nfind-links = [{str(tmp_path / 'links')!r}]\n")
    content = pack_of({REQUIREMENTS: b"travelling==6.6\n"})

    with pytest.raises(NotBuilt, match="No solution found"):
        await ready(tmp_path, content)


async def test_a_project_is_no_member_of_a_workspace_that_another_user_left_beside_the_environments(
    tmp_path: Path,
) -> None:
    head = 'version = 1\nrequires-python = ">=3.9"\n'
    own = '[[package]]\nname = "mine"\nversion = "0.1"\nsource = { virtual = "%s" }\n'
    files = {
        PROJECT: '[project]\nname = "mine"\nversion = "0.1"\nrequires-python = ">=3.9"\ndependencies = []\n',
        LOCK: head + own % ".",
    }
    content = pack_of({name: text.encode() for name, text in files.items()})
    path = f"envs/projects/{digest(content)[:32]}"
    (tmp_path / "pyproject.toml").write_text('[tool.uv.workspace]\nmembers = ["envs/projects/*"]\n')
    source = wheel(tmp_path, "6.6", 6)
    (tmp_path / "uv.lock").write_text(
        f'{head}[manifest]\nmembers = ["mine"]\n[[package]]\nname = "travelling"\nversion = "6.6"\n'
        f'source = {{ path = "{source}" }}\nwheels = [{{ filename = "{source.name}", hash = "sha256:{"0" * 64}" }}]\n'
        f'{own % path}dependencies = [{{ name = "travelling" }}]\n'
    )

    found = await ready(tmp_path, content)

    assert not [*Path(found.prefix).rglob("travelling*")]


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
    bench.kill(worker)
    try:
        [lock] = (tmp_path / "tmp").glob("jobkit-envs-*/*.lock")
        with lock.open("w") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_folder_without_a_list_of_packages_is_refused_at_the_submit(tmp_path: Path) -> None:
    with pytest.raises(jobkit.InvalidParams, match="env='project' needs a uv.lock"):
        submitted(str(tmp_path), "f")
