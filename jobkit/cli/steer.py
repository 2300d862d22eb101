"""Commands that steer what waits: pause, resume, move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobkit.cli import out
from jobkit.cli.group import FAILED, BadInput

if TYPE_CHECKING:
    from jobkit.client import Kit


@click.command()
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@click.option("--task", "-t", "tasks", multiple=True, metavar="NAME", help="Let no more jobs of this task start.")
def pause(queues: tuple[str, ...], tasks: tuple[str, ...]) -> None:
    """Let nothing more of a queue or task start, until `jobkit resume`. What runs goes on; what is submitted waits."""
    kit = _given(queues, tasks)
    known_queues, known_tasks = set(kit.queues()) if queues else set(), set(kit.tasks()) if tasks else set()
    for queue in dict.fromkeys(queues):
        is_new = kit.pause(queue)
        _tell(kit, "pause", "queue", queue, "paused" if is_new else "was paused already", is_new)
        if queue not in known_queues:
            out.echo(f"nothing has used queue {queue} so far", err=True)
    for task in dict.fromkeys(tasks):
        is_new = kit.pause_task(task)
        _tell(kit, "pause", "task", task, "paused" if is_new else "was paused already", is_new)
        if task not in known_tasks:
            out.echo(f"no worker knows a task {out.one_line(task)} so far", err=True)


@click.command()
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@click.option("--task", "-t", "tasks", multiple=True, metavar="NAME", help="Let jobs of this task start again.")
def resume(queues: tuple[str, ...], tasks: tuple[str, ...]) -> int:
    """Let a paused queue (or task) go on."""
    kit = _given(queues, tasks)
    status = 0
    for on, names, verb in (("queue", queues, kit.resume), ("task", tasks, kit.resume_task)):
        for name in dict.fromkeys(names):
            was_paused = verb(name)
            _tell(kit, "resume", on, name, "resumed" if was_paused else "was not paused", was_paused)
            status = status if was_paused else FAILED
    return status


@click.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="ID...")
@click.option("--queue", "-q", metavar="NAME", help="The queue to wait in.")
@click.option("--priority", "-p", type=int, help="Higher first.")
def move(job_ids: tuple[str, ...], queue: str | None, priority: int | None) -> int:
    """Let waiting jobs wait in another queue, or with another priority."""
    if queue is None and priority is None:
        raise BadInput("give --queue or --priority, or both")
    kit = out.connect()
    ids = [out.find(kit, prefix) for prefix in job_ids]
    refused = kit.move(ids, queue=queue, priority=priority)
    for job_id in ids:
        if job_id not in refused:
            click.echo(job_id)
    for sentence in refused.values():
        out.echo(out.one_line(sentence), err=True)
    out.note(kit, "move", "job", ids, len(refused))
    return FAILED if refused else 0


def _given(queues: tuple[str, ...], tasks: tuple[str, ...]) -> Kit:
    if not queues and not tasks:
        raise BadInput("give the name of a queue, or --task NAME")
    return out.connect()


def _tell(kit: Kit, action: str, on: str, name: str, what: str, is_new: bool) -> None:
    click.echo(f"{on} {out.one_line(name)} {what}")
    if is_new:
        out.note(kit, f"{action}_{on}", on, [name])
