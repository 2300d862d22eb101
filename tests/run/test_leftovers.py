"""Processes of jobs that outlive worker and zygote are ended, and no others."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobkit.embedded import launch
from jobkit.run.process import leftovers
from jobkit.run.process.leftovers import OWNER, Orphans, end_orphans, end_owned_by, new_owner
from jobkit.system.processes import identity
from tests.support import PORTABLE, is_alive, until

from .conftest import Runner, pid_in, started

Start = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start programs with such an owner."""
    programs: list[subprocess.Popen[bytes]] = []

    def start(owner: str) -> subprocess.Popen[bytes]:
        programs.append(subprocess.Popen(["sleep", "1000"], env={**os.environ, OWNER: owner}))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()
        program.wait()


def gone() -> str:
    """Return the owner of processes whose worker has ended, with the process id of a living one."""
    pid, begin = identity(os.getpid())  # type: ignore[misc]
    return f"{pid}.{begin - 1}.00000000"


def test_processes_of_a_worker_that_is_gone_are_ended_and_those_of_a_living_one_are_not(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "_GRACE_S", 0.0)
    left, kept = (
        start(gone()),
        [start(owner) for owner in (new_owner(), "", "strange", "1.2.3.4", f"{os.getpid()}.x.y")],
    )

    end_orphans()

    assert left.wait(60) == -signal.SIGKILL
    assert [program.poll() for program in kept] == [None] * len(kept)


def test_processes_of_one_zygote_are_ended_and_those_of_another_one_of_the_same_worker_are_not(start: Start) -> None:
    first, second = new_owner(), new_owner()
    programs = start(first), start(second)

    end_owned_by(first)

    assert programs[0].wait(60) == -signal.SIGKILL
    assert programs[1].poll() is None


def test_a_server_that_a_job_starts_is_no_program_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"JOBKIT_OWNER", "JOBKIT_OWNER_ID"}
    for name in names:
        monkeypatch.setenv(name, new_owner())

    assert OWNER in names
    assert not names & set(launch.environment())


async def test_programs_of_jobs_end_with_a_killed_zygote_before_the_loss_is_reported(
    runner: Runner, tmp_path: Path
) -> None:
    def leave(path: Path) -> None:
        import os
        import signal
        import subprocess

        program = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        (path / "program").write_text(f"{program.pid}\n")
        os.kill(os.getppid(), signal.SIGKILL)
        program.wait()

    outcome = await runner.do(leave, tmp_path)

    assert outcome.outcome == "lost"
    program = await until(lambda: pid_in(tmp_path / "program"), "the program")
    assert not is_alive(program)


async def test_a_job_that_starts_while_those_of_a_dead_zygote_are_ended_waits_for_that(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(path: Path) -> None:
        import os
        import time

        (path / "pid").write_text(f"{os.getpid()}\n")
        time.sleep(60)

    ended: list[str] = []
    monkeypatch.setattr(
        "jobkit.run.process.zygote_link.end_owned_by", lambda owner: ended.append(time.sleep(0.3) or owner)
    )
    first = asyncio.create_task(runner.do(wait, tmp_path))
    await until(lambda: pid_in(tmp_path / "pid"), "its start")
    zygote = runner._zygote
    assert zygote is not None
    os.kill(zygote.pid, signal.SIGKILL)
    await until(lambda: not zygote.is_alive, "its death to be noticed")

    second = await runner.do(len, "abc", job_id="j2")

    assert ended == [zygote._owner]
    assert (second.outcome, second.summary) == ("succeeded", "3")
    assert (await first).reason.endswith(f"the worker's zygote (process {zygote.pid}), died")


async def test_one_look_serves_all_attempts_that_asked_before_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def look() -> None:
        looks.append(len(looks))
        time.sleep(0.05)
        if len(looks) == 1:
            raise OSError("there is no descriptor to do so")

    monkeypatch.setattr(leftovers, "end_orphans", look)
    orphans = Orphans()

    async def late() -> None:
        await until(lambda: looks, what="the first look")
        await orphans.end()

    answers = await asyncio.gather(*(orphans.end() for _ in range(20)), late(), return_exceptions=True)

    assert [type(answer) for answer in answers] == [OSError, *[type(None)] * 20]
    assert looks == [0, 1]


@pytest.mark.skipif(not PORTABLE, reason="the kernel keeps those of each zygote apart")
async def test_the_end_of_a_job_ends_no_program_of_another_workers_job(tmp_path: Path) -> None:
    def leave(path: Path) -> None:
        import subprocess
        import time

        subprocess.run(["sh", "-c", f"sleep 1000 > /dev/null 2>&1 & echo $! > {path}/program"], start_new_session=True)
        while not (path / "done").exists():
            time.sleep(0.01)

    async with started(spares=0) as first, started(spares=0) as second:
        running = asyncio.create_task(first.do(leave, tmp_path))
        program = await until(lambda: pid_in(tmp_path / "program"), "the program")

        assert (await second.do(len, "abc")).summary == "3"
        await second.close()

        assert is_alive(program)
        (tmp_path / "done").touch()
        await running
        await until(lambda: not is_alive(program), "its end with its own job")
