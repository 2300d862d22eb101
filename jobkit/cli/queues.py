"""Commands for tasks, queues and totals: tasks, queues, stats."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

import jobkit
from jobkit.cli import add_deeds, as_json_option, complete, noun_command, out
from jobkit.client.pauses import Queues, Tasks
from jobkit.client.tables import TaskTable, queue_columns, totals, usage
from jobkit.client.waits import queue_state
from jobkit.features import modules
from jobkit.model import InvalidParams, JobEvent, JobkitError
from jobkit.model.cells import written
from jobkit.model.format import GLYPHS
from jobkit.model.plain import to_json
from jobkit.settings import checked_name
from jobkit.tasks.params import describe
from jobkit.tasks.registry import registry

if TYPE_CHECKING:
    from rich.console import RenderableType

    from jobkit.client.kit import Kit
    from jobkit.tasks.info import TaskInfo

#: Shortest time between two updates, in seconds.
_SOON_S = 0.25

#: Longest time between two updates, in seconds: the load of workers changes without an event.
_LATEST_S = 2.0

#: Seconds of "the last minute".
_MINUTE_S = 60.0


@noun_command
@as_json_option
def tasks(as_json: bool) -> None:
    """List the tasks that can be submitted; show, pause or resume them by name."""
    known = known_tasks(jobkit.connect())
    out.listing(as_json, known.values(), known.COLUMNS, empty=known.EMPTY, to_json=_with_schema)


@tasks.command()
@click.argument("name", metavar="TASK", **complete("tasks"))
@as_json_option
def show(name: str, as_json: bool) -> None:
    """Show a task with its parameters."""
    info = task_info(jobkit.connect(), name)
    if as_json:
        return out.echo_json(_with_schema(info))
    out.echo(f"{info.name}  {info.title}", bold=True)
    for spec in info.params:
        out.echo(f"  {usage(spec):<28} {describe(spec)}  {spec.help}".rstrip())


def _known_task(kit: Kit, name: str) -> str:
    if name not in kit.tasks():
        out.echo(f"no worker has a task {out.one_line(name)} yet", err=True)
    return name


add_deeds(tasks, Tasks, _known_task)


def _with_schema(info: TaskInfo) -> dict[str, Any]:
    return {**info.to_json(), "schema": info.json_schema()}


def task_info(kit: Kit, name: str) -> TaskInfo:
    """Return the task of the modules configured here, else that which workers have published. Raises UnknownTask."""
    found = known_tasks(kit)
    if name not in found:
        raise kit.verbs.unknown_task(name, found)
    return found[name]


def read_arguments(kit: Kit, name: str, read: Callable[[TaskInfo], dict[str, Any]]) -> dict[str, Any]:
    """Return what `read` makes of a task's definition. Raises UnknownTask, or what `read` raises.

    The published one saves the import of the modules here. But it may be that of a worker with other code, which
    started last: if arguments do not fit it, the definition here decides.
    """
    published = kit.tasks().get(name)
    try:
        if published is not None:
            return read(published)
    except InvalidParams:
        with suppress(JobkitError):
            registry.load(kit.settings.task_modules)
        if registry.known(name) is None:
            raise
    return read(task_info(kit, name))


def read_call(kit: Kit, name: str, pairs: Sequence[str]) -> tuple[str | Callable[..., Any], dict[str, Any]]:
    """Return what to submit, a task by its name or what else a name stands for, and its arguments from `["n=5"]`."""
    found = next(filter(None, (module.call_of(name, pairs) for module in modules("named"))), None)
    return found or (name, read_arguments(kit, name, lambda info: info.parse(pairs)))


def _serves_only_doors(kit: Kit) -> bool:
    from jobkit.client.loop import background

    async def ask() -> bool:
        store = kit.verbs.store
        return bool(await store.only_doors(await store.workers()))

    return not kit.settings.is_embedded and kit.settings.scheme != "sync" and background.call(ask())


def known_tasks(kit: Kit) -> TaskTable:
    """Return all tasks: published by workers, and of the modules configured here. Without the demo if only workers of
    other clients' jobs (--arq) are alive, which do not run it."""
    if kit.settings.tasks or not _serves_only_doors(kit):
        registry.load(kit.settings.task_modules)
    return kit.tasks()


