"""Commands for workers: worker, workers, drain, stop."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

import jobkit
from jobkit.cli import FAILED, BadInput, age, as_json_option, noun_command, out
from jobkit.features import DOORS, door
from jobkit.joined import REVOKED
from jobkit.model import JobkitError
from jobkit.settings import Settings, checked_name
from jobkit.store.binary import check_system
from jobkit.store.values import Fleet, WorkerInfo
from jobkit.system.hardware import cores
from jobkit.system.threads import share_machine
from jobkit.tasks import option_values
from jobkit.tasks.registry import registry

if TYPE_CHECKING:
    from jobkit.client.kit import Kit
    from jobkit.embedded.children import Child, Keeper

#: Exit status of a worker that `jobkit workers stop` ended (`jobkit.worker.main`).
STOPPED = 3

#: Process id of the keeper, for workers that it restarts. Each is one process, whatever `--processes` says.
_KEPT = "_JOBKIT_KEPT"


slots_option = click.option(
    "--slots",
    "-c",
    type=click.IntRange(1, 10_000),
    help="Maximum number of running jobs. [JOBKIT_SLOTS, else CPUs, 2 or more]",
)


def _door_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add an option for each way in for jobs of other queues' clients."""
    for name, way in DOORS.items():
        command = click.option(f"--{name}", metavar="PATH", help=way.help)(command)
    return command


@click.command()
@click.option(
    "--tasks",
    "-t",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Import the tasks of this module; may be repeated.",
)
@click.option(
    "--queue",
    "-q",
    "queues",
    multiple=True,
    metavar="NAME[:WEIGHT]",
    help="Serve this queue; several in the order given, or by weight: -q fast:3 -q slow:1. [default]",
)
@click.option("--resources", metavar="NAME=N,...", help="Resources for jobs that need them: gpu=2,mem=16.")
@slots_option
@click.option("--processes", "-n", type=click.IntRange(1, 512), default=1, help="Number of worker processes. [1]")
@_door_options
@click.option("--burst", is_flag=True, help="Stop when the queues are empty.")
@click.option("--max-jobs", type=click.IntRange(1), metavar="N", help="Stop after N jobs.")
@click.option("--max-time", callback=age, metavar="TIME", help="Stop after this time: 90, 15m, 2h.")
@click.option("--max-memory", metavar="SIZE", help="Stop between jobs if memory exceeds this: 2GB.")
@click.option("--locals", "keeps_locals", is_flag=True, help="Store the failing frame's local variables with errors.")
@click.option("--watch", is_flag=True, help="Restart when task code changes; running jobs finish on the old code.")
@click.option(
    "--check", "is_check", is_flag=True, help="Only check that this machine's worker of the queues takes jobs."
)
@click.option("--verbose", "-v", is_flag=True, help="Log more.")
@click.option("--embedded", is_flag=True, hidden=True, help="Started by the supervisor of an embedded server.")
def worker(
    modules: tuple[str, ...],
    queues: tuple[str, ...],
    resources: str | None,
    slots: int | None,
    processes: int,
    burst: bool,
    max_jobs: int | None,
    max_time: float | None,
    max_memory: str | None,
    keeps_locals: bool,
    watch: bool,
    is_check: bool,
    verbose: bool,
    embedded: bool,
    **doors: str | None,
) -> int:
    """Run jobs until Ctrl-C, SIGTERM or SIGHUP. Running jobs may finish; a second Ctrl-C releases them to the queue.

    With --check, for probes: exit status 0 if a worker of this machine serves the queue (each -q; default: any).
    """
    settings = Settings.load()
    door_name, path = next((pair for pair in doors.items() if pair[1]), ("", None))
    if path is None and settings.scheme == "sync":
        raise BadInput(
            "sync:// runs each job in the process that submits it and needs no worker; set JOBKIT_URL to a Redis"
        )
    check_system()
    settings = replace(settings, locals=settings.locals or keeps_locals)
    served = queues_of(queues)
    if is_check:
        if path is not None:
            settings, name = door(door_name).place_of(path, settings)
            served = served or (name,)
        return check_workers(settings, served)
    has = None if resources is None else option_values.resources("--resources", resources)
    memory_bytes = None if max_memory is None else option_values.size_bytes("--max-memory", max_memory)
    if path is not None and (modules or len(queues) > 1 or has or isinstance(served, dict)):
        raise BadInput(
            f"--{door_name} takes its functions from the settings class and serves one queue; it cannot be used with "
            "-t, several -q, weights or --resources"
        )
    tasks = (modules or settings.task_modules) if path is None else (path.replace(":", ".").rpartition(".")[0],)
    is_kept = os.environ.get(_KEPT) == str(os.getppid())
    if (processes > 1 or watch) and not is_kept:
        return _several(processes, is_finite=burst, watched=tasks if watch else ())
    from jobkit.worker.about import RecycleLimits
    from jobkit.worker.main import run_worker

    if max_time == 0:
        raise BadInput("--max-time must be above 0")
    recycle = RecycleLimits(max_jobs, max_time, memory_bytes)
    slots = slots or settings.slots or None
    if path is not None:
        queue, run = queues[0] if queues else None, door(door_name).run
        status = run(path, settings, burst=burst, slots=slots, queue=queue, recycle=recycle, verbose=verbose)
    else:
        is_local, revive = settings.is_embedded, None
        if is_local:
            from jobkit.embedded import attach, ensure_running

            settings = attach(settings) if embedded else ensure_running(settings, only_looks=True)
            revive = None if embedded else _reviving(settings)
        slots = slots or max(2, cores())
        share_machine(processes)
        status = run_worker(
            settings,
            tasks=tasks,
            queues=served or (_all_queues(tasks, settings) if embedded else ("default",)),
            resources=has,
            slots=slots,
            burst=burst,
            recycle=recycle,
            verbose=verbose,
            is_local=is_local,
            is_supervised=embedded,
            revive=revive,
        )
    return 0 if status == STOPPED and not is_kept else status  # only a keeper needs to know `STOPPED`


