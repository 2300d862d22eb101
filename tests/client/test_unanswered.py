"""Submits without a reply: the error names the jobs that may have been accepted; to repeat them with its id is safe."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

import jobkit
from jobkit.client.connection import Connection
from jobkit.client.kit import Kit
from jobkit.http.core.handling import problem_of
from jobkit.model import StoreUnavailable, SubmitUnanswered
from jobkit.store.sending import Sender
from jobkit.store.values import Submission, SubmitReply
from tests.store.server import Server, running_server
from tests.support import ROOT, environment
from tests.worker import jobs

from .conftest import own_kit, own_place, struck_kit

#: Each try is stored, and each reply is lost: of blocking code and of a coroutine.
LOST = ",".join(f"submit:before_reply:drop:{n}" for n in (1, 2, 3))
LOST_ASYNC = f"{LOST},submit:before_reply:drop:4"
#: The same for the second slice of a bulk submit.
SECOND_LOST = "submit:before_reply:drop:2,submit:before_reply:drop:3"

PROGRAM = "import sys; from tests import faults; faults.arm(sys.argv.pop(1)); from jobkit.cli import main; main()"


place = pytest.fixture(own_place, name="place")
kit = pytest.fixture(own_kit, name="kit")
struck = pytest.fixture(struck_kit, name="struck", params=[LOST])
own_server = pytest.fixture(running_server, name="own_server")


def submit(kit: Kit) -> None:
    kit.submit(jobs.count_up, 1)


def submit_async(kit: Kit) -> None:
    asyncio.run(kit.aio.submit(jobs.count_up, 1))  # type: ignore[arg-type]  # a coroutine


@pytest.mark.parametrize(("struck", "form"), [(LOST, submit), (LOST_ASYNC, submit_async)], indirect=["struck"])
def test_an_unanswered_submit_names_its_job_and_is_repeated_with_its_id(
    struck: Kit, kit: Kit, form: Callable[[Kit], None]
) -> None:
    with pytest.raises(jobkit.SubmitUnanswered) as caught:
        form(struck)
    error = caught.value

    assert isinstance(error, jobkit.StoreUnavailable)
    assert error.job_ids == (error.id,)
    assert f"Job {error.id} may have been accepted: kit.get('{error.id}') tells" in str(error)
    assert f"the same call with options(id='{error.id}') submits each job once" in str(error)
    assert kit.get(error.id).task == "count_up"
    assert struck.options(id=error.id).submit(jobs.count_up, 1).id == error.id
    assert [job.id for job in kit.jobs()] == [error.id]


def test_a_submit_with_a_key_is_repeated_with_its_key(struck: Kit, kit: Kit) -> None:
    with pytest.raises(jobkit.SubmitUnanswered, match="the same call with this key submits it once") as caught:
        struck.options(key="nightly").submit(jobs.count_up, 1)

    assert caught.value.id == ""
    assert caught.value.job_ids == (struck.options(key="nightly").submit(jobs.count_up, 1).id,)


@pytest.mark.parametrize("struck", [SECOND_LOST], indirect=True)
def test_an_unanswered_map_says_which_jobs_and_is_completed_with_its_id(struck: Kit, kit: Kit) -> None:
    with pytest.raises(
        jobkit.SubmitUnanswered, match="Of 500 jobs 200 were accepted, 200 more may have been"
    ) as caught:
        struck.map(jobs.count_up, range(500))
    error = caught.value
    stored = {job.id for job in kit.jobs(limit=2_000)}

    assert stored == set(error.job_ids)
    assert len(stored) == 400
    batch = struck.options(id=error.id).map(jobs.count_up, range(500))
    assert [job.id for job in batch.jobs][:400] == list(error.job_ids)
    assert kit.counts()["queued"] == 500


def test_an_unanswered_debounced_submit_does_not_ask_for_an_id(struck: Kit) -> None:
    with pytest.raises(jobkit.SubmitUnanswered, match="may have been accepted: kit.get") as caught:
        struck.options(debounce=60).submit(jobs.count_up, 1)

    assert caught.value.id == ""
    assert "options(id=" not in str(caught.value)


def test_jobs_of_a_refused_slice_do_not_count_as_perhaps_accepted(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    submit_many = Sender.submit_many

    async def submit_first(sender: Sender, submissions: Sequence[Submission], *part: Any) -> list[SubmitReply]:
        if submissions[0].spec.params["n"]:
            raise StoreUnavailable("Redis is full", only_reads=True)
        return await submit_many(sender, submissions, *part)

    monkeypatch.setattr(Sender, "submit_many", submit_first)
    with pytest.raises(jobkit.SubmitUnanswered, match="Of 300 jobs 200 were accepted [(]the first is") as caught:
        kit.map(jobs.count_up, range(300))

    assert {job.id for job in kit.jobs(limit=500)} == set(caught.value.job_ids)


@pytest.mark.parametrize("form", [submit, submit_async])
@pytest.mark.parametrize("struck", ["submit:before_reply:drop"], indirect=True)
def test_a_job_that_a_first_try_has_stored_is_named_if_it_cannot_be_read(
    struck: Kit, kit: Kit, form: Callable[[Kit], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object) -> None:
        raise StoreUnavailable("Redis does not answer")

    monkeypatch.setattr(Connection, "job", unreadable)
    with pytest.raises(jobkit.SubmitUnanswered) as caught:
        form(struck)

    assert [job.id for job in kit.jobs()] == list(caught.value.job_ids)


def test_an_unanswered_submit_can_be_pickled(struck: Kit) -> None:
    with pytest.raises(jobkit.SubmitUnanswered) as caught:
        struck.submit(jobs.count_up, 1)
    error = pickle.loads(pickle.dumps(caught.value))

    assert (str(error), error.job_ids, error.id) == (str(caught.value), caught.value.job_ids, caught.value.id)
    assert error.is_sent


@pytest.mark.parametrize("struck", [SECOND_LOST], indirect=True)
def test_an_unanswered_retry_of_many_names_the_new_jobs(struck: Kit, kit: Kit) -> None:
    job = struck.submit(jobs.count_up, 1)
    job.cancel()

    with pytest.raises(jobkit.SubmitUnanswered) as caught:
        struck.retry_many([job.id])

    assert [kit.get(job_id).snapshot.spec.retry_of for job_id in caught.value.job_ids] == [job.id]
    assert "options(id=" not in str(caught.value)


@pytest.mark.parametrize("is_connected", [False, True])
def test_a_submit_that_was_never_sent_is_not_called_accepted(own_server: Server, is_connected: bool) -> None:
    with jobkit.connect(own_server.url, secret="of these tests") as kit:
        if is_connected:
            kit.submit(jobs.count_up, 1)
        own_server.kill()
        with pytest.raises(jobkit.StoreUnavailable, match="does not answer") as caught:
            kit.submit(jobs.count_up, 1)
    assert type(caught.value) is jobkit.StoreUnavailable


@pytest.mark.parametrize("struck", ["submit:before_reply:delay=5"], indirect=True)
def test_a_cancelled_submit_names_its_job(struck: Kit, kit: Kit) -> None:
    async def main() -> None:
        async with asyncio.timeout(0.3):
            await struck.aio.submit(jobs.count_up, 1)

    with pytest.raises(TimeoutError) as caught:
        asyncio.run(main())

    [job] = kit.jobs()
    assert caught.value.__context__ is not None
    assert caught.value.__context__.__notes__[0].startswith(f"Job {job.id} may have been accepted")


def test_an_interrupted_submit_names_its_job(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    send = Connection.send

    def interrupted(*args: object) -> None:
        send(*args)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(Connection, "send", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kit.submit(jobs.count_up, 1)

    [job] = kit.jobs()
    assert capsys.readouterr().err.startswith(f"Interrupted. Job {job.id} may have been accepted: kit.get('{job.id}')")


def test_an_id_names_one_job(kit: Kit) -> None:
    given = uuid.uuid4().hex
    first = kit.options(id=given).submit(jobs.count_up, 1)

    assert first.id == given
    with pytest.raises(jobkit.InvalidParams, match="is that of a job of another task"):
        kit.options(id=given).submit(len, "abc")
    with pytest.raises(jobkit.InvalidParams, match="id must be 16 to 32 hexadecimal digits"):
        kit.options(id="nightly")
    with pytest.raises(jobkit.InvalidParams, match="key and id exclude each other"):
        kit.options(id=given, key="nightly").submit(jobs.count_up, 1)


def test_the_command_line_prints_the_id_of_an_unanswered_submit(
    place: dict[str, str], kit: Kit, tmp_path: Path
) -> None:
    (tmp_path / "late.py").write_text("import jobkit\n@jobkit.task(debounce=60)\ndef late() -> None: ...\n")
    names = {f"JOBKIT_{name.upper()}": value for name, value in place.items()}
    names |= {"JOBKIT_TASKS": "tests.worker.jobs,late", "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}

    def run(fault: str, *more: str, task: Sequence[str] = ("count_up", "n=1")) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PROGRAM, fault, "submit", *task, *more]
        return subprocess.run(command, env=environment(**names), capture_output=True, text=True, check=False)

    first = run(LOST)
    [job] = kit.jobs()
    second = run("", "--id", job.id)
    debounced = run(LOST, task=["late"])

    assert (first.returncode, first.stdout) == (1, f"{job.id}\n")
    assert f"Job {job.id} may have been accepted: `jobkit show {job.id}` tells" in first.stderr
    assert f"the same command with --id {job.id} submits it once" in first.stderr
    assert (second.returncode, second.stdout) == (0, f"{job.id}\n")
    assert len(kit.jobs()) == 2
    assert debounced.stderr.rstrip().endswith("tells")


def test_http_answers_with_the_id(struck: Kit) -> None:
    with pytest.raises(SubmitUnanswered) as caught:
        struck.submit(jobs.count_up, 1)
    response = problem_of(caught.value).response()
    body = httpx.Response(200, content=response.body).json()

    assert (response.status, body["id"]) == (503, caught.value.id)
    assert f'GET /api/jobs/{body["id"]} tells; the same request with this "id" submits it once' in body["message"]
    assert str(struck.settings.url) not in body["message"]
