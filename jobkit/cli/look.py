"""Commands that look: jobs, show, watch, logs, tasks, queues, workers. All take `--json`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import click

from jobkit.cli import out
from jobkit.cli.group import BadInput
from jobkit.model import JobSnapshot, JobState
from jobkit.model.limits import resources_text
from jobkit.ui.words.format import ago, duration, params_brief, percent, progress_line, size

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON: the contract's names, times in UTC.")


@click.command()
@click.argument("words", nargs=-1, metavar="[SEARCH]...")
@click.option("--state", "-s", "states", multiple=True, type=click.Choice([str(s) for s in JobState]))
@click.option("--task", "-t", metavar="NAME")
@click.option("--queue", "-q", metavar="NAME")
@click.option("--search", "-S", metavar="TEXT", help="Text in id, task, arguments, tags, owner, message or error.")
@click.option("--order", "-o", metavar="[-]COLUMN", default="", help="Not newest first: took, -took, task, ...")
@click.option("--limit", "-n", type=click.IntRange(1, 100_000), default=50, show_default=True)
@_json
def jobs(
    words: tuple[str, ...],
    states: tuple[str, ...],
    task: str | None,
    queue: str | None,
    search: str | None,
    order: str,
    limit: int,
    as_json: bool,
) -> None:
    """List jobs, newest first.

    SEARCH is what the search box of the dashboard takes: jobkit jobs state:failed "age:<1h" lr=0.003
    """
    from jobkit.store.grammar import parse, quoted
    from jobkit.store.query import Query

    base = Query(states=states, task=task, queue=queue, order=order).checked()
    wanted = parse(" ".join(map(quoted, words)), base)
    if search:
        wanted = replace(wanted, search=(*wanted.texts, search))

    kit = out.connect()
    found: list[JobSnapshot] = []
    cursor = ""
    while len(found) < limit:
        page = kit.page(replace(wanted, limit=limit - len(found), cursor=cursor))
        found += page.jobs
        cursor = page.next_cursor
        if not cursor:
            break
    if as_json:
        out.echo_json([snapshot.to_json() for snapshot in found])
    elif not found:
        out.echo("No jobs. `jobkit tasks` lists what can be submitted.", err=True)
    else:
        out.table(("ID", "STATE", "TASK", "PROGRESS", "QUEUE", "SUBMITTED", "TOOK", "ARGUMENTS"), map(_row, found))


def _row(snapshot: JobSnapshot) -> tuple[str, ...]:
    now = out.now()
    done = snapshot.progress if snapshot.state is not JobState.SUCCEEDED else None
    return (
        snapshot.id[: out.SHOWN_ID],
        out.state_text(snapshot.state, "cancelling" if snapshot.is_cancelling else None),
        out.one_line(snapshot.spec.task),
        percent(done) or progress_line(snapshot) if snapshot.state is JobState.RUNNING else "",
        snapshot.spec.queue,
        ago(snapshot.submitted_at, now),
        duration(snapshot.elapsed_s(now)),
        out.one_line(params_brief(snapshot.spec.params)),
    )


@click.command()
@click.argument("job_id", metavar="ID")
@_json
def show(job_id: str, as_json: bool) -> None:
    """All about one job: arguments, times, attempts, the end of its log, its result or its error."""
    from jobkit.model import attempts_of

    kit = out.connect()
    snapshot = kit.snapshot(out.find(kit, job_id))
    attempts = attempts_of(snapshot.history)
    preview = kit.preview(snapshot.id)
    waits_for = kit.waits_for(snapshot.id) if snapshot.state is JobState.QUEUED else ""
    if as_json:
        shown = [
            {
                "attempt": a.number,
                "worker": a.worker,
                "started_at": _iso(a.started_at),
                "finished_at": _iso(a.ended_at),
                "outcome": a.outcome,
                "reason": a.reason,
                "usage": dict(a.usage),
            }
            for a in attempts
        ]
        out.echo_json({**snapshot.to_json(), "waits_for": waits_for, "attempts": shown, "preview": preview})
        return
    now = out.now()
    spec = snapshot.spec
    out.echo(f"{out.state_text(snapshot.state)}  {out.one_line(spec.title or spec.task)}", bold=True)
    facts: list[tuple[str, str]] = [
        ("id", spec.id),
        ("task", out.one_line(spec.task)),
        ("arguments", out.one_line(params_brief(spec.params, limit=2000))),
        ("queue", spec.queue),
        ("owner", out.one_line(spec.owner)),
        ("tags", out.one_line(", ".join(spec.tags))),
        ("submitted", _moment(snapshot.submitted_at)),
        ("needs", ", ".join(snapshot.spec.needs)),
        ("due", _moment(snapshot.due_at) if snapshot.state is JobState.SCHEDULED else ""),
        ("started", _moment(snapshot.started_at)),
        ("finished", _moment(snapshot.finished_at)),
        ("took", duration(snapshot.elapsed_s(now))),
        ("progress", " ".join(filter(None, [percent(snapshot.progress), progress_line(snapshot)]))),
        ("message", out.one_line(snapshot.message)),
        ("now", snapshot.lent_text),
        ("worker", out.one_line(snapshot.worker)),
        ("schedule", spec.schedule),
        ("retry of", spec.retry_of),
        ("cached from", snapshot.cached_from),
        ("resources", resources_text(spec.resources)),
        ("waits for", out.one_line(waits_for.removeprefix("waits for "))),
        ("python", out.one_line(str(snapshot.usage.get("python", "")))),
        ("memory", size(snapshot.usage.get("peak_rss_bytes"))),
    ]
    for name, value in facts:
        if value:
            out.echo(f"  {name:<11} {value}")
    if len(attempts) > 1 or (attempts and attempts[0].reason):
        out.echo("attempts", bold=True)
        for a in attempts:
            out.echo(f"  {a.number}  {a.outcome:<10} {duration(a.duration_s):<9} {out.one_line(a.reason)}".rstrip())
    log = kit.logs(snapshot.id, tail=10)
    if log:
        out.echo("log", bold=True)
        for line in log:
            out.echo(f"  {out.one_line(line.text)}")
    if snapshot.state is JobState.SUCCEEDED:
        from jobkit.cli.follow import result_text

        out.echo("result", bold=True)
        out.echo(_indented(result_text(preview, snapshot.summary)))
    elif snapshot.error is not None:
        out.echo("error", bold=True)
        out.echo(_indented(out.block(snapshot.error.traceback or str(snapshot.error))))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _iso(at: Any) -> str | None:
    from jobkit.model.snapshot import iso

    return iso(at)


def _moment(at: Any) -> str:
    """`2026-11-24 15:00:07 (3 min ago)` in local time."""
    return "" if at is None else f"{at.astimezone():%Y-%m-%d %H:%M:%S} ({ago(at, out.now())})"


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="One event a line, as JSON.")
def watch(job_id: str, as_json: bool) -> int:
    """Follow a job to its end: log, live bar, then the result. Exit status as of `submit --wait`."""
    from jobkit.cli.follow import follow, print_events

    kit = out.connect()
    job_id = out.find(kit, job_id)
    return print_events(kit, job_id) if as_json else follow(kit, job_id)


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--follow", "-f", "is_following", is_flag=True, help="Go on until the job ends.")
@click.option("--tail", "-n", type=click.IntRange(0), help="Only the last so many lines.")
@click.option("--all", "-a", "is_whole", is_flag=True, help="All of it, also what a long log left out in the middle.")
@click.option("--grep", "search", default="", metavar="TEXT", help="Only lines that contain TEXT, in any case.")
@click.option("--level", type=click.Choice(["info", "warning", "error"]), help="Only lines of this level or above.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def logs(
    job_id: str, is_following: bool, tail: int | None, is_whole: bool, search: str, level: str | None, as_json: bool
) -> None:
    """What a job printed, logged and warned."""
    import json

    from jobkit.cli.follow import Follower

    def put(line: Any) -> None:
        click.echo(json.dumps(line.to_json()) if as_json else out.one_line(line.text))

    kit = out.connect()
    job_id = out.find(kit, job_id)
    if search or level:
        if is_following or is_whole:
            raise BadInput("--grep and --level search the whole log so far; they go without --follow and --all")
        for line in _found(kit, job_id, search, level or "", tail):
            put(line)
        return
    if is_whole:
        if is_following or as_json or tail is not None:
            raise BadInput("--all prints the whole log as text; it goes without --follow, --tail and --json")
        if (path := kit.log_file(job_id)) is not None:
            with path.open(encoding="utf-8", errors="backslashreplace", newline="\n") as file:
                for text in file:
                    click.echo(out.one_line(text.rstrip("\n")))
            return
        if any(line.source == "jobkit" for line in kit.logs(job_id)):
            out.echo("A whole log is kept only with local:// or JOBKIT_RESULTS; this is what there is", err=True)
    if not is_following:
        for line in kit.logs(job_id, tail=tail):
            put(line)
        return
    is_first = True
    for _, lines in Follower(kit, job_id).steps():
        for line in lines[max(0, len(lines) - tail) :] if is_first and tail is not None else lines:
            put(line)
        is_first = False


def _found(kit: Any, job_id: str, search: str, level: str, tail: int | None) -> Iterator[Any]:
    """The lines that match, read in parts."""
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
@click.argument("name", metavar="[TASK]", required=False)
@_json
def tasks(name: str | None, as_json: bool) -> None:
    """Tasks that can be submitted; with a name, its parameters."""
    from jobkit.cli.act import known_tasks, task_info
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
    """`n=1000`, or `n=` where it must be given."""
    from jobkit.ui.words.format import value_brief

    return out.one_line(f"{spec.name}=" if spec.required else f"{spec.name}={value_brief(spec.default)}")


@click.command()
@_json
def queues(as_json: bool) -> None:
    """Queues, how much waits in them, and how many workers serve them."""
    kit = out.connect()
    paused = {pause.name: pause for pause in kit.paused() if pause.kind == "queue"}
    found: dict[str, dict[str, int]] = {name: {} for name in paused} | kit.queues()
    if as_json:
        pauses = {name: {"by": pause.by, "at": _iso(pause.at)} for name, pause in paused.items()}
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
@click.option("--all", "-a", "with_dead", is_flag=True, help="Also those that are gone.")
@_json
def workers(with_dead: bool, as_json: bool) -> None:
    """Workers and what they do."""
    kit = out.connect()
    found = [worker for worker in kit.workers() if worker.is_alive or with_dead]
    if as_json:
        out.echo_json([worker.to_json() for worker in found])
        return
    if refused := kit.refused():
        out.echo(out.one_line(refused), err=True)
    if not found:
        out.echo("No workers. `jobkit worker` starts one.", err=True)
        return
    out.table(
        ("WORKER", "ALIVE", "BUSY", "DONE", "CPU", "MEMORY", "QUEUES", "VERSION"),
        [
            (
                out.one_line(w.id),
                ("draining" if w.is_draining else "yes") if w.is_alive else f"no, seen {duration(w.beat_age_s)} ago",
                f"{w.running}/{w.slots}",
                str(w.done),
                f"{w.cpu_percent:.0f} %",
                size(w.rss_bytes),
                ", ".join(w.queues),
                out.one_line(f"{w.version} / {w.python}"),
            )
            for w in found
        ],
    )
