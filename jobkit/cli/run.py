"""Commands that run things: up, worker, dashboard, down."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import click

from jobkit.cli import out
from jobkit.cli.act import task_modules
from jobkit.cli.group import BadInput
from jobkit.settings import Settings, checked_name
from jobkit.tasks import limit_options
from jobkit.tasks.options import size_bytes

#: Exit status of a worker that `jobkit stop` ended (`jobkit.worker.main`), and the variable that tells a worker that
#: somebody starts it again.
STOPPED, KEPT = 3, "_JOBKIT_KEPT"

DEFAULT_PORT = 5006
_PORTS_TRIED = 20
_DASHBOARD_STOP_S = 5.0


@click.command()
@click.option("--tasks", "-t", "modules", multiple=True, metavar="MODULE", help="Import its tasks; may be repeated.")
@click.option(
    "--queue",
    "-q",
    "queues",
    multiple=True,
    metavar="NAME[:WEIGHT]",
    help="Served in the order given, or sharing the slots by weight: -q fast:3 -q slow:1. [default]",
)
@click.option("--resources", metavar="NAME=N,...", help="What it has for jobs that need it: gpu=2,mem=16.")
@click.option("--slots", "-c", type=click.IntRange(1, 10_000), help="Jobs at once. [CPUs, at least 2]")
@click.option("--processes", "-n", type=click.IntRange(1, 512), default=1, help="Worker processes. [1]")
@click.option("--arq", metavar="PATH", help="Run the jobs of an arq worker: module.WorkerSettings.")
@click.option("--burst", is_flag=True, help="Stop when the queues are empty.")
@click.option("--max-jobs", type=click.IntRange(1), metavar="N", help="Stop after so many jobs.")
@click.option("--max-time", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="Stop after so long.")
@click.option("--max-memory", metavar="SIZE", help="Stop, between jobs, above so much: 2GB.")
@click.option("--locals", "keeps_locals", is_flag=True, help="Keep the failing frame's variables with an error.")
@click.option("--watch", is_flag=True, help="Start anew on changed task code; running jobs finish on the old.")
@click.option("--verbose", "-v", is_flag=True)
@click.option("--embedded", is_flag=True, hidden=True, help="Started by the supervisor of an embedded server.")
def worker(
    modules: tuple[str, ...],
    queues: tuple[str, ...],
    resources: str | None,
    slots: int | None,
    processes: int,
    arq: str | None,
    burst: bool,
    max_jobs: int | None,
    max_time: float | None,
    max_memory: str | None,
    keeps_locals: bool,
    watch: bool,
    verbose: bool,
    embedded: bool,
) -> int:
    """Run jobs until Ctrl-C (running ones may finish; a second Ctrl-C gives them back at once)."""
    settings = out.settings()
    if arq is None and settings.scheme == "sync":
        raise BadInput("sync:// runs each job where it is submitted and needs no worker; set JOBKIT_URL to a Redis")
    settings = replace(settings, locals=settings.locals or keeps_locals)
    served = queues_of(queues)
    has = None if resources is None else limit_options.resources("--resources", resources)
    memory_bytes = None if max_memory is None else size_bytes("--max-memory", max_memory)
    if arq is not None and (modules or len(queues) > 1 or has or isinstance(served, dict)):
        raise BadInput(
            "--arq takes its functions from the settings class, and one queue: leave out -t, further -q, weights and "
            "--resources"
        )
    tasks = task_modules(modules or settings.tasks) if arq is None else (arq.replace(":", ".").rpartition(".")[0],)
    if processes > 1 or watch:
        return _several(processes, is_finite=burst, watched=tasks if watch else ())
    if arq is not None:
        from jobkit.worker.from_arq.main import run_arq_worker

        status = run_arq_worker(
            arq,
            settings,
            burst=burst,
            slots=slots,
            queue=queues[0] if queues else None,
            max_jobs=max_jobs,
            max_time=max_time,
            max_memory=memory_bytes,
            verbose=verbose,
        )
        return _status(status)
    from jobkit.worker.main import run_worker

    is_local = settings.is_embedded
    if is_local:
        settings = _on_socket(settings, is_supervised=embedded)
    status = run_worker(
        settings,
        tasks=tasks,
        queues=served or (_all_queues(tasks, settings) if embedded else ("default",)),
        resources=has,
        slots=slots or max(2, os.cpu_count() or 2),
        burst=burst,
        max_jobs=max_jobs,
        max_time=max_time,
        max_memory=memory_bytes,
        verbose=verbose,
        is_local=is_local,
    )
    return _status(status)


def queues_of(given: Sequence[str]) -> tuple[str, ...] | dict[str, float]:
    """Names in their order, or where any has one (`fast:3`) their weights; those without have 1.

    Raises:
        BadInput: a weight is not a number above 0, or a queue is named twice.
    """
    weights: dict[str, float] = {}
    has_weights = False
    for text in given:
        name, colon, weight = text.rpartition(":")
        if not colon or not weight.replace(".", "", 1).lstrip("-").isdigit():
            name, weight = text, "1"
        else:
            has_weights = True
        checked_name("queue", name)
        if not 0 < float(weight) <= 1_000_000:
            raise BadInput(f"the weight of queue {name} must be above 0, not {weight}: -q {name}:3")
        if name in weights:
            raise BadInput(f"queue {name} is given twice")
        weights[name] = float(weight)
    return weights if has_weights else tuple(weights)


def _status(status: int) -> int:
    """Of a worker's end. That `jobkit stop` asked for it concerns only who would start it again."""
    return 0 if status == STOPPED and KEPT not in os.environ else status


