"""`jobkit up`: everything on one machine, in the foreground.

The embedded server and its workers are the supervisor's, as always; `up` makes sure that it lives, adds the dashboard,
and ends all of it. So a notebook that was open before, or is opened later, works with the same server.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import click

from jobkit.cli.group import BadInput
from jobkit.cli.keep import Keeper
from jobkit.cli.run import _DASHBOARD_STOP_S, KEPT, STOPPED, dashboard_command, free_port
from jobkit.cli.serving import PROVIDER, guard
from jobkit.embedded import ensure_running, shutdown
from jobkit.embedded.children import Child
from jobkit.embedded.home import Home, holding
from jobkit.embedded.launch import environment
from jobkit.embedded.worker_requests import request_workers
from jobkit.model import JobkitError
from jobkit.own_machine import to_open, to_print
from jobkit.settings import Settings


def run_up(settings: Settings, port: int | None, *, show: bool) -> int:
    """Runs until Ctrl-C; the exit status.

    Raises:
        BadInput: another `up` has this home, or the port is taken.
        JobkitError: the server cannot be started.
    """
    home = Home.open(settings.home)
    with holding(home.up_lock) as is_mine:
        if not is_mine:
            with suppress(OSError):
                where = home.up_lock.read_text("utf-8").strip()
            raise BadInput(
                f"`jobkit up` already runs for {home.path}{f' at {where}' if where else ''}; "
                "stop it with Ctrl-C where it runs, or use another JOBKIT_HOME"
            )
        port = free_port(port)
        home.up_lock.write_text(_address(port), "utf-8")
        server = ensure_running(settings)
        child = _dashboard(port, home, replace(settings, secret=server.secret))
        with Keeper([child]) as keeper:
            tell = _Announcement(port, settings, show=show)

            def tick() -> None:
                tell()
                request_workers(home, settings)  # we are a user of the server, also while no page is open
                if not home.is_supervised() and not keeper.signals:
                    _say("the embedded server ended; it is started again")
                    with suppress(JobkitError):  # the next tick tries again; the reason is in the supervisor's log
                        ensure_running(settings)

            _say(f"server and workers run in {home.path}; Ctrl-C ends all")
            keeper.run(tick)
            _say("ending; running jobs may finish, Ctrl-C again ends at once")
            keeper.stop(_DASHBOARD_STOP_S)
            _shut_down(settings, keeper)
        home.up_lock.write_text("", "utf-8")
    return child.gave_up_with or 0


def run_remote(settings: Settings, port: int, *, show: bool) -> int:
    """A worker and the dashboard against a Redis that somebody else runs."""
    import jobkit

    jobkit.connect().close()  # an unreachable server is said once, here
    home = Home.open(settings.home)
    worker = Child(
        name="worker",
        argv=[sys.executable, "-m", "jobkit", "worker"],
        env={**os.environ, KEPT: "1"},
        death_signal=signal.SIGTERM,
        give_up=frozenset({2, STOPPED}),
        say=_say,
    )
    with Keeper([worker, _dashboard(port, home, settings)]) as keeper:
        _say(f"worker and dashboard for {settings.masked_url}; Ctrl-C ends both")
        keeper.run(_Announcement(port, settings, show=show))
        keeper.stop(settings.drain + 5.0)
    return worker.gave_up_with or 0


def _dashboard(port: int, home: Home, settings: Settings) -> Child:
    options, environ = guard(settings)
    if not settings.is_embedded and settings.secret:
        environ["JOBKIT_SECRET"] = settings.secret  # by which it knows tokens; an embedded server's is in its home
    return Child(
        name="dashboard",
        argv=dashboard_command(port) + options,
        env=environment() | environ,
        log=home.logs / "dashboard.log",
        death_signal=signal.SIGTERM,
        say=_say_of(home.logs / "dashboard.log"),
    )


class _Announcement:
    """Prints the address of the dashboard once it answers; with a token if the system does not say who connects."""

    def __init__(self, port: int, settings: Settings, *, show: bool) -> None:
        self.port = port
        self.show = show
        self.has_login = bool(settings.login or os.environ.get(PROVIDER))
        self.is_said = False

    def __call__(self) -> None:
        if self.is_said:
            return
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", self.port)) != 0:
                return
        self.is_said = True
        address = _address(self.port)
        click.echo(address if self.has_login else to_print(address))
        if self.show:
            webbrowser.open(address if self.has_login else to_open(address))


def _shut_down(settings: Settings, keeper: Keeper) -> None:
    """Ends server and workers; a further signal ends the patience."""
    before: Callable[..., object] | int | None = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        shutdown(settings, now=keeper.signals > 1)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        shutdown(settings, now=True)
    finally:
        signal.signal(signal.SIGINT, before)
    _say("stopped")


def _address(port: int) -> str:
    return f"http://localhost:{port}/"


def _say_of(log: Path) -> Callable[[str], None]:
    """Says what becomes of a child, and where it said why it died."""
    return lambda line: _say(f"{line}; see {log}" if " ended " in line else line)


def _say(line: str) -> None:
    click.echo(f"jobkit: {line}", err=True)
