"""Finds the running embedded server of a home, or starts its supervisor.

The first process starts it; others wait for the first. All facts are in the home: the lock shows that a supervisor
lives, its status file what it is doing, the socket that the server answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import site
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobkit.embedded.demand import WORKER_CLIENT, activity, read_requests, request_workers, server_url, touch
from jobkit.embedded.home import Home, holding, last_line, own_version
from jobkit.embedded.server import answers
from jobkit.model import JobkitError
from jobkit.settings import Settings

_START_S = 30.0
_STOP_MARGIN_S = 30.0


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running server.

    Attributes:
        url: `unix://...` for redis-py.
        secret: the home's own key. The user's JOBKIT_SECRET is not used here, because the workers do not know it.
        home: the directory.
    """

    url: str
    secret: str
    home: Path

    @property
    def results(self) -> Path:
        """Directory of large results, artifacts and whole logs, unless `results` is set."""
        return Home(self.home).results


def ensure_running(
    settings: Settings, *, worker_command: Sequence[str] | None = None, only_looks: bool = False
) -> EmbeddedServer:
    """Return the server of `settings.home`, started if it does not run, with workers for `settings.namespace`.

    Args:
        settings: home, namespace, tasks and times.
        only_looks: do not change running workers, whatever `settings.tasks` is; see `want_workers`.
        worker_command: command of a worker instead of `python -m jobkit worker --embedded`.

    Raises:
        JobkitError: no server program, an unusable home, unreadable data, or a server that is in use by another version
            of jobkit.
    """
    home = Home.open(settings.home)
    # Before the checks: a server that is about to stop because it is idle sees the request.
    is_news = touch(home, settings) if only_looks else request_workers(home, settings)
    home.check_socket_directory()
    secret = home.secret()
    server = EmbeddedServer(server_url(home), secret, home.path)
    deadline = time.monotonic() + _START_S
    while True:
        status = home.status()
        state = status.get("state")
        if home.is_supervised():
            _check_host(home, status)
            if state == "ready" and _is_alive(status) and answers(str(home.socket)):
                if _may_be_used(home, status):
                    if is_news:
                        _signal(status, signal.SIGHUP)
                    return server
                continue
            if state in ("loading", "stopping"):  # both end by themselves
                deadline = max(deadline, time.monotonic() + _START_S)
        else:
            with holding(home.launch_lock) as is_mine:
                if is_mine and not home.is_supervised():
                    _launch(home, worker_command)
                    continue
        if time.monotonic() > deadline:
            raise JobkitError(
                f"the embedded server in {home.path} did not come up within {_START_S:.0f} s (it is {state!r}); "
                f"see {home.supervisor_log}"
            )
        time.sleep(0.01)


def want_workers(settings: Settings) -> None:
    """Ask the supervisor of a running server for workers that load the task modules of `settings`.

    It starts a new worker beside the old one, which exits when its jobs have ended.
    """
    home = Home(settings.home)
    if request_workers(home, settings):
        _signal(home.status(), signal.SIGHUP)


def attach(settings: Settings) -> EmbeddedServer:
    """Return the server of `settings.home` for one of its workers: starts nothing, and does not count as a user.

    Raises:
        JobkitError: the home cannot be used.
    """
    home = Home.open(settings.home)
    home.check_socket_directory()
    return EmbeddedServer(server_url(home, WORKER_CLIENT), home.secret(), home.path)


def shutdown(settings: Settings, *, now: bool = False, on_wait: Callable[[], None] = lambda: None) -> bool:
    """Stop the server and the workers of `settings.home`; the data stays. Return True if it was running.

    Running jobs get their drain time and are then given back to the queue; with `now` they are given back at once.
    `on_wait` is called once if it takes longer than a second.

    Raises:
        JobkitError: it does not end.
    """
    if not settings.home.is_dir():
        return False
    home = Home.open(settings.home)
    if not home.is_supervised():
        return False
    _check_host(home, home.status())
    drain_s = max((request.drain for request in read_requests(home).values()), default=settings.drain)
    begin = time.monotonic()
    deadline = begin + drain_s + _STOP_MARGIN_S
    ask_again_at = begin
    is_told = False
    while home.is_supervised():
        status = home.status()
        # Until the supervisor has written its own pid, the status may be its predecessor's.
        if time.monotonic() >= ask_again_at and status.get("state") != "stopped" and _is_alive(status):
            _signal(status, signal.SIGTERM)
            ask_again_at = time.monotonic() + 0.2 if now else float("inf")
        if not is_told and time.monotonic() - begin > 1.0:
            is_told = True
            on_wait()
        if time.monotonic() > deadline:
            raise JobkitError(
                f"the embedded server in {home.path} (supervisor {status.get('pid')}) does not end; "
                f"see {home.supervisor_log}"
            )
        time.sleep(0.02)
    return True