def _reviving(settings: Settings) -> Callable[[], bool]:
    """Return a function that starts a dead embedded server again, and returns False once its home is gone."""
    from jobkit.embedded.home import Home
    from jobkit.embedded.launch import revive

    home = Home.at(settings.home)
    known = home.identity()

    def is_there() -> bool:
        with suppress(JobkitError):  # it was stopped, and may be started again
            revive(settings)
        return home.identity() == known

    return is_there


def queues_of(given: Sequence[str]) -> tuple[str, ...] | dict[str, float]:
    """Return the names in order, or their weights if any has one (`fast:3`); the others have weight 1."""
    weights: dict[str, float | None] = {}
    for text in given:
        match = re.fullmatch(r"(.*):(-?\d*\.?\d+)", text)
        name, weight = (match[1], float(match[2])) if match else (text, None)
        checked_name("queue", name)
        if weight is not None and not 0 < weight <= 1_000_000:
            raise BadInput(f"the weight of queue {name} must be above 0, not {weight:g}: -q {name}:3")
        if name in weights:
            raise BadInput(f"queue {name} is given twice")
        weights[name] = weight
    if not any(weights.values()):
        return tuple(weights)
    return {name: weight or 1.0 for name, weight in weights.items()}


def _all_queues(tasks: Sequence[str], settings: Settings) -> tuple[str, ...]:
    """Return all queues that the tasks and the routing name, since an embedded server has no other workers."""
    try:
        known = {task.effective().queue for task in registry.load(tasks)}
    except JobkitError:  # run_worker reports it
        known = set()
    others = {*known, *settings.routing.values()} - {None, "", "default"}
    return ("default", *sorted(filter(None, others)))


def check_workers(settings: Settings, queues: Iterable[str]) -> int:
    """Print the workers of this machine that take jobs of each queue, or what is missing. Returns the exit status."""
    from jobkit.embedded import attach
    from jobkit.embedded.home import Home
    from jobkit.store.redis import RedisStore

    async def read() -> list[WorkerInfo]:
        store = RedisStore(attach(settings) if settings.is_embedded else settings)
        try:
            return await store.workers()
        finally:
            await store.close()

    if settings.is_embedded and not Home.at(settings.home).is_supervised():
        raise JobkitError(f"nothing runs in {settings.home}")
    host = socket.gethostname()
    found = [worker for worker in asyncio.run(read()) if worker.host == host and worker.is_alive]
    taking = [worker for worker in found if worker.takes_jobs]
    missing = [queue for queue in queues if not any(queue in worker.queues for worker in taking)]
    if missing or not taking:
        which = f" of {', '.join(missing)}" if missing else ""
        raise JobkitError(f"no worker on {host} takes jobs{which}{'; one is draining' if found != taking else ''}")
    for worker in taking:
        out.echo(f"{worker.id} serves {', '.join(worker.queues)}, {worker.running}/{worker.slots} busy")
    return 0


