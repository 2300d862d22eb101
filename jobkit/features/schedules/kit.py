"""`Schedule`: a live handle to one schedule, as a param object; `kit.schedules`: the verbs about schedules."""

from __future__ import annotations

import builtins
import html
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, Unpack

from msgspec.structs import asdict, fields, replace

from jobkit.client.connection import Connection
from jobkit.client.forms import Deed, Noun, in_thread, on_loop, submitting
from jobkit.client.handle import NamedHandle, NamedHandles, from_snapshot, named_by_id
from jobkit.client.job import Job
from jobkit.client.tables import Table
from jobkit.features.schedules.due import submit_due
from jobkit.features.schedules.firing import job_of, scheduled
from jobkit.features.schedules.model import SCHEDULES_CHANGED, Firing, ScheduleRun, ScheduleSnapshot, ScheduleSpec
from jobkit.features.schedules.store import PartsNotKept, ScheduleStore
from jobkit.features.schedules.timing import RULES, Timing, checked_count, checked_rules, timing
from jobkit.features.schedules.words import LATE_S, moment_text, moments, sentence, utc
from jobkit.model import InvalidParams, JobkitError, JobSpec
from jobkit.model.cells import Columns
from jobkit.model.format import GLYPHS, ago, duration, local_time, params_brief
from jobkit.settings import checked_name
from jobkit.store.values import Submission
from jobkit.tasks.call import with_own_seed
from jobkit.tasks.options import Duration, SharedOptions, SubmitOptions, takes
from jobkit.tasks.params import checked
from jobkit.tasks.signature import close_names

_KINDS = ("cron", "every", "at")
_WHEN = (*_KINDS, "tz", "until")

#: What other arguments change of a job.
_OF_ARGUMENTS = frozenset(
    {"id", "task", "params", "abridged", "needs", "key", "once", "cache_key", "cache_ms", "has_parts", "python"}
)


