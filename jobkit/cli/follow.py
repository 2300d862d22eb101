"""Following one job to its end: its snapshots, and each line of its log exactly once."""

from __future__ import annotations

import json
import queue
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from jobkit.cli import CANCELLED, FAILED, out
from jobkit.client.loop import background
from jobkit.model import EventType, JobEvent, JobSnapshot, JobState, LogLine, apply
from jobkit.model.format import GLYPHS, duration, params_brief, percent, progress_line, shortened, time_left
from jobkit.model.trace import lines_of

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

    from jobkit.client.job import Job
    from jobkit.client.kit import Kit

#: Seconds without an event after which the job is read again, in case a connection lost some.
_SAFETY_S = 5.0
_BAR = 30

#: Most characters of a title beside the bar: bar, numbers and time left have to fit into the line, too.
_TITLE_CHARS = 32


def steps(kit: Kit, job_id: str) -> Iterator[tuple[JobSnapshot, list[LogLine]]]:
    """Yield snapshot and new log lines after each change; the last ones are terminal and complete."""
    news: queue.SimpleQueue[JobEvent | None] = queue.SimpleQueue()  # None means "read the job again"
    last_n = 0

    def missing_lines() -> list[LogLine]:
        nonlocal last_n
        lines = list(kit.logs(job_id, after=last_n))
        last_n = max([last_n, *(line.n for line in lines)])
        return lines

    stops = [kit.hub.listen(news.put, job_id), kit.hub.on_status(lambda _: news.put(None))]
    try:
        background.call(kit.hub.ready(job_id))
        snapshot = kit.snapshot(job_id)
        yield snapshot, missing_lines()
        while not snapshot.is_terminal:
            lines: list[LogLine] = []
            for event in _batch(news):
                if event is None and not kit.hub.is_live:
                    kit.hub.check_stopped()
                elif event is None:
                    lines += missing_lines()
                    snapshot = kit.snapshot(job_id)
                elif event.type is EventType.LOGGED:
                    told = _lines_of(event)
                    if told and told[0].n > last_n + 1:
                        lines += missing_lines()
                    lines += [line for line in told if line.n > last_n]
                    last_n = max([last_n, *(line.n for line in told)])
                else:
                    snapshot = apply(snapshot, event) or kit.snapshot(job_id)
            if snapshot.is_terminal:
                lines += missing_lines()
            yield snapshot, lines
    finally:
        for stop in stops:
            stop()


def _batch(news: queue.SimpleQueue[JobEvent | None]) -> list[JobEvent | None]:
    """Return all events that have arrived, at least one; None if none has come for a while."""
    try:
        batch = [news.get(timeout=_SAFETY_S)]
    except queue.Empty:
        return [None]
    while not news.empty():
        batch.append(news.get())
    return batch


def _lines_of(event: JobEvent) -> list[LogLine]:
    first = int(event.data.get("first", 0))
    return [LogLine.from_wire(wire, n=first + i) for i, wire in enumerate(event.data.get("lines") or [])]


def submitted(kit: Kit, job: Job, is_waiting: bool) -> int:
    """Print the id of a submitted job, and follow it if asked to. Returns the exit status."""
    click.echo(job.id)
    return follow(kit, job.id) if is_waiting else 0


def follow(kit: Kit, job_id: str) -> int:
    """Show a job until it ends: its log, a live bar on a terminal, then its outcome. Returns the exit status."""
    screen = _Screen()
    snapshot: JobSnapshot | None = None
    told = ""
    try:
        with screen:
            for n, (snapshot, lines) in enumerate(steps(kit, job_id)):
                screen.show(snapshot, lines)
                if n and snapshot.state is JobState.QUEUED and (why := kit.waits_for(job_id)):
                    if (gist := why.partition("; ")[0]) != told:  # without the number of jobs ahead, which changes
                        screen.note(f"{snapshot.state}: {why}")
                    told = gist
    except KeyboardInterrupt:
        state = "" if snapshot is None else f" is {snapshot.state} and"
        click.echo(
            f"\nStopped following; job {job_id}{state} continues. Follow it with: jobkit watch {job_id}", err=True
        )
        raise
    assert snapshot is not None
    return ending(kit, snapshot)


def wait(kit: Kit, job_id: str) -> int:
    """Return the exit status of a job when it has ended; print nothing."""
    for snapshot, _ in steps(kit, job_id):
        state = snapshot.state
    return _status(state)


