"""The whole log on the command line."""

from __future__ import annotations

import pytest

from .conftest import Terminal


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
