"""Schedules from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cli.conftest import Terminal, wait_until
from tests.support import by_default


@pytest.fixture(autouse=True)
def _no_schedule_left(terminal: Terminal) -> Iterator[None]:
    yield
    for schedule in json.loads(terminal.ok("schedules", "--json")):
        terminal.ok("schedules", "remove", schedule["name"])


def test_a_schedule_is_created_listed_and_shown(terminal: Terminal) -> None:
    done = terminal.run(
        "schedule", "count", "n=2", "--cron", "0 6 * * MON-FRI", "--tz", "Europe/Berlin", "--name", "six"
    )

    assert done.returncode == 0
    assert done.stdout == "six\n"
    assert "On Monday through Friday at 06:00 Europe/Berlin; next:" in done.stderr
    assert done.stderr.count(" 06:00 Europe/Berlin  (in ") == 5
    [listed] = json.loads(terminal.ok("schedules", "--json"))
    assert (listed["name"], listed["task"], listed["params"]["n"]) == ("six", "count", 2)
    assert listed["next_at"].endswith("Z")
    table = terminal.ok("schedules")
    assert "six" in table
    assert "06:00 Europe/Berlin" in table
    assert "n=2" in terminal.ok("schedules", "show", "six")
    assert len(json.loads(terminal.ok("schedules", "show", "six", "--json"))["next"]) == 5


@pytest.mark.nightly
def test_a_schedule_is_paused_resumed_run_and_removed_by_name(terminal: Terminal) -> None:
    terminal.ok("schedule", "count", "n=1", "--every", "3600", "--name", "hourly")

    assert terminal.ok("schedules", "pause", "hourly") == "hourly"
    assert "paused" in terminal.ok("schedules")
    assert json.loads(terminal.ok("schedules", "--json"))[0]["paused"]
    done = terminal.ok("schedules", "run", "hourly", "--wait")
    assert done.splitlines()[-1] == "2"
    assert terminal.ok("schedules", "resume", "hourly") == "hourly"
    wait_until(lambda: "✓" in terminal.ok("schedules"))
    assert "succeeded" in terminal.ok("schedules", "show", "hourly")
    assert terminal.ok("schedules", "remove", "hourly") == "hourly"
    assert "No schedules" in terminal.run("schedules").stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    by_default(
        [
            (("schedule", "count"), "exactly one of"),
            (("schedule", "count", "--cron", "0 0 30 2 *"), "never fires"),
            (("schedule", "count", "--cron", "* * * * *", "--tz", "Europe/Berln"), "did you mean 'Europe/Berlin'"),
            (("schedule", "count", "--every", "0"), "every must be"),
            (("schedule", "count", "n=5000", "--every", "5"), "n must be"),
            (("schedule", "coutn", "--every", "5"), "did you mean 'count'"),
            (("schedules", "pause", "missing"), "there is no schedule 'missing'"),
            (("schedules", "run", "missing"), "there is no schedule 'missing'"),
            (("schedules", "--json", "pause", "missing"), "give --json after the subcommand"),
            (("schedules", "puase", "missing"), "No such command 'puase'"),
        ],
        2,
    ),
)
def test_an_error_is_one_sentence_and_status_2(terminal: Terminal, arguments: tuple[str, ...], says: str) -> None:
    done = terminal.run(*arguments)

    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""
