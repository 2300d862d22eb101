"""`jobkit limits`: limits of queues and tasks. List, set, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import jobkit
from jobkit.cli import as_json_option, complete, noun_command, options, out

if TYPE_CHECKING:
    from jobkit.client.kit import Kit


@noun_command
@as_json_option
def limits(as_json: bool) -> None:
    """List the limits of queues and tasks; set or remove one.

    \b
    jobkit limits set --queue gpu --concurrency 2
    jobkit limits set --task call_api --rate 10/m
    jobkit limits remove --queue gpu
    """
    found = jobkit.connect().limits()
    out.listing(as_json, found, found.COLUMNS, empty=found.EMPTY)


_limited = options(
    click.option("--queue", "-q", metavar="NAME", help="Queue of the limit.", **complete("queues")),
    click.option("--task", "-t", metavar="NAME", help="Task of the limit.", **complete("tasks")),
)


def _note_limit(kit: Kit, deed: str, queue: str | None, task: str | None) -> None:
    kind, name = ("queue", queue) if queue is not None else ("task", task)
    out.note(kit, f"{deed}_{kind}", kind, [str(name)])


@limits.command(name="set")
@_limited
@click.option("--concurrency", "-c", type=int, metavar="N", help="Maximum number of running jobs.")
@click.option("--rate", "-r", metavar="N/TIME", help="Maximum number of starts in a time: 10/m, 5/10s, 1000/h.")
@as_json_option
def set_(queue: str | None, task: str | None, as_json: bool, **values: Any) -> None:
    """Limit a queue or a task, across all workers."""
    kit = jobkit.connect()
    rule = kit.limits.set(queue=queue, task=task, **values)
    _note_limit(kit, "limit", queue, task)
    if as_json:
        out.echo_json(rule.to_json())
    elif rule.n and rule.held > rule.n:
        out.echo(f"{rule.held} jobs are running; the next one starts when fewer than {rule.n} are", err=True)


@limits.command()
@_limited
def remove(queue: str | None, task: str | None) -> None:
    """Remove the limit of a queue or a task; what the task itself says holds again."""
    kit = jobkit.connect()
    kit.limits.remove(queue=queue, task=task)
    _note_limit(kit, "unlimit", queue, task)