@named_by_id
class Schedule(NamedHandle[ScheduleSnapshot]):
    """A task that runs again and again, or later once. Get one from `kit.schedule(...)` or `kit.schedules()`.

    Its parameters move by themselves when it fires, is paused or is changed, also by other processes.

    Example:
        >>> nightly = kit.schedule(report, {"day": "today"}, cron="0 3 * * *", tz="Europe/Berlin", name="nightly")
        >>> nightly.run_now().result()
        'report of today'
        >>> nightly.remove()
    """

    id: str = from_snapshot("name", "The same as its name.")
    task: str = from_snapshot("spec.job.task", "Name of the task.")
    params: dict[str, Any] = from_snapshot(lambda s: dict(s.spec.job.params), "The arguments as they can be shown.")
    cron: str | None = from_snapshot(lambda s: s.spec.cron or None, "The cron line, or None.")
    every: float | None = from_snapshot(lambda s: s.spec.every_ms / 1000 or None, "Seconds between runs, or None.")
    at: datetime | None = from_snapshot(lambda s: _in_zone(s, s.spec.at_ms), "The one moment, or None.")
    tz: str = from_snapshot("spec.tz", "Name of the time zone that the cron line is meant in.")
    until: datetime | None = from_snapshot(lambda s: _in_zone(s, s.spec.until_ms), "No run after this moment, or None.")
    count: int | None = from_snapshot(lambda s: s.spec.count or None, "So many runs in all, or None.")
    missed: str = from_snapshot("spec.missed", "How to handle slots that were not fired in time: once, skip or all.")
    missed_limit: int = from_snapshot("spec.missed_limit", "With missed='all', at most so many are run after all.")
    overlap: str = from_snapshot("spec.overlap", "While the run before has not ended: allow, skip or wait.")
    next_at: datetime | None = from_snapshot(
        lambda s: _in_zone(s, s.next_ms),
        "The next run (aware, in `tz`); None if there is no further one, or while it is paused.",
    )
    paused: bool = from_snapshot("is_paused", "True while it is paused.")
    ended: bool = from_snapshot(lambda s: s.ended_ms > 0, "True when no run is left.")
    fired: int = from_snapshot("fired", "How many runs there were since its times were set.")
    left_out: int = from_snapshot("left_out", "How many slots there were without a run.")
    runs: list[ScheduleRun] = from_snapshot(lambda s: list(s.runs), "The last runs, newest first, at most 14.")

    _verbs: ScheduleVerbs
    _connection: Connection

    @property
    def sentence(self) -> str:
        """When, in words: "Every day at 03:00 UTC"."""
        return sentence(Timing.of(self._snapshot.spec))

    def next(self, n: int = 5) -> list[datetime]:
        """The next `n` runs in its own time zone (aware); fewer if it ends before. Also while it is paused."""
        return moments(self._snapshot, checked("n", n, "int", min=1, max=1000))

    def jobs(self) -> list[Job]:
        """The jobs of its last runs that are still kept, newest first."""
        ids = [run.job_id for run in self._snapshot.runs if run.job_id]
        found = self._connection.call(self._connection.store.snapshots, ids)
        return [self._connection.live.handle(snapshot) for snapshot in found if snapshot is not None]

    # -- acting on it -------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Pause a schedule: it fires nothing until it is resumed. Running jobs go on."""
        self._connection.call(self._verbs.pause, self.id)

    def resume(self) -> None:
        """Go on with the next time from now; those that passed meanwhile are left out."""
        self._connection.call(self._verbs.resume, self.id)

    def remove(self) -> None:
        """Forget it. Its jobs stay. One from `@task(schedule=...)` comes back when a worker starts: pause that."""
        self._connection.call(self._verbs.remove, self.id)

    def run_now(self) -> Job:
        """Run it once now, paused or not; its next times stay as they are."""
        return self._connection.run(self._verbs.run, self.id)

    def change(self, params: Mapping[str, Any] | None = None, **changes: Any) -> Schedule:
        """Change some of it: `schedule.change(cron="0 4 * * *", overlap="skip")`; see `kit.schedules.change`."""
        return self._connection.run(self._verbs.change, self.id, params, **changes)

    def advance(self, snapshot: ScheduleSnapshot) -> None:
        if snapshot.now_ms >= self._snapshot.now_ms:  # two reads may arrive in the wrong order
            super().advance(snapshot)

    # -- how it shows itself ------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<Schedule {self.name} {self.task}: {self.sentence}; {self._state(datetime.now(UTC))}>"

    def _state(self, now: datetime) -> str:
        """`next in 4 min (Tue 24 Nov 23:05)`, `paused`, `ended`."""
        snapshot = self._snapshot
        if snapshot.is_paused:
            return "paused"
        at = self.next_at
        if snapshot.ended_ms or at is None:
            return "ended"
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


class ScheduleList(Table, list[Schedule]):
    """Schedules by name: a list that prints and shows itself as a table."""

    COLUMNS: ClassVar[Columns] = {
        "Name": lambda each: each.id,
        "When": lambda each: each.sentence,
        "Next": lambda each: "paused" if each.paused else each.next_at or ("ended" if each.ended else None),
        "Last runs": lambda each: "".join(GLYPHS.get(run.state, "·") for run in reversed(each.runs)),
        "Task": lambda each: each.task,
        "Arguments": lambda each: params_brief(each.params),
    }
    EMPTY = "No schedules. `jobkit schedule TASK --cron ...` creates one."


