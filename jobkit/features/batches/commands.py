"""`jobkit batches`: the jobs of one map or sweep. List, show, cancel, retry, delete."""

from __future__ import annotations

import click

import jobkit
from jobkit.cli import FAILED, as_json_option, limit_option, noun_command, out
from jobkit.client.tables import BATCH_COLUMNS, NO_BATCHES, counted
from jobkit.model.batch import OPEN
from jobkit.model.format import duration, percent

_id = click.argument("which", metavar="ID_OR_NAME")


@noun_command
@limit_option(50, 10_000, "batches")
@as_json_option
def batches(limit: int, as_json: bool) -> None:
    """List batches, the jobs of one map or sweep, newest first; show, cancel, retry or delete one."""
    found = jobkit.connect().batches.infos(limit)
    out.listing(as_json, found, {**BATCH_COLUMNS, **out.SHORT_ID}, empty=NO_BATCHES)


@batches.command()
@_id
@as_json_option
def show(which: str, as_json: bool) -> None:
    """Show a batch: its name, times, and jobs by state."""
    found = jobkit.connect().batches.find(which)
    if as_json:
        out.echo_json(found.to_json())
        return
    spec = found.spec
    click.echo(
        f"{out.state_text(found.state)}  {click.style(out.one_line(spec.name or spec.title or spec.task), bold=True)}"
    )
    end = found.ended_at or out.now()
    out.facts(
        {
            "id": found.id,
            "task": spec.task,
            "owner": spec.owner,
            "jobs": counted(found.counts),
            "done": percent(found.progress),
            "swept": ", ".join(spec.axes),
            "rule": found.rule,
            "stopped by": found.stopped_by,
            "missing": out.count(spec.size - found.came) if found.came < spec.size else "",
            "deleted": out.count(found.deleted) if found.deleted else "",
            "submitted": out.ago(found.submitted_at),
            "took": duration((end - found.started_at).total_seconds()) if found.started_at else "",
        }
    )


@batches.command()
@_id
@click.option("--reason", default="", metavar="TEXT", help="Reason, shown with the jobs.")
def cancel(which: str, reason: str) -> int:
    """Ask the open jobs of a batch to stop."""
    kit = jobkit.connect()
    found = kit.batches.find(which)
    asked = kit.batches.cancel(found.id, reason)
    if not asked:
        out.echo(f"all jobs of batch {found.id} have ended", err=True)
        return FAILED
    out.note(kit, "cancel", "batch", [found.id])
    click.echo(f"{out.count(asked)} asked to stop")
    return 0


@batches.command()
@_id
def retry(which: str) -> int:
    """Run the failed jobs of a batch again, and print the new ids; they take the places of the failed ones."""
    kit = jobkit.connect()
    found = kit.batches.find(which)
    made = kit.batches.retry(found.id)
    for job_id in made.jobs.values():
        click.echo(job_id)
    for sentence in made.refused.values():
        out.echo(sentence, err=True)
    if made.jobs:
        out.note(kit, "retry", "batch", [found.id])
    return FAILED if made.refused else 0


@batches.command()
@_id
def delete(which: str) -> int:
    """Delete a batch with its jobs, which must have ended."""
    kit = jobkit.connect()
    found = kit.batches.find(which)
    if found.open or found.state in OPEN:
        of_it = f"{out.count(found.open)} of batch {found.id} have" if found.open else f"job {found.id} has"
        out.echo(f"{of_it} not ended; cancel it first", err=True)
        return FAILED
    gone = kit.batches.delete(found.id)
    out.note(kit, "delete", "batch", [found.id])
    click.echo(f"{out.count(gone)} deleted")
    return 0
