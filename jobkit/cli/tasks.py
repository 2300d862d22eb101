"""`jobkit tasks`, and finding a task by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from jobkit.cli import out
from jobkit.cli.group import as_json_option

if TYPE_CHECKING:
    from jobkit.client import Kit
    from jobkit.tasks.info import TaskInfo


@click.command()
@click.argument("name", metavar="[TASK]", required=False)
@as_json_option
def tasks(name: str | None, as_json: bool) -> None:
    """List the tasks that can be submitted, or show one with its parameters."""
    from jobkit.tasks.params import describe

    kit = out.connect()
    if name is None:
        found = known_tasks(kit)
        if as_json:
            out.echo_json([{**info.to_json(), "schema": info.json_schema()} for info in found.values()])
        else:
            rows = [
                (out.one_line(i.name), " ".join(map(_usage, i.params)), out.one_line(i.title)) for i in found.values()
            ]
            out.table(("TASK", "ARGUMENTS", "TITLE"), rows)
        return
    info = task_info(kit, name)
    if as_json:
        out.echo_json({**info.to_json(), "schema": info.json_schema()})
        return
    out.echo(f"{out.one_line(info.name)}  {out.one_line(info.title)}", bold=True)
    for spec in info.params:
        help_text = f"  {out.one_line(spec.help)}" if spec.help else ""
        out.echo(f"  {out.one_line(_usage(spec)):<28} {out.one_line(describe(spec))}{help_text}")


def _usage(spec: Any) -> str:
    """Return `n=1000`, or `n=` if it is required."""
    from jobkit.model.format import value_brief

    return out.one_line(f"{spec.name}=" if spec.required else f"{spec.name}={value_brief(spec.default)}")


def task_info(kit: Kit, name: str) -> TaskInfo:
    """Return the task of that name, as workers have published it, else from the modules configured here.

    Raises:
        UnknownTask: neither has it; the message names similar tasks.
    """
    found = kit.tasks()
    if name not in found:
        found = known_tasks(kit)
    if name not in found:
        raise kit.unknown_task(name, found)
    return found[name]


def known_tasks(kit: Kit) -> dict[str, TaskInfo]:
    """Return all tasks: published by workers, and of the modules configured here."""
    from jobkit.tasks.registry import registry

    registry.load(task_modules(kit.settings.tasks))
    return kit.tasks()


def task_modules(configured: tuple[str, ...]) -> tuple[str, ...]:
    """Return the modules to import tasks from: the demo if none is configured."""
    return configured or ("jobkit.demo",)
