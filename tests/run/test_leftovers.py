"""Processes of jobs that outlive worker and zygote are ended, and no others."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobkit.run.process import leftovers
from jobkit.run.process.leftovers import OWNER, end_orphans, end_owned_by, new_owner
from jobkit.run.process.runner import ProcessRunner
from jobkit.run.process.tree import identity
from tests.support import is_alive, until

from .conftest import Heard, assign, pid_in

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


async def test_programs_of_jobs_end_with_a_killed_zygote_before_the_loss_is_reported(
    runner: ProcessRunner, heard: Heard, tmp_path: Path
) -> None:
    def leave(path: Path) -> None:
        import os
        import signal
        import subprocess

        program = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        (path / "program").write_text(f"{program.pid}\n")
        os.kill(os.getppid(), signal.SIGKILL)
        program.wait()

    outcome = await runner.run(assign(leave, tmp_path), heard)

    assert outcome.outcome == "lost"
    program = await until(lambda: pid_in(tmp_path / "program"), "the program")
    assert not is_alive(program)


async def test_a_job_that_starts_while_those_of_a_killed_zygote_are_ended_gets_a_living_process(
    runner: ProcessRunner, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await runner.run(assign(len, "abc"), heard)).summary == "3"  # others wait for jobs now
    monkeypatch.setattr("jobkit.run.process.runner.end_owned_by", lambda owner: time.sleep(0.5))
    zygote = runner._zygote
    assert zygote is not None
    zygote._on_death()  # seen before the death of the processes that wait

    outcome = await runner.run(assign(len, "abc"), heard)

    assert (outcome.outcome, outcome.summary) == ("succeeded", "3")
