"""Running and stopping things from the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from jobkit.embedded.home import Home
from jobkit.features.doctor.commands import _secret
from tests.store.server import find_server
from tests.support import by_default, free_port

from .conftest import Terminal, processes_of, wait_until


def test_help_loads_nothing_heavy(terminal: Terminal) -> None:
    script = (
        "import sys\n"
        "from jobkit.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'panel', 'bokeh', 'pandas', 'numpy', 'redis', 'rich', 'tornado', 'IPython'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], env=terminal.env(), capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "submit" in done.stdout


def test_a_job_outlives_the_command_that_submitted_it_and_down_ends_everything(fresh: Terminal) -> None:
    job_id = fresh.ok("submit", "count", "n=2")
    assert fresh.run("watch", job_id).returncode == 0

    assert fresh.ok("down") == "stopped"
    assert processes_of(fresh.home) == []
    assert "nothing is running" in fresh.ok("down")

    assert fresh.ok("logs", job_id) == "line 0\nline 1"  # starts it again


def test_up_starts_everything_and_ctrl_c_ends_all(fresh: Terminal) -> None:
    port = free_port()
    with fresh.start("up", "--port", str(port), "--slots", "3") as up:
        try:
            assert up.stdout is not None
            assert up.stdout.readline() == f"http://localhost:{port}/\n"
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
                assert answer.status == 200
            log = fresh.home / "logs" / "dashboard.log"
            assert "Traceback" not in log.read_text(), log.read_text()

            second = fresh.run("up")
            assert second.returncode == 2
            assert f"`jobkit up` already runs for {fresh.home} at http://localhost:{port}/" in second.stderr

            assert fresh.run("submit", "count", "n=1", "--wait").returncode == 0
            assert [worker["slots"] for worker in json.loads(fresh.ok("workers", "--json"))] == [3]
            (panel,) = [p for p in processes_of(fresh.home) if "panel" in p.info["cmdline"]]
            panel.kill()  # it is restarted
            wait_until(
                lambda: [p for p in processes_of(fresh.home) if "panel" in p.info["cmdline"] and p.pid != panel.pid],
                what="another dashboard",
            )
        finally:
            up.send_signal(signal.SIGINT)
            _, err = up.communicate(timeout=60)

    assert up.returncode == 0, err
    assert "Traceback" not in err
    wait_until(lambda: not processes_of(fresh.home), what="everything to end")


@pytest.mark.nightly
def test_up_ends_when_its_home_is_deleted(fresh: Terminal) -> None:
    with fresh.start("up", "--port", str(free_port())) as up:
        assert up.stdout is not None
        assert up.stdout.readline().startswith("http://localhost:")

        shutil.rmtree(fresh.home)

        _, err = up.communicate(timeout=60)
    assert up.returncode == 1
    assert err.splitlines()[-1] == f"jobkit: the home {fresh.home} was deleted, and its jobs with it"
    wait_until(lambda: not processes_of(fresh.home), what="the supervisor to end")


def test_up_ends_when_the_server_is_stopped_elsewhere(fresh: Terminal) -> None:
    port = free_port()
    with fresh.start("up", "--port", str(port)) as up:
        assert up.stdout is not None
        assert up.stdout.readline().startswith("http://localhost:")  # the dashboard has connected

        done = fresh.run("down", "--now")

        _, err = up.communicate(timeout=60)
    assert done.stdout == "stopped\n"
    assert f"`jobkit up` at http://localhost:{port}/ ends in 5 s" in done.stderr
    assert (up.returncode, err.splitlines()[-2:]) == (
        0,
        ["jobkit: `jobkit down` stopped the server; its jobs wait. Stopping the dashboard", "jobkit: stopped"],
    )
    assert processes_of(fresh.home) == []


def test_up_goes_on_when_the_server_is_restarted_elsewhere(fresh: Terminal) -> None:
    with fresh.start("up", "--port", str(free_port())) as up:
        assert up.stdout is not None
        assert up.stdout.readline().startswith("http://localhost:")
        assert fresh.run("down", "--now").stdout == "stopped\n"
        time.sleep(0.5)  # it has looked

        assert fresh.run("jobs", "--json").returncode == 0

        with pytest.raises(subprocess.TimeoutExpired):
            up.wait(6)
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=60)
    assert up.returncode == 0


def test_up_refuses_a_port_that_is_taken(fresh: Terminal) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        done = fresh.run("up", "--port", str(port))

    assert done.returncode == 2
    assert f"port {port} is in use" in done.stderr
    assert processes_of(fresh.home) == []


def test_an_address_of_another_machine_is_not_reported_as_a_port_in_use(fresh: Terminal, tmp_path: Path) -> None:
    login = tmp_path / "users.json"
    login.write_text('{"ada": "a long password"}')
    login.chmod(0o600)

    done = fresh.run("dashboard", "--host", "203.0.113.7", "--login", str(login))

    assert done.returncode == 2
    assert "port 5006 of 203.0.113.7 cannot be used" in done.stderr
    assert "--host" in done.stderr


def test_a_worker_whose_module_does_not_import_ends_with_2_and_the_reason(terminal: Terminal) -> None:
    (terminal.folder / "broken_tasks.py").write_text("import no_such_thing\n")

    done = terminal.run("worker", "-t", "broken_tasks")

    assert done.returncode == 2
    assert "broken_tasks" in done.stderr
    assert "no_such_thing" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.nightly
def test_a_burst_of_several_workers_empties_the_queue_and_ends(fresh: Terminal) -> None:
    ids = [fresh.ok("submit", "count", "n=1", "--queue", "extra") for _ in range(3)]

    done = fresh.run("worker", "-n", "2", "-q", "extra", "--burst")

    assert done.returncode == 0, done.stderr
    states = {job["id"]: job["state"] for job in json.loads(fresh.ok("jobs", "--json"))}
    assert [states[job_id] for job_id in ids] == ["succeeded"] * 3


@pytest.mark.nightly
def test_doctor_finds_no_problem_in_a_running_home_and_starts_none(fresh: Terminal) -> None:
    before = fresh.run("doctor")
    assert before.returncode == 0
    assert not fresh.home.exists()

    fresh.ok("submit", "count", "n=1", "--wait")
    findings = json.loads(fresh.ok("doctor", "--json"))

    by_check = {finding["check"]: finding for finding in findings}
    for check in ("url", "home", "supervisor", "server", "eviction", "persistence", "clock", "workers", "tasks"):
        assert by_check[check]["level"] == "ok", by_check[check]

    supervisor = Home(fresh.home).status()["pid"]
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not Home(fresh.home).is_supervised())
    assert f"pid {supervisor} has died → the next command starts it again" in fresh.run("doctor").stdout
    assert not Home(fresh.home).is_supervised()


def test_doctor_names_what_is_wrong_and_ends_with_1(fresh: Terminal) -> None:
    unreachable = fresh.run("doctor", JOBKIT_URL="redis://127.0.0.1:1/0")
    assert unreachable.returncode == 1
    assert "fail  server" in unreachable.stdout
    assert "warn  secret" in unreachable.stdout

    nonsense = fresh.run("doctor", JOBKIT_LEASE="soon")
    assert nonsense.returncode == 1
    assert "JOBKIT_LEASE" in nonsense.stdout

    no_module = fresh.run("doctor", JOBKIT_TASKS="no_such_module")
    assert no_module.returncode == 1
    assert "fail  tasks" in no_module.stdout

    (fresh.home.parent / "file").touch()
    no_results = fresh.run("doctor", JOBKIT_URL="redis://127.0.0.1:1/0", JOBKIT_RESULTS=str(fresh.home.parent / "file"))
    assert "fail  results" in no_results.stdout

    os.mkdir(fresh.home)
    fresh.home.chmod(0o777)
    open_home = fresh.run("doctor")
    assert open_home.returncode == 1
    assert f"chmod 700 {fresh.home}" in open_home.stdout
    fresh.home.chmod(0o700)


@contextmanager
def other_redis(fresh: Terminal, **options: str) -> Iterator[str]:
    """URL of a Redis that jobkit did not start."""
    path = fresh.folder / "other.sock"
    options = {"port": "0", "unixsocket": str(path), "save": "", "dir": str(fresh.folder), **options}
    argv = [find_server(), *(word for name, value in options.items() for word in (f"--{name}", value))]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        with socket.socket(socket.AF_UNIX) as probe:  # its file is there a moment before it listens
            wait_until(lambda: probe.connect_ex(str(path)) == 0, what="the server")
        yield f"unix://{path}"
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize(
    ("secret", "level", "said"),
    [
        ("", "warn", "no signing key"),
        (" , ", "warn", "no signing key"),
        ("a", "warn", "a signing key of 1 character can be guessed"),
        (f"{'k' * 43},short", "warn", "a signing key of 5 characters can be guessed"),
        ("k" * 43, "ok", "payloads are signed"),
    ],
)
def test_doctor_warns_of_a_signing_key_that_can_be_guessed(secret: str, level: str, said: str) -> None:
    found = _secret(secret)

    assert (found.level, said in found.text, "token_urlsafe" in found.fix) == (level, True, level == "warn")


@pytest.mark.nightly
def test_doctor_warns_of_a_redis_that_forgets(fresh: Terminal) -> None:
    with other_redis(fresh, **{"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}) as url:
        done = fresh.run("--url", url, "doctor")

    assert done.returncode == 1
    assert "fail  eviction" in done.stdout
    assert "maxmemory-policy noeviction" in done.stdout
    assert "warn  persistence" in done.stdout
    assert "warn  workers" in done.stdout


@pytest.mark.nightly
def test_a_read_only_redis_is_named_and_can_be_read(fresh: Terminal) -> None:
    with other_redis(fresh) as url:
        fresh.ok("--url", url, "submit", "count", "n=1")
        with redis.Redis.from_url(url) as client:
            client.config_set("maxmemory", 1)
        examined = fresh.run("--url", url, "doctor")
        seen = fresh.run("--url", url, "workers")
        numbers = fresh.run("--url", url, "stats", "--json")
        refused = fresh.run("--url", url, "submit", "count", "n=1")

    sentence = f"Redis at {url} has reached its memory limit (maxmemory): raise it, or remove ended jobs with"
    assert examined.returncode == 1
    assert f"fail  changes      {sentence}" in examined.stdout
    assert seen.stderr.startswith(sentence)
    assert json.loads(numbers.stdout)["refused"].startswith(sentence)
    assert (refused.returncode, refused.stderr.startswith(f"jobkit: {sentence}")) == (1, True)


def test_doctor_names_a_server_that_cannot_load_the_functions(fresh: Terminal) -> None:
    with other_redis(fresh) as url, redis.Redis.from_url(url) as client:
        client.config_set("maxmemory", 1)
        full = fresh.run("--url", url, "doctor")
        client.config_set("maxmemory", 0)
        client.execute_command("ACL", "SETUSER", "default", "-function")
        forbidden = fresh.run("--url", url, "doctor")

    assert (full.returncode, forbidden.returncode) == (1, 1)
    assert "(maxmemory) and cannot load jobkit's functions: raise it" in full.stdout
    assert "fail  server" in forbidden.stdout
    assert "does not let this user run FUNCTION LOAD: it needs the rights `~jk:*" in forbidden.stdout


@pytest.mark.nightly
def test_up_with_another_redis_runs_a_worker_and_the_dashboard(fresh: Terminal) -> None:
    port = free_port()
    with other_redis(fresh) as url, fresh.start("--url", url, "up", "--port", str(port)) as up:
        try:
            assert up.stdout is not None
            assert up.stdout.readline() == f"http://localhost:{port}/\n"
            done = fresh.run("submit", "count", "n=2", "--wait", JOBKIT_URL=url)
            assert done.stdout.splitlines()[1:] == ["line 0", "line 1", "4"]
        finally:
            up.send_signal(signal.SIGINT)
            _, err = up.communicate(timeout=60)

        assert up.returncode == 0, err
        assert not [p for p in processes_of(fresh.home) if not p.name().endswith("-server")]


@pytest.mark.nightly
def test_doctor_names_a_broken_task_module_while_other_jobs_run(fresh: Terminal) -> None:
    (fresh.folder / "later_tasks.py").write_text("import jobkit\n\n@jobkit.task\ndef fine() -> int:\n    return 1\n")
    fresh.ok("tasks", JOBKIT_TASKS="later_tasks")
    fresh.ok("down")
    (fresh.folder / "later_tasks.py").write_text("raise OSError('gone')\n")

    fresh.ok("queues", JOBKIT_TASKS="later_tasks")

    wait_until(lambda: Home(fresh.home).status().get("problems"), what="the problem")
    done = fresh.run("doctor")
    assert done.returncode == 1
    assert "later_tasks" in done.stdout


def test_reading_changes_no_worker_and_a_submit_lets_running_jobs_end(fresh: Terminal) -> None:
    """The first job would restart after the drain time if its worker had to end for the modules of another submit."""
    other = fresh.folder / "other"
    other.mkdir()
    (other / "other_tasks.py").write_text("import jobkit\n\n@jobkit.task\ndef fine() -> int:\n    return 1\n")

    def shown(job_id: str) -> dict[str, object]:
        return dict(json.loads(fresh.ok("show", job_id, "--json")))

    first = fresh.ok("submit", "count", "n=1000", "pause=0.05", JOBKIT_DRAIN="0.5")
    before = wait_until(lambda: (found := shown(first))["state"] == "running" and found)
    elsewhere = Terminal(fresh.folder, {"JOBKIT_TASKS": "other_tasks", "JOBKIT_DRAIN": "0.5"}, other)
    request = Home(fresh.home).namespaces / "default.json"

    known = request.read_text()
    for command in ("jobs", "tasks", "queues"):
        elsewhere.ok(command)
    assert request.read_text() == known
    assert elsewhere.run("submit", "fine", "--wait").returncode == 0
    assert json.loads(request.read_text())["tasks"] == ["cli_tasks", "other_tasks"]

    def workers() -> list[str]:
        return [each["id"] for each in json.loads(fresh.ok("workers", "--json"))]

    wait_until(lambda: len(workers()) == 2, what="a worker beside the first one")
    now = shown(first)
    assert (now["state"], now["attempt"], now["worker"]) == ("running", 1, before["worker"])
    fresh.ok("cancel", first)
    wait_until(lambda: len(workers()) == 1, what="the end of the first worker")


@pytest.mark.parametrize("command", by_default([["worker"], ["up"]]))
def test_sync_needs_neither_worker_nor_server(terminal: Terminal, command: list[str]) -> None:
    done = terminal.run("--url", "sync://", *command)

    assert done.returncode == 2
    assert "sync://" in done.stderr


def test_down_is_for_embedded_servers(terminal: Terminal) -> None:
    done = terminal.run("--url", "redis://127.0.0.1:1/0", "down")

    assert done.returncode == 2
    assert "redis://127.0.0.1:1/0" in done.stderr


@pytest.mark.nightly
def test_options_of_the_group_reach_the_worker(fresh: Terminal, tmp_path: Path) -> None:
    home = fresh.folder / "elsewhere"
    try:
        done = fresh.run("--home", str(home), "--namespace", "team", "submit", "count", "n=1", "--wait")
        assert done.returncode == 0
        assert fresh.run("--home", str(home), "jobs").stdout == ""  # another namespace
    finally:
        fresh.ok("--home", str(home), "down", "--now")


@pytest.mark.nightly
def test_an_idle_home_stops_its_real_workers_too(fresh: Terminal) -> None:
    fresh.ok("submit", "count", "n=1", "--wait", JOBKIT_IDLE_STOP="1")

    home = Home(fresh.home)
    wait_until(lambda: not home.is_supervised(), what="the idle stop")
    wait_until(lambda: not processes_of(fresh.home), what="everything to end")
    log = (fresh.home / "logs" / "supervisor.log").read_text()
    assert "the server is idle; stopping it" in log


@pytest.mark.nightly
@pytest.mark.parametrize("now", by_default([["--now"], []]))
def test_down_releases_a_running_job_and_the_next_start_runs_it_again(fresh: Terminal, now: list[str]) -> None:
    job_id = fresh.ok("submit", "count", "n=600", "pause=0.1", JOBKIT_DRAIN="1")
    wait_until(lambda: json.loads(fresh.ok("show", job_id, "--json"))["state"] == "running")

    assert fresh.ok("down", *now) == "stopped"
    assert processes_of(fresh.home) == []

    again = wait_until(lambda: (now := json.loads(fresh.ok("show", job_id, "--json")))["attempt"] == 2 and now)
    assert (again["state"], again["releases"], again["losses"]) == ("running", 1, 0)
    fresh.ok("cancel", job_id)


def test_stop_without_a_worker_is_reported(terminal: Terminal) -> None:
    ended = terminal.run("workers", "stop", "--queue", "gpu")

    assert ended.returncode == 1
    assert "No live worker for queue 'gpu'." in ended.stderr


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 2, "give ids of workers, --queue or --host; `jobkit workers stop` ends all workers"),
        (("w1",), 2, "there is no live worker 'w1'; `jobkit workers` lists them"),
        (("--queue", "gpu"), 1, "No live worker."),
    ],
)
def test_drain_without_a_worker_is_reported(terminal: Terminal, words: tuple[str, ...], status: int, said: str) -> None:
    ended = terminal.run("workers", "drain", *words)

    assert (ended.returncode, said in ended.stderr) == (status, True)


def test_a_result_that_was_not_kept_is_shown_with_the_reason() -> None:
    from jobkit.cli.follow import result_text

    preview = {"text": "<generator object>", "unavailable": "return list(...) instead"}

    assert result_text(preview, "") == "<generator object>\nreturn list(...) instead"
