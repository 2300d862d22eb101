"""Submitting, looking and acting from the command line."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from datetime import datetime
from types import SimpleNamespace

import click
import pytest
from msgspec.structs import replace

from jobkit.cli import follow, jobs
from jobkit.model import JobSnapshot, JobSpec, JobState, LogLine
from jobkit.settings import Settings
from jobkit.store.values import WorkerInfo
from tests.support import by_default

from .conftest import Terminal, wait_until


def state_of(terminal: Terminal, job_id: str) -> str:
    return str(json.loads(terminal.ok("show", job_id, "--json"))["state"])


def test_a_running_job_whose_worker_is_silent_is_stalled() -> None:
    workers = [WorkerInfo("w1", beat_age_s=7.0), WorkerInfo("w2", beat_age_s=8.0)]
    kit = SimpleNamespace(settings=Settings(lease=15.0), workers=lambda: workers)
    seen = jobs._seen(kit)  # type: ignore[arg-type]

    def shown(state: JobState, worker: str) -> str:
        job = JobSnapshot(JobSpec("a", "task"), 1, state, worker=worker)
        return click.unstyle(jobs.state_of(job, worker in seen)).split()[-1]

    assert [shown(JobState.RUNNING, worker) for worker in ("w1", "w2", "w3")] == ["running", "stalled", "stalled"]
    assert shown(JobState.QUEUED, "") == "queued"


def test_a_success_whose_result_was_not_kept_has_no_tick() -> None:
    job = JobSnapshot(JobSpec("a", "task"), 2, JobState.SUCCEEDED, summary="(not kept) bytes of 3,000,000")

    assert click.unstyle(jobs.state_of(job, True)) == "! succeeded (not kept)"


def test_submit_prints_the_id_alone(terminal: Terminal) -> None:
    done = terminal.run("submit", "count", "n=2")

    assert done.returncode == 0
    assert re.fullmatch(r"[0-9a-f]{16}\n", done.stdout)
    assert done.stderr == ""


def test_wait_shows_log_and_result_and_ends_with_0(terminal: Terminal) -> None:
    done = terminal.run("submit", "count", "n=3", "--wait")

    job_id, *log, result = done.stdout.splitlines()
    assert done.returncode == 0
    assert len(job_id) == 16
    assert log == ["line 0", "line 1", "line 2"]
    assert result == "6"


def test_wait_for_a_failure_shows_the_users_traceback_and_ends_with_1(terminal: Terminal) -> None:
    done = terminal.run("submit", "fail", "text=broken pipe dream", "--wait")

    assert done.returncode == 1
    assert "ValueError: broken pipe dream" in done.stderr
    assert "cli_tasks.py:" in done.stderr
    assert "---> 60      raise ValueError(text)" in done.stderr


def test_show_tells_what_made_a_job(terminal: Terminal) -> None:
    job_id = terminal.ok("submit", "count", "n=1").strip()

    shown = terminal.ok("show", job_id, "--made-by")
    told = json.loads(terminal.ok("show", job_id, "--made-by", "--json"))

    assert f"Python {sys.version.split()[0]}" in shown
    assert told["submitted_from"]["packages"]["msgspec"]


def test_wait_for_a_cancelled_job_ends_with_3(terminal: Terminal) -> None:
    with terminal.start("submit", "count", "n=500", "pause=0.1", "--wait") as waiting:
        assert waiting.stdout is not None
        job_id = waiting.stdout.readline().strip()
        wait_until(lambda: state_of(terminal, job_id) == "running")
        assert terminal.ok("cancel", job_id[:6]).startswith(job_id)
        waiting.communicate(timeout=60)

    assert waiting.returncode == 3
    assert state_of(terminal, job_id) == "cancelled"


def test_a_job_stops_at_a_checkpoint_and_a_new_one_goes_on_from_there(terminal: Terminal) -> None:
    old = terminal.ok("submit", "keep_on").strip()
    wait_until(lambda: json.loads(terminal.ok("show", old, "--json"))["saved"])

    assert terminal.ok("cancel", "--checkpoint", old).startswith(f"{old} cancel")  # it may have ended by then
    wait_until(lambda: state_of(terminal, old) == "cancelled")
    new = terminal.ok("retry", "--from-checkpoint", old)

    wait_until(lambda: state_of(terminal, new) == "succeeded")
    shown = json.loads(terminal.ok("show", new, "--json"))
    assert shown["retry_of"] == old
    assert re.fullmatch(r"resumed at step \d+", shown["resumed"])
    unkept = terminal.ok("submit", "count", "n=1", "--wait").splitlines()[0]
    assert "has no checkpoint" in terminal.run("retry", "--from-checkpoint", unkept).stderr


def test_ctrl_c_stops_the_waiting_and_not_the_job(terminal: Terminal) -> None:
    with terminal.start("submit", "count", "n=500", "pause=0.1", "--wait") as waiting:
        assert waiting.stdout is not None
        job_id = waiting.stdout.readline().strip()
        assert waiting.stdout.readline() == "line 0\n"
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=60)

    assert waiting.returncode == 130
    assert f"Follow it with: jobkit watch {job_id}" in err
    assert "Traceback" not in err
    assert state_of(terminal, job_id) == "running"
    terminal.ok("cancel", job_id)


def test_watch_prints_the_whole_log_of_an_ended_job(terminal: Terminal) -> None:
    job_id = terminal.ok("submit", "count", "n=2")

    done = terminal.run("watch", job_id)

    assert done.returncode == 0
    assert done.stdout == "line 0\nline 1\n4\n"


def test_following_a_queued_job_says_why_it_waits_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queued = JobSnapshot(JobSpec("a", "count"), 1, JobState.QUEUED)
    steps: list[tuple[JobSnapshot, list[LogLine]]] = [(queued, [])] * 4
    steps.append((replace(queued, state=JobState.CANCELLED), []))
    reasons = iter(["all busy; 2 jobs ahead", "all busy; 1 job ahead", "no worker serves queue gpu"])
    kit = SimpleNamespace(waits_for=lambda _: next(reasons))
    monkeypatch.setattr(follow, "steps", lambda *_: iter(steps))

    follow.follow(kit, "a")  # type: ignore[arg-type]

    said = capsys.readouterr().err
    assert "queued: all busy; 2 jobs ahead\nqueued: no worker serves queue gpu\n" in said


def test_logs_can_be_followed_to_the_end_without_gaps(terminal: Terminal) -> None:
    job_id = terminal.ok("submit", "count", "n=100", "pause=0.01")

    followed = terminal.ok("logs", job_id, "-f")

    assert followed.splitlines() == [f"line {i}" for i in range(100)]
    assert terminal.ok("logs", job_id, "--tail", "2").splitlines() == ["line 98", "line 99"]
    lines = [json.loads(line) for line in terminal.ok("logs", job_id, "--json").splitlines()]
    assert [line["n"] for line in lines] == list(range(1, 101))


def test_a_terminal_gets_a_moving_bar(terminal: Terminal) -> None:
    ours, theirs = pty.openpty()
    file = terminal.folder / "bar-was-seen"
    process = subprocess.Popen(
        [sys.executable, "-m", "jobkit", "submit", "count_until", f"path={file}", "--wait"],
        cwd=terminal.folder,
        env=terminal.env(TERM="xterm-256color", COLUMNS="120"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 65536):
            seen += chunk
            if "━".encode() in seen and b"/ 20" in seen:
                file.touch()
    except OSError:  # a pty reports a closed other side like this
        pass
    os.close(ours)

    text = seen.decode()
    assert process.wait(timeout=60) == 0
    n = int(text.rstrip().rpartition("\n")[2])
    assert n > 0
    for i in range(n):
        assert f"line {i}\r\n" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    by_default(
        [
            (("count", "n=0"), "n must be a whole number from 1 to 1000, not 0"),
            (("count", "n=many"), "n must be a whole number from 1 to 1000, not 'many'"),
            (("count", "m=1"), "unexpected argument 'm'"),
            (("count", "7"), "arguments are written name=value, not '7'"),
            (("cuont",), "there is no task 'cuont' (did you mean 'count'?)"),
            (("count", "--priority", "5000"), "priority"),
        ],
        2,
    ),
)
def test_bad_input_is_one_sentence_and_status_2(terminal: Terminal, arguments: tuple[str, ...], sentence: str) -> None:
    done = terminal.run("submit", *arguments)

    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_json_has_the_names_of_the_contract_and_utc(terminal: Terminal) -> None:
    job_id = terminal.ok("submit", "count", "n=1", "--tag", "demo", "--wait").splitlines()[0]

    shown = json.loads(terminal.ok("show", job_id, "--json"))

    assert shown["id"] == job_id
    assert shown["params"]["n"] == 1
    assert (shown["state"], shown["progress"], shown["tags"]) == ("succeeded", 1.0, ["demo"])
    assert shown["error"] is None
    assert shown["preview"]["json"] == 2
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["succeeded"]
    for name in ("submitted_at", "started_at", "finished_at"):
        assert shown[name].endswith("Z")
        assert datetime.fromisoformat(shown[name]).tzinfo is not None
    found = json.loads(terminal.ok("jobs", "--json", "--search", job_id))
    assert [job["id"] for job in found] == [job_id]
    for command in ("tasks", "queues", "workers", "jobs"):
        assert isinstance(json.loads(terminal.ok(command, "--json")), list), command


def test_jobs_can_be_filtered(terminal: Terminal) -> None:
    failed = terminal.run("submit", "fail", "text=needle", "--wait").stdout.split()[0]

    assert failed[:8] in terminal.ok("jobs", "--state", "failed", "--task", "fail", "--search", "needle")
    assert failed[:8] not in terminal.ok("jobs", "--state", "succeeded")
    assert terminal.run("jobs", "--search", "nothing-has-this").stdout == ""
    assert failed[:8] in terminal.ok("jobs", "state:failed since:yesterday task:fail needle")
    assert failed[:8] not in terminal.ok("jobs", "state:succeeded since:yesterday")
    assert "No job has the task fial; did you mean fail?" in terminal.run("jobs", "task:fial").stderr
    refused = terminal.run("jobs", "sate:failed")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "there is no field sate; did you mean state:failed?" in refused.stderr


@pytest.mark.nightly
def test_retry_gives_a_new_job_that_names_the_old_one(terminal: Terminal) -> None:
    old = terminal.run("submit", "fail", "text=again", "--wait").stdout.split()[0]

    new = terminal.ok("retry", old)

    assert json.loads(terminal.ok("show", new, "--json"))["retry_of"] == old
    terminal.run("watch", new)
    again = terminal.ok("retry", "--failed", "--task", "fail").splitlines()
    retried = [json.loads(terminal.ok("show", job_id, "--json"))["retry_of"] for job_id in again]
    assert new in retried
    assert old not in retried
    for job_id in again:
        assert terminal.run("watch", job_id).returncode == 1


@pytest.mark.nightly
def test_rm_deletes_only_ended_jobs(terminal: Terminal) -> None:
    ended = terminal.ok("submit", "count", "n=1", "--wait").splitlines()[0]
    waiting = terminal.ok("submit", "count", "n=1", "--delay", "600")

    done = terminal.run("rm", ended, waiting)

    assert done.returncode == 1
    assert done.stdout.split() == [ended]
    assert f"job {waiting} is scheduled; only ended jobs can be deleted" in done.stderr
    gone = terminal.run("show", ended)
    assert gone.returncode == 2
    assert "no job" in gone.stderr
    assert terminal.ok("cancel", waiting) == f"{waiting} cancelled"
    assert terminal.run("cancel", waiting).returncode == 1
    assert terminal.ok("prune").endswith("jobs deleted")


def test_an_id_may_be_short_but_not_ambiguous(terminal: Terminal) -> None:
    job_id = terminal.ok("submit", "count", "n=1")

    assert job_id in terminal.ok("show", job_id[:8])
    short = terminal.run("show", job_id[:3])
    assert short.returncode == 2
    assert "at least 4 characters" in short.stderr


def test_no_output_of_a_job_controls_the_terminal(terminal: Terminal) -> None:
    done = terminal.run("submit", "paint", "--wait")
    job_id = done.stdout.split()[0]

    shown = done.stdout + terminal.ok("logs", job_id) + terminal.ok("show", job_id) + terminal.ok("jobs")

    assert "red" in shown
    assert not set(shown) & {chr(c) for c in (*range(32), *range(127, 160))} - {"\n"}


def test_an_unknown_command_names_the_close_one(terminal: Terminal) -> None:
    done = terminal.run("sumbit", "count")

    assert done.returncode == 2
    assert done.stderr == "jobkit: there is no command 'sumbit'; did you mean 'submit'?\n"


def test_an_unreachable_server_is_named_without_its_password(terminal: Terminal) -> None:
    done = terminal.run("--url", "redis://me:hunter2@127.0.0.1:1/0", "jobs")

    assert done.returncode == 1
    assert "redis://me:***@127.0.0.1:1/0" in done.stderr
    assert "hunter2" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_sync_runs_the_job_in_the_process(terminal: Terminal) -> None:
    done = terminal.run("--url", "sync://", "submit", "count", "n=2", "--wait")

    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "4"


@pytest.mark.parametrize("option", ["--json", "--tag=a"])
def test_what_a_sync_job_prints_goes_to_stderr(terminal: Terminal, option: str) -> None:
    done = terminal.run("--url", "sync://", "submit", "count", "n=2", option)

    told = json.loads(done.stdout)["id"] if option == "--json" else done.stdout.strip()
    assert re.fullmatch(r"[0-9a-f]{16}", told)
    assert done.stderr.startswith("line 0\nline 1\n")


def test_a_secret_for_a_shared_redis_does_not_affect_the_embedded_server(terminal: Terminal) -> None:
    done = terminal.run("submit", "count", "n=1", "--wait", JOBKIT_SECRET="for the team")

    assert done.returncode == 0, done.stderr


def test_watch_as_json_prints_every_event(terminal: Terminal) -> None:
    file = terminal.folder / "enough"
    job_id = terminal.ok("submit", "count_until", f"path={file}")
    events = []
    with terminal.start("watch", job_id, "--json") as process:
        assert process.stdout is not None
        for line in process.stdout:
            events.append(json.loads(line))
            if events[-1]["type"] == "progressed":
                file.touch()

    assert process.returncode == 0
    numbered = [event for event in events if event["type"] not in ("progressed", "logged")]
    assert [event["type"] for event in numbered] == ["submitted", "started", "succeeded"]
    assert [event["seq"] for event in numbered] == [1, 2, 3]
    assert any(event["type"] == "progressed" for event in events)


@pytest.mark.nightly
def test_all_prints_a_long_log_from_its_file_and_a_short_one_from_the_store(terminal: Terminal) -> None:
    long_id = terminal.ok("submit", "count", "n=1000")
    short_id = terminal.ok("submit", "count", "n=2")
    for job_id in (long_id, short_id):
        terminal.ok("watch", job_id)

    assert terminal.ok("logs", long_id, "--all").splitlines() == [f"line {n}" for n in range(1000)]
    assert terminal.ok("logs", short_id, "-a").splitlines() == ["line 0", "line 1"]
    assert list((terminal.home / "results").rglob("log"))

    found = terminal.ok("logs", long_id, "--grep", "LINE 50").splitlines()  # 50, and 500 to 509, from the middle
    assert found == ["line 50", *[f"line {n}" for n in range(500, 510)]]
    assert terminal.ok("logs", long_id, "--level", "error") == ""

    refused = terminal.run("logs", long_id, "--all", "--tail", "2")
    assert refused.returncode == 2
    assert "cannot be used with --follow, --tail or --json" in refused.stderr

    terminal.ok("rm", long_id)
