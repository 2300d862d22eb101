"""`jobkit stats`, once and live."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Terminal


def test_stats_shows_jobs_queues_and_workers(terminal: Terminal) -> None:
    terminal.ok("submit", "count", "n=1", "--wait")

    text = terminal.ok("stats")
    numbers = json.loads(terminal.ok("stats", "--json"))

    assert "succeeded" in text
    assert "slots busy" in text
    assert "default" in text.splitlines()[-1]
    assert numbers["jobs"]["succeeded"] >= 1
    assert numbers["queues"]["default"]["workers"] >= 1


@pytest.mark.nightly
def test_watched_stats_move_when_a_job_ends_and_stop_with_ctrl_c(terminal: Terminal) -> None:
    with terminal.start("stats", "--watch", "--json") as watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        terminal.ok("submit", "count", "n=1", "--wait")

        seen = first
        while seen["jobs"]["succeeded"] <= first["jobs"]["succeeded"] or not seen["ended_per_minute"]:
            seen = json.loads(watching.stdout.readline())
        watching.send_signal(2)
        _, err = watching.communicate(timeout=60)

    assert watching.returncode in (0, 130)
    assert "Traceback" not in err