def _check_host(home: Home, status: Mapping[str, object]) -> None:
    """Check that the home is not used by another machine, which is possible on a network file system.

    Raises:
        JobkitError: its supervisor runs on another machine, whose socket cannot be reached from here.
    """
    host = status.get("host", "")
    if host and host != socket.gethostname():
        raise JobkitError(
            f"the jobkit home {home.path} is in use on machine {host} (this is {socket.gethostname()}): set "
            "JOBKIT_HOME to a directory of this machine, or JOBKIT_URL to a Redis that both can reach"
        )


def _may_be_used(home: Home, status: Mapping[str, object]) -> bool:
    """Return True if the supervisor has our version of jobkit. An idle one of another version is stopped: False.

    Its Python does not matter, because jobs run in their submitter's environment. But a supervisor whose environment
    has been deleted cannot start workers.

    Raises:
        JobkitError: it has another version and is in use.
    """
    environment = status.get("environment")
    has_gone = isinstance(environment, str) and not os.path.isdir(environment)
    if status.get("version") == own_version() and not has_gone:
        return True
    for _ in range(5):  # a connection that was just closed, such as our PING's, may still be listed
        found = activity(home, read_requests(home))
        if not found.clients:
            break
        time.sleep(0.02)
    if not found.clients and not found.running:
        shutdown(Settings(home=home.path), now=True)
        return False
    if has_gone:  # it still serves the running jobs
        return True
    raise JobkitError(
        f"the embedded server in {home.path} belongs to jobkit {status.get('version')} and is in use (this is jobkit "
        f"{own_version()}): stop it with `jobkit down`, or use another JOBKIT_HOME"
    )


def _is_alive(status: Mapping[str, object]) -> bool:
    """Return True if the writer of the status lives; a new supervisor may not have written its own yet."""
    pid = status.get("pid")
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _signal(status: Mapping[str, object], number: int) -> None:
    pid = status.get("pid")
    if isinstance(pid, int) and pid > 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _launch(home: Home, worker_command: Sequence[str] | None) -> None:
    """Start the supervisor and return when its server answers.

    Raises:
        JobkitError: it failed; with the supervisor's own message.
    """
    reader, writer = os.pipe()
    try:
        command = [sys.executable, "-P", "-m", "jobkit.embedded.supervisor", "--home", str(home.path)]
        command += ["--report-fd", str(writer)]
        if worker_command is not None:
            command += ["--worker-command", json.dumps(list(worker_command))]
        log = os.open(home.supervisor_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
                cwd=home.path,
                pass_fds=(writer,),
                start_new_session=True,
                check=False,
            )
        finally:
            os.close(log)
            os.close(writer)
        _await_report(reader, home)
    finally:
        os.close(reader)


def _await_report(reader: int, home: Home) -> None:
    """Read the reports of a starting supervisor until it is ready; raise its error if it failed."""
    deadline = time.monotonic() + _START_S
    pending = b""
    while time.monotonic() < deadline:
        readable, _, _ = select.select([reader], [], [], 0.5)
        if not readable:
            continue
        chunk = os.read(reader, 65_536)
        pending += chunk
        *lines, pending = pending.split(b"\n")
        for line in lines:
            said = json.loads(line)
            if said["state"] == "failed":
                raise JobkitError(said["error"])
            if said["state"] == "loading":
                deadline = time.monotonic() + _START_S
            else:  # "ready", or "busy": another supervisor is starting
                return
        if not chunk:
            raise JobkitError(
                f"the supervisor of {home.path} ended at its start: {last_line(home.supervisor_log)}; "
                f"see {home.supervisor_log}"
            )
    raise JobkitError(f"the supervisor of {home.path} said nothing for {_START_S:.0f} s; see {home.supervisor_log}")


def environment() -> dict[str, str]:
    """Return the environment for independent processes, without secrets and notebook variables, jobkit importable."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if name not in ("JOBKIT_SECRET", "PANEL_COOKIE_SECRET", "BOKEH_SECRET_KEY")
        and not name.startswith("JPY_")
        # A kernel's inline backend needs a notebook.
        and not (name == "MPLBACKEND" and value.startswith("module://"))
    }
    folders = [os.path.abspath(folder) for folder in environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    package = str(Path(__file__).resolve().parent.parent.parent)
    # Not if it is installed: site-packages must not come before the standard library.
    if package not in [*folders, *site.getsitepackages(), site.getusersitepackages()]:
        folders.append(package)
    if folders:
        environ["PYTHONPATH"] = os.pathsep.join(folders)
    else:
        environ.pop("PYTHONPATH", None)
    return environ
