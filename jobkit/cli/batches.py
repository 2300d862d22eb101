"""`jobkit batch`: the jobs of one map or sweep. List, show, cancel, retry, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import jobkit
from jobkit.cli import FAILED, as_json_option, limit_option, out
from jobkit.client.tables import BATCH_COLUMNS, NO_BATCHES, counted
from jobkit.model import JobNotFound
from jobkit.model.batch import OPEN, BatchInfo
from jobkit.model.format import duration, percent

if TYPE_CHECKING:
    from jobkit.client.kit import Kit

_id = click.argument("which", metavar="ID_OR_NAME")


def find_batch(kit: Kit, which: str) -> BatchInfo:
    """Return the batch whose id is, or begins with, `which`; else the newest one of this name."""
    try:
        return kit.find_batch(which)
    except JobNotFound:
        pass
    named = kit.batch_infos(1, name=which)
    if not named:
        raise JobNotFound(f"no batch {which!r} is kept here; `jobkit batch list` lists the kept batches")
    return named[0]


@click.group()
def batch() -> None:
    """Batches: the jobs of one map or sweep."""


@batch.command(name="list")
@limit_option(50, 10_000, "batches")
@as_json_option
def list_batches(limit: int, as_json: bool) -> None:
    """List batches, newest first."""
    found = jobkit.connect().batch_infos(limit)
    out.listing(as_json, found, {**BATCH_COLUMNS, **out.SHORT_ID}, empty=NO_BATCHES)


@batch.command()
@_id
@as_json_option
def show(which: str, as_json: bool) -> None:
    """Show a batch: its name, times, and jobs by state."""
    found = find_batch(jobkit.connect(), which)
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


@batch.command()
@_id
@click.option("--reason", default="", metavar="TEXT", help="Reason, shown with the jobs.")
def cancel(which: str, reason: str) -> int:
    """Ask the open jobs of a batch to stop."""
    kit = jobkit.connect()
    found = find_batch(kit, which)
    asked = kit.cancel_batch(found.id, reason)
    if not asked:
        out.echo(f"all jobs of batch {found.id} have ended", err=True)
        return FAILED
    out.note(kit, "cancel", "batch", [found.id])
    click.echo(f"{out.count(asked)} asked to stop")
    return 0


@batch.command()
@_id
def retry(which: str) -> int:
    """Run the failed jobs of a batch again, and print the new ids; they take the places of the failed ones."""
    kit = jobkit.connect()
    found = find_batch(kit, which)
    made = kit.retry_batch(found.id)
    for job_id in made.jobs.values():
        click.echo(job_id)
    for sentence in made.refused.values():
        out.echo(sentence, err=True)
    if made.jobs:
        out.note(kit, "retry", "batch", [found.id])
    return FAILED if made.refused else 0


@batch.command()
@_id
def rm(which: str) -> int:
    """Delete a batch with its jobs, which must have ended."""
    kit = jobkit.connect()
    found = find_batch(kit, which)
    if found.open or found.state in OPEN:
        of_it = f"{out.count(found.open)} of batch {found.id} have" if found.open else f"job {found.id} has"
        out.echo(f"{of_it} not ended; cancel it first", err=True)
        return FAILED
    gone = kit.delete_batch(found.id)
    out.note(kit, "delete", "batch", [found.id])
    click.echo(f"{out.count(gone)} deleted")
    return 0