class ScheduleVerbs:
    """Verbs about schedules. Every one may raise `StoreUnavailable`.

    Those that prepare or run jobs block, the others run on the background loop.

    Attributes:
        handles: live handles.
    """

    def __init__(self, kit: Any) -> None:
        connection: Connection = kit.connection
        self._connection, self._submitter = connection, kit.submitter
        self.handles: NamedHandles[Schedule] = NamedHandles(
            connection, SCHEDULES_CHANGED, partial(Schedule, self, connection),
            lambda names: self._schedules.snapshots(names),
        )  # fmt: skip

    @property
    def _schedules(self) -> ScheduleStore:
        return self._connection.store.part(ScheduleStore)  # another one after a fork

    @takes(SharedOptions)
    def schedule(
        self,
        /,
        task: Callable[..., Any] | str,
        params: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        cron: str | None = None,
        every: Duration | None = None,
        at: datetime | str | None = None,
        tz: str | None = None,
        until: datetime | str | None = None,
        count: int | None = None,
        name: str | None = None,
        missed: str = "once",
        missed_limit: int = 100,
        overlap: str = "allow",
        **options: Unpack[SharedOptions],
    ) -> Schedule:
        """Run a task again and again, or once at a later time: `kit.schedule(simulate, {"n": 10}, cron="*/5 * * * *")`.

        Exactly one of `cron`, `every` and `at` says when. Each of its times gives one job, however many workers there
        are; some worker has to live then. An existing schedule of the same name is changed.

        Args:
            params: the arguments, by name or (a list) by position; checked here.
            cron: minute, hour, day, month, weekday; or "@hourly", "@daily", "@weekly", "@monthly", "@yearly".
            every: seconds (from 0.1) or a `timedelta`, counted from now.
            at: a datetime or ISO 8601 text; without a zone it is meant in `tz`, else in this machine's.
            tz: time zone of `cron`, such as "Europe/Berlin"; UTC unless given.
            until: no run after this moment. count: so many runs in all.
            name: 1 to 200 characters of `A-Z a-z 0-9 _ . : -`; unless given, made of the task's name and the arguments.
            missed: of times that passed while no worker lived, "once" runs the newest, "skip" none that is over by more
                than a minute, "all" each, but at most the newest `missed_limit` (up to 500).
            overlap: while the run before has not ended, "allow" starts the next one all the same, "skip" leaves it out,
                "wait" starts it when that one has ended.
            options: queue, priority, tags, timeout, retries, ... of its jobs.

        Raises:
            InvalidParams: an argument or option is refused, or the schedule would never fire; nothing was stored then.
            UnknownTask: no task of that name.
        """
        given = {
            "cron": cron, "every": every, "at": at, "tz": tz, "until": until, "count": count, "name": name,
            "missed": missed, "missed_limit": missed_limit, "overlap": overlap,
        }  # fmt: skip
        return self.put(task, params, given | options)

    def put(
        self,
        task: Callable[..., Any] | str,
        params: Mapping[str, Any] | Sequence[Any] | None,
        given: Mapping[str, Any],
        *,
        owner: str = "",
    ) -> Schedule:
        """`schedule`, as pages use it, with its further arguments as `given` and perhaps another owner."""
        name = given.get("name")
        times, rules, options = _sorted({key: value for key, value in given.items() if key != "name"})
        for each in options if params is None else ():
            if each not in SubmitOptions.__annotations__:
                close = close_names(each, tuple(SubmitOptions.__annotations__))
                advice = f"arguments of the task stand in a dict: kit.schedule(task, {{{each!r}: ...}}, ...)"
                raise InvalidParams(f"{each!r} is no option of a schedule{close}; {advice}", each)
        now_ms = self._connection.call(self._connection.store.now_ms)
        when = timing(**times, now_ms=now_ms)
        wanted = "" if name is None else checked_name("name", name)
        prepared = self._submitter.with_options(options).prepared(task, *_arguments(params), owner)
        spec, payload = scheduled(prepared, wanted, when, self._connection.codec, **rules)
        return self._put(spec, payload, now_ms, prepared)

    def change(self, name: str, params: Mapping[str, Any] | None = None, /, **changes: Any) -> Schedule:
        """Change some of a schedule; what is not named stays.

        Args:
            params: all arguments, by name; None leaves them.
            changes: of `cron`, `every` and `at` at most one, `tz`, `until`, `count`, `missed`, `missed_limit`,
                `overlap`; and with `params` the options of its jobs.

        Raises:
            InvalidParams: there is none of that name, or something is refused; nothing was changed then.
        """
        kept = self._connection.call(self._kept, name)
        spec, when, now_ms = kept.spec, Timing.of(kept.spec), kept.now_ms
        times, rules, options = _sorted(changes)
        if options and params is None:
            raise InvalidParams(
                f"{min(options)} belongs to the jobs of a schedule: give it together with params", min(options)
            )
        if times:
            stays = _given(spec)
            if any(times.get(kind) is not None for kind in _KINDS):
                stays |= dict.fromkeys(_KINDS)
            when = timing(**stays | times, now_ms=now_ms)
        if params is None:
            job, payload, blobs, prepared = spec.job, self._payload(name), spec.blobs, None
        else:
            prepared = self._submitter.with_options(options).prepared(spec.job.task, (), dict(params))
            if not options:  # those of the jobs so far
                same = {f.name: getattr(spec.job, f.name) for f in fields(JobSpec) if f.name not in _OF_ARGUMENTS}
                prepared = replace(prepared, spec=replace(prepared.spec, **same))
            made, payload = scheduled(prepared, name, when, self._connection.codec)
            job, blobs = made.job, made.blobs
        spec = replace(spec, job=job, blobs=blobs, module="", **asdict(when), **rules)
        return self._put(spec, payload, now_ms, prepared)

    def _put(self, spec: ScheduleSpec, payload: bytes, now_ms: int, prepared: Submission | None) -> Schedule:
        """Store a schedule. `prepared` has the large parts of its arguments; None if they are its own so far."""
        next_ms = Timing.of(spec).after(now_ms, now_ms)
        if next_ms is None:
            raise InvalidParams(f"schedule {spec.name!r} has no further time: change at, or until", "at")
        put = self._schedules.put
        try:
            if prepared is not None:
                self._connection.keep_parts([prepared])
            self._connection.call(put, spec, payload, next_ms)
        except PartsNotKept:  # they went with their last user meanwhile
            if prepared is None:
                raise
            for blob in prepared.blobs:
                self._connection.verbs.parts.lost(blob.name)
            self._connection.keep_parts([prepared])
            self._connection.call(put, spec, payload, next_ms)
        return self._connection.call(self.get, spec.name)

    def _payload(self, name: str) -> bytes:
        return self._connection.call(self._schedules.payload, name) or b""

    # -- finding ------------------------------------------------------------------------------------------------------

    async def list(self) -> ScheduleList:
        """All schedules, by name."""
        return ScheduleList([self.handles.of(found) for found in await self._schedules.snapshots()])

    async def get(self, name: str) -> Schedule:
        """The schedule of that name.

        Raises:
            InvalidParams: there is none; names the close ones.
        """
        return self.handles.of(await self._kept(name))

    async def _kept(self, name: str) -> ScheduleSnapshot:
        found = await self._schedules.snapshots([name]) if isinstance(name, str) else []
        if not found:
            names = [schedule.name for schedule in await self._schedules.snapshots()]
            raise InvalidParams(f"there is no schedule {name!r}{close_names(str(name), names)}"[:400], "name")
        return found[0]

    # -- acting -------------------------------------------------------------------------------------------------------

    async def pause(self, name: str) -> Schedule:
        """Pause a schedule: it submits nothing until it is resumed."""
        await self._kept(name)
        await self._schedules.pause(name)
        return await self.get(name)

    async def resume(self, name: str) -> Schedule:
        """Resume a paused schedule, from its next time on."""
        for _ in range(5):  # another process may change it in between
            kept = await self._kept(name)
            next_ms = Timing.of(kept.spec).after(kept.now_ms, kept.anchor_ms) or 0
            if await self._schedules.resume(name, kept.rev, next_ms):
                break
        return await self.get(name)

    async def remove(self, name: str) -> None:
        """Delete a schedule; its jobs stay."""
        await self._kept(name)
        await self._schedules.remove(name)

    def run(self, name: str) -> Job:
        """Run it once now, paused or not."""
        kept = self._connection.call(self._kept, name)
        payload = self._payload(name)
        made = job_of(kept.spec, 0, payload, self._connection.codec, "s" + secrets.token_hex(8)[:15], with_own_seed)
        run = ScheduleRun(0, kept.now_ms, made.spec.id)
        if self._connection.call(self._schedules.fire, Firing(name, "", 0, (made,), (run,))) is None:
            raise JobkitError(f"schedule {name!r} was removed meanwhile")
        self._connection.run_here([made.spec.id])
        return self._connection.job(made.spec.id)

    def fire(self) -> builtins.list[Job]:
        """Fire what is due by the store's clock, as workers do by themselves; return its jobs.

        For `sync://`, which has no worker to do it; the jobs have run when this returns.
        """
        ids = self._connection.call(submit_due, self._connection.store, self._connection.codec)
        for job_id in ids:
            self._connection.run_here([job_id])
        return [self._connection.job(job_id) for job_id in ids]