def _on_socket(settings: Settings, *, is_supervised: bool) -> Settings:
    """`local://` as the socket of its server, with the home's own key."""
    from jobkit.embedded import attach, ensure_running

    server = attach(settings) if is_supervised else ensure_running(settings, only_looks=True)
    return replace(settings, url=server.url, secret=server.secret, results=settings.results or str(server.results))


def _all_queues(tasks: Sequence[str], settings: Settings) -> tuple[str, ...]:
    """Every queue that the tasks and the routing table name: on one machine nobody else would serve them."""
    from jobkit.model import JobkitError
    from jobkit.tasks.registry import registry

    try:
        known = {task.effective().queue for task in registry.load(tasks)}
    except JobkitError:  # run_worker says it
        known = set()
    others = {*known, *settings.routing.values()} - {None, "", "default"}
    return ("default", *sorted(filter(None, others)))


def _several(processes: int, *, is_finite: bool, watched: Sequence[str] = ()) -> int:
    """The same command line in several processes, restarted when they die, recycle themselves or (with `watched`, the
    task modules) when their code changes."""
    from jobkit.cli.keep import Keeper
    from jobkit.cli.watch import FINISH_S, Watch
    from jobkit.embedded.children import Child

    argv = [sys.executable, "-m", "jobkit", *_without_processes(sys.argv[1:])]

    def say(line: str) -> None:
        click.echo(f"jobkit: {line}", err=True)

    def make(n: int) -> Child:
        return Child(
            name=f"worker {n + 1}",
            argv=argv,
            env={**os.environ, KEPT: "1"} | ({"JOBKIT_DRAIN": str(FINISH_S)} if watched else {}),
            death_signal=signal.SIGTERM,
            give_up=frozenset({0, 2, STOPPED} if is_finite else {2, STOPPED}),
            say=say,
        )

    drain_s = out.settings().drain
    with Keeper([make(n) for n in range(processes)]) as keeper:
        if watched:
            watch = Watch(keeper, make, watched, say)
            keeper.run(watch.tick)
            watch.stop(drain_s)
        else:
            keeper.run()
            keeper.stop(drain_s + 5.0)
    ends = {child.gave_up_with or 0 for child in keeper.children} - {STOPPED}
    return max(ends, default=0)