def kept_worker(name: str, arguments: Sequence[str], give_up: Sequence[int] = (), **environ: str) -> Child:
    """Return a worker for a keeper, which restarts it unless it ends with such a status or was stopped."""
    from jobkit.embedded.children import Child

    return Child(
        name=name,
        argv=[sys.executable, "-m", "jobkit", *arguments],
        env={**os.environ, _KEPT: str(os.getpid()), **environ},
        death_signal=signal.SIGTERM,
        give_up=frozenset({2, STOPPED, REVOKED, *give_up}),
        say=out.say,
    )


def _several(processes: int, *, is_finite: bool, watched: Sequence[str] = ()) -> int:
    """Run this command line in several processes, restarted when they die, and when the code of `watched` changes."""
    from jobkit.embedded.children import Keeper

    def make(n: int) -> Child:
        environ = {"JOBKIT_DRAIN": str(_FINISH_S)} if watched else {}
        return kept_worker(f"worker {n + 1}", sys.argv[1:], (0,) if is_finite else (), **environ)

    with Keeper([make(n) for n in range(processes)]) as keeper:
        keeper.run(_watching(keeper, make, watched) if watched else lambda: None)
        keeper.stop(Settings.load().drain + (0.0 if watched else 5.0))
    ends = {child.gave_up_with or 0 for child in keeper.children.values()} - {STOPPED}
    return max(ends, default=0)


# -- replacing workers when their code changes -------------------------------------------------------------------------
# Whole processes, since reloading a module that is imported already is not reliable. If changed code does not import,
# the old workers go on.

#: Seconds between two checks of the files, and without a change before workers restart: editors write in steps.
_LOOK_S = 0.5
#: Seconds that a worker on old code may take to finish its jobs.
_FINISH_S = 30 * 86_400

_CHECK = "import sys\nfrom jobkit.cli.worker import check\nsys.exit(check(sys.argv[1:]))"

Stamp = dict[Path, int]


def folders_of(modules: Sequence[str]) -> list[tuple[Path, bool]]:
    """Return the folders to watch, as `(folder, is_deep)`: packages with subfolders, folders of modules without."""
    found: dict[Path, bool] = {}
    if os.getcwd() not in sys.path and "" not in sys.path:  # as the registry does
        sys.path.insert(0, os.getcwd())
    for name in modules:
        try:
            spec = importlib.util.find_spec(name.partition(".")[0])
        except (ImportError, ValueError):
            continue
        for folder in (spec and spec.submodule_search_locations) or ():
            found[Path(folder).resolve()] = True
        if spec is not None and not spec.submodule_search_locations and spec.origin and os.path.isfile(spec.origin):
            found.setdefault(Path(spec.origin).resolve().parent, False)
    return list(found.items())


def stamp_of(folders: Sequence[tuple[Path, bool]]) -> Stamp:
    """Return the time of the last change of each Python file."""
    stamp: Stamp = {}
    for folder, is_deep in folders:
        for file in folder.rglob("*.py") if is_deep else folder.glob("*.py"):
            with suppress(OSError):  # deleted just now
                stamp[file] = file.stat().st_mtime_ns
    return stamp


def check(modules: Sequence[str]) -> str | None:
    """Import task modules in this process. Returns a sentence for `sys.exit` if that fails."""
    try:
        registry.load(modules)
    except JobkitError as error:
        return str(error)
    return None


def _watching(keeper: Keeper, make: Callable[[int], Child], modules: Sequence[str]) -> Callable[[], None]:
    """Return a function to call repeatedly: it replaces the children of a keeper when files change."""
    folders = folders_of(modules)
    known = seen = stamp_of(folders)
    looked_at = time.monotonic()

    def tick() -> None:
        nonlocal known, seen, looked_at
        if time.monotonic() - looked_at < _LOOK_S:
            return
        stamp, before = stamp_of(folders), seen
        seen, looked_at = stamp, time.monotonic()
        if stamp == known or stamp != before:
            return
        names = sorted(file.name for file in stamp.keys() | known if stamp.get(file) != known.get(file))
        changed, known = ", ".join(names[:5]), stamp
        argv = [sys.executable, "-c", _CHECK, *modules]
        checked = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if checked.returncode:
            why = checked.stderr.strip().rpartition("\n")[2]
            out.say(f"{changed} changed, but the workers keep the old code: {why}")
            return
        out.say(f"{changed} changed; workers restart with the new code, running jobs finish on the old code")
        for n in range(len(keeper.children)):
            keeper.replace(make(n), lambda old: old.terminate())

    return tick


