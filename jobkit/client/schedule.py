"""`Schedule`: a live handle to one schedule, as a param object."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import param

from jobkit.client.handle import FromSnapshot, Guarded, has_watchers, named_by_id
from jobkit.client.job import Job
from jobkit.client.loop import background
from jobkit.model import InvalidParams, JobState, ScheduleRun, ScheduleSnapshot
from jobkit.schedules.timing import Timing
from jobkit.schedules.words import LATE_S, moment_text, moments, sentence, utc

_READ: dict[str, Callable[[ScheduleSnapshot], Any]] = {
    "id": lambda s: s.name,
    "task": lambda s: s.spec.job.task,
    "params": lambda s: dict(s.spec.job.params),
    "cron": lambda s: s.spec.cron or None,
    "every": lambda s: s.spec.every_ms / 1000 if s.spec.every_ms else None,
    "at": lambda s: _instant(s.spec.at_ms, s),
    "tz": lambda s: s.spec.tz,
    "until": lambda s: _instant(s.spec.until_ms, s),
    "count": lambda s: s.spec.count or None,
    "missed": lambda s: s.spec.missed,
    "missed_limit": lambda s: s.spec.missed_limit,
    "overlap": lambda s: s.spec.overlap,
    "next_at": lambda s: _instant(s.next_ms, s),
    "paused": lambda s: s.is_paused,
    "ended": lambda s: s.ended_ms > 0,
    "fired": lambda s: s.fired,
    "left_out": lambda s: s.left_out,
    "runs": lambda s: list(s.runs),
}


def _instant(ms: int, snapshot: ScheduleSnapshot) -> datetime | None:
    return utc(ms).astimezone(Timing.of(snapshot.spec).shown_zone) if ms else None


@named_by_id
class Schedule(param.Parameterized):
    """A task that runs again and again, or later once. Get one from `kit.schedule(...)` or `kit.schedules()`.

    Its parameters move by themselves when it fires, is paused or is changed, also by other processes.
    """

    param = Guarded()

    id = FromSnapshot(doc="The same as its name.")
    task = FromSnapshot(doc="Name of the task.")
    params = FromSnapshot(doc="The arguments as they can be shown.")
    cron = FromSnapshot(doc="The cron line, or None.")
    every = FromSnapshot(doc="Seconds from one run to the next, or None.")
    at = FromSnapshot(doc="The one moment, or None.")
    tz = FromSnapshot(doc="Name of the time zone that the cron line is meant in.")
    until = FromSnapshot(doc="No run after this moment, or None.")
    count = FromSnapshot(doc="So many runs in all, or None.")
    missed = FromSnapshot(doc="How to handle slots that were not fired in time: once, skip or all.")
    missed_limit = FromSnapshot(doc="With missed='all', at most so many are run after all.")
    overlap = FromSnapshot(doc="While the run before has not ended: allow, skip or wait.")
    next_at = FromSnapshot(doc="The next run (aware, in `tz`); None if there is no further one, or while it is paused.")
    paused = FromSnapshot(doc="True while it is paused.")
    ended = FromSnapshot(doc="True when no run is left.")
    fired = FromSnapshot(doc="How many runs there were since its times were set.")
    left_out = FromSnapshot(doc="How many slots there were without a run.")
    runs = FromSnapshot(doc="The last runs, newest first, at most 14.")

    def __init__(self, kit: Any, snapshot: ScheduleSnapshot) -> None:
        self._kit = kit
        self._snapshot = snapshot
        self._told: dict[str, Any] = {}
        self._publishing = threading.RLock()  # param must not be written from two threads at once

    def _parameter(self, name: str) -> Any:
        return _READ[name](self._snapshot)

    @property
    def snapshot(self) -> ScheduleSnapshot:
        """All that is known now, as one frozen value."""
        return self._snapshot

    @property
    def sentence(self) -> str:
        """When, in words: "Every day at 03:00 UTC"."""
        return sentence(Timing.of(self._snapshot.spec))

    def next(self, n: int = 5) -> list[datetime]:
        """The next `n` runs in its own time zone (aware); fewer if it ends before. Also while it is paused."""
        if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= 1000:
            raise InvalidParams(f"n must be a whole number from 1 to 1000, not {n!r}", "n")
        return moments(self._snapshot, n)

    def jobs(self) -> list[Job]:
        """The jobs of its last runs that are still kept, newest first."""
        return self._kit.jobs_of(self._snapshot)

    # -- acting on it -------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Fire nothing until it is resumed. What runs goes on."""
        self._kit.pause_schedule(self._snapshot.name)

    def resume(self) -> None:
        """Go on with the next time from now; those that passed meanwhile are left out."""
        self._kit.resume_schedule(self._snapshot.name)

    def remove(self) -> None:
        """Forget it. Its jobs stay. One from `@task(schedule=...)` comes back when a worker starts: pause that."""
        self._kit.remove_schedule(self._snapshot.name)

    def run_now(self) -> Job:
        """Run it once now, paused or not; its next times stay as they are."""
        return self._kit.run_schedule(self._snapshot.name)

    def change(self, params: Mapping[str, Any] | None = None, **changes: Any) -> Schedule:
        """Change some of it: `schedule.change(cron="0 4 * * *", overlap="skip")`; see `Kit.change_schedule`."""
        return self._kit.change_schedule(self._snapshot.name, params, **changes)

    # -- moved by its kit ---------------------------------------------------------------------------------------------

    def _advance(self, snapshot: ScheduleSnapshot) -> None:
        """Take a newer snapshot; watchers hear of it on their own thread."""
        if snapshot.now_ms < self._snapshot.now_ms:
            return
        before, self._snapshot = self._snapshot, snapshot
        if has_watchers(self):
            if not self._told:
                self._told = {name: read(before) for name, read in _READ.items()}
                with param.parameterized.discard_events(self):
                    self.param.update(**self._told)
            background.watchers_do(self._publish)

    def _publish(self) -> None:
        with self._publishing:
            now = {name: read(self._snapshot) for name, read in _READ.items()}
            changed = {name: value for name, value in now.items() if value != self._told.get(name)}
            self._told |= changed
            if changed:
                self.param.update(**changed)

    # -- how it shows itself ------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<Schedule {self.name} {self.task}: {self.sentence}; {self._state(datetime.now(UTC))}>"

    __str__ = __repr__

    def _state(self, now: datetime) -> str:
        """`next in 4 min (Tue 24 Nov 23:05)`, `paused`, `ended`."""
        snapshot = self._snapshot
        if snapshot.is_paused:
            return "paused"
        if snapshot.ended_ms or not snapshot.next_ms:
            return "ended"
        at = self.next_at
        from jobkit.model.format import ago, duration

        late_s = (now - at).total_seconds()
        when = f"{duration(late_s)} late" if late_s > LATE_S else f"next {ago(at, now)}"
        return f"{when} ({moment_text(at, now)})"

    def _repr_html_(self) -> str:
        """In a notebook: the sentence, the next five times and the last runs. All of it is text."""
        now = datetime.now(UTC)
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.params.items())
        times = "".join(f"<li>{html.escape(moment_text(at, now))}</li>" for at in self.next(5))
        runs = "".join(_bar(run) for run in reversed(self._snapshot.runs))
        rule = "font: 12px ui-monospace, monospace; opacity: .75"
        when = html.escape(self.cron or "")
        return (
            '<div style="font: 14px/20px system-ui, sans-serif">'
            f"<b>{html.escape(self._snapshot.name)}</b> "
            f'<span style="{rule}">{html.escape(self.task)}({html.escape(arguments[:200])})</span><br>'
            f'{html.escape(self.sentence)} <span style="{rule}">{when}</span> · {html.escape(self._state(now))}'
            + (f'<ol style="margin: 4px 0 4px 20px; padding: 0">{times}</ol>' if times else "")
            + (f'<div aria-label="last runs" style="letter-spacing: 2px">{runs}</div>' if runs else "")
            + "</div>"
        )


_GLYPHS = {
    JobState.SUCCEEDED: "✓",
    JobState.FAILED: "✗",
    JobState.CANCELLED: "■",
    JobState.RUNNING: "▶",
    JobState.QUEUED: "○",
    JobState.SCHEDULED: "◷",
}


def _bar(run: ScheduleRun) -> str:
    glyph = _GLYPHS.get(JobState(run.state), "·") if run.state in JobState._value2member_map_ else "·"
    what = run.state or (f"{run.count} left out: {run.why}" if run.why else "no longer kept")
    return f'<span title="{html.escape(f"{utc(run.at_ms):%d %b %H:%M:%S} UTC: {what}", quote=True)}">{glyph}</span>'
