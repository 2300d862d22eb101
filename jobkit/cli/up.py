"""`jobkit up` and `jobkit down`: everything on one machine, in the foreground.

The supervisor runs the embedded server and its workers, as always. `up` keeps the supervisor alive, adds the dashboard,
and ends all of them. So a notebook works with the same server, whether it was opened before or after.
"""

from __future__ import annotations

import os
import signal
import socket
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import click

import jobkit
from jobkit.cli import out
from jobkit.cli.dashboard import DEFAULT_PORT, PROVIDER, dashboard_command, free_port, guard
from jobkit.cli.group import BadInput
from jobkit.cli.worker import kept_worker
from jobkit.embedded import ensure_running, shutdown
from jobkit.embedded.children import Child, Keeper
from jobkit.embedded.demand import request_workers
from jobkit.embedded.home import Home, holding
from jobkit.embedded.launch import environment
from jobkit.model import JobkitError
from jobkit.own_machine import to_open, to_print
from jobkit.settings import Settings

#: Seconds that the dashboard gets to stop.
_DASHBOARD_STOP_S = 5.0


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help=f"Port. [{DEFAULT_PORT}, or the next free port]")
@click.option("--show", is_flag=True, help="Open the dashboard in a browser.")
def up(port: int | None, show: bool) -> int:
    """Run server, workers and dashboard in the foreground, restarted when they die. Ctrl-C stops all."""
    settings = Settings.load()
    if settings.scheme == "sync":
        raise BadInput(
            "`jobkit up` needs a server, and sync:// runs each job in the process that submits it; set JOBKIT_URL"
        )
    if not settings.is_embedded:
        return run_remote(settings, free_port(port), show=show)
    return run_up(settings, port, show=show)


@click.command()
@click.option("--now", is_flag=True, help="Release running jobs to the queue at once.")
def down(now: bool) -> None:
    """Stop the embedded server and its workers. Jobs, results and logs stay."""
    settings = Settings.load()
    if not settings.is_embedded:
        raise BadInput(
            f"`jobkit down` stops an embedded server, and JOBKIT_URL is {settings.masked_url}; `jobkit stop` stops its "
            "workers"
        )
    was_running = shutdown(
        settings, now=now, on_wait=lambda: out.say("running jobs may finish; --now releases them to the queue")
    )
    click.echo("stopped" if was_running else f"nothing is running in {settings.home}")


def run_up(settings: Settings, port: int | None, *, show: bool) -> int:
    """Run until Ctrl-C. Returns the exit status.

    Raises:
        BadInput: another `up` uses this home, or the port is in use.
        JobkitError: the server cannot be started.
    """
    home = Home.open(settings.home)
    with holding(home.up_lock) as is_mine:
        if not is_mine:
            with suppress(OSError):
                where = home.up_lock.read_text("utf-8").strip()
            raise BadInput(
                f"`jobkit up` already runs for {home.path}{f' at {where}' if where else ''}; "
                "stop it there with Ctrl-C, or use another JOBKIT_HOME"
            )
        port = free_port(port)
        home.up_lock.write_text(_address(port), "utf-8")
        server = ensure_running(settings)
        child = _dashboard(port, home, replace(settings, secret=server.secret))
        with Keeper([child]) as keeper:
            announce = _announcing(port, settings, show=show)

            def tick() -> None:
                announce()
                request_workers(home, settings)  # keep the server running while no page is open
                if not home.is_supervised() and not keeper.signals:
                    out.say("the embedded server ended; restarting it")
                    with suppress(JobkitError):  # the next tick retries; the reason is in the supervisor's log
                        ensure_running(settings)

            out.say(f"server and workers run in {home.path}; Ctrl-C stops all")
            keeper.run(tick)
            out.say("stopping; running jobs may finish, Ctrl-C again stops at once")
            keeper.stop(_DASHBOARD_STOP_S)
            shutdown(settings, is_urgent=lambda: keeper.signals > 1)
            out.say("stopped")
        home.up_lock.write_text("", "utf-8")
    return child.gave_up_with or 0


def run_remote(settings: Settings, port: int, *, show: bool) -> int:
    """Run a worker and the dashboard for a Redis that is not embedded. Returns the exit status."""
    jobkit.connect().close()  # report an unreachable server once, here
    home = Home.open(settings.home)
    worker = kept_worker("worker", ["worker"])
    with Keeper([worker, _dashboard(port, home, settings)]) as keeper:
        out.say(f"worker and dashboard for {settings.masked_url}; Ctrl-C stops both")
        keeper.run(_announcing(port, settings, show=show))
        keeper.stop(settings.drain + 5.0)
    return worker.gave_up_with or 0


def _dashboard(port: int, home: Home, settings: Settings) -> Child:
    log = home.logs / "dashboard.log"
    options, environ = guard(settings)
    if not settings.is_embedded and settings.secret:
        environ["JOBKIT_SECRET"] = settings.secret  # to verify tokens; that of an embedded server is in its home
    return Child(
        name="dashboard",
        argv=dashboard_command(port) + options,
        env=environment() | environ,
        log=log,
        death_signal=signal.SIGTERM,
        say=lambda line: out.say(f"{line}; see {log}" if " ended " in line else line),
    )


def _announcing(port: int, settings: Settings, *, show: bool) -> Callable[[], None]:
    """Return a function to call repeatedly: it prints the dashboard's address once that answers.

    With a token if the system does not report who connects.
    """
    has_login, is_said = bool(settings.login or os.environ.get(PROVIDER)), False

    def announce() -> None:
        nonlocal is_said
        if is_said:
            return
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return
        is_said = True
        address = _address(port)
        click.echo(address if has_login else to_print(address))
        if show:
            webbrowser.open(address if has_login else to_open(address))

    return announce


def _address(port: int) -> str:
    return f"http://localhost:{port}/"
