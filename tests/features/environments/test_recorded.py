"""`job.rerun(env="recorded")`: which packages are asked for, and which jobs are refused. With a worker:
`test_build.py`."""

from __future__ import annotations

from typing import Any

import pytest

import jobkit
from jobkit.features.environments.recorded import PYTHON, REQUIREMENTS, recorded_packages
from jobkit.features.provenance.made_by import GitFacts, MadeBy, Origin, ProcessFacts
from jobkit.features.shipping.pack import files_of
from jobkit.model import JobSnapshot, JobSpec, JobState


def job(**usage: Any) -> JobSnapshot:
    return JobSnapshot(JobSpec("0123456789abcdef", "train"), 3, state=JobState.SUCCEEDED, usage=usage)


def origin(packages: dict[str, str], local: tuple[str, ...] | None = (), **facts: Any) -> Origin:
    return Origin(ProcessFacts(**{"python": "3.11.7", **facts}, local=local), packages)


def asked(made: MadeBy, of: JobSnapshot | None = None, module: str = "") -> tuple[list[str], str]:
    files = files_of(recorded_packages(made, of or job(), module))
    return files[REQUIREMENTS].decode().splitlines(), files[PYTHON].decode()


def test_versions_and_the_minor_version_of_python_are_asked_for() -> None:
    made = MadeBy(
        ran_on=origin({"torch": "2.1.0+cu121", "numpy": "2.4.1", "panel-jobkit": "0.1.0", "old": "1!2.0.post1"})
    )

    assert asked(made) == (["numpy==2.4.1", "old==1!2.0.post1", "torch==2.1.0+cu121"], "3.11")


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("--index-url", "1.0"),
        ("-r/etc/passwd", "1.0"),
        ("evil @ https://example.org/evil.whl", "1.0"),
        ("evil[extra]", "1.0"),
        ("evil", "1.0 --index-url https://example.org"),
        ("evil", "1.0\nother==1"),
        ("evil", "1.0; os_name"),
        ("evil", ""),
        ("", "1.0"),
        ("é", "1.0"),
    ],
)
def test_nothing_but_a_name_and_a_version_is_asked_for(name: str, version: str) -> None:
    lines, _ = asked(MadeBy(ran_on=origin({name: version, "numpy": "2.4.1"})))

    assert [line for line in lines if not line.startswith("# ")] == ["numpy==2.4.1"]
    assert lines[0].startswith("# left out, since name or version is not that of a package: ")


def test_packages_of_no_index_and_code_of_today_are_named() -> None:
    git = GitFacts(root="/x", commit="3f2a91c7" * 5)
    made = MadeBy(None, origin({}, git=git), origin({"mine": "0.1", "numpy": "2.4.1"}, local=("mine",)))

    assert asked(made, module="train.steps")[0] == [
        "# not as recorded, but as the worker has them, since no index has them: mine (installed from files or a "
        "repository)",
        "# the code of train is that of today (the result was made at 3f2a91c7)",
        "numpy==2.4.1",
    ]
    assert asked(made, module="math")[0][1:] == asked(made, module="numpy.linalg")[0][1:] == ["numpy==2.4.1"]


def test_a_local_worker_has_run_the_job_in_the_environment_of_its_submitter() -> None:
    made = MadeBy(None, origin({"numpy": "1.0"}, prefix="/venv"), origin({"numpy": "2.0"}, prefix="/other"))

    assert asked(made, job(python="3.11.7 (/venv)"))[0] == ["numpy==1.0"]
    assert asked(made, job(python="3.11.7 (/other)"))[0] == asked(made)[0] == ["numpy==2.0"]


@pytest.mark.parametrize("ran_on", [None, origin({}), origin({"numpy": "2.4.1"}, local=None)])
def test_packages_that_are_not_known_are_said_to_be(ran_on: Origin | None) -> None:
    with pytest.raises(jobkit.JobkitError, match="the packages that made job 0123456789abcdef are not known"):
        recorded_packages(MadeBy(ran_on=ran_on), job())


@jobkit.task(name="recorded-env")
def deploy(env: str = "staging") -> str:
    return env


def test_only_a_rerun_on_a_worker_can_have_a_recorded_environment() -> None:
    with jobkit.connect("sync://") as kit:
        job = kit.submit(len, "abc")
        with pytest.raises(jobkit.InvalidParams, match="needs a worker, and a sync:// kit runs jobs in this process"):
            job.rerun(env="recorded")
        with pytest.raises(jobkit.InvalidParams, match="is 'recorded', or left out"):
            job.rerun(env="project")
        with pytest.raises(jobkit.InvalidParams, match=r"is for a job that has run: write job.rerun\(env='recorded'\)"):
            kit.options(env="recorded")
        of_task = kit.submit(deploy)
        assert of_task.rerun(env="recorded").result() == "recorded"
        assert of_task.rerun(env="prod").result() == "prod"
