"""Out-of-memory kills by the kernel: certain if a control group counts them."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobkit.system.memory import KernelKills, counter_file
from tests.support import weaker_without

V1 = Path("/sys/fs/cgroup/memory")


@pytest.mark.parametrize(
    ("groups", "file", "found"),
    [
        ("0::/user.slice/jobs\n", "user.slice/jobs/memory.events", True),
        ("0::/of/the/host\n", "memory.events", True),
        ("4:memory:/jobs\n0::/\n", "memory/jobs/memory.oom_control", True),
        ("4:cpu,cpuacct:/jobs\n", "memory.stat", False),
        ("", "memory.stat", False),
    ],
)
def test_the_kill_counter_is_found_in_both_cgroup_versions(tmp_path: Path, groups: str, file: str, found: bool) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()

    assert counter_file(groups, tmp_path) == (path if found else None)


def test_each_kill_explains_one_death_and_earlier_kills_none(tmp_path: Path) -> None:
    file = tmp_path / "memory.events"

    def count(n: int) -> None:
        file.write_text(f"low 0\nhigh 9\noom 3\noom_kill {n}\noom_group_kill 0\n")

    count(5)
    kills = KernelKills(file)
    assert not kills.take()
    count(7)
    assert [kills.take() for _ in range(3)] == [True, True, False]
    count(8)
    for _ in range(10):
        kills.look()
    assert not kills.take()
    file.unlink()
    assert not kills.take()
    assert not KernelKills(None).take()


@pytest.fixture
def group() -> Iterator[Path]:
    """Control group with a limit of 150 MB."""
    path = V1 / f"jobkit-{secrets.token_hex(4)}"
    try:
        path.mkdir()
        (path / "memory.limit_in_bytes").write_text(str(150 * 2**20))
    except OSError:
        pytest.skip("needs the right to make control groups")
    yield path
    path.rmdir()


SCRIPT = """
import asyncio, os, sys
open(sys.argv[1], "w").write(str(os.getpid()))
from jobkit.run.process.runner import ProcessRunner
from tests.run.conftest import Heard, assign
def hungry():
    kept = []
    while True:
        kept.append(bytearray(b"x" * 10_000_000))
async def main():
    runner = ProcessRunner()
    await runner.start()
    first = await runner.run(assign(hungry), Heard())
    second = await runner.run(assign(os.getpid), Heard())
    third = await runner.run(assign(lambda: os.kill(os.getpid(), 9)), Heard())
    for outcome in (first, third):
        print(outcome.error.kind, outcome.error.message, outcome.usage["exit"], sep="|")
    print(second.outcome)
    await runner.close()
asyncio.run(main())
"""


@weaker_without("control groups")
async def test_a_job_that_the_kernel_killed_is_named_so_and_its_worker_lives(group: Path, tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(SCRIPT)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}

    worker = await asyncio.create_subprocess_exec(
        sys.executable, script, group / "cgroup.procs", env=env, stdout=subprocess.PIPE
    )
    said, _ = await asyncio.wait_for(worker.communicate(), 25)

    killed, other, second = said.decode().splitlines()
    assert killed.startswith("memory|the kernel killed the job's process because memory ran out")
    assert killed.endswith("|SIGKILL")
    assert other.startswith("crash|the job's process died: signal 9 (SIGKILL), ")
    assert second == "succeeded"
