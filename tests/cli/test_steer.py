"""Pause, resume and move, from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import by_default

from .conftest import Terminal, wait_until


def job(terminal: Terminal, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(terminal.ok("show", job_id, "--json"))
    return found


def ended(terminal: Terminal, job_id: str) -> bool:
    return job(terminal, job_id)["state"] == "succeeded"


@pytest.fixture(autouse=True)
def resumed(terminal: Terminal) -> Iterator[None]:
    yield
    terminal.run("queues", "resume", "default")
    terminal.run("tasks", "resume", "count")


@pytest.mark.nightly
def test_a_paused_queue_is_shown_and_continues_when_it_is_resumed(terminal: Terminal) -> None:
    assert terminal.ok("queues", "pause", "default") == "default"

    job_id = terminal.ok("submit", "count", "n=1")
    listed = terminal.run("queues")
    [queue] = [q for q in json.loads(terminal.ok("queues", "--json")) if q["queue"] == "default"]

    assert job(terminal, job_id)["state"] == "queued"
    assert "queue default was paused" in listed.stderr
    assert "`jobkit queues resume default`" in listed.stderr
    assert (queue["queued"], queue["paused"]["at"][:2]) == (1, "20")
    assert "default is paused already" in terminal.run("queues", "pause", "default").stderr
    assert terminal.ok("queues", "resume", "default") == "default"
    wait_until(lambda: ended(terminal, job_id), what="the job")


@pytest.mark.nightly
def test_a_paused_task_does_not_block_others(terminal: Terminal) -> None:
    terminal.ok("tasks", "pause", "count")

    held = terminal.ok("submit", "count", "n=1")
    assert terminal.run("submit", "paint", "--wait").returncode == 0
    assert "default: 1 waits: task count is paused" in terminal.run("queues").stderr

    assert (job(terminal, held)["state"], job(terminal, held)["message"]) == ("queued", "task count is paused")
    assert terminal.ok("tasks", "resume", "count") == "count"
    wait_until(lambda: ended(terminal, held), what="the job")


@pytest.mark.nightly
def test_a_waiting_job_moves_to_another_queue(terminal: Terminal) -> None:
    job_id = terminal.ok("submit", "count", "n=1", "--queue", "nobody")

    assert terminal.ok("move", job_id[:6], "--queue", "default", "--priority", "3") == job_id

    wait_until(lambda: ended(terminal, job_id), what="the job")
    assert (job(terminal, job_id)["queue"], job(terminal, job_id)["priority"]) == ("default", 3)
    done = terminal.run("move", job_id, "--queue", "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"job {job_id} has already succeeded; only waiting jobs can be moved" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    by_default(
        [
            (("queues", "pause", "my queue"), "queue must be 1 to 200 characters"),
            (("move", "abcdef", "--queue", "gpu"), "no job 'abcdef' is kept here"),
            (("move", "abcdef"), "give --queue or --priority, or both"),
        ]
    ),
)
def test_bad_input_is_one_sentence_and_status_2(terminal: Terminal, arguments: tuple[str, ...], sentence: str) -> None:
    done = terminal.run(*arguments)

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert sentence in done.stderr


def test_resuming_an_unpaused_queue_and_pausing_an_unknown_one_is_reported(terminal: Terminal) -> None:
    done = terminal.run("queues", "resume", "default")
    assert (done.stdout, done.stderr) == ("", "default is not paused\n")

    done = terminal.run("queues", "pause", "nowhere")
    assert (done.returncode, done.stdout) == (0, "nowhere\n")
    assert "queue nowhere has not been used yet" in done.stderr
    terminal.ok("queues", "resume", "nowhere")