class KitSchedules:
    """The verbs about schedules that the kit itself has."""

    schedule = in_thread("schedules.verbs", ScheduleVerbs.schedule)


class Schedules(Noun):
    """`kit.schedules()` lists the schedules; `kit.schedules.pause("nightly")` and others act on one.

    Example:
        >>> for schedule in kit.schedules():
        ...     kit.schedules.run(schedule.id)
    """

    ON = "schedule"
    DEEDS = (Deed("pause", "paused"), Deed("resume", "resumed"), Deed("remove", "removed"))
    _SERVICE = ScheduleVerbs
    _internal = frozenset({"put"})

    __call__ = on_loop("verbs", ScheduleVerbs.list)
    get = on_loop("verbs", ScheduleVerbs.get)
    change = in_thread("verbs", ScheduleVerbs.change)
    pause = on_loop("verbs", ScheduleVerbs.pause)
    resume = on_loop("verbs", ScheduleVerbs.resume)
    remove = on_loop("verbs", ScheduleVerbs.remove)
    run = submitting("verbs", ScheduleVerbs.run)
    fire = in_thread("verbs", ScheduleVerbs.fire)
    put = in_thread("verbs", ScheduleVerbs.put)


def _arguments(params: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if params is None:
        return (), {}
    if isinstance(params, Mapping):
        return (), params
    if isinstance(params, (list, tuple)):
        return params, {}
    raise InvalidParams(
        f'the arguments of a schedule are a dict by name, like {{"n": 10}}, or a list, not {type(params).__name__}',
        "params",
    )


def _sorted(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return what is given of the times, of the rules (checked, as fields of `ScheduleSpec`) and of the options."""
    times = {key: given[key] for key in _WHEN if key in given}
    rules = checked_rules(**{key: given.get(key) for key in RULES})
    if "count" in given:
        rules["count"] = checked_count(given["count"])
    options = {key: value for key, value in given.items() if key not in (*_WHEN, *RULES, "count")}
    for name in ("delay", "key", "id"):
        if name in options:
            raise InvalidParams(
                f"{name} is for one job; a schedule says when with cron, every or at, and has a name", name
            )
    return times, rules, options


def _given(spec: ScheduleSpec) -> dict[str, Any]:
    """Return the times of a schedule in the form of the arguments of `Kit.schedule`."""
    return {
        "cron": spec.cron or None,
        "every": spec.every_ms / 1000 or None,
        "at": utc(spec.at_ms) if spec.at_ms else None,
        "tz": spec.tz,
        "until": utc(spec.until_ms) if spec.until_ms else None,
    }


def _in_zone(snapshot: ScheduleSnapshot, ms: int) -> datetime | None:
    return utc(ms).astimezone(Timing.of(snapshot.spec).shown_zone) if ms else None


def _bar(run: ScheduleRun) -> str:
    what = run.state or (f"{run.count} left out: {run.why}" if run.why else "no longer kept")
    title = html.escape(f"{local_time(utc(run.at_ms), seconds=True)}: {what}")
    return f'<span title="{title}">{GLYPHS.get(run.state, "·")}</span>'
