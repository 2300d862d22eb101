"""Start and stop of the embedded server of a home by those who need it.

The first process that needs the server starts the supervisor; others wait for the first. All facts are in the home: the
lock shows that a supervisor lives, its status file what it is doing, the socket that the server answers.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shlex
import signal
import site
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

from jobkit.access.own_machine import JUPYTER_PID_VARIABLE, PROXIED_VARIABLE
from jobkit.embedded.demand import read_requests, request_workers
from jobkit.embedded.home import Home, append_private, holding, lines_of, own_version, signal_to
from jobkit.embedded.server import answers, ask
from jobkit.model import JobkitError, JobState, StoreUnavailable
from jobkit.settings import Settings
from jobkit.store.binary import check_system, find_server

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("jobkit.embedded")

#: Client name of local workers' connections, so that they do not count as users of the server.
WORKER_CLIENT = "jobkit-local-worker"


def server_url(home: Home, client_name: str = "") -> str:
    """Return the URL of the home's server for redis-py."""
    return f"unix://{quote(str(home.socket))}" + (f"?client_name={client_name}" if client_name else "")


def other_clients(home: Home) -> int:
    """Return the number of connections except those of local workers and the caller. Raises OSError."""
    reply = ask(str(home.socket), "CLIENT", "LIST")
    lines = reply.splitlines() if isinstance(reply, str) else []
    return max(0, sum(f" name={WORKER_CLIENT} " not in line for line in lines if line) - 1)


def open_jobs(home: Home, namespaces: Iterable[str]) -> tuple[int, int]:
    """Return how many jobs of these namespaces wait, and how many run. What features will submit counts as waiting.

    Loads the store, which is large beside a supervisor. Raises JobkitError if the server does not answer.
    """
    from jobkit.client.loop import background

    counts = background.call(_counts(home, list(namespaces)))  # the caller may run in an event loop: a notebook
    return sum(waiting for waiting, _ in counts), sum(running for _, running in counts)


async def _counts(home: Home, namespaces: list[str]) -> list[tuple[int, int]]:
    from jobkit.features import modules
    from jobkit.store.redis import RedisStore

    settings = Settings(url=server_url(home, WORKER_CLIENT), home=home.path)
    found = []
    for namespace in namespaces:
        store = RedisStore(replace(settings, namespace=namespace))
        try:
            jobs = await store.counts()
            waiting = jobs[JobState.QUEUED] + jobs[JobState.SCHEDULED]
            for module in modules("due"):
                waiting += await module.waiting(store)
        finally:
            await store.close()
        found.append((waiting, jobs[JobState.RUNNING]))
    return found


# -- start and stop ----------------------------------------------------------------------------------------------------