@noun_command
@as_json_option
def queues(as_json: bool) -> None:
    """List queues, with their numbers of jobs and workers, and why their jobs wait; pause or resume them by name."""
    kit = jobkit.connect()
    paused, reasons = [*kit.queues.paused(), *kit.tasks.paused()], kit.queue_reasons()
    pauses = {pause.name: {"by": pause.by, "at": to_json(pause.at)} for pause in paused if pause.kind == "queue"}
    found: dict[str, dict[str, int]] = {name: {} for name in pauses} | kit.queues()
    rows = {
        name: {"state": queue_state(numbers, reasons.get(name, ()), is_paused=name in pauses), **numbers}
        for name, numbers in found.items()
    }
    if as_json:
        return out.echo_json(
            [
                {
                    "queue": name,
                    **numbers,
                    "paused": pauses.get(name),
                    "waits_for": [reason.text for reason in reasons.get(name, ())],
                }
                for name, numbers in rows.items()
            ]
        )
    out.listing(False, rows.items(), queue_columns(rows.items()))
    for pause in paused:
        by = f" by {pause.by}" if pause.by else ""
        said = f"{pause.kind} {pause.name} was paused{by} {out.ago(pause.at)}"
        out.echo(f"{said}: `jobkit {pause.kind}s resume {pause.name}`", err=True)
    for name in sorted(found.keys() - pauses.keys()):
        for reason in reasons.get(name, ()):
            out.echo(f"{name}: {reason.text}", err=True)


def _used_queue(kit: Kit, name: str) -> str:
    if checked_name("queue", name) not in kit.queues():
        out.echo(f"queue {name} has not been used yet", err=True)
    return name


add_deeds(queues, Queues, _used_queue)


@click.command()
@click.option("--watch", "-w", "is_watching", is_flag=True, help="Update until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch one object per line.")
def stats(is_watching: bool, as_json: bool) -> None:
    """Show jobs by state, queues and workers."""
    kit = jobkit.connect()
    if not is_watching:
        if as_json:
            return out.echo_json(kit.stats())
        from rich.console import Console

        return Console(highlight=False).print(shown(kit.stats(), None))
    try:
        if as_json or not sys.stdout.isatty():
            for found, rate in _updates(kit):
                click.echo(json.dumps({**found, "ended_per_minute": rate}))
        else:
            from rich.live import Live

            with Live(screen=False, auto_refresh=False) as live:
                for found, rate in _updates(kit):
                    live.update(shown(found, rate), refresh=True)
    except KeyboardInterrupt:
        click.echo(err=True)


def _updates(kit: Kit) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the totals and the number of jobs that ended in the last minute, after each change."""
    ends: deque[float] = deque()
    changed = threading.Event()

    def heard(event: JobEvent) -> None:
        if event.type.is_end:
            ends.append(time.monotonic())
        changed.set()

    stops = [kit.hub.listen(heard, None), kit.hub.on_status(lambda _: changed.set())]
    try:
        while True:
            changed.clear()
            while ends and ends[0] < time.monotonic() - _MINUTE_S:
                ends.popleft()
            if kit.hub.is_live:
                yield kit.stats(), len(ends)
            kit.hub.check_stopped()
            if changed.wait(_LATEST_S):
                time.sleep(_SOON_S)  # further changes are shown with this one
    finally:
        for stop in stops:
            stop()


def shown(found: Mapping[str, Any], rate: int | None) -> RenderableType:
    """Return the totals for a terminal: a line of states, a line of workers, a table of queues."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    states = Text("  ").join(
        Text(f"{GLYPHS[state]} {found['jobs'].get(state, 0):,} {state}", style=colour)
        for state, colour in out.COLOURS.items()
    )
    said, *problems = totals(found, "" if rate is None else f", {rate:,} jobs ended in the last minute")
    parts: list[RenderableType] = [states, Text(said), *(Text(out.one_line(each), style="red") for each in problems)]
    if found["queues"]:
        columns = queue_columns(found["queues"].items())
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in columns:
            table.add_column(name.upper(), justify="left" if name == "Queue" else "right")
        for queue in found["queues"].items():
            table.add_row(*(Text(out.one_line(written(cell(queue)))) for cell in columns.values()))
        parts += [Text(), table]
    return Group(*parts)
