"""`jobkit audit`: the audit trail at the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from click.testing import CliRunner

import jobkit
from jobkit.cli import main
from jobkit.client.loop import background
from jobkit.connecting import default_kit
from jobkit.model.person import AuditEntry
from tests.store.server import Server
from tests.support import by_default, keep_from_writing_audit


@pytest.fixture
def kit() -> Iterator[jobkit.Kit]:
    """Kit on a separate server, for commands in this process."""
    with Server() as server, jobkit.connect(server.url, secret="of these tests") as made, default_kit(made):
        yield made


def cli(*arguments: str) -> Any:
    return CliRunner().invoke(main, list(arguments))


def told(*options: str) -> list[dict[str, Any]]:
    done = cli("audit", "--json", *options)
    assert done.exit_code == 0, done.output
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_changes_of_schedules_and_limits_are_in_the_audit_trail(kit: jobkit.Kit) -> None:
    assert cli("schedule", "count_words", "--every", "3600", "--name", "hourly").exit_code == 0
    for command in ("pause", "resume", "run", "remove"):
        assert cli("schedules", command, "hourly").exit_code == 0
    for command in (["set", "--concurrency", "2"], ["remove"]):
        assert cli("limits", *command, "--queue", "gpu").exit_code == 0

    assert [(entry["action"], entry["targets"]) for entry in reversed(told())] == [
        ("add_schedule", ["count_words"]),
        ("pause_schedule", ["hourly"]),
        ("resume_schedule", ["hourly"]),
        ("run_schedule", ["hourly"]),
        ("remove_schedule", ["hourly"]),
        ("limit_queue", ["gpu"]),
        ("unlimit_queue", ["gpu"]),
    ]


def test_the_audit_trail_is_filtered_and_listed_newest_first(kit: jobkit.Kit) -> None:
    empty = cli("audit")
    assert (empty.exit_code, empty.stdout, empty.stderr.strip()) == (0, "", "No actions yet.")
    assert told() == []
    job = kit.submit(len, "abc").id
    for who, action, note in (("ada", "cancel", "done"), ("bob", "cancel", "\x1b[2Jno"), ("bob", "retry", "done")):
        background.call(kit.verbs.trail.note(AuditEntry.of(who, "own", "page", action, "job", [job], "done", note)))
    assert cli("cancel", job).exit_code == 0

    assert [(each["action"], each["via"]) for each in told()] == [
        ("cancel", "cli"), ("retry", "page"), ("cancel", "page"), ("cancel", "page")
    ]  # fmt: skip
    assert [each["action"] for each in told("--who", "bob")] == ["retry", "cancel"]
    assert [each["who"] for each in told("--action", "cancel", "--who", "ada")] == ["ada"]
    assert [each["action"] for each in told("-n", "1")] == ["cancel"]
    assert cli("prune", "--keep", "0").stdout == "1 jobs deleted\n"
    assert [(each["action"], each["count"]) for each in told("-n", "1")] == [("prune", 1)]
    assert told("--who", "b*") == []
    table = cli("audit", "--who", "bob").stdout
    assert [word for word in ("WHEN", "bob", "retry", f"job {job[:8]}", "succeeded") if word not in table] == []
    assert "\x1b" not in table


def test_repeated_failures_are_one_line_with_a_count(kit: jobkit.Kit) -> None:
    for n in range(1200):
        background.call(
            kit.verbs.trail.note(AuditEntry.of("eve", "own", "http", "cancel", "job", [f"job{n}"], "failed", "no"))
        )

    (entry,) = told()
    assert (entry["times"], entry["count"], entry["since"] <= entry["at"]) == (1200, 1200, True)
    assert [word for word in ("1,200 jobs", "failed 1,200 times") if word not in cli("audit").stdout] == []


@pytest.mark.parametrize("options", by_default([["-n", "0"], ["-n", "many"], ["--since", "today"], ["bob"]]))
def test_the_audit_trail_refuses_unknown_filters(options: list[str]) -> None:
    done = cli("audit", *options)

    assert done.exit_code == 2
    assert "Traceback" not in done.output


def test_a_failure_to_write_the_audit_trail_is_reported(kit: jobkit.Kit) -> None:
    job = kit.submit(len, "abc")
    with redis.Redis.from_url(kit.settings.url) as client:
        keep_from_writing_audit(client)

    done = cli("cancel", job.id)

    assert done.exit_code == 0
    assert done.stderr.startswith("jobkit: done, but not recorded in the audit log: ")
    assert kit.snapshot(job.id).state == "cancelled"

    again = cli("cancel", job.id)

    assert again.exit_code == 1
    ended, unrecorded = again.stderr.splitlines()
    assert ended == f"job {job.id} has already ended (cancelled)"
    assert unrecorded.startswith("jobkit: not recorded in the audit log: ")