def _without_processes(arguments: Sequence[str]) -> list[str]:
    """A worker's command line without `-n 4`, `-n4`, `--processes 4`, `--processes=4` and `--watch`."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in ("-n", "--processes"):
            skip = True
        elif argument != "--watch" and not argument.startswith(("--processes=", "-n")):
            kept.append(argument)
    return kept


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help=f"[{DEFAULT_PORT}, or the next that is free]")
@click.option("--show", is_flag=True, help="Open it in a browser.")
@click.option("--web", metavar="DIR", help="Also serve a folder with a web page of yours, at /DIR/.")
@click.option("--host", metavar="ADDRESS", help="Serve others than this machine, too; needs a login. [127.0.0.1]")
@click.option("--login", metavar="FILE", help='Ask for a login; FILE is JSON: {"name": "password"}.')
@click.option("--oauth", metavar="PROVIDER", help="Have people log in at github, google, azurev2, generic, ...")
@click.option("--cert", metavar="FILE", help="Speak TLS, with this certificate (PEM).")
@click.option("--key", metavar="FILE", help="Key of the certificate, where it is a file of its own.")
def dashboard(
    port: int | None,
    show: bool,
    web: str | None,
    host: str | None,
    login: str | None,
    oauth: str | None,
    cert: str | None,
    key: str | None,
) -> None:
    """The dashboard and the HTTP API alone, on this machine's own address, against JOBKIT_URL."""
    from jobkit.cli.serving import PROVIDER, check_host, guard, tls
    from jobkit.http.plugin import WEB_VARIABLE
    from jobkit.own_machine import system_tells
    from jobkit.people import ANONYMOUS

    login, oauth = login or out.settings().login or None, oauth or os.environ.get(PROVIDER)
    secured = tls(cert, key)
    if secured and show:
        raise BadInput("--show does not go with --cert: Panel would open http://; open the address that is printed")
    host = check_host(host, bool(login or oauth))
    served = {} if web is None else {WEB_VARIABLE: _web_folder(web)}
    port = free_port(port, host)
    kit = out.connect()  # what is wrong with the URL is said here and not in the middle of a page
    guarded, environ = guard(kit.settings, login, oauth)
    kit.close()
    if kit.settings.public_url and not (login or oauth or ANONYMOUS in kit.settings.roles):
        click.echo(
            "jobkit: as JOBKIT_PUBLIC_URL says, others reach it, and nobody asks them who they are: it shows no jobs. "
            "Give it --login FILE or --oauth PROVIDER, or say what strangers may: JOBKIT_ROLES=anonymous=view",
            err=True,
        )
    name = "localhost" if host in ("127.0.0.1", "0.0.0.0") else host
    if login or oauth or system_tells():  # else the server itself prints its address, with a token
        click.echo(f"http{'s' if secured else ''}://{name}:{port}/", err=True)
    argv = dashboard_command(port, host) + guarded + secured + (["--show"] if show else [])
    sys.stdout.flush()
    os.execve(argv[0], argv, {**os.environ, **environ, **served})


def _web_folder(folder: str) -> str:
    """Return `PATH=FOLDER` for the server: a folder is served at its own relative path, or at its name."""
    path = Path(folder)
    name = path.name if path.is_absolute() or ".." in path.parts else path.as_posix()
    if not path.is_dir() or name in ("", ".", "api", "app", "static") or name.startswith("api/"):
        raise BadInput(f"--web must be a folder with another name than api, app or static, not {folder!r}")
    return f"{name}={path.resolve()}"


def dashboard_command(port: int, host: str = "127.0.0.1") -> list[str]:
    """The command line of the dashboard's server: only pages that came from it may talk to it."""
    from jobkit.cli.serving import names_of

    command = [sys.executable, "-m", "panel", "serve", str(Path(__file__).with_name("app.py"))]
    command += ["--address", host, "--port", str(port), "--plugins", "jobkit.http"]
    for name in names_of(host):
        command += ["--allow-websocket-origin", f"{name}:{port}"]
    if public := urlsplit(out.settings().public_url).netloc:
        command += ["--allow-websocket-origin", public]
    return command


def free_port(wanted: int | None, host: str = "127.0.0.1") -> int:
    """`wanted` if nobody listens there; without a wish the first free one from `DEFAULT_PORT`.

    Raises:
        BadInput: it is taken.
    """
    candidates = [wanted] if wanted is not None else range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED)
    for port in candidates:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise BadInput(f"port {candidates[0]} is taken; give another one with --port")


@click.command()
@click.option("--now", is_flag=True, help="Give running jobs back to the queue at once.")
def down(now: bool) -> None:
    """Stop the embedded server and its workers; jobs, results and logs stay."""
    from jobkit.embedded import shutdown

    settings = out.settings()
    if not settings.is_embedded:
        raise BadInput(
            f"`jobkit down` stops an embedded server, and JOBKIT_URL is {settings.masked_url}: stop its workers with "
            "Ctrl-C where they run"
        )
    was_running = shutdown(
        settings,
        now=now,
        on_wait=lambda: click.echo("jobkit: running jobs may finish; --now gives them back to the queue", err=True),
    )
    click.echo("stopped" if was_running else f"nothing was running in {settings.home}")


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help=f"[{DEFAULT_PORT}, or the next that is free]")
@click.option("--show", is_flag=True, help="Open the dashboard in a browser.")
def up(port: int | None, show: bool) -> int:
    """Server, workers and dashboard in the foreground, restarted when they die; Ctrl-C ends all."""
    from jobkit.cli.up import run_remote, run_up

    settings = out.settings()
    if settings.scheme == "sync":
        raise BadInput("`jobkit up` needs a server: sync:// runs each job where it is submitted; set JOBKIT_URL")
    if not settings.is_embedded:
        return run_remote(settings, free_port(port), show=show)
    return run_up(settings, port, show=show)