def _explained(verb: Callable[Concatenate[Settings, P], T]) -> Callable[Concatenate[Settings, P], T]:
    """Make a verb raise JobkitError, a sentence, if the file system of its home fails."""

    @wraps(verb)
    def explained(settings: Settings, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return verb(settings, *args, **kwargs)
        except JobkitError:
            raise
        except OSError as error:
            fix = "free space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "see `jobkit doctor`"
            reason = error.strerror or error
            raise JobkitError(f"the jobkit home {settings.home} cannot be used ({reason}): {fix}") from error

    return explained


_START_S = 30.0
_STOP_MARGIN_S = 30.0


@_explained
def ensure_running(
    settings: Settings,
    *,
    worker_command: Sequence[str] | None = None,
    only_looks: bool = False,
    revives: bool = False,
    meanwhile: Callable[[], object] | None = None,
) -> Settings:
    """Return `settings` for the server of its home, started if it does not run, with workers for its namespace.

    The URL is that of the socket, and the secret the home's own: the workers do not know a JOBKIT_SECRET of the user.

    Args:
        settings: home, namespace, tasks and times.
        only_looks: do not change running workers, whatever `settings.tasks` is; see `want_workers`.
        revives: start it only if it has died; raise StoreUnavailable if it was stopped, see `check_died`.
        worker_command: command of a worker instead of `python -m jobkit worker --embedded`.
        meanwhile: called while the server starts, if it has to.

    Raises:
        JobkitError: no server program, an unusable home, unreadable data, or a server that is in use by another version
            of jobkit.
    """
    check_system()
    if revives:
        check_died(Home.at(settings.home))
    home = Home.open(settings.home)
    # Before the checks: a server that is about to stop because it is idle sees the request.
    is_news = request_workers(home, settings, only_looks=only_looks)
    served = _served(settings, home)
    silent_since = time.monotonic()
    deadline = silent_since + _START_S
    is_launched = False
    while True:
        status = home.status()
        state, is_ready = status.get("state"), False
        if home.is_supervised():
            _check_host(home, status)
            is_ready = state == "ready" and signal_to(status, 0)
            if is_ready and answers(str(home.socket)):
                if _may_be_used(home, status):
                    if is_news:
                        signal_to(status, signal.SIGHUP)
                    if is_launched:
                        _log_start(settings, home, status)
                    return served
                is_launched = False
                continue
            if state in ("loading", "stopping"):  # both end by themselves
                deadline = max(deadline, time.monotonic() + _START_S)
        elif is_launched:
            raise _ended(home)
        elif _launch_once(home, worker_command, meanwhile, revives=revives):
            is_launched = True
            continue
        if not is_ready:
            silent_since = time.monotonic()
        elif time.monotonic() > silent_since + settings.reply_timeout:
            raise StoreUnavailable(
                f"the embedded server in {home.path} does not answer (silent for {settings.reply_timeout:g} s): "
                f"see {home.supervisor_log}"
            )
        if time.monotonic() > deadline:
            raise JobkitError(
                f"the embedded server in {home.path} did not come up within {_START_S:.0f} s (it is {state!r}); "
                f"see {home.supervisor_log}"
            )
        time.sleep(0.01)


@_explained
def revive(settings: Settings) -> bool:
    """Start the supervisor of a home again if it has died; return True if this process has started it.

    Does not wait until the server answers.

    Raises:
        JobkitError: it was stopped, see `check_died`, or cannot be started.
    """
    home = Home.at(settings.home)
    if home.is_supervised():
        return False
    check_died(home)
    return _launch_once(home, revives=True)


@_explained
def keyed(settings: Settings) -> Settings:
    """Return `settings` with the keys of their home. Raises JobkitError if one cannot be used."""
    home = Home.at(settings.home)
    secret = home.secret(settings.namespace)
    file = str(home.secret_file(settings.namespace))
    return replace(settings, secret=secret, secret_file=file, token_secret=home.token_secret())


def check_died(home: Home) -> None:
    """Raise StoreUnavailable if the server of a home was stopped, or cannot start; not if it runs or has died."""
    if not home.path.is_dir():
        raise StoreUnavailable(f"the home {home.path} was deleted, and its jobs with it")
    status = home.status()
    state, error = status.get("state"), status.get("error")
    if home.is_supervised() or state not in ("stopping", "stopped", "failed"):
        return
    raise StoreUnavailable(
        str(error)
        if state == "failed" and error
        else f"the embedded server in {home.path} was stopped (`jobkit down`), and its jobs wait: start it again with "
        "`jobkit up`, a new submit or any other jobkit command"
    )


@_explained
def want_workers(settings: Settings) -> None:
    """Ask the supervisor of a running server for workers that load the task modules of `settings`.

    It starts a new worker beside the old one, which exits when its jobs have ended.
    """
    home = Home(settings.home)
    if request_workers(home, settings):
        signal_to(home.status(), signal.SIGHUP)


@_explained
def attach(settings: Settings) -> Settings:
    """Return `settings` for a worker of its home's server: starts nothing, and does not count as a user."""
    return _served(settings, Home.open(settings.home), WORKER_CLIENT)


def _served(settings: Settings, home: Home, client_name: str = "") -> Settings:
    home.check_socket_directory()
    results = settings.results or str(home.results)
    return keyed(replace(settings, url=server_url(home, client_name), results=results, home=home.path))


@_explained
def shutdown(
    settings: Settings,
    *,
    now: bool = False,
    is_urgent: Callable[[], bool] = lambda: False,
    on_wait: Callable[[], None] = lambda: None,
) -> bool:
    """Stop the server and the workers of `settings.home`; the data stays. Return True if it was running.

    Running jobs get their drain time and are then given back to the queue; with `now`, or when it `is_urgent`, they are
    given back at once. `on_wait` is called once if it takes longer than a second.

    Raises:
        JobkitError: it does not end, or it would lose what its disk did not take (not with `now`).
    """
    if not settings.home.is_dir():
        return False
    home = Home.open(settings.home)
    if not home.is_supervised():
        return False
    _check_host(home, home.status())
    if not now and _cannot_write(home):
        raise JobkitError(
            f"the disk of {home.path} is full or fails, so the server cannot store how jobs ended: free space and run "
            "`jobkit down` again, or stop it with `jobkit down --now`, after which these jobs may run again"
        )
    drain_s = max((request.drain for request in read_requests(home).values()), default=settings.drain)
    begin = time.monotonic()
    deadline = begin + drain_s + _STOP_MARGIN_S
    asked_at = float("-inf")
    is_told = False
    while home.is_supervised():
        status = home.status()
        waits = (asked_at > 0 and not (now or is_urgent())) or time.monotonic() < asked_at + 0.2
        # Until the supervisor has written its own pid, the status may be its predecessor's.
        if not waits and status.get("state") != "stopped" and signal_to(status, signal.SIGTERM):
            asked_at = time.monotonic()
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


def _cannot_write(home: Home) -> bool:
    """Return True if the server has changes in memory that it could not write to its disk."""
    try:
        return "aof_last_write_status:err" in str(ask(str(home.socket), "INFO", "persistence"))
    except (OSError, JobkitError):
        return False


def _check_host(home: Home, status: Mapping[str, object]) -> None:
    """Raises JobkitError if the home is used by another machine, which is possible on a network file system."""
    host = status.get("host", "")
    if host and host != socket.gethostname():
        raise JobkitError(
            f"the jobkit home {home.path} is in use on machine {host} (this is {socket.gethostname()}): set "
            "JOBKIT_HOME to a directory of this machine, or JOBKIT_URL to a Redis that both can reach"
        )


def _may_be_used(home: Home, status: Mapping[str, object]) -> bool:
    """Return True if the supervisor has our version of jobkit. One of another version is stopped if it is idle: False;
    else JobkitError is raised.

    Its Python does not matter, because jobs run in their submitter's environment. But a supervisor whose environment
    has been deleted cannot start workers.
    """
    environment = status.get("environment")
    has_gone = isinstance(environment, str) and not os.path.isdir(environment)
    if status.get("version") == own_version() and not has_gone:
        return True
    for _ in range(5):  # a connection that was just closed, such as our PING's, may still be listed
        clients = other_clients(home)
        if not clients:
            break
        time.sleep(0.02)
    if not clients and not open_jobs(home, read_requests(home))[1]:
        shutdown(Settings(home=home.path), now=True)
        return False
    if has_gone:  # it still serves the running jobs
        return True
    raise JobkitError(
        f"the embedded server in {home.path} belongs to jobkit {status.get('version')} and is in use (this is jobkit "
        f"{own_version()}): stop it with `jobkit down`, or use another JOBKIT_HOME"
    )


def _launch_once(
    home: Home,
    worker_command: Sequence[str] | None = None,
    meanwhile: Callable[[], object] | None = None,
    *,
    revives: bool,
) -> bool:
    """Start the supervisor unless there is one or another process starts it; return True if this process has."""
    with holding(home.launch_lock) as is_mine:
        if not is_mine or home.is_supervised():
            return False
        if revives:
            check_died(home)
        if home.status().get("state") == "failed":
            find_server()  # a page tries again and again: no process each time
        _launch(home, worker_command, meanwhile)
        return True


def _launch(home: Home, worker_command: Sequence[str] | None, meanwhile: Callable[[], object] | None) -> None:
    """Start the supervisor; return when it, or another one, holds the lock of the home, else raise JobkitError."""
    command = [sys.executable, "-P", "-m", "jobkit.embedded.supervisor", "--home", str(home.path)]
    if worker_command is not None:
        command += ["--worker-command", json.dumps(list(worker_command))]
    with append_private(home.supervisor_log) as log:
        starter = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(),
            cwd=home.path,
            start_new_session=True,
        )
    if meanwhile is not None:
        meanwhile()
    if starter.wait():
        raise _ended(home)


