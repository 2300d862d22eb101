"""Commands for queues, and limits and pauses of queues and tasks: queues, pause, resume, limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobkit.cli import out
from jobkit.cli.group import FAILED, BadInput, as_json_option
from jobkit.model.format import ago
from jobkit.model.plain import iso

if TYPE_CHECKING:
    from jobkit.client import Kit


@click.command()
@as_json_option
def queues(as_json: bool) -> None:
    """List queues, with their numbers of jobs and workers."""
    kit = out.connect()
    paused = {pause.name: pause for pause in kit.paused() if pause.kind == "queue"}
    found: dict[str, dict[str, int]] = {name: {} for name in paused} | kit.queues()
    if as_json:
        pauses = {name: {"by": pause.by, "at": iso(pause.at)} for name, pause in paused.items()}
        out.echo_json([{"queue": name, **numbers, "paused": pauses.get(name)} for name, numbers in found.items()])
        return
    names = list(dict.fromkeys(name for numbers in found.values() for name in numbers))
    out.table(
        ("QUEUE", *(name.upper() for name in names)),
        [(queue, *(str(numbers.get(name, 0)) for name in names)) for queue, numbers in found.items()],
    )
    for pause in kit.paused():
        by = f" by {out.one_line(pause.by)}" if pause.by else ""
        option = "--task " if pause.kind == "task" else ""
        name = out.one_line(pause.name)
        when = ago(pause.at, out.now())
        out.echo(f"{pause.kind} {name} was paused{by} {when}: `jobkit resume {option}{name}`", err=True)
    for queue, numbers in found.items():
        if numbers.get("queued") and not numbers.get("workers"):
            out.echo(f"No worker serves {queue}: run `jobkit worker -q {queue}`", err=True)


@click.command()
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@click.option("--task", "-t", "tasks", multiple=True, metavar="NAME", help="Pause this task; may be repeated.")
def pause(queues: tuple[str, ...], tasks: tuple[str, ...]) -> None:
    """Pause queues or tasks: no further job starts until `jobkit resume`. Running jobs go on, new jobs wait."""
    kit = _given(queues, tasks)
    known_queues, known_tasks = set(kit.queues()) if queues else set(), set(kit.tasks()) if tasks else set()
    for queue in dict.fromkeys(queues):
        is_new = kit.pause(queue)
        _report(kit, "pause", "queue", queue, "paused" if is_new else "was paused already", is_new)
        if queue not in known_queues:
            out.echo(f"queue {queue} has not been used yet", err=True)
    for task in dict.fromkeys(tasks):
        is_new = kit.pause_task(task)
        _report(kit, "pause", "task", task, "paused" if is_new else "was paused already", is_new)
        if task not in known_tasks:
            out.echo(f"no worker has a task {out.one_line(task)} yet", err=True)


@click.command()
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@click.option("--task", "-t", "tasks", multiple=True, metavar="NAME", help="Resume this task; may be repeated.")
def resume(queues: tuple[str, ...], tasks: tuple[str, ...]) -> int:
    """Resume paused queues or tasks."""
    kit = _given(queues, tasks)
    status = 0
    for on, names, verb in (("queue", queues, kit.resume), ("task", tasks, kit.resume_task)):
        for name in dict.fromkeys(names):
            was_paused = verb(name)
            _report(kit, "resume", on, name, "resumed" if was_paused else "was not paused", was_paused)
            status = status if was_paused else FAILED
    return status


def _given(queues: tuple[str, ...], tasks: tuple[str, ...]) -> Kit:
    if not queues and not tasks:
        raise BadInput("give the name of a queue, or --task NAME")
    return out.connect()


def _report(kit: Kit, action: str, on: str, name: str, what: str, is_new: bool) -> None:
    click.echo(f"{on} {out.one_line(name)} {what}")
    if is_new:
        out.note(kit, f"{action}_{on}", on, [name])


@click.command()
@click.argument("kind", type=click.Choice(["queue", "task"]), required=False)
@click.argument("name", required=False)
@click.option("--concurrency", "-c", type=int, metavar="N", help="Maximum number of running jobs.")
@click.option("--rate", "-r", metavar="N/TIME", help="Maximum number of starts in a time: 10/m, 5/10s, 1000/h.")
@click.option("--off", is_flag=True, help="Remove the limit.")
@as_json_option
def limit(
    kind: str | None, name: str | None, concurrency: int | None, rate: str | None, off: bool, as_json: bool
) -> None:
    """Limit a queue or task, across all workers. Without arguments, list the limits.

    \b
    jobkit limit queue gpu --concurrency 2
    jobkit limit task call_api --rate 10/m
    jobkit limit queue gpu --off
    """
    kit = out.connect()
    if kind is None:
        if concurrency is not None or rate is not None or off:
            raise BadInput("give a queue or task: jobkit limit queue NAME, or jobkit limit task NAME")
        found = kit.limits()
        if as_json:
            out.echo_json([rule.to_json() for rule in found])
        elif not found:
            out.echo("No limits. `jobkit limit queue NAME --concurrency 2` adds one.", err=True)
        else:
            rows = [(rule.gate.replace(":", " ", 1), str(rule.n or ""), rule.rate, str(rule.held)) for rule in found]
            out.table(("LIMIT OF", "CONCURRENCY", "RATE", "RUNNING"), rows)
        return
    if name is None:
        raise BadInput(f"give the name of the {kind}: jobkit limit {kind} NAME")
    whose = {kind: name}
    if off:
        if concurrency is not None or rate is not None:
            raise BadInput("--off cannot be used with --concurrency or --rate")
        kit.unlimit(**whose)
        return
    rule = kit.limit(**whose, concurrency=concurrency, rate=rate)
    if as_json:
        out.echo_json(rule.to_json())
    elif rule.n and rule.held > rule.n:
        out.echo(f"{rule.held} jobs are running; the next one starts when fewer than {rule.n} are", err=True)
