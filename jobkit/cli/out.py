"""Output of commands, all of it safe for a terminal: lines, tables, JSON; and finding a job by a prefix of its id."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from operator import methodcaller
from typing import TYPE_CHECKING, Any, TypeVar

import click
from msgspec.structs import replace

from jobkit.model import JobkitError, JobNotFound, JobSnapshot, JobState
from jobkit.model.cells import Cell, aligned, written
from jobkit.model.format import GLYPHS, shortened
from jobkit.model.format import ago as ago_at
from jobkit.model.terminal import clean
from jobkit.settings import user_name

if TYPE_CHECKING:
    from jobkit.client.kit import Kit
    from jobkit.store.query import Query

T = TypeVar("T")

#: Characters of an id in tables.
SHOWN_ID = 8


#: The column of a list with the beginning of ids, which commands take for the whole.
SHORT_ID: Mapping[str, Callable[[Any], str]] = {"Id": lambda each: str(each.id[:SHOWN_ID])}

#: Colour of each state in terminals.
COLOURS: Mapping[str, str] = {
    **dict.fromkeys(JobState, "yellow"),
    JobState.SCHEDULED: "magenta",
    JobState.QUEUED: "bright_black",
    JobState.RUNNING: "blue",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
}


def note(kit: Kit, action: str, on: str, targets: Sequence[str], failed: int = 0, count: int = 0) -> None:
    """Record an action by the user of this machine in the audit log; if that fails, print why.

    `count`: number of targets without a name.
    """
    from jobkit.client.loop import background
    from jobkit.model.person import AuditEntry

    outcome = "done" if not failed else "failed" if failed == len(targets) else "partly"
    entry = AuditEntry.of(user_name(), "", "cli", action, on, targets, outcome, "")
    entry = replace(entry, count=count or entry.count)
    try:
        background.call(kit.verbs.store.audit_log.note(entry))  # `verbs.trail` would promise to write it later
    except JobkitError as error:
        done = {"done": "done, but ", "partly": "partly done, but ", "failed": ""}[outcome]
        say(f"{done}not recorded in the audit log: {error}")


class Styled(str):
    """Text that is safe and has styles; it is printed as it is."""


def block(text: str) -> str:
    """Return text of several lines, safe for a terminal."""
    return "\n".join(clean(line) for line in text.splitlines())


def one_line(text: str) -> str:
    """Return text on one line, safe for a terminal."""
    return text if isinstance(text, Styled) else " ".join(clean(line) for line in text.splitlines())


def echo(text: str, *, err: bool = False, **style: Any) -> None:
    """Print one line. Styles are left out unless a terminal reads."""
    text = one_line(text)
    click.echo(click.style(text, **style) if style else text, err=err)


def say(line: str) -> None:
    """Print what a long-running command does, on stderr; nothing if its terminal has been closed."""
    with contextlib.suppress(OSError):
        echo(f"jobkit: {line}", err=True)


def echo_json(value: Any) -> None:
    """Print JSON, which escapes control characters itself."""
    click.echo(json.dumps(value, indent=2, default=str))


def state_text(state: JobState, word: str | None = None) -> Styled:
    """Return `✓ succeeded`, coloured if a terminal reads."""
    return styled(f"{GLYPHS[state]} {word or state}", COLOURS[state])


def styled(text: str, colour: str) -> Styled:
    """Return text that is coloured if a terminal reads."""
    return Styled(click.style(text, fg=colour))


def table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> None:
    """Print aligned columns; on a terminal the last one is cut at the edge."""
    edge = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else None
    for n, cells in enumerate(aligned([head, *(list(map(one_line, row)) for row in rows)], _width)):
        widths = list(map(_width, cells))
        if edge is not None and sum(widths) + 2 * len(widths) > edge:
            room = edge - sum(widths[:-1]) - 2 * (len(widths) - 1)
            cells[-1] = shortened(click.unstyle(cells[-1]).rstrip(), max(2, room))
        text = "  ".join(cells).rstrip()
        click.echo(click.style(text, bold=True) if n == 0 else text)


def _width(cell: str) -> int:
    return len(click.unstyle(cell))


def _shown(cell: Cell) -> str:
    """Return a cell of a list: a state with its glyph, a time as `12 s ago`."""
    if isinstance(cell, JobState):
        return state_text(cell)
    return ago(cell) if isinstance(cell, datetime) else cell if isinstance(cell, str) else written(cell)


def listing(
    as_json: bool,
    items: Iterable[T],
    columns: Mapping[str, Callable[[T], Cell]],
    *,
    empty: str = "",
    to_json: Callable[[T], Any] = methodcaller("to_json"),
) -> None:
    """Print a list as JSON or as a table; an empty one as the sentence `empty`, if given, on stderr."""
    found = list(items)
    if as_json:
        echo_json(list(map(to_json, found)))
    elif found or not empty:
        heads = [name.upper() for name in columns]
        table(heads, ([_shown(cell(each)) for cell in columns.values()] for each in found))
    else:
        echo(empty, err=True)


def facts(pairs: Mapping[str, str]) -> None:
    """Print names and values below each other, without empty values."""
    for name, value in pairs.items():
        if value:
            echo(f"  {name:<11} {value}")


def section(title: str, lines: Iterable[str]) -> None:
    """Print indented lines below a title, if there are any."""
    for n, line in enumerate(lines):
        if n == 0:
            echo(title, bold=True)
        echo(f"  {line}".rstrip())


def count(n: int, noun: str = "job") -> str:
    """Return `1 job`, `1,200 jobs`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


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


def ago(at: datetime | None) -> str:
    """Return `12 s ago`; "" for None."""
    return ago_at(at, now())


def find(kit: Kit, prefix: str) -> str:
    """Return the id of the job whose id is, or begins with, `prefix`. Raises JobNotFound, or InvalidParams."""
    from jobkit.client.checks import LEAST_ID

    try:
        return kit.find_id(prefix)
    except JobNotFound:
        short = len(prefix) < LEAST_ID
        hint = f"give at least {LEAST_ID} characters" if short else "`jobkit jobs` lists the kept jobs"
        raise JobNotFound(f"no job {prefix!r} is kept here; {hint}") from None
