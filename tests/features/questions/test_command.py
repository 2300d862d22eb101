"""`jobkit answer`."""

from __future__ import annotations

import json

from tests.cli.conftest import Terminal, wait_until


def test_a_question_is_shown_and_answered_at_the_command_line(terminal: Terminal) -> None:
    job = terminal.ok("submit", "choose").strip()
    shown = wait_until(lambda: found.stdout if (found := terminal.run("answer", job)).returncode == 0 else "")

    assert "How many?" in shown
    assert "n=  a whole number from 1 to 9  how many to take" in shown
    assert job[:8] in terminal.ok("jobs", "is:asking")
    wrong = terminal.run("answer", job, "n=12")
    assert (wrong.returncode, wrong.stderr) == (2, "jobkit: n must be a whole number from 1 to 9, not 12\n")
    assert json.loads(terminal.ok("answer", job, "--json"))["schema"]["required"] == ["n"]

    assert terminal.ok("answer", job, "n=3") == f"{job} answered"

    assert terminal.run("watch", job).returncode == 0
    again = terminal.run("answer", job, "n=4")
    assert (again.returncode, "Its last question was answered by" in again.stderr) == (1, True)
    assert "How many? n=3, answered by" in terminal.ok("show", job)
    assert [entry["action"] for entry in json.loads(terminal.ok("audit", "--json"))][:2] == ["answer", "answer"]
