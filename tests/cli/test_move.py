"""`jobkit export` and `jobkit import`: jobs are saved to a file and restored elsewhere or later."""

from __future__ import annotations

import json
import stat

import pytest

from tests.cli.conftest import Terminal
from tests.support import by_default


@pytest.mark.nightly
def test_exported_jobs_are_restored_completely(terminal: Terminal) -> None:
    good = terminal.ok("submit", "count", "n=3", "--tag", "moved", "--wait").split()[0]
    bad = terminal.run("submit", "fail", "text=on purpose", "--tag", "moved", "--wait").stdout.split()[0]
    before = {id: json.loads(terminal.ok("show", id, "--json")) for id in (good, bad)}
    log = terminal.ok("logs", good)
    file = terminal.folder / "jobs.jsonl"

    exported = terminal.run("export", str(file), "--search", "moved")
    terminal.ok("rm", good, bad)
    assert terminal.run("show", good).returncode != 0
    imported = terminal.run("import", str(file))

    assert "2 jobs exported" in exported.stderr
    assert "2 jobs imported" in imported.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {id: json.loads(terminal.ok("show", id, "--json")) for id in (good, bad)} == before
    assert terminal.ok("logs", good) == log
    again = terminal.ok("retry", good)
    assert terminal.run("watch", again).returncode == 0
    assert "2 were known already" in terminal.run("import", str(file)).stderr


@pytest.mark.nightly
def test_a_waiting_job_is_imported_only_on_request(terminal: Terminal) -> None:
    waiting = terminal.ok("submit", "count", "n=1", "--delay", "3600", "--tag", "waits")
    lines = terminal.ok("export", "--search", "waits")
    file = terminal.folder / "waiting.jsonl"
    file.write_text(lines)
    terminal.ok("cancel", waiting)
    terminal.ok("rm", waiting)

    without = terminal.run("import", str(file))
    with_them = terminal.run("import", str(file), "--waiting")

    assert "0 jobs imported; 1 that waited were left out" in without.stderr
    assert "1 submitted" in with_them.stderr
    assert json.loads(terminal.ok("show", waiting, "--json"))["state"] == "scheduled"
    terminal.ok("cancel", waiting)


@pytest.mark.parametrize(
    ("line", "said"),
    by_default(
        [
            ("not json", "not a line of `jobkit export`"),
            ("{}", "not a line of `jobkit export`"),
            ('{"jobkit": 99}', "written by another version of jobkit"),
            ('{"jobkit": 1, "record": {}}', "it cannot be read"),
        ]
    ),
)
def test_a_file_with_one_bad_line_is_refused(terminal: Terminal, line: str, said: str) -> None:
    id = terminal.ok("submit", "count", "n=1", "--tag", "refused", "--wait").split()[0]
    good = terminal.ok("export", "--search", "refused").splitlines()[0]
    terminal.ok("rm", id)
    file = terminal.folder / "bad.jsonl"
    file.write_text(f"{good}\n{line}\n")

    refused = terminal.run("import", str(file))

    assert refused.returncode == 2
    assert "line 2: it " in refused.stderr
    assert said in refused.stderr
    assert terminal.run("show", id).returncode != 0


@pytest.mark.nightly
def test_dry_run_lists_the_file_and_stores_nothing(terminal: Terminal) -> None:
    id = terminal.ok("submit", "count", "n=1", "--tag", "dry", "--wait").split()[0]
    file = terminal.folder / "dry.jsonl"
    terminal.ok("export", str(file), "--search", "dry")
    terminal.ok("rm", id)

    said = terminal.run("import", str(file), "--dry-run").stderr

    assert "1 ended jobs, 0 waiting, 0 running; nothing was stored" in said
    assert terminal.run("show", id).returncode != 0
    assert "cannot be read" in terminal.run("import", "no-such-file").stderr
