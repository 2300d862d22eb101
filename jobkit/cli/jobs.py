"""Commands for jobs: submit, jobs, show, watch, logs, answer, cancel, retry, rm, prune, move."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from itertools import islice
from typing import Any

import click
from msgspec.structs import replace

import jobkit
from jobkit.cli import (
    FAILED,
    BadInput,
    C,
    age,
    as_json_option,
    complete,
    given,
    id_argument,
    id_arguments,
    job_options,
    out,
    search_options,
    selection_options,
)
from jobkit.cli.follow import follow, print_events, result_text, steps, submitted, wait
from jobkit.cli.queues import read_call
from jobkit.client.kit import Kit
from jobkit.client.tables import JOB_COLUMNS
from jobkit.features import modules
from jobkit.model import (
    JobkitError,
    JobNotFound,
    JobSnapshot,
    JobState,
    LogLine,
    SubmitUnanswered,
    attempts_of,
)
from jobkit.model.cells import Cell
from jobkit.model.format import duration, local_time, params_brief, percent, progress_line, size
from jobkit.model.limits import resources_text
from jobkit.model.plain import iso
from jobkit.model.result import cancellation_of
from jobkit.model.start import Start, outlook
from jobkit.model.trace import lines_of
from jobkit.store.completion import unknown
from jobkit.store.grammar import of_command_line, parse
from jobkit.store.query import Query

#: Words for the environment of a repetition, with what they stand for.
ENVS = {word: what for module in modules("env") for word, what in module.REPEATED.items()}


@click.command()
@click.argument("task", **complete("calls"))
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--wait", "-w", "is_waiting", is_flag=True, help="Show log and progress, then the result.")
@click.option("--delay", callback=age, metavar="TIME", help="Earliest start, from now: 90, 15m, 2h.")
@click.option("--key", metavar="TEXT", help="Return the same job for the same key and task.")
@click.option("--id", metavar="ID", help="Id of the new job, 16 to 32 hexadecimal digits; return the job if it exists.")
@job_options
@as_json_option
def submit(task: str, arguments: tuple[str, ...], is_waiting: bool, as_json: bool, **options: Any) -> int:
    """Submit a job and print its id, or with --json all of it as `jobkit show` does; with --wait when it has ended.

    TASK is the name of a task, or a notebook file: jobkit submit report.ipynb region=EU

    Exit status with --wait: 0 succeeded, 1 failed, 2 bad input, 3 cancelled. Without a reply of the server the job may
    have been accepted: its id is printed, and the exit status is 1.
    """
    kit = jobkit.connect()
    function, values = read_call(kit, task, arguments)
    try:
        with redirect_stdout(sys.stderr):  # what a job of `sync://` prints
            job = kit.options(**given(options)).submit(function, **values)
    except SubmitUnanswered as error:
        (job_id,) = error.job_ids
        again = f"--id {job_id}" if error.id else "the same --key" if options["key"] else ""  # none: it is debounced
        out.echo_json({"id": job_id}) if as_json else out.echo(job_id)
        sentence = f"Job {job_id} may have been accepted: `jobkit show {job_id}` tells"
        advice = f"; the same command with {again} submits it once" if again else ""
        raise JobkitError(f"{error.reason}. {sentence}{advice}") from None
    if not as_json:
        return submitted(kit, job, is_waiting)
    try:
        status = wait(kit, job.id) if is_waiting else 0
        told = _as_json(kit, job.id)
    except (JobkitError, KeyboardInterrupt):
        out.echo_json({"id": job.id})
        raise
    out.echo_json(told)
    return status


#: Waiting jobs of a list of which the start is forecast.
_FORECAST = 200


@click.command()
@selection_options
@search_options
@as_json_option
def jobs(words: tuple[str, ...], search: str | None, limit: int, as_json: bool, **wanted: Any) -> None:
    """List jobs, newest first.

    SEARCH is as in the dashboard, in one string or several:

    jobkit jobs "state:failed since:yesterday task:train"
    """
    query = replace(parse(of_command_line(words), Query(**wanted).checked()), limit=limit)
    if search:
        query = replace(query, search=(*query.texts, search))
    kit = jobkit.connect()
    found = list(islice(out.snapshots(kit, query), limit))
    seen = _seen(kit) if not as_json and any(job.state is JobState.RUNNING for job in found) else set()
    starts = {} if as_json else kit.expected_starts([job for job in found[:_FORECAST] if not job.is_terminal])

    def progress(job: JobSnapshot) -> Cell:
        return starts[job.id].sentence(out.now()) if job.id in starts else JOB_COLUMNS["Progress"](job)

    columns = {
        **JOB_COLUMNS,
        **out.SHORT_ID,
        "State": lambda job: state_of(job, job.worker in seen),
        "Progress": progress,
    }
    out.listing(as_json, found, columns, empty="" if found else _nothing(kit, query))


def _nothing(kit: Kit, query: Query) -> str:
    """Return why a search finds nothing."""
    known: dict[str, Iterable[str]] = {"task": kit.tasks(), "queue": kit.queues()}
    hints = (unknown(query, name, dict.fromkeys(((each,) for each in found), 1)) for name, found in known.items())
    return next(filter(None, hints), "No jobs. `jobkit tasks` lists the tasks to submit.")


def _seen(kit: Kit) -> set[str]:
    """Return the ids of workers that have sent a heartbeat within half a lease."""
    return {worker.id for worker in kit.workers() if worker.beat_age_s <= kit.settings.lease / 2}


def state_of(job: JobSnapshot, is_seen: bool = True) -> str:
    if job.lacks_result:
        return out.styled("! succeeded (not kept)", "yellow")
    word = "cancelling" if job.is_cancelling else "stalled" if job.state is JobState.RUNNING and not is_seen else None
    return out.state_text(job.state, word)


def _facets(command: C) -> C:
    """Add the options of features: each shows something else about the job."""
    for module in modules("facet"):
        option = f"--{module.NAME.replace('_', '-')}"
        command = click.option(option, module.NAME, is_flag=True, help=module.HELP)(command)
    return command


@click.command()
@id_argument
@_facets
@as_json_option
def show(job_id: str, as_json: bool, **asked: bool) -> None:
    """Show a job: arguments, times, attempts, the end of its log, its result or error."""
    kit = jobkit.connect()
    job_id = out.find(kit, job_id)
    for module in modules("facet"):
        if asked[module.NAME]:
            module.show(kit, job_id, as_json)
            return
    if as_json:
        out.echo_json(_as_json(kit, job_id))
        return
    snapshot = kit.snapshot(job_id)
    attempts = attempts_of(snapshot.history)
    preview = kit.preview(job_id)
    waits_for = _waits_for(kit, snapshot)
    start = kit.expected_starts([snapshot]).get(snapshot.id, Start())
    cancelled = cancellation_of(snapshot)
    spec = snapshot.spec
    title = click.style(out.one_line(spec.title or spec.task), bold=True)
    is_seen = snapshot.state is not JobState.RUNNING or snapshot.worker in _seen(kit)
    click.echo(f"{state_of(snapshot, is_seen)}  {title}")
    facts = {
        "id": spec.id,
        "task": spec.task,
        "arguments": params_brief(spec.params, limit=2000),
        "queue": spec.queue,
        "owner": spec.owner,
        "tags": ", ".join(spec.tags),
        "submitted": _moment(snapshot.submitted_at),
        "needs": ", ".join(spec.needs),
        "starts": start.sentence(out.now()) if snapshot.state is JobState.QUEUED else "",
        "usually": duration(start.usual_s),
        "cancelled": cancelled.sentence(out.now(), "").strip() if cancelled else "",
        "due": _moment(snapshot.due_at) if snapshot.state is JobState.SCHEDULED and not snapshot.asking else "",
        "started": _moment(snapshot.started_at),
        "finished": _moment(snapshot.finished_at),
        "took": duration(snapshot.elapsed_s(out.now())),
        "progress": f"{percent(snapshot.progress)} {progress_line(snapshot.completed, snapshot.total)}".strip(),
        "message": snapshot.message,
        "now": snapshot.lent_text,
        "worker": snapshot.worker,
        "schedule": spec.schedule,
        "runs again": _of_chain(kit, spec.retry_of),
        "run again as": _of_chain(kit, snapshot.again),
        "cached from": snapshot.cached_from,
        "resources": resources_text(spec.resources),
        "waits for": waits_for.removeprefix("waits for "),
        "asks": "; ".join(f"{one.text} (since {out.ago(one.at)})" for one in snapshot.asking),
        "python": str(snapshot.usage.get("python", "")),
        "metrics": "  ".join(f"{name} {value:.4g}" for name, value in snapshot.metrics.newest.items()),
        "memory": size(snapshot.usage.get("peak_rss_bytes")),
    }
    out.facts(facts)
    if len(attempts) > 1 or (attempts and attempts[0].reason):
        lines = (f"{a.number}  {a.outcome:<10} {duration(a.duration_s):<9} {a.reason}" for a in attempts)
        out.section("attempts", lines)
    for each in modules("history"):
        out.section(f"{each.NOUN}s", each.lines(snapshot))
    out.section("log", (line.text for line in kit.logs(snapshot.id, tail=10)))
    if snapshot.state is JobState.SUCCEEDED:
        out.section("result", result_text(preview, snapshot.summary).splitlines())
    elif snapshot.error is not None:
        out.section("error", lines_of(snapshot.error))


def _as_json(kit: Kit, job_id: str) -> dict[str, Any]:
    snapshot = kit.snapshot(job_id)
    attempts = [
        {"attempt": a.number, "worker": a.worker, "started_at": iso(a.started_at), "finished_at": iso(a.ended_at)}
        | {"outcome": a.outcome, "reason": a.reason, "usage": dict(a.usage)}
        for a in attempts_of(snapshot.history)
    ]
    start = kit.expected_starts([snapshot]).get(snapshot.id)
    more = {"waits_for": _waits_for(kit, snapshot), **outlook(snapshot, start)}
    more |= {"attempts": attempts, "preview": kit.preview(job_id)}
    return {**snapshot.to_json(), **more}


def _waits_for(kit: Kit, snapshot: JobSnapshot) -> str:
    return kit.waits_for(snapshot.id) if snapshot.state is JobState.QUEUED else ""


def _of_chain(kit: Kit, job_id: str) -> str:
    """Return `29396772 → failed`, or the id of a job that is not kept; "" for none."""
    try:
        return f"{job_id} → {kit.snapshot(job_id).state}" if job_id else ""
    except JobNotFound:
        return job_id


def _moment(at: Any) -> str:
    """Return `2026-11-24 15:00:07 (3 min ago)` in local time."""
    return "" if at is None else f"{local_time(at, seconds=True)} ({out.ago(at)})"


@click.command()
@id_argument
@click.option("--json", "as_json", is_flag=True, help="Print one event per line, as JSON.")
def watch(job_id: str, as_json: bool) -> int:
    """Follow a job to its end: log, progress, result. Exit status as of `submit --wait`."""
    kit = jobkit.connect()
    job_id = out.find(kit, job_id)
    return print_events(kit, job_id) if as_json else follow(kit, job_id)


@click.command()
@id_argument
@click.option("--follow", "-f", "is_following", is_flag=True, help="Follow the log until the job ends.")
@click.option("--tail", "-n", type=click.IntRange(0), metavar="N", help="Print only the last N lines.")
@click.option("--all", "-a", "is_whole", is_flag=True, help="Print the whole log, also of a long or fast job.")
@click.option("--grep", "search", default="", metavar="TEXT", help="Print only lines with TEXT; case is ignored.")
@click.option("--level", type=click.Choice(["info", "warning", "error"]), help="Only lines of this level or above.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def logs(
    job_id: str, is_following: bool, tail: int | None, is_whole: bool, search: str, level: str | None, as_json: bool
) -> None:
    """Print what a job printed, logged and warned."""
    kit = jobkit.connect()
    job_id = out.find(kit, job_id)
    if (search or level) and (is_following or is_whole):
        raise BadInput("--grep and --level cannot be used with --follow or --all")
    if is_whole:
        if is_following or as_json or tail is not None:
            raise BadInput("--all cannot be used with --follow, --tail or --json")
        if (path := kit.log_file(job_id)) is not None:
            with path.open(encoding="utf-8", errors="backslashreplace", newline="\n") as file:
                for text in file:
                    out.echo(text)
            return
        if any(line.source == "jobkit" for line in kit.logs(job_id)):
            out.echo("The whole log is kept only with local:// or JOBKIT_RESULTS; some lines are missing", err=True)
    found: Iterable[LogLine]
    if is_following:
        found = _followed(kit, job_id, tail)
    elif search or level:
        found = _found(kit, job_id, search, level or "", tail)
    else:
        found = kit.logs(job_id, tail=tail)
    for line in found:
        out.echo(json.dumps(line.to_json()) if as_json else line.text)


def _followed(kit: Kit, job_id: str, tail: int | None) -> Iterator[LogLine]:
    """Yield the last lines so far, then each new one until the job ends."""
    for n, (_, lines) in enumerate(steps(kit, job_id)):
        yield from lines if n or tail is None else lines[max(0, len(lines) - tail) :]


def _found(kit: Kit, job_id: str, search: str, level: str, tail: int | None) -> Iterator[LogLine]:
    """Yield the matching lines, read in slices."""
    if tail is not None:
        yield from kit.logs(job_id, search=search, level=level, tail=tail)
        return
    after = 0
    while True:
        found = kit.log_slice(job_id, search=search, level=level, after=after, limit=5000)
        yield from found.lines
        if not found.cursor and len(found.lines) < 5000:
            return
        after = found.cursor or found.lines[-1].n


@click.command()
@id_arguments("open jobs")
@click.option("--reason", default="", metavar="TEXT", help="Reason, shown with the jobs.")
@click.option("--checkpoint", is_flag=True, help="Stop running jobs at their next checkpoint, or after their grace.")
def cancel(job_ids: tuple[str, ...], reason: str, checkpoint: bool) -> int:
    """Ask jobs to stop. A waiting job is cancelled at once, a running job when its worker has stopped it."""
    kit = jobkit.connect()
    failed = 0
    ids = [out.find(kit, prefix) for prefix in job_ids]
    for job_id in ids:
        was_asked = kit.cancel(job_id, reason, at_checkpoint=checkpoint)
        state = kit.snapshot(job_id).state
        if was_asked:
            click.echo(f"{job_id} {'cancelling' if state is JobState.RUNNING else state}")
        else:
            out.echo(f"job {job_id} has already ended ({state})", err=True)
            failed += 1
    out.note(kit, "cancel", "job", ids, failed)
    return FAILED if failed else 0


@click.command()
@id_arguments("ended jobs", required=False)
@click.option("--failed", "all_failed", is_flag=True, help="Retry all failed jobs that have not been retried.")
@click.option("--task", "-t", metavar="NAME", help="With --failed: only jobs of this task.", **complete("tasks"))
@click.option("--from-checkpoint", is_flag=True, help="Go on from the newest checkpoint of each job.")
@click.option("--env", type=click.Choice([*ENVS]), help="Use " + ", or ".join(ENVS.values()) + ".")
def retry(job_ids: tuple[str, ...], all_failed: bool, task: str | None, from_checkpoint: bool, env: str | None) -> None:
    """Run ended jobs again, each as a new job, and print the new ids."""
    if bool(job_ids) == all_failed:
        raise BadInput("give ids of jobs, or --failed for all failed jobs")
    kit = jobkit.connect()
    ids = [out.find(kit, prefix) for prefix in job_ids]
    if all_failed:
        failed = kit.jobs(state="failed", task=task, limit=10_000)
        ids += [job.id for job in reversed(failed) if not job.snapshot.again]
    for job_id in ids:
        if env is not None:
            click.echo(kit.rerun(job_id, {}, from_checkpoint=from_checkpoint, env=env).id)
        else:
            click.echo(kit.retry(job_id, from_checkpoint=from_checkpoint).id)
    if ids:
        out.note(kit, "retry", "job", ids)


@click.command()
@id_arguments("ended jobs")
def rm(job_ids: tuple[str, ...]) -> int:
    """Delete ended jobs with their results, logs and artifacts."""
    kit = jobkit.connect()
    ids = [out.find(kit, prefix) for prefix in job_ids]
    gone = kit.delete(ids)
    out.note(kit, "delete", "job", ids, gone.count(False))
    for job_id, is_gone in zip(ids, gone, strict=True):
        if is_gone:
            click.echo(job_id)
            continue
        try:
            state = kit.snapshot(job_id).state
            out.echo(f"job {job_id} is {state}; only ended jobs can be deleted, so cancel it first", err=True)
        except JobNotFound:
            out.echo(f"job {job_id} is deleted already", err=True)
    return 0 if all(gone) else FAILED


@click.command()
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Also delete all ended jobs but the newest N.")
def prune(keep: int | None) -> None:
    """Delete expired jobs: those whose `result_ttl` is over."""
    kit = jobkit.connect()
    try:
        count = kit.prune(keep)
    except JobkitError as error:
        raise JobkitError(f"pruning stopped: {error}") from error
    out.note(kit, "prune", "job", (), count=count)
    click.echo(f"{count} jobs deleted")


@click.command()
@id_arguments("open jobs")
@click.option("--queue", "-q", metavar="NAME", help="New queue.", **complete("queues"))
@click.option("--priority", "-p", type=int, help="New priority; higher first.")
def move(job_ids: tuple[str, ...], queue: str | None, priority: int | None) -> int:
    """Move waiting jobs to another queue or priority."""
    if queue is None and priority is None:
        raise BadInput("give --queue or --priority, or both")
    kit = jobkit.connect()
    ids = [out.find(kit, prefix) for prefix in job_ids]
    refused = kit.move(ids, queue=queue, priority=priority)
    for job_id in ids:
        if job_id not in refused:
            click.echo(job_id)
    for sentence in refused.values():
        out.echo(sentence, err=True)
    out.note(kit, "move", "job", ids, len(refused))
    return FAILED if refused else 0
