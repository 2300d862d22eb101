"""`jobkit pools`: commands for pools of workers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import click

import jobkit
from jobkit.cli import BadInput, add_deeds, as_json_option, given, noun_command, out
from jobkit.cli.worker import drained, wait_option
from jobkit.features.pools.kit import PoolList, Pools
from jobkit.features.pools.launcher import ENGINES
from jobkit.features.pools.store import PoolUnit
from jobkit.model.format import duration
from jobkit.settings import Settings


@noun_command
@as_json_option
def pools(as_json: bool) -> None:
    """List pools, which keep workers on an engine (ssh, Slurm, Dask, Ray, Kubernetes, this machine) while jobs wait.

    \b
    jobkit pools add gpu --on slurm --max 20 --idle 10m --resources gpu=1 partition=a100
    jobkit pools
    """
    infos = jobkit.connect().pools.infos()
    out.listing(as_json, infos, PoolList.COLUMNS, empty=PoolList.EMPTY)
    for info in infos if not as_json else ():
        if info.sentence:
            out.echo(f"{info.name}: {info.sentence}", err=True)


@pools.command()
@click.argument("name", required=False)
@click.argument("options", nargs=-1, metavar="[OPTION=VALUE]...")
@click.option("--on", type=click.Choice([*ENGINES]), help="Engine that runs the workers.")
@click.option("--max", metavar="N", help="Largest number of workers.")
@click.option("--min", metavar="N", help="Smallest number of workers. [0]")
@click.option("--queue", "-q", "queues", multiple=True, metavar="NAME", help="Queue to serve. [the name of the pool]")
@click.option("--slots", "-c", metavar="N", help="Jobs at a time of each worker. [1]")
@click.option("--resources", metavar="NAME=N,...", help="Resources of each worker: gpu=1,mem=64G.")
@click.option("--idle", metavar="TIME", help="An idle worker ends after this time. [10m]")
@click.option("--walltime", metavar="TIME", help="The engine ends a worker after this time. [no limit]")
@click.option("--tasks", "-t", multiple=True, metavar="MODULE", help="Import the tasks of this module.")
@click.option("--setup", metavar="LINES", help="Shell lines to run before a worker: 'module load cuda'.")
@click.option("--python", metavar="PATH", help="Python of the workers. [that of the engine]")
def add(name: str | None, options: Sequence[str], **common: Any) -> None:
    """Add or change a pool, and start an autoscaler unless one runs.

    Further options of the engine are given as OPTION=VALUE. Without --on, the pool stands in [tool.jobkit.pools];
    without NAME, all of that table are added.
    """
    chosen = given(common)
    for text in options:
        key, equals, value = text.partition("=")
        if not equals:
            raise BadInput(f"{text!r} is not understood: options of the engine are given as OPTION=VALUE")
        chosen[key.replace("-", "_")] = value
    kit = jobkit.connect()
    names = [name] if name else list(kit.settings.pools)
    if not names:
        raise BadInput("give a name: jobkit pools add NAME --on ENGINE --max N; [tool.jobkit.pools] has none")
    for each in names:
        table = {} if "on" in chosen else kit.settings.pools.get(each, {})
        values = {**table, **chosen}
        if not values:
            raise BadInput(f"pool {each} needs --on and --max, or a table [tool.jobkit.pools.{each}] in pyproject.toml")
        made = kit.pool(each, **values)
        out.echo(f"{made.id}: {made.spec.sentence}" if made.spec else made.id)
        if made.sentence:
            out.echo(made.sentence, err=True)
        out.note(kit, "add_pool", "pool", [each])


@pools.command()
@click.argument("name")
@as_json_option
def show(name: str, as_json: bool) -> None:
    """Show a pool and its workers."""
    info = jobkit.connect().pools.get(name).snapshot
    if as_json:
        return out.echo_json(info.to_json())
    out.echo(f"{info.name}  {info.state}", bold=True)
    out.facts(
        {
            "is": info.spec.sentence if info.spec else "",
            "now": f"{info.wanted} wanted, {info.pending} pending, {info.running} running",
            "fixed": ""
            if info.fixed is None
            else f"{info.fixed} workers: `jobkit pools scale {info.name} auto` ends that",
            "hours": f"{info.worker_hours:g} worker-hours",
            "autoscaler": info.manager,
            "options": ", ".join(f"{key}={value}" for key, value in info.spec.options.items()) if info.spec else "",
            "note": info.sentence,
        }
    )
    columns: dict[str, Callable[[PoolUnit], str]] = {
        "UNIT": lambda unit: unit.unit,
        "ENGINE ID": lambda unit: unit.id,
        "STATE": lambda unit: unit.phase,
        "HOST": lambda unit: unit.host,
        "BUSY": lambda unit: f"{unit.running}/{unit.slots}" if unit.phase == "up" else "",
        "RAN": lambda unit: duration((unit.counted_ms - unit.started_ms) / 1000) if unit.started_ms else "",
        "REASON": lambda unit: unit.error or unit.reason,
    }
    out.listing(False, info.units, columns, empty="No workers.")


add_deeds(pools, Pools)


@pools.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--now", is_flag=True, help="Remove at once, also if the engine does not answer; jobs are given back.")
def remove(names: tuple[str, ...], now: bool) -> None:
    """Remove pools when their workers have finished their jobs."""
    kit = jobkit.connect()
    for each in names:
        kit.pools.remove(each, now=now)
        out.echo(each)
        out.note(kit, "remove_pool", "pool", [each])


@pools.command()
@click.argument("name")
@click.argument("n", metavar="N|auto")
def scale(name: str, n: str) -> None:
    """Keep exactly N workers; auto: as many as jobs need. Busy workers finish their jobs first."""
    if n != "auto" and not n.isdecimal():
        raise BadInput(f"N must be a number of workers or auto, not {n!r}")
    kit = jobkit.connect()
    kit.pools.scale(name, None if n == "auto" else int(n))
    out.echo(name)
    out.note(kit, "scale_pool", "pool", [name])


@pools.command()
@click.argument("name")
@wait_option
def drain(name: str, is_waiting: bool) -> None:
    """Let the workers of a pool finish their jobs and end; jobs that wait get new ones. Prints the workers' ids."""
    kit = jobkit.connect()
    drained(kit, kit.pools.drain(name), is_waiting)
    out.note(kit, "drain_pool", "pool", [name])


@pools.command()
def run() -> None:
    """Run the autoscaler in the foreground, for a service. Workers go on when it ends.

    Adds the pools of [tool.jobkit.pools]. Several may run: one leads, the others wait.
    """
    from jobkit.features.pools.process import run_autoscaler

    kit = jobkit.connect()
    settings = Settings.load()
    if settings.scheme == "sync":
        raise BadInput("sync:// runs jobs in the calling process: pools need another JOBKIT_URL")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    kit.pools.register()
    kit.close()
    out.say(f"the autoscaler keeps the pools of {settings.masked_url}, namespace {settings.namespace}; Ctrl-C ends it")
    run_autoscaler(settings)