def _log_start(settings: Settings, home: Home, status: Mapping[str, object]) -> None:
    """Log what was started, where, and how to stop it."""
    option = "" if home.path == Settings().home else f" --home {shlex.quote(str(home.path))}"
    logger.info("started a server and workers on this machine: %s, in %s", status.get("server"), home.path)
    logger.info("they end %d min after their last use; `jobkit%s down` stops them now", settings.idle_stop / 60, option)


def _ended(home: Home) -> JobkitError:
    """Return the error for a supervisor that has ended at its start."""
    said = "".join(lines_of(home.supervisor_log)[-1:])
    why = f"the supervisor of {home.path} ended at its start: {said}; see {home.supervisor_log}"
    return JobkitError(home.status().get("error") or why)


def environment() -> dict[str, str]:
    """Return the environment for independent processes, jobkit importable, without secrets and without variables of a
    notebook or a job."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if name
        not in ("JOBKIT_SECRET", "JOBKIT_SECRET_FILE", "JOBKIT_TOKEN_SECRET", "PANEL_COOKIE_SECRET", "BOKEH_SECRET_KEY")
        and name not in ("JOBKIT_OWNER", "JOBKIT_OWNER_ID", "JOBKIT_PROCESS", "JOBKIT_JOB_ID")
        and name not in (PROXIED_VARIABLE, JUPYTER_PID_VARIABLE)
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
