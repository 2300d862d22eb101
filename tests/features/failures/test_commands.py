"""`jobkit failures`: failures in groups, from the command line."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.cli.conftest import Terminal, wait_until
from tests.support import by_default


def groups(terminal: Terminal, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(terminal.ok("failures", "--json", *options))
    return found


def fail(terminal: Terminal, *texts: str) -> list[str]:
    """Submit jobs that fail."""
    ids = [terminal.ok("submit", "fail", f"text={text}") for text in texts]
    wait_until(lambda: {job["id"] for job in failed_jobs(terminal)} >= set(ids), what="the jobs to fail")
    return ids


def failed_jobs(terminal: Terminal) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(terminal.ok("jobs", "-s", "failed", "--json", "-n", "1000"))
    return found


@pytest.fixture(autouse=True)
def clean(terminal: Terminal) -> None:
    for group in groups(terminal, "--all"):
        terminal.ok("failures", "drop", group["id"])


@pytest.mark.nightly
def test_list_and_show_name_error_place_and_arguments(terminal: Terminal) -> None:
    ids = [*fail(terminal, "no"), *fail(terminal, "never")]  # the last job sets the title of the group

    listed, shown = terminal.ok("failures"), terminal.ok("failures", "show", ids[0])

    [group] = groups(terminal)
    assert group["id"] in listed
    assert "ValueError: never" in listed
    assert "cli_tasks.py:" in listed
    assert (group["jobs"], group["count"], group["state"]) == (2, 2, "open")
    assert "raise ValueError(text)" in shown
    assert re.search(r"differ in +text\n", shown)
    assert all(job_id in shown for job_id in ids)
    more = json.loads(terminal.ok("failures", "show", group["id"][:6], "--json"))
    assert (more["different"], [job["id"] for job in more["newest"]]) == (["text"], ids[::-1])


@pytest.mark.nightly
def test_retry_with_another_argument_and_dry_run(terminal: Terminal) -> None:
    ids = fail(terminal, "no", "never")
    [group] = groups(terminal)

    dry = terminal.run("failures", "retry", group["id"], "--dry-run")
    assert (dry.returncode, dry.stdout.split(), dry.stderr.strip()) == (0, ids, "2 jobs would be retried")
    assert groups(terminal)[0]["repeated"] == 0

    done = terminal.run("failures", "retry", group["id"], "--set", "text=still not")
    assert (done.returncode, done.stderr.strip()) == (0, "2 jobs submitted")
    for new, old in zip(done.stdout.split(), ids, strict=True):
        job = json.loads(terminal.ok("show", new, "--json"))
        assert (job["retry_of"], job["params"]) == (old, {"text": "still not"})
    wait_until(lambda: groups(terminal)[0]["jobs"] == 4, what="the new jobs to fail")

    again = json.loads(terminal.ok("failures", "retry", "--task", "fail", "--json"))
    assert set(again["jobs"]) == set(done.stdout.split())


@pytest.mark.nightly
def test_mute_resolve_and_reopen_decide_what_is_listed(terminal: Terminal) -> None:
    fail(terminal, "no")
    [group] = groups(terminal)

    assert terminal.ok("failures", "mute", group["id"]) == group["id"]
    quiet = terminal.run("failures")
    assert (quiet.stdout, groups(terminal)) == ("", [])
    assert "1 more is muted or resolved" in quiet.stderr
    assert [g["state"] for g in groups(terminal, "--all")] == ["muted"]

    terminal.ok("failures", "resolve", group["id"])
    fail(terminal, "again")
    assert [g["state"] for g in groups(terminal)] == ["regressed"]
    assert terminal.ok("failed", "reopen", group["id"]) == group["id"]
    assert [g["state"] for g in groups(terminal)] == ["open"]


@pytest.mark.nightly
def test_rm_by_age_keeps_the_others(terminal: Terminal) -> None:
    fail(terminal, "no")

    assert terminal.run("failures", "drop", "--all", "--older", "1h").stdout == "0 jobs deleted\n"
    assert len(groups(terminal)) == 1
    assert terminal.ok("failures", "drop", "--all", "--newer", "1h") == "1 job deleted"
    assert groups(terminal, "--all") == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    by_default(
        [
            (("retry",), "give groups or ids of jobs, or --task NAME, or --all"),
            (("rm", "abcdef", "--all"), "give groups or ids of jobs, or --task NAME, or --all"),
            (("rm", "--all", "--older", "old"), "--older must be a time like 90, 15m, 2h, 30d or 4w, not 'old'"),
            (("show", "missing"), "no job 'missing' is kept here"),
            (("mute", "missing"), "there is no group of failures 'missing'"),
        ]
    ),
)
def test_bad_input_is_one_sentence_and_status_2(terminal: Terminal, arguments: tuple[str, ...], sentence: str) -> None:
    done = terminal.run("failures", *arguments)

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert sentence in done.stderr


@pytest.mark.nightly
def test_a_change_is_checked_before_anything_is_submitted(terminal: Terminal) -> None:
    fail(terminal, "no")

    done = terminal.run("failures", "retry", "--task", "fail", "--set", "txet=x")

    assert done.returncode == 2
    assert "unexpected argument 'txet' (did you mean 'text'?)" in done.stderr
    assert groups(terminal)[0]["repeated"] == 0
