"""What commands print: text that cannot harm a terminal, tables, JSON, and jobs by the beginning of their id."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from jobkit.cli.group import BadInput
from jobkit.model import JobkitError, JobNotFound, JobState
from jobkit.run.inside.lines import clean
from jobkit.settings import Settings

if TYPE_CHECKING:
    from jobkit.client import Kit

#: Characters of an id that tables show, and the fewest that find a job.
SHOWN_ID, LEAST_ID = 8, 4

GLYPHS = {
    JobState.SCHEDULED: ("◷", "magenta"),
    JobState.QUEUED: ("○", "bright_black"),
    JobState.RUNNING: ("▶", "blue"),
    JobState.SUCCEEDED: ("✓", "green"),
    JobState.FAILED: ("✗", "red"),
    JobState.CANCELLED: ("■", "yellow"),
}


def settings() -> Settings:
    """The settings in force for this command."""
    return Settings.load()


def connect() -> Kit:
    """The kit of this command.

    Raises:
        JobkitError: where it cannot be had.
    """
    import jobkit

    return jobkit.connect()


def note(kit: Kit, action: str, on: str, targets: Sequence[str], failed: int = 0) -> None:
    """Write what was done into the audit trail, in the name of who is logged in on this machine."""
    from jobkit.client.loop import background
    from jobkit.model.audit import AuditEntry
    from jobkit.settings import user_name

    outcome = "done" if not failed else "failed" if failed == len(targets) else "partly"
    entry = AuditEntry.of(user_name(), "", "cli", action, on, targets, outcome, "")
    try:
        background.call(kit.verbs.note(entry))
    except JobkitError as error:
        echo(f"jobkit: it was done, but is not in the audit trail: {one_line(str(error))}", err=True)


def block(text: str) -> str:
    """Several lines of somebody's text, fit for a terminal."""
    return "\n".join(clean(line) for line in text.splitlines())


def one_line(text: str) -> str:
    """Somebody's text on one line, fit for a terminal."""
    return " ".join(clean(line) for line in text.splitlines())


def echo(text: str = "", *, err: bool = False, **style: Any) -> None:
    """Prints text that was cleaned before; styles only where a terminal reads."""
    click.secho(text, err=err, **style)


def echo_json(value: Any) -> None:
    """Prints JSON; control characters are escaped by JSON itself."""
    click.echo(json.dumps(value, indent=2, default=str))


def state_text(state: JobState, word: str | None = None) -> str:
    """`✓ succeeded`, coloured where a terminal reads."""
    glyph, colour = GLYPHS[state]
    return click.style(f"{glyph} {word or state}", fg=colour)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns, aligned; on a terminal the last one is cut at the edge. Cells must be clean."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(click.unstyle(line[i])) for line in lines) for i in range(len(head))]
    edge = _width() if sys.stdout.isatty() else None
    for n, line in enumerate(lines):
        cells = [cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(line, widths, strict=True)]
        if edge is not None and sum(widths) + 2 * len(widths) > edge:
            room = edge - sum(widths[:-1]) - 2 * (len(widths) - 1)
            last = click.unstyle(cells[-1]).rstrip()
            cells[-1] = last if len(last) <= room else last[: max(1, room - 1)] + "…"
        text = "  ".join(cells).rstrip()
        click.echo(click.style(text, bold=True) if n == 0 else text)


def _width() -> int:
    import shutil

    return shutil.get_terminal_size((120, 24)).columns


def now() -> datetime:
    return datetime.now(UTC)


def find(kit: Kit, prefix: str) -> str:
    """The id of the one job whose id is, or begins with, `prefix`.

    Raises:
        JobNotFound: there is none.
        BadInput: too short to search for, or several begin so.
    """
    from jobkit.store.query import Query

    try:
        return kit.snapshot(prefix).id
    except JobNotFound:
        if len(prefix) < LEAST_ID:
            raise BadInput(
                f"{one_line(prefix)!r} is no job's id; to find a job by the beginning of its id give at least "
                f"{LEAST_ID} characters"
            ) from None
    found: list[str] = []
    cursor = ""
    while True:
        page = kit.page(Query(search=prefix, limit=200, cursor=cursor))
        found += [snapshot.id for snapshot in page.jobs if snapshot.id.startswith(prefix)]
        cursor = page.next_cursor
        if len(found) > 1 or not cursor:
            break
    if not found:
        raise JobNotFound(f"no job {one_line(prefix)!r} is kept here; `jobkit jobs` lists those that are")
    if len(found) > 1:
        raise BadInput(f"several jobs begin with {one_line(prefix)!r}: {', '.join(found[:5])}; give more of the id")
    return found[0]
