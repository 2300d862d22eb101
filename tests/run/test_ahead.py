"""Imports of jobs: named while they take long, and done ahead of the next jobs."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from jobkit.run.inside import imports
from tests.support import PORTABLE, is_alive, until

from .conftest import Heard, Runner, assign, pid_in, started, stopped

needs_forks = pytest.mark.skipif(PORTABLE, reason="does not fork")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a module for the processes of jobs."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)

    def install(name: str, code: str = "import os; PID = os.getpid()") -> None:
        (folder / f"{name}.py").write_text(code)

    return install


@pytest.fixture
async def runner(installed: Any, heard: Heard) -> AsyncIterator[Runner]:
    async with started(spares=1, heard=heard) as runner:
        yield runner


async def imported(runner: Runner, *names: str, **options: Any) -> list[int]:
    """Run a job that imports modules, and return in which process each of them was imported; its own last."""

    def use(names: tuple[str, ...]) -> list[int]:
        import importlib
        import os

        return [*(importlib.import_module(name).PID for name in names), os.getpid()]

    outcome = await runner.run(assign(use, names, **options), Heard())
    assert outcome.outcome == "succeeded", outcome
    return list(map(int, outcome.summary.strip("[]").split(",")))


async def ready(runner: Runner) -> int | None:
    """Wait until what jobs have imported is there for the next ones; return the process that has it."""
    assert runner._ahead._starting is not None
    await runner._ahead._starting
    zygote = runner._ahead.current()
    return None if zygote is None else zygote.pid


@pytest.fixture
async def zygote(runner: Runner, installed: Any) -> int:
    """Process that has imported the module `wanted` ahead."""
    installed("wanted")
    await imported(runner, "wanted")
    found = await ready(runner)
    assert found is not None
    return found


@needs_forks
async def test_what_a_job_has_imported_is_there_for_the_next_one(runner: Runner, installed: Any) -> None:
    installed("wanted")
    first = await imported(runner, "wanted")
    assert first[0] == first[1]

    zygote = await ready(runner)

    second = await imported(runner, "wanted")
    assert second[0] == zygote
    assert len({*first, *second}) == 3


async def test_a_worker_whose_jobs_import_nothing_imports_nothing(runner: Runner) -> None:
    await imported(runner)

    assert runner._ahead._starting is None


@needs_forks
async def test_it_can_be_switched_off(installed: Any) -> None:
    installed("wanted")
    async with started(spares=1, imports_ahead=False) as runner:
        for _ in range(2):
            place, own = await imported(runner, "wanted")
            assert place == own


@needs_forks
async def test_modules_of_the_user_are_never_imported_ahead(runner: Runner, installed: Any, tmp_path: Path) -> None:
    installed("wanted")
    (tmp_path / "mine.py").write_text("import os, wanted; PID = os.getpid()")

    await imported(runner, "mine", head={"path": (str(tmp_path),)})

    zygote = await ready(runner)
    assert runner._ahead.names == ["wanted"]
    mine, wanted, own = await imported(runner, "mine", "wanted", head={"path": (str(tmp_path),)})
    assert (mine, wanted) == (own, zygote)


@needs_forks
async def test_a_module_of_the_user_wins_over_an_installed_one_of_its_name(
    runner: Runner, zygote: int, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "wanted.py").write_text("PID = 7")

    found = await imported(runner, "wanted", head={"path": (str(tmp_path / "own"),)})

    assert found[0] == 7


@needs_forks
async def test_a_reused_process_keeps_a_module_of_the_user_with_the_name_of_an_installed_one(
    runner: Runner, zygote: int, tmp_path: Path
) -> None:
    def count() -> int:
        import wanted  # type: ignore[import-not-found]

        wanted.PID += 1
        return int(wanted.PID)

    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "wanted.py").write_text("PID = 0")

    job = assign(count, reuse=9, head={"path": (str(tmp_path / "own"),)})

    assert [(await runner.run(job, Heard())).summary for _ in range(2)] == ["1", "2"]


@needs_forks
async def test_jobs_with_variables_or_a_memory_limit_import_it_themselves(runner: Runner, zygote: int) -> None:

    for options in ({"environ": {"THREADS": "4"}}, {"memory_limit_bytes": 1 << 40}):
        place, own = await imported(runner, "wanted", **options)
        assert place == own


UNSAFE = {
    "its modules have started a thread (x)": "import threading, time\n"
    "threading.Thread(target=time.sleep, args=(100,), name='x', daemon=True).start()",
    "it has started a process": "import subprocess; KEPT = subprocess.Popen(['sleep', '100'])",
    "it has opened a file, a connection or a device": "import socket; KEPT = socket.socketpair()",
    "its modules import polars": "import sys; sys.modules['polars'] = sys",
    "it changes the handlers of signals of its process": "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
    "it changes the logging of its process": "import logging; logging.basicConfig(level=logging.DEBUG)",
    "a process that is forked after it crashes": "import os; os.register_at_fork(after_in_child=os.abort)",
}


@needs_forks
async def test_what_makes_forks_unsafe_is_left_out(
    runner: Runner, installed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"unsafe{n}" for n in range(len(UNSAFE))]
    for name, code in zip(names, UNSAFE.values(), strict=True):
        installed(name, code + "\nimport os; PID = os.getpid()")
    installed("safe")

    with caplog.at_level(logging.INFO, "jobkit.worker"):
        runner._ahead.want([*names, "safe", "missing"])
        zygote = await ready(runner)

    assert caplog.messages == [
        f"{name} is not imported ahead of jobs, because {why}" for name, why in zip(names, UNSAFE, strict=True)
    ]
    safe, unsafe, own = await imported(runner, "safe", "unsafe2")
    assert (safe, unsafe) == (zygote, own)


@needs_forks
async def test_a_job_that_sets_variables_before_its_imports_imports_them_each_time(
    runner: Runner, installed: Any, tmp_path: Path
) -> None:
    installed("reads", "import os; FOUND = os.environ.get('CACHE_OF_TEST')")
    (tmp_path / "train.py").write_text(
        "import os\nos.environ['CACHE_OF_TEST'] = '/data'\nimport reads\ndef task(): return reads.FOUND"
    )

    for _ in range(2):
        outcome = await runner.run(assign(None, ref="train:task", head={"path": (str(tmp_path),)}), Heard())
        assert outcome.summary == "/data"
        assert runner._ahead.names == []


@needs_forks
async def test_a_directory_that_a_library_adds_stays(runner: Runner, installed: Any, tmp_path: Path) -> None:
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "inner_of_test.py").write_text("import os; PID = os.getpid()")
    installed("outer", f"import os, sys; PID = os.getpid(); sys.path.append({str(tmp_path / 'vendor')!r})")
    await imported(runner, "outer")
    zygote = await ready(runner)

    outer, inner, own = await imported(runner, "outer", "inner_of_test")

    assert (outer, inner) == (zygote, own)


async def test_a_lazy_module_is_not_loaded_by_looking_at_it(runner: Runner, installed: Any) -> None:
    def load_lazily() -> int:
        import importlib.util
        import sys

        spec = importlib.util.find_spec("lazily")
        assert spec is not None
        assert spec.loader is not None
        spec.loader = importlib.util.LazyLoader(spec.loader)
        module = sys.modules["lazily"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        import wanted  # type: ignore[import-not-found]  # noqa: F401

        return 7

    installed("lazily", "raise ValueError('loaded')")
    installed("wanted")

    assert (await runner.run(assign(load_lazily), Heard())).summary == "7"


@needs_forks
async def test_nothing_is_left_of_an_import_that_hangs(runner: Runner, installed: Any, tmp_path: Path) -> None:
    code = "import subprocess, time, pathlib; KEPT = subprocess.Popen(['sleep', '100'])\n"
    installed("hangs", f"{code}pathlib.Path({str(tmp_path / 'pid')!r}).write_text(f'{{KEPT.pid}}\\n'); time.sleep(100)")
    runner._ahead.want(["hangs"])
    await until(lambda: pid_in(tmp_path / "pid"), "the import to hang")

    await runner.close()

    pid = pid_in(tmp_path / "pid")
    assert pid is not None
    assert not is_alive(pid)


@needs_forks
@pytest.mark.parametrize("code", ["import subprocess; KEPT = subprocess.Popen(['sleep', '100'])", "import polars"])
async def test_no_library_is_blamed_for_the_task_modules(
    installed: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    installed("tasks_of_test", code)
    installed("polars", "")
    installed("wanted")
    async with started("tasks_of_test", start_method="fork") as runner:
        await imported(runner, "wanted")
        assert await ready(runner) is None

    (said,) = caplog.messages
    assert said.startswith("what jobs have imported is not imported ahead of the next ones: the task modules ")


@needs_forks
async def test_what_the_task_modules_print_is_printed_once(installed: Any, capfd: pytest.CaptureFixture[str]) -> None:
    installed("tasks_of_test", "print('loaded')")
    installed("wanted")
    async with started("tasks_of_test") as runner:
        await imported(runner, "wanted")
        assert await ready(runner) is not None

    assert capfd.readouterr().out.split() == ["loaded"]


@needs_forks
async def test_large_task_modules_are_not_loaded_a_second_time(
    runner: Runner, installed: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("jobkit.run.process.runner.MEMORY_MOST", 1)
    installed("wanted")

    await imported(runner, "wanted")

    assert await ready(runner) is None
    assert "the task modules take" in caplog.messages[0]


@needs_forks
async def test_no_process_waits_for_jobs_after_the_end_of_idle_libraries(
    runner: Runner, zygote: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobkit.run.process.runner._IDLE_S", 0.05)
    monkeypatch.setattr("jobkit.run.process.runner._SAMPLE_S", 0.05)
    await until(lambda: runner._watching is not None and runner._watching.done(), "an idle worker")

    runner._ahead.drop()

    assert not runner._waiting


@needs_forks
async def test_a_worker_with_many_unsafe_libraries_tries_no_more(
    runner: Runner, installed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobkit.run.process.libraries._UNSAFE_MOST", 1)
    installed("unsafe", "import sys; sys.modules['polars'] = sys")
    installed("safe")

    runner._ahead.want(["unsafe", "safe"])

    assert await ready(runner) is None
    await imported(runner, "safe")


@needs_forks
async def test_a_library_that_ends_its_process_ends_no_job(
    runner: Runner, installed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    installed("deadly", "import os; os.abort()")
    runner._ahead.want(["deadly"])
    assert await ready(runner) is None

    await imported(runner)

    assert [text[:30] for text in caplog.messages] == ["what jobs have imported is not"]


@needs_forks
async def test_after_an_installation_modules_are_imported_anew(runner: Runner, installed: Any, zygote: int) -> None:
    old = runner._ahead.current()

    installed("another")
    place, own = await imported(runner, "wanted")

    assert place == own
    zygote = await ready(runner)
    assert old is not None
    assert zygote != old.pid
    assert (await imported(runner, "wanted"))[0] == zygote
    await until(lambda: not old.is_alive, "the end of the old one")


@needs_forks
async def test_a_job_that_runs_outlives_the_replacement_of_its_zygote(
    runner: Runner, installed: Any, zygote: int, tmp_path: Path
) -> None:
    def wait(path: str) -> int:
        import os
        import time

        os.mkfifo(path + ".fifo")
        while not os.path.exists(path):
            time.sleep(0.01)
        return 7

    old = runner._ahead.current()
    running = asyncio.create_task(runner.do(wait, str(tmp_path / "go"), job_id="j2"))
    await until((tmp_path / "go.fifo").exists, "the job to run")
    installed("another")
    await imported(runner, "another")
    assert await ready(runner) is not None

    assert old is not None
    assert old.is_alive
    (tmp_path / "go").touch()

    assert (await running).summary == "7"
    await until(lambda: not old.is_alive, "the end of the old one")


@needs_forks
@pytest.mark.parametrize("kind", ["cancel", "kill"])
async def test_a_job_with_libraries_can_be_stopped_like_any_other(
    runner: Runner, zygote: int, tmp_path: Path, kind: str
) -> None:

    def wait(sign: Path) -> None:
        import time

        sign.touch()
        time.sleep(100)

    outcome = await stopped(runner, tmp_path / "runs", runner.do(wait, tmp_path / "runs"), kind)

    assert outcome.outcome == "cancelled"
    assert (await imported(runner, "wanted"))[0] == zygote


@needs_forks
async def test_the_death_of_the_zygote_with_libraries_leaves_the_other_one(runner: Runner, zygote: int) -> None:
    os.kill(zygote, signal.SIGKILL)
    await until(lambda: runner._ahead.current() is None, "the worker to notice")

    place, own = await imported(runner, "wanted")

    assert place == own
    assert await ready(runner) not in (None, zygote)


@needs_forks
async def test_an_idle_environment_keeps_its_libraries(installed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobkit.run.process.runner._IDLE_S", 0.05)
    monkeypatch.setattr("jobkit.run.process.runner._SAMPLE_S", 0.05)
    installed("wanted")
    async with started(spares=0, is_on_demand=True) as runner:
        await imported(runner, "wanted")
        zygote = await ready(runner)
        await until(lambda: runner._zygote is not None and not runner._zygote.is_alive, "the end of the other one")

        await runner.start()
        assert (await imported(runner, "wanted"))[0] == zygote

        assert not runner._zygote.is_alive
        monkeypatch.setattr("jobkit.run.process.libraries.KEPT_S", 0.05)
        await imported(runner)
        await until(lambda: runner._ahead.current() is None, "its end without jobs")


async def test_a_long_import_is_named_beside_the_progress(
    runner: Runner, installed: Any, tmp_path: Path, heard: Heard
) -> None:
    folder = tmp_path / "site-packages" / "slow"
    folder.mkdir()
    (folder / "__init__.py").write_text("import time; time.sleep(0.6); import slow.part; time.sleep(0.1)")
    (folder / "part.py").write_text("")

    (tmp_path / "site-packages" / "tasks_of_test.py").write_text("def task(): import slow")
    (tmp_path / "tasks_with_it.py").write_text(
        "import jobkit, slow\ndef task(): jobkit.current().report(message='runs')"
    )

    for name in ("tasks_of_test", "tasks_with_it"):
        job = assign(None, ref=f"{name}:task", environ={"BARE": "1"}, head={"path": (str(tmp_path),)})
        assert (await runner.run(job, heard)).outcome == "succeeded"

    told = [message for *_, message in heard.news if not message.startswith("starting its process")]
    assert [message for message in told if message] == ["importing slow", "starting, importing slow", "runs"]
    assert told[told.index("importing slow") + 1] == ""


async def test_a_short_import_costs_no_message(runner: Runner, installed: Any, heard: Heard) -> None:
    installed("wanted")

    await runner.do(importlib.import_module, "wanted")

    assert "wanted" not in str(heard.news)


def test_the_outermost_installed_modules_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, mine = tmp_path / "site-packages", tmp_path / "mine"
    for folder in (site, mine):
        folder.mkdir()
        monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(imports, "_INSTALLED", (f"{site}/",))
    (site / "outer_of_test.py").write_text("import inner_of_test")
    (site / "inner_of_test.py").write_text("")
    (site / "broken_of_test.py").write_text("raise ImportError")
    (mine / "mine_of_test.py").write_text("import outer_of_test")
    watch = imports.ImportWatch(lambda name: True)
    monkeypatch.setattr(sys, "meta_path", [watch, *sys.meta_path])

    with pytest.raises(ImportError):
        importlib.import_module("broken_of_test")
    importlib.import_module("mine_of_test")
    importlib.import_module("inner_of_test")

    assert watch.names() == ["outer_of_test"]
    for name in ("outer_of_test", "inner_of_test", "mine_of_test"):
        del sys.modules[name]