def print_events(kit: Kit, job_id: str) -> int:
    """Print a job's events from its first to its last, one JSON object per line. Returns the exit status."""
    for event in kit.job_events(job_id):
        shown = event.to_json()
        if event.type is EventType.LOGGED:
            shown["data"] = {"lines": [line.to_json() for line in _lines_of(event)]}
        click.echo(json.dumps(shown))
    return _status(kit.snapshot(job_id).state)


def _status(state: JobState) -> int:
    return {JobState.SUCCEEDED: 0, JobState.CANCELLED: CANCELLED}.get(state, FAILED)


def ending(kit: Kit, snapshot: JobSnapshot) -> int:
    """Print the outcome of a job: its result on stdout, all else on stderr. Returns the exit status."""
    took, error = duration(snapshot.elapsed_s(out.now())), snapshot.error
    click.echo(f"{out.state_text(snapshot.state)}{f' after {took}' if took else ''}", err=True)
    if snapshot.state is JobState.SUCCEEDED:
        click.echo(result_text(kit.preview(snapshot.id), snapshot.summary))
    elif snapshot.state is JobState.FAILED and error is not None:
        lines = lines_of(error)
        click.echo(out.block("\n".join(lines)), err=True)
        if str(error) not in "\n".join(lines):
            out.echo(str(error), err=True)
    return _status(snapshot.state)


def result_text(preview: object, summary: str) -> str:
    """Return the text of a result's preview; the value itself is never read."""
    shown = preview if isinstance(preview, dict) else {}
    if shown.get("problem"):  # then the summary in the record is not trusted either
        return out.one_line(str(shown["unavailable"]))
    text = out.block(str(shown["text"])) if shown.get("text") else out.one_line(summary) or "(no preview)"
    return f"{text}\n{out.one_line(str(shown['unavailable']))}" if shown.get("unavailable") else text


class _Screen:
    """Log lines on stdout; below them, on a terminal, a live bar."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._snapshot: JobSnapshot | None = None
        self._is_together = sys.stdout.isatty()

    def __enter__(self) -> _Screen:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            # One console if both are the same terminal, so that lines and bar do not overwrite each other.
            console = Console(stderr=not self._is_together, highlight=False)
            self._live = Live(get_renderable=self._bar, console=console, transient=True, refresh_per_second=8)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, snapshot: JobSnapshot, lines: list[LogLine]) -> None:
        self._snapshot = snapshot
        for line in lines:
            if self._live is not None and self._is_together:
                self._live.console.print(out.one_line(line.text), soft_wrap=True, markup=False, emoji=False)
            else:
                out.echo(line.text)

    def note(self, text: str) -> None:
        """Print a line that is not of the log, on stderr."""
        if self._live is not None:
            self._live.console.print(out.one_line(text), style="dim", soft_wrap=True, markup=False, emoji=False)
        else:
            out.echo(text, err=True)

    def _bar(self) -> Text:
        from rich.text import Text

        snapshot = self._snapshot
        if snapshot is None:
            return Text("")
        now = out.now()
        colour = out.COLOURS[snapshot.state]
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"{GLYPHS[snapshot.state]} ", style=colour)
        title = out.one_line(snapshot.spec.title or snapshot.spec.task)
        text.append(shortened(title, _TITLE_CHARS), style="bold")
        if snapshot.state is not JobState.RUNNING:
            text.append(f"  {snapshot.state}  {out.one_line(params_brief(snapshot.spec.params))}", style="dim")
            return text
        fraction = snapshot.progress
        if fraction is None:  # progress unknown: a moving block
            at = int(time.monotonic() * 8) % _BAR
            text.append("  " + "─" * at + "━━━"[: _BAR - at] + "─" * max(0, _BAR - at - 3), style=colour)
        else:
            full = int(fraction * _BAR)
            text.append("  " + "━" * full, style=colour)
            text.append("─" * (_BAR - full), style="dim")
        elapsed = snapshot.elapsed_s(now)
        eta = snapshot.eta_s(now) if elapsed is not None and elapsed >= 3 else None
        facts = (
            percent(fraction),
            progress_line(snapshot.completed, snapshot.total),
            out.one_line(snapshot.shown_message),
            duration(elapsed),
            "cancelling" if snapshot.is_cancelling else time_left(eta),
        )
        text.append("  " + " · ".join(fact for fact in facts if fact))
        return text
