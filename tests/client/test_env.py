"""`options(env={...})`: environment variables of a job's process."""

from __future__ import annotations

import os

import pytest
import redis

import jobkit
from jobkit.client.kit import Kit
from jobkit.model import InvalidParams
from jobkit.tasks.task import TaskDef
from tests.store.server import Server

PASSWORD = "s3cret-of-env"


def variable(name: str) -> str | None:
    return os.environ.get(name)


async def variable_and_process(name: str) -> tuple[str | None, int, str]:
    return os.environ.get(name), os.getpid(), os.environ.get("JOBKIT_JOB_ID", "")


def test_a_job_has_its_variables_and_the_next_one_has_not(kit: Kit) -> None:
    mine = kit.options(env={"GREETING": "hello", "OMP_NUM_THREADS": 4})

    assert mine.submit(os.getenv, "GREETING").result() == "hello"
    assert mine.options(env={"GREETING": "bye"}).map(os.getenv, ["GREETING", "OMP_NUM_THREADS"]).result() == [
        "bye",
        "4",
    ]
    assert kit.submit(os.getenv, "GREETING").result() is None
    assert "GREETING" not in os.environ


def test_a_coroutine_with_variables_runs_in_a_process(kit: Kit) -> None:
    found, pid, job_id = kit.options(env={"GREETING": "hello"}).submit(variable_and_process, "GREETING").result()

    assert found == "hello"
    if kit.settings.scheme != "sync":
        assert job_id
        assert pid not in [worker.pid for worker in kit.workers()]


def test_running_again_keeps_the_variables(kit: Kit) -> None:
    job = kit.options(env={"A": "1", "B": "2"}).submit(os.getenv, "A")

    assert job.result() == "1"
    assert job.retry().result() == "1"
    assert job.rerun(key="B").result() == "2"


def test_warm_processes_are_those_of_the_same_variables(queued: Kit) -> None:
    def pid() -> int:
        return os.getpid()

    def of(value: str) -> int:
        return queued.options(env={"A": value}, reuse=10).submit(pid).result()

    assert len({of("1"), of("2")}) == 2


def test_variables_count_as_an_argument_of_cached_work(kit: Kit) -> None:
    def once(value: str) -> str | None:
        return kit.options(env={"A": value}, cache="1h").submit(variable, "A").result()

    assert [once("1"), once("2"), once("1")] == ["1", "2", "1"]
    assert [bool(job.snapshot.cached_from) for job in kit.jobs(task="variable")] == [True, False, False]


def test_no_record_log_event_or_text_has_a_value(kit: Kit) -> None:
    job = kit.options(env={"DATABASE_URL": PASSWORD}).submit(len, "abc")
    assert job.result() == 3

    task = TaskDef(variable).options(env={"DATABASE_URL": PASSWORD})
    shown = [repr(task), repr(job), str(job.snapshot), *job.logs(), *map(str, job.events())]
    if kit.settings.scheme == "redis" or kit.settings.scheme == "unix":
        with redis.Redis.from_url(kit.settings.url) as client:
            shown.append(str(client.hgetall(f"jk:{kit.settings.namespace}:job:{job.id}")))
    assert not [text for text in shown if PASSWORD in text]
    assert "DATABASE_URL" in shown[0]


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ("A=1", "env must be at most 100 variables with their values"),
        ({"A B": "1"}, "env: 'A B' is no name of a variable"),
        ({"JOBKIT_URL": "x"}, "env: JOBKIT_URL is jobkit's own"),
        ({"A": f"{PASSWORD}\0"}, "env: A must be text of at most 32,000 characters, or a number"),
        ({"A": [PASSWORD]}, "env: A must be text"),
        ({f"A{n}": "1" for n in range(101)}, "env must be at most 100 variables"),
    ],
)
def test_wrong_variables_are_refused_without_their_values(kit: Kit, env: object, sentence: str) -> None:
    with pytest.raises(InvalidParams, match=sentence) as caught:
        kit.options(env=env)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("isolation", ["thread", "async"])
def test_a_shared_process_has_no_variables_of_a_job(kit: Kit, isolation: str) -> None:
    with pytest.raises(InvalidParams, match=f"env needs isolation='process', and .* runs as '{isolation}'"):
        kit.options(env={"A": "1"}, isolation=isolation).submit(variable_and_process, "A")


def test_a_task_has_no_variables() -> None:
    with pytest.raises(InvalidParams, match=r"'env' is an option of a submission, not of the task"):
        jobkit.task(env={"A": "1"})(variable)


def test_without_a_key_there_are_none(server: Server) -> None:
    with (
        jobkit.connect(server.url, namespace="t-env") as kit,
        pytest.raises(InvalidParams, match="env needs a signing key"),
    ):
        kit.options(env={"A": "1"}).submit(variable, "A")
