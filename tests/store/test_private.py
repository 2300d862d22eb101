"""Private server of `sync://`: one for each process, ended with it in every case, not inherited by forked children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

import jobkit
from jobkit.model import JobkitError, StoreUnavailable
from jobkit.store import private
from jobkit.store.private import PrivateServer
from tests.support import environment, wait_until


def pids_of(folder: Path) -> list[str]:
    """Return the process ids of the watching shell and the server."""
    found = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in found if f"{folder}/" in line and "ps -eo" not in line]


PROGRAM = """
import os, signal, sys
from jobkit.store import private
print(private.server.url().removeprefix("unix://"), flush=True)
{end}
"""


@pytest.mark.parametrize(
    "end", ["", "os._exit(3)", "raise SystemExit(1)", "os.kill(os.getpid(), signal.SIGKILL)", "1 / 0"], ids=repr
)
def test_the_server_ends_with_its_process_in_every_case(end: str) -> None:
    code = PROGRAM.format(end=end)
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    folder = Path(done.stdout.strip()).parent

    assert folder.name.startswith("jobkit-sync-"), done.stderr
    wait_until(lambda: not pids_of(folder) and not folder.exists(), what="the end of the server and its folder")


def test_a_program_that_closes_no_kit_ends_without_a_warning() -> None:
    code = "import jobkit; print(jobkit.connect('sync://').submit(len, 'abc').result())"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("3\n", "")


def test_a_forked_child_gets_its_own_server_and_does_not_end_the_parents() -> None:
    code = PROGRAM.format(
        end="""
mine = private.server.url()
child = os.fork()
if child == 0:
    other = private.server.url()
    print(other.removeprefix("unix://"), flush=True)
    private.server.stop()
    os._exit(0 if other != mine else 1)
assert os.waitpid(child, 0)[1] == 0
import redis
assert redis.Redis.from_url(mine).ping()
# a child that lives on does not keep the server alive
if os.fork() == 0:
    os.close(1), os.close(2)
    sys.stdin.read()
    os._exit(0)
"""
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first, second = process.stdout.read().split()
        assert process.wait(30) == 0
        assert first != second
        for path in (first, second):
            folder = Path(path).parent
            wait_until(lambda folder=folder: not pids_of(folder), what="the end of the server")  # type: ignore[misc]


def test_kits_of_one_namespace_share_their_jobs_until_the_last_is_closed() -> None:
    with jobkit.connect("sync://", namespace="team") as kit:
        job = kit.submit(len, "abc")
        with jobkit.connect("sync://", namespace="team") as same, jobkit.connect("sync://") as other:
            assert same.get(job.id).result() == 3
            assert other.jobs() == []
            prefix = same.verbs.store.prefix
        assert kit.get(job.id).state == "succeeded"
    with redis.Redis.from_url(private.server.url()) as client:
        assert client.keys(f"{prefix}*") == []
    with jobkit.connect("sync://", namespace="team") as again:
        assert again.jobs() == []


def test_a_job_that_was_paused_runs_when_another_kit_resumes_its_queue() -> None:
    with jobkit.connect("sync://") as kit, jobkit.connect("sync://") as other:
        kit.queues.pause("default")
        job = kit.submit(len, "abc")
        assert job.state == "queued"

        other.queues.resume("default")

        assert job.result(60) == 3


def test_a_server_that_died_is_replaced_for_the_next_kit(monkeypatch: pytest.MonkeyPatch) -> None:
    made = PrivateServer()
    monkeypatch.setattr(private, "server", made)
    with redis.Redis.from_url(made.url()) as client:
        pid = client.info("server")["process_id"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not private._is_listening(made._socket), what="its end")
    with jobkit.connect("sync://") as kit:
        assert kit.submit(len, "abc").result() == 3
    made.stop()


def test_without_a_server_program_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise JobkitError("no redis-server on PATH: install one")

    monkeypatch.setattr(private, "find_server", none)
    with pytest.raises(StoreUnavailable, match=r"^sync:// keeps its records in a private server: no redis-server"):
        PrivateServer().url()
