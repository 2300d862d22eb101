"""`jobkit stats`: totals, once or live."""

from __future__ import annotations

import json
import queue
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from jobkit.cli import out
from jobkit.model import EventType, JobEvent, JobState

if TYPE_CHECKING:
    from rich.console import RenderableType

    from jobkit.client import Kit

#: Shortest time between two updates, in seconds.
_SOON_S = 0.25

#: Longest time between two updates, in seconds: the load of workers changes without an event.
_LATEST_S = 2.0

#: Seconds of "the last minute".
_MINUTE_S = 60.0

_ENDS = (EventType.SUCCEEDED, EventType.FAILED, EventType.CANCELLED)


@click.command()
@click.option("--watch", "-w", "is_watching", is_flag=True, help="Update until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch one object per line.")
def stats(is_watching: bool, as_json: bool) -> None:
    """Show jobs by state, queues and workers."""
    kit = out.connect()
    if not is_watching:
        found = kit.stats()
        if as_json:
            out.echo_json(found)
        else:
            _print(shown(found, None))
        return
    try:
        if as_json or not sys.stdout.isatty():
            for found, rate in _updates(kit):
                click.echo(json.dumps({**found, "ended_per_minute": rate}))
        else:
            _live(kit)
    except KeyboardInterrupt:
        click.echo(err=True)


def _updates(kit: Kit) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the totals and the number of jobs that ended in the last minute, after each change."""
    news: queue.SimpleQueue[JobEvent | None] = queue.SimpleQueue()
    ends: deque[float] = deque()
    stops = [kit.hub.listen(news.put, None), kit.hub.on_status(lambda _: news.put(None))]
    try:
        while True:
            began = time.monotonic()
            while ends and ends[0] < began - _MINUTE_S:
                ends.popleft()
            yield kit.stats(), len(ends)
            until = began + _LATEST_S
            while (left := until - time.monotonic()) > 0:
                try:
                    event = news.get(timeout=left)
                except queue.Empty:
                    break
                if event is not None and event.type in _ENDS:
                    ends.append(time.monotonic())
                until = min(until, max(began + _SOON_S, time.monotonic()))
            while not news.empty():
                event = news.get()
                if event is not None and event.type in _ENDS:
                    ends.append(time.monotonic())
    finally:
        for stop in stops:
            stop()


def _live(kit: Kit) -> None:
    from rich.live import Live

    with Live(screen=False, auto_refresh=False) as live:
        for found, rate in _updates(kit):
            live.update(shown(found, rate), refresh=True)


def _print(what: RenderableType) -> None:
    from rich.console import Console

    Console(highlight=False).print(what)


def shown(found: Mapping[str, Any], rate: int | None) -> RenderableType:
    """Return the totals for a terminal: a line of states, a line of workers, a table of queues."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    states = Text("  ").join(
        Text(f"{glyph} {found['jobs'].get(state, 0):,} {state}", style=colour) for state, (glyph, colour) in _faces()
    )
    busy = f"{found['running']:,} of {found['slots']:,} slots busy" if found["slots"] else "no worker takes jobs"
    count = found["workers"]
    work = f"{out.count(count, 'worker')}, {busy}" + (
        "" if rate is None else f", {rate:,} jobs ended in the last minute"
    )
    rejected = found.get("rejected", 0)
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = list(dict.fromkeys(name for numbers in found["queues"].values() for name in numbers))
    table.add_column("QUEUE")
    for name in names:
        table.add_column(name.upper(), justify="right")
    for name, numbers in found["queues"].items():
        table.add_row(Text(name), *(_cell(numbers.get(column, 0)) for column in names))
    parts: list[RenderableType] = [states, Text(work)]
    if found.get("refused"):
        parts.append(Text(out.one_line(found["refused"]), style="red"))
    if rejected:
        parts.append(Text(f"{rejected:,} payloads were rejected; see the logs of the workers", style="red"))
    if found["queues"]:
        parts += [Text(), table]
    return Group(*parts)


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else out.one_line(str(value))


def _faces() -> list[tuple[JobState, tuple[str, str]]]:
    return [(state, out.GLYPHS[state]) for state in JobState]
