"""Conventions of shells: completion, colours, JSON for scripts, and probes."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import jobkit
from jobkit.cli import main
from jobkit.model import StoreUnavailable

from .conftest import Terminal


def completed(terminal: Terminal, *words: str, **more: str) -> set[str]:
    """Return the completions that bash shows after these words."""
    environ = {"COMP_WORDS": " ".join(["jobkit", *words]), "COMP_CWORD": str(len(words)), **more}
    said = terminal.ok(_JOBKIT_COMPLETE="bash_complete", **environ)
    return {line.partition(",")[2] for line in said.splitlines()}


def test_a_shell_completes_commands_options_tasks_and_ids(terminal: Terminal) -> None:
    job_id = terminal.ok("submit", "count", "n=2")
    terminal.ok("watch", job_id)
    waiting = terminal.ok("submit", "count", "--delay", "3600")

    assert completed(terminal, "su") == {"submit"}
    assert "--json" in completed(terminal, "show", "--")
    assert "succeeded" in completed(terminal, "jobs", "--state", "")
    assert {"count", "count_until"} <= completed(terminal, "submit", "cou")
    assert "default" in completed(terminal, "jobs", "--queue", "")
    assert {job_id, waiting} <= completed(terminal, "show", "")
    assert completed(terminal, "logs", job_id[:10]) == {job_id}
    assert waiting not in completed(terminal, "retry", "")
    assert job_id not in completed(terminal, "cancel", "")
    terminal.ok("cancel", waiting)


def test_a_completion_starts_no_server_and_imports_no_task(fresh: Terminal) -> None:
    (fresh.folder / "cli_tasks.py").write_text(
        "import jobkit\nraise SystemExit('imported')\n"
        "@jobkit.task\ndef one(): ...\n@jobkit.task(name='two', retries=1)\nasync def _two(): ...\n"
        "class Three(jobkit.Task): ...\ndef none(): ...\n"
    )

    assert completed(fresh, "submit", "") == {"one", "two", "Three"}
    assert completed(fresh, "show", "") == set()
    assert completed(fresh, "nonsense", "sub") == {"submit"}
    assert completed(fresh, "show", "", JOBKIT_URL="redis://127.0.0.1:1") == set()
    assert completed(fresh, "show", "", JOBKIT_URL="nonsense") == set()
    assert not fresh.home.exists()


def test_a_completion_imports_no_package_of_a_task_module(fresh: Terminal) -> None:
    """The names of packages come from `pyproject.toml`, perhaps of a stranger's folder."""
    package = fresh.folder / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("open('imported', 'w')\n")
    (package / "tasks.py").write_text("import jobkit\n@jobkit.task\ndef one(): ...\n")
    (fresh.folder / "redis.py").write_text("open('imported', 'w')\n")

    environ = {"JOBKIT_TASKS": "pack.tasks", "JOBKIT_URL": "redis://127.0.0.1:1"}
    assert completed(fresh, "submit", "", **environ) == {"one"}
    assert not (fresh.folder / "imported").exists()


def test_a_completion_offers_no_command_of_the_shell(fresh: Terminal) -> None:
    names = ["fine", "$(touch ran)", "a\nplain,b", "`x`", "a b", "\x1b[2J"]
    code = "import jobkit\n" + "".join(f"@jobkit.task(name={name!r})\ndef f(): ...\n" for name in names)
    (fresh.folder / "cli_tasks.py").write_text(code)

    assert completed(fresh, "submit", "") == {"fine"}


def test_a_completion_reads_the_server_that_the_options_before_the_command_name(
    terminal: Terminal, fresh: Terminal
) -> None:
    job_id = terminal.ok("submit", "count", "n=2")

    assert completed(fresh, "--home", str(terminal.home), "show", "") >= {job_id}
    terminal.ok("watch", job_id)


def test_a_completion_loads_nothing_heavy(terminal: Terminal) -> None:
    script = (
        "import sys\nfrom jobkit.cli import main\n"
        "try:\n    main(prog_name='jobkit')\nexcept SystemExit:\n    pass\n"
        "heavy = {'panel', 'bokeh', 'pandas', 'numpy', 'rich', 'tornado', 'IPython'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    environ = terminal.env(_JOBKIT_COMPLETE="bash_complete", COMP_WORDS="jobkit show ", COMP_CWORD="2")
    subprocess.run([sys.executable, "-c", script], env=environ, check=True, capture_output=True)


def shown(terminal: Terminal, *arguments: str, **more: str) -> bytes:
    """Return what a command writes to a terminal."""
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "jobkit", *arguments]
    environ = terminal.env(TERM="xterm-256color", COLUMNS="120", **more)
    with subprocess.Popen(argv, cwd=terminal.folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs):
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 65536):
                seen += chunk
        except OSError:  # a pty reports a closed other side like this
            pass
    os.close(ours)
    return seen


@pytest.mark.parametrize("command", [("jobs",), ("submit", "count", "pause=0.2", "--wait")])
def test_no_color_is_respected_on_a_terminal(terminal: Terminal, command: tuple[str, ...]) -> None:
    terminal.ok("submit", "count", "--wait")

    assert b"\x1b[32m" in shown(terminal, *command)  # green
    assert b"\x1b[3" not in shown(terminal, *command, NO_COLOR="1")


def test_submit_prints_json_for_scripts(terminal: Terminal) -> None:
    told = json.loads(terminal.ok("submit", "count", "n=2", "--json"))
    assert told["task"] == "count"
    assert terminal.ok("watch", told["id"])

    ended = terminal.run("submit", "count", "n=2", "--json", "--wait")
    told = json.loads(ended.stdout)
    assert (ended.returncode, told["state"], told["preview"]["text"], ended.stderr) == (0, "succeeded", "4", "")
    assert told.keys() == json.loads(terminal.ok("show", told["id"], "--json")).keys()

    failed = terminal.run("submit", "fail", "text=no luck", "--json", "--wait")
    assert (failed.returncode, json.loads(failed.stdout)["error"]["message"]) == (1, "no luck")


def test_submit_prints_the_id_also_if_the_job_cannot_be_read_then(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailable("Redis does not answer")

    monkeypatch.setattr("jobkit.cli.jobs._as_json", away)
    arguments = ["submit", "estimate_pi", "points=2000000", "--json"]
    with jobkit.connect("sync://") as kit:
        monkeypatch.setattr("jobkit.connect", lambda: kit)
        done = CliRunner().invoke(main, arguments)
    printed = done.stdout[done.stdout.rindex("{") :]  # behind what the job printed in this process

    assert (done.exit_code, list(json.loads(printed))) == (1, ["id"])
    assert "Redis does not answer" in done.stderr


def test_a_probe_says_whether_a_worker_here_takes_jobs_of_the_queue(fresh: Terminal, tmp_path: Path) -> None:
    asleep = fresh.run("worker", "--check")
    assert (asleep.returncode, fresh.home.exists()) == (1, False)
    fresh.ok("submit", "count", "--wait")

    assert socket.gethostname()[:8] in fresh.ok("worker", "--check", "-q", "default")
    other = fresh.run("worker", "--check", "-q", "default", "-q", "gpu")
    assert other.returncode == 1
    assert "takes jobs of gpu" in other.stderr

    fresh.ok("down")
    stopped = fresh.run("worker", "--check")
    assert (stopped.returncode, "nothing runs in" in stopped.stderr) == (1, True)
    assert "nothing is running" in fresh.ok("down")
