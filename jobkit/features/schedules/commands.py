"""Commands for schedules: `schedule` creates or changes one, `schedules` lists them, and acts on them by name."""

from __future__ import annotations

from typing import Any

import click

import jobkit
from jobkit.cli import add_deeds, age, as_json_option, complete, given, job_options, noun_command, out
from jobkit.cli.follow import submitted
from jobkit.cli.queues import read_call
from jobkit.features.schedules.kit import Schedule, Schedules
from jobkit.features.schedules.model import MISSED, OVERLAP, ScheduleRun
from jobkit.features.schedules.words import lateness, moment_text, utc
from jobkit.model.format import GLYPHS, duration, params_brief


@click.command()
@click.argument("task", **complete("calls"))
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--cron", metavar="LINE", help='"minute hour day month weekday", or @daily and the like.')
@click.option("--every", callback=age, metavar="TIME", help="Interval between runs: 90, 15m, 2h.")
@click.option("--at", metavar="TIME", help="Run once at this time: 2026-11-24T16:30.")
@click.option("--tz", metavar="ZONE", help="Time zone of --cron, such as Europe/Berlin. [UTC]")
@click.option("--until", metavar="TIME", help="Last time of a run.")
@click.option("--count", type=int, metavar="N", help="Maximum number of runs.")
@click.option("--name", metavar="NAME", help="Name; an existing schedule is changed. [from task and arguments]")
@click.option("--missed", type=click.Choice(MISSED), default="once", help="Runs for times without a worker. [once]")
@click.option("--missed-limit", type=int, default=100, metavar="N", help="Maximum runs with --missed all. [100]")
@click.option("--overlap", type=click.Choice(OVERLAP), default="allow", help="If the previous run still runs. [allow]")
@job_options
@as_json_option
def schedule(task: str, arguments: tuple[str, ...], name: str | None, as_json: bool, **options: Any) -> None:
    """Run a task repeatedly, or once later. Prints the schedule's name, and the next times on stderr.

    \b
    jobkit schedule report day=today --cron "0 6 * * MON-FRI" --tz Europe/Berlin
    jobkit schedule tidy --every 300 --overlap skip
    jobkit schedule report.ipynb region=EU --cron "0 6 * * MON"
    """
    kit = jobkit.connect()
    function, values = read_call(kit, task, arguments)
    made = kit.schedule(function, values, name=name, **given(options))
    out.note(kit, "add_schedule", "task", [task])
    if as_json:
        return out.echo_json(_shown(made))
    click.echo(made.id)
    out.echo(f"{made.sentence}; next:", err=True)
    _times(made, err=True)


@noun_command
@as_json_option
def schedules(as_json: bool) -> None:
    """List schedules, or show, pause, resume, run or delete them by name."""
    kit = jobkit.connect()
    found, workers = kit.schedules(), kit.workers()

    def coming(each: Schedule) -> str:
        if each.snapshot.holds_for:
            return "after the previous run"
        late_s, why = lateness(each.snapshot, workers)
        if late_s:
            return ", ".join(filter(None, (f"{duration(late_s)} late", why)))
        return "paused" if each.paused else out.ago(each.next_at) or "ended"

    columns = {**found.COLUMNS, "Next": coming}
    out.listing(as_json, found, columns, empty=found.EMPTY, to_json=_shown)


@schedules.command()
@click.argument("name", metavar="NAME")
@as_json_option
def show(name: str, as_json: bool) -> None:
    """Show a schedule: its settings, next times and last runs."""
    found = jobkit.connect().schedules.get(name)
    if as_json:
        nexts = [] if found.ended else [at.isoformat() for at in found.next(5)]
        return out.echo_json({**_shown(found), "next": nexts})
    state = "  paused" if found.paused else "  ended" if found.ended else ""
    out.echo(f"{found.id}  {found.sentence}{state}", bold=True)
    spec = found.snapshot.spec
    facts = {
        "task": found.task,
        "arguments": params_brief(found.params, limit=2000),
        "cron": spec.cron,
        "queue": spec.job.queue,
        "missed": f"{found.missed}, at most {found.missed_limit}" if found.missed == "all" else found.missed,
        "overlap": found.overlap,
        "fired": str(found.fired),
        "left out": str(found.left_out or ""),
        "from code": spec.module,
    }
    out.facts(facts)
    if not found.ended:
        out.echo("next", bold=True)
        _times(found)
    if found.runs:
        out.echo("last runs", bold=True)
        for run in found.runs:
            what = run.state or (f"{run.count} left out: {run.why}" if run.why else "no longer kept")
            late = f"{duration(run.late_s)} late" if run.late_s > 1 else ""
            cells = (out.ago(utc(run.at_ms)), what, duration(run.duration_s), run.job_id[: out.SHOWN_ID], late)
            out.echo(f"  {_mark(run)} " + "  ".join(filter(None, cells)))


add_deeds(schedules, Schedules)


@schedules.command()
@click.argument("name", metavar="NAME")
@click.option("--wait", "-w", "is_waiting", is_flag=True, help="Show log and progress, then the result.")
def run(name: str, is_waiting: bool) -> int:
    """Run a schedule now and print the job's id. Its next times do not change."""
    kit = jobkit.connect()
    job = kit.schedules.run(name)
    out.note(kit, "run_schedule", "schedule", [name])
    return submitted(kit, job, is_waiting)


def _shown(schedule: Schedule) -> dict[str, Any]:
    return {**schedule.snapshot.to_json(), "sentence": schedule.sentence}


def _times(schedule: Schedule, err: bool = False) -> None:
    for at in schedule.next(5):
        out.echo(f"  {moment_text(at, out.now())} {schedule.tz}  ({out.ago(at)})", err=err)


def _mark(run: ScheduleRun) -> str:
    return GLYPHS.get(run.state, "·")
