"""Output of commands: text that is safe for a terminal, tables, JSON; and finding a job by a prefix of its id."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from jobkit.cli.group import BadInput
from jobkit.model import JobkitError, JobNotFound, JobSnapshot, JobState
from jobkit.run.inside.lines import clean
from jobkit.settings import user_name
from jobkit.tasks.option_values import seconds_in

if TYPE_CHECKING:
    from jobkit.client import Kit
    from jobkit.store.query import Query

#: Characters of an id in tables.
SHOWN_ID = 8

#: Characters of the shortest prefix that finds a job.
LEAST_ID = 4

GLYPHS: dict[str, tuple[str, str]] = {
    JobState.SCHEDULED: ("◷", "magenta"),
    JobState.QUEUED: ("○", "bright_black"),
    JobState.RUNNING: ("▶", "blue"),
    JobState.SUCCEEDED: ("✓", "green"),
    JobState.FAILED: ("✗", "red"),
    JobState.CANCELLED: ("■", "yellow"),
}


def note(kit: Kit, action: str, on: str, targets: Sequence[str], failed: int = 0) -> None:
    """Record an action in the audit trail, in the name of the user of this machine."""
    from jobkit.client.loop import background
    from jobkit.model.people import AuditEntry

    outcome = "done" if not failed else "failed" if failed == len(targets) else "partly"
    entry = AuditEntry.of(user_name(), "", "cli", action, on, targets, outcome, "")
    try:
        background.call(kit.verbs.trail.note(entry))
    except JobkitError as error:
        echo(f"jobkit: done, but not recorded in the audit trail: {one_line(str(error))}", err=True)


def block(text: str) -> str:
    """Return text of several lines, safe for a terminal."""
    return "\n".join(clean(line) for line in text.splitlines())


def one_line(text: str) -> str:
    """Return text on one line, safe for a terminal."""
    return " ".join(clean(line) for line in text.splitlines())


def echo(text: str = "", *, err: bool = False, **style: Any) -> None:
    """Print text that is safe already. Styles are left out unless a terminal reads."""
    click.secho(text, err=err, **style)


def echo_json(value: Any) -> None:
    """Print JSON, which escapes control characters itself."""
    click.echo(json.dumps(value, indent=2, default=str))


def state_text(state: JobState, word: str | None = None) -> str:
    """Return `✓ succeeded`, coloured if a terminal reads."""
    glyph, colour = GLYPHS[state]
    return click.style(f"{glyph} {word or state}", fg=colour)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print aligned columns; on a terminal the last one is cut at the edge. Cells must be safe already."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(click.unstyle(line[i])) for line in lines) for i in range(len(head))]
    edge = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else None
    for n, line in enumerate(lines):
        cells = [cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(line, widths, strict=True)]
        if edge is not None and sum(widths) + 2 * len(widths) > edge:
            room = edge - sum(widths[:-1]) - 2 * (len(widths) - 1)
            last = click.unstyle(cells[-1]).rstrip()
            cells[-1] = last if len(last) <= room else last[: max(1, room - 1)] + "…"
        text = "  ".join(cells).rstrip()
        click.echo(click.style(text, bold=True) if n == 0 else text)


def listing(
    as_json: bool, items: Iterable[Any], head: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str = ""
) -> None:
    """Print a list as JSON or as a table; an empty one as the sentence `empty`, if given, on stderr."""
    if as_json:
        return echo_json(list(items))
    found = list(rows)
    if found or not empty:
        table(head, found)
    else:
        echo(empty, err=True)


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values below each other, without empty values. Values must be safe already."""
    for name, value in pairs:
        if value:
            echo(f"  {name:<11} {value}")


def section(title: str, lines: Iterable[str]) -> None:
    """Print indented lines below a title, if there are any. They must be safe already."""
    for n, line in enumerate(lines):
        if n == 0:
            echo(title, bold=True)
        echo(f"  {line}".rstrip())


def count(n: int, noun: str = "job") -> str:
    """Return `1 job`, `1,200 jobs`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def seconds_of(text: str, option: str) -> float:
    """Return the seconds of `90`, `15m`, `2h`, `30d` or `4w`.

    Raises:
        BadInput: it is not such a time.
    """
    found = seconds_in(text)
    if found is None or found >= 1e12:
        raise BadInput(f"{option} must be a time like 90, 15m, 2h, 30d or 4w, not {text!r}")
    return found


def snapshots(kit: Kit, query: Query) -> Iterator[JobSnapshot]:
    """Yield all jobs of a query, read in pages of its `limit`."""
    cursor = query.cursor
    while True:
        page = kit.page(replace(query, cursor=cursor))
        yield from page.jobs
        if not (cursor := page.next_cursor):
            return


def now() -> datetime:
    return datetime.now(UTC)


def find(kit: Kit, prefix: str) -> str:
    """Return the id of the job whose id is, or begins with, `prefix`.

    Raises:
        JobNotFound: there is no such job.
        BadInput: the prefix is too short, or several ids begin with it.
    """
    from jobkit.store.query import Query

    try:
        return kit.snapshot(prefix).id
    except JobNotFound:
        if len(prefix) < LEAST_ID:
            raise BadInput(
                f"{one_line(prefix)!r} is not the id of a job; a prefix of an id needs at least {LEAST_ID} characters"
            ) from None
    matching = (s.id for s in snapshots(kit, Query(search=prefix, limit=200)) if s.id.startswith(prefix))
    found = list(islice(matching, 5))
    if not found:
        raise JobNotFound(f"no job {one_line(prefix)!r} is kept here; `jobkit jobs` lists the kept jobs")
    if len(found) > 1:
        raise BadInput(f"several ids begin with {one_line(prefix)!r}: {', '.join(found)}; give a longer prefix")
    return found[0]
