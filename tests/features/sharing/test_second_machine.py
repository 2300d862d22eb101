"""A second machine joins the first by one line, and runs its jobs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jobkit
from jobkit.features.sharing import hosting
from jobkit.settings import Settings
from tests.features.sharing.conftest import environ_of, member_of, run, running


def home_here() -> str:
    return os.environ["JOBKIT_HOME"]


def test_the_line_that_share_prints_makes_another_machine_run_jobs(shared: Settings, other: Path) -> None:
    line = run("share", home=shared.home).stdout.split()
    assert line[:2] == ["jobkit", "join"]
    assert len(line) == 3
    with running(*line[1:], "-q", "far", "-c", "2", home=other) as worker, jobkit.connect(home=shared.home) as kit:
        job = kit.options(queue="far").submit(lambda: __import__("os").environ["JOBKIT_HOME"])
        assert job.result(60) == str(other)
        assert line[2] not in "".join(_command_line(worker.pid)), "the word must not stay in the list of processes"


_PROGRAM = """
import sys
import jobkit, helper

def local(n):
    return helper.double(n) + 1

with jobkit.connect(home=sys.argv[1]) as kit:
    print(kit.options(queue="far").submit(local, 4).id)
"""


def test_modules_beside_a_program_travel_to_the_other_machine(shared: Settings, other: Path, tmp_path: Path) -> None:
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "helper.py").write_text("def double(n):\n    return 2 * n\n")
    (folder / "program.py").write_text(_PROGRAM)
    command = [sys.executable, "program.py", str(shared.home)]
    made = subprocess.run(command, cwd=folder, env=environ_of(Path(shared.home)), capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    shutil.rmtree(folder)  # the other machine never had it
    place = member_of(shared, other)

    with running("join", place.name, "-q", "far", home=other), jobkit.connect(home=shared.home) as kit:
        assert kit.get(made.stdout.strip()).result(60) == 9


def test_a_script_on_a_joined_machine_uses_the_shared_one(shared: Settings, other: Path) -> None:
    place = member_of(shared, other)
    with jobkit.connect(place.url, home=other) as kit:
        assert kit.submit(lambda: __import__("os").environ["JOBKIT_HOME"]).result(60) == str(shared.home)
        assert f"url='{place.url}'" in repr(kit.settings)
        assert place.password not in repr(kit.settings)
    shown = run("jobs", home=other, JOBKIT_URL=place.url)
    assert "succeeded" in shown.stdout, shown.stderr


def test_workers_of_a_pool_need_no_home_of_theirs_to_reach_a_shared_one(shared: Settings, other: Path) -> None:
    first = hosting.environment_for(replace(shared, namespace="lab"), "pool-gpu")
    environ = hosting.environment_for(shared, "pool-gpu")
    assert hosting.environment_for(replace(shared, namespace="lab"), "pool-gpu") == first != environ
    assert hosting.environment_for(shared, "pool-gpu") == environ
    with running("worker", "-q", "pool", home=other, **environ), jobkit.connect(home=shared.home) as kit:
        assert kit.options(queue="pool").submit(len, "abc").result(60) == 3


def test_workers_of_pools_of_each_namespace_share_a_membership_that_can_be_ended(shared: Settings) -> None:
    second = replace(shared, namespace="second")
    first, other = (hosting.environment_for(each, "pools-of") for each in (shared, second))
    assert [hosting.environment_for(each, "pools-of") for each in (shared, second)] == [first, other]

    hosting.end_environment(shared, "pools-of")

    assert hosting.environment_for(second, "pools-of") == other
    assert hosting.environment_for(shared, "pools-of") != first
    for each in (shared, second):
        hosting.end_environment(each, "pools-of")
        hosting.end_environment(each, "pools-of")  # nothing is left


def test_a_revoked_machine_is_cut_off_and_refused(shared: Settings, other: Path) -> None:
    place = member_of(shared, other)
    with jobkit.connect(place.url, home=other) as kit:
        assert kit.stats() is not None
    names = [line.split()[0] for line in run("share", "--list", home=shared.home).stdout.splitlines()[1:]]
    revoked = run("share", "--revoke", names[-1], home=shared.home)
    assert revoked.returncode == 0
    assert names[-1] in revoked.stderr
    refused = run("jobs", home=other, JOBKIT_URL=place.url)
    assert refused.returncode == 1
    assert "revoked" in refused.stderr


def _command_line(pid: int) -> list[str]:
    return subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True).stdout.split()