@noun_command
@click.option("--all", "-a", "with_dead", is_flag=True, help="Also those that were lost in the last hour.")
@as_json_option
def workers(with_dead: bool, as_json: bool) -> None:
    """List workers and their load; drain or stop some."""
    from jobkit.client.loop import background  # this module is what `jobkit worker` loads, which needs no client
    from jobkit.client.losses import lost_jobs

    kit = jobkit.connect()
    known = kit.workers()
    found = [worker for worker in known if worker.is_alive or with_dead]
    if not as_json and (refused := kit.refused()):
        out.echo(refused, err=True)
    for worker in found if not as_json else ():
        if worker.is_alive and worker.problem:
            out.echo(f"{worker.id} {worker.problem}", err=True)
    out.listing(as_json, found, known.columns_for(found), empty=known.EMPTY)
    if known and not as_json:
        out.echo(Fleet.of(known).sentence, err=True)
        jobs = background.call(lost_jobs(kit.verbs.store, found))
        for worker in found:
            for lost in (some := jobs.get(worker.id, ())):
                out.echo(f"{worker.id} was lost with job {lost.id[:8]}, which {lost.sentence}", err=True)
            if len(worker.lost_jobs) > len(some) > 0:
                out.echo(f"{worker.id} was lost with {worker.lost_text}; these are the first {len(some)}", err=True)


wait_option = click.option("--wait", "-w", "is_waiting", is_flag=True, help="Return when the workers have ended.")


@workers.command()
@click.argument("ids", nargs=-1, metavar="[WORKER]...")
@click.option("--queue", "-q", metavar="NAME", help="All workers that serve this queue.")
@click.option("--host", metavar="NAME", help="All workers of this machine.")
@wait_option
def drain(ids: tuple[str, ...], queue: str | None, host: str | None, is_waiting: bool) -> int:
    """Let workers finish their jobs, however long they take, and end. Prints their ids.

    They take no further jobs. `jobkit workers stop` gives jobs back that take longer than the drain time.
    """
    if not ids and queue is None and host is None:
        raise BadInput("give ids of workers, --queue or --host; `jobkit workers stop` ends all workers")
    kit = jobkit.connect()
    found = kit.workers.drain(ids, queue=queue, host=host)
    if not found:
        out.echo("No live worker.", err=True)
        return FAILED
    drained(kit, found, is_waiting)
    out.note(kit, "drain_worker", "worker", found)
    return 0


def drained(kit: Kit, found: Sequence[str], is_waiting: bool) -> None:
    """Print the ids of workers that end, and return when they have ended if that is wanted."""
    for worker in found:
        out.echo(worker)
    if is_waiting and found:
        kit.workers.await_end(found)


@workers.command()
@click.option("--now", is_flag=True, help="Release running jobs to the queue instead of finishing them.")
@click.option("--host", metavar="NAME", help="Only workers of this machine.")
@click.option("--queue", "-q", metavar="NAME", help="Only workers that serve this queue.")
def stop(now: bool, host: str | None, queue: str | None) -> int:
    """Ask workers to finish their jobs and exit, and print the workers' ids.

    A released job loses no attempt. An embedded server restarts its workers; `jobkit down` stops them.
    """
    kit = jobkit.connect()
    asked = kit.workers.stop(host=host, queue=queue, now=now)
    if not asked:
        which = [f" on host {host!r}" if host else "", f" for queue {queue!r}" if queue else ""]
        out.echo(f"No live worker{' and'.join(filter(None, which))}.", err=True)
        return FAILED
    for worker in asked:
        out.echo(worker.id)
    out.note(kit, "stop_worker" if now else "drain_worker", "worker", [worker.id for worker in asked])
    if Settings.load().is_embedded:
        out.echo("The embedded server restarts its workers; `jobkit down` stops them.", err=True)
    return 0
