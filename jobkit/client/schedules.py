"""`ScheduleVerbs`: the verbs of a kit about schedules, and the live handles."""

from __future__ import annotations

import secrets
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from jobkit.client.connection import Connection, OnLoop
from jobkit.client.job import Job
from jobkit.client.loop import background
from jobkit.client.prepare import put_coded, scheduled
from jobkit.client.reader import JobReader
from jobkit.client.schedule import Schedule
from jobkit.client.submit import Submitter
from jobkit.model import InvalidParams, JobkitError, JobSpec, ScheduleRun, ScheduleSnapshot
from jobkit.schedules.firing import decide, firing, job_of
from jobkit.schedules.timing import Timing, checked_count, checked_rules, timing
from jobkit.schedules.words import utc
from jobkit.settings import checked_name
from jobkit.store.events import EventHub
from jobkit.store.values import SCHEDULES_CHANGED, Firing
from jobkit.tasks.registry import registry
from jobkit.tasks.signature import close_names

_WHEN = ("cron", "every", "at", "tz", "until")
_RULES = ("missed", "missed_limit", "overlap")

#: What other arguments change of a job.
_OF_ARGUMENTS = frozenset({"id", "task", "params", "abridged", "needs", "key", "once", "cache_key", "cache_ms"})


class ScheduleVerbs:
    """Verbs about schedules. Every one may raise `StoreUnavailable`.

    Those that prepare or run jobs run step by step, the others on the background loop.

    Args:
        kit: of the handles.
    """

    def __init__(self, kit: Any, connection: Connection, submitter: Submitter, reader: JobReader) -> None:
        self._kit, self._connection = kit, connection
        self._submitter, self._reader = submitter, reader
        self._handles: weakref.WeakValueDictionary[str, Schedule] = weakref.WeakValueDictionary()
        self._hub: EventHub | None = None
        self._lock = threading.Lock()
        self._is_registered = False

    async def schedule(
        self,
        /,
        task: Callable[..., Any] | str,
        params: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        cron: str | None = None,
        every: Any = None,
        at: Any = None,
        tz: str | None = None,
        until: Any = None,
        count: int | None = None,
        name: str | None = None,
        missed: str = "once",
        missed_limit: int = 100,
        overlap: str = "allow",
        **options: Any,
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
        given = {"cron": cron, "every": every, "at": at, "tz": tz, "until": until}
        rules = {"count": checked_count(count), **checked_rules(missed, missed_limit, overlap)}
        return await self._put_schedule(task, params, given, rules, name, options)

    async def schedule_info(
        self, task: str, params: Mapping[str, Any], given: Mapping[str, Any], *, owner: str = ""
    ) -> Schedule:
        """Schedule a task by name, as pages do.

        Args:
            given: further arguments of `schedule`. owner: whose; the person at this process unless given.
        """
        when = {key: given.get(key) for key in _WHEN}
        rules = {"count": checked_count(given.get("count")), **checked_rules(**{k: given.get(k) for k in _RULES})}
        options = {k: v for k, v in given.items() if k not in (*_WHEN, *_RULES, "count", "name")}
        return await self._put_schedule(task, params, when, rules, given.get("name"), options, owner)

    async def _put_schedule(
        self,
        task: Callable[..., Any] | str,
        params: Any,
        given: Mapping[str, Any],
        rules: Mapping[str, Any],
        name: str | None,
        options: Mapping[str, Any],
        owner: str = "",
    ) -> Schedule:
        now_ms = await OnLoop(self._connection.store.now_ms)
        when = timing(**given, now_ms=now_ms)
        wanted = "" if name is None else checked_name("name", name)
        submitter = self._submitter.with_options(_options(options))
        prepared = await submitter.prepared(task, *_arguments(params), owner)
        spec, payload = scheduled(prepared, wanted, when, self._connection.codec, **rules)
        next_ms = when.after(now_ms, now_ms)
        assert next_ms is not None  # `timing` has seen to it
        await OnLoop(self._connection.store.schedules.put, spec, payload, next_ms)
        return await OnLoop(self.get_schedule, spec.name)

    async def change_schedule(self, name: str, params: Mapping[str, Any] | None = None, /, **changes: Any) -> Schedule:
        """Change some of a schedule; what is not named stays.

        Args:
            params: all arguments, by name; None leaves them.
            changes: of `cron`, `every` and `at` at most one, `tz`, `until`, `count`, `missed`, `missed_limit`,
                `overlap`; and with `params` the options of its jobs.

        Raises:
            InvalidParams: there is none of that name, or something is refused; nothing was changed then.
        """
        kept = await OnLoop(self._kept_schedule, name)
        options = {key: value for key, value in changes.items() if key not in (*_WHEN, *_RULES, "count")}
        if options and params is None:
            raise InvalidParams(
                f"{min(options)} belongs to the jobs of a schedule: give it together with params", min(options)
            )
        spec, payload = kept.spec, b""
        when = Timing.of(spec)
        if set(changes) & set(_WHEN):
            now_ms = await OnLoop(self._connection.store.now_ms)
            given = _given(when) | {key: changes[key] for key in _WHEN if key in changes}
            for key in ("cron", "every", "at"):
                if changes.get(key) is not None:
                    given |= {other: None for other in ("cron", "every", "at") if other not in changes}
            when = timing(**given, now_ms=now_ms)
        rules = {key: getattr(spec, key) for key in _RULES} | checked_rules(**{k: changes.get(k) for k in _RULES})
        count = checked_count(changes["count"]) if "count" in changes else spec.count
        if params is not None:
            submitter = self._submitter.with_options(_options(options))
            prepared = await submitter.prepared(spec.job.task, (), dict(params))
            kept_options = {} if options else _like(spec.job)
            prepared = replace(prepared, spec=replace(prepared.spec, **kept_options))
            spec, payload = scheduled(prepared, name, when, self._connection.codec, count=count, **rules)
        else:
            payload = await self._payload(name)
            spec = replace(
                spec, cron=when.cron, every_ms=when.every_ms, at_ms=when.at_ms, tz=when.tz, until_ms=when.until_ms,
                count=count, module="", **rules,
            )  # fmt: skip
        next_ms = when.after(kept.now_ms, kept.now_ms)
        if next_ms is None:
            raise InvalidParams(f"schedule {name!r} has no further time: change at, or until", "at")
        await OnLoop(self._connection.store.schedules.put, spec, payload, next_ms)
        return await OnLoop(self.get_schedule, name)

    async def _payload(self, name: str) -> bytes:
        found: bytes | None = await OnLoop(self._connection.store.schedules.payload, name)
        return found or b""

    # -- finding ------------------------------------------------------------------------------------------------------

    async def schedules(self) -> list[Schedule]:
        """All schedules, by name."""
        return [self._schedule_handle(found) for found in await self._connection.store.schedules.snapshots()]

    async def get_schedule(self, name: str) -> Schedule:
        """The schedule of that name.

        Raises:
            InvalidParams: there is none; names the close ones.
        """
        return self._schedule_handle(await self._kept_schedule(name))

    async def jobs_of(self, snapshot: ScheduleSnapshot) -> list[Job]:
        """The jobs of a schedule's last runs that are still kept, newest first."""
        ids = [run.job_id for run in snapshot.runs if run.job_id]
        found = await self._connection.store.snapshots(ids)
        return [self._connection.live.handle(snapshot) for snapshot in found if snapshot is not None]

    async def _kept_schedule(self, name: str) -> ScheduleSnapshot:
        found = await self._connection.store.schedules.snapshots([name]) if isinstance(name, str) else []
        if not found:
            names = [schedule.name for schedule in await self._connection.store.schedules.snapshots()]
            raise InvalidParams(f"there is no schedule {name!r}{close_names(str(name), names)}"[:400], "name")
        return found[0]

    def _schedule_handle(self, snapshot: ScheduleSnapshot) -> Schedule:
        with self._lock:
            self._listen()
            handle = self._handles.get(snapshot.name)
            if handle is None:
                handle = self._handles[snapshot.name] = Schedule(self._kit, snapshot)
        handle._advance(snapshot)
        return handle

    # -- acting -------------------------------------------------------------------------------------------------------

    async def pause_schedule(self, name: str) -> Schedule:
        """Fire nothing until it is resumed."""
        await self._kept_schedule(name)
        await self._connection.store.schedules.pause(name)
        return await self.get_schedule(name)

    async def resume_schedule(self, name: str) -> Schedule:
        """Go on with the next time from now."""
        for _ in range(5):  # another process may change it in between
            kept = await self._kept_schedule(name)
            next_ms = Timing.of(kept.spec).after(kept.now_ms, kept.anchor_ms) or 0
            if await self._connection.store.schedules.resume(name, kept.rev, next_ms):
                break
        return await self.get_schedule(name)

    async def remove_schedule(self, name: str) -> None:
        """Forget it; its jobs stay."""
        await self._kept_schedule(name)
        await self._connection.store.schedules.remove(name)

    async def run_schedule(self, name: str) -> Job:
        """Run it once now, paused or not."""
        kept = await OnLoop(self._kept_schedule, name)
        payload = await self._payload(name)
        made = job_of(kept.spec, 0, payload, self._connection.codec, "s" + secrets.token_hex(8)[:15])
        run = ScheduleRun(0, kept.now_ms, made.spec.id)
        if await OnLoop(self._connection.store.schedules.fire, Firing(name, "", 0, (made,), (run,))) is None:
            raise JobkitError(f"schedule {name!r} was removed meanwhile")
        await self._connection.run_here([made.spec.id])
        return await self._reader.get(made.spec.id)

    async def fire_schedules(self) -> list[Job]:
        """Fire what is due by the store's clock, as workers do by themselves; return its jobs.

        For `sync://`, which has no worker to do it; the jobs have run when this returns.
        """
        fired: list[Job] = []
        while found := (await OnLoop(self._connection.store.schedules.due))[0]:
            for due in found:
                made = firing(due, decide(due), self._connection.codec)
                if await OnLoop(self._connection.store.schedules.fire, made) is None:
                    continue
                for job in made.jobs:
                    await self._connection.run_here([job.spec.id])
                    fired.append(await self._reader.get(job.spec.id))
        return fired

    async def register_schedules(self) -> None:
        """Keep the schedules that stand in the code of the tasks of this process: `@task(schedule=...)`.

        Once for each kit, as a worker does at its start: a page that is opened does not bring back what was removed.
        """
        if not self._is_registered:
            self._is_registered = True
            connection = self._connection
            await put_coded(connection.store, registry.all(), connection.settings, connection.codec)

    # -- live ---------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Subscribe to changes, once for each hub: a forked child has another one."""
        hub = self._connection.hub
        if self._hub is not hub:
            self._hub = hub
            hub.listen(lambda event: self._reread([str(event.data.get("name", ""))]), SCHEDULES_CHANGED)
            hub.on_status(lambda is_live: self._reread(list(self._handles)) if is_live else None)

    def _reread(self, names: Sequence[str]) -> None:
        """Read the schedules of these handles again; called in the hub's thread."""
        wanted = [name for name in names if name in self._handles]
        if wanted and not self._connection.is_closed:
            background.spawn(self._advance(wanted))

    async def _advance(self, names: Sequence[str]) -> None:
        for snapshot in await self._connection.store.schedules.snapshots(names):
            if (handle := self._handles.get(snapshot.name)) is not None:
                handle._advance(snapshot)


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


def _options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in ("delay", "key"):
        if name in options:
            raise InvalidParams(
                f"{name} is for one job; a schedule says when with cron, every or at, and has a name", name
            )
    return options


def _given(when: Timing) -> dict[str, Any]:
    """Return a timing in the form of the arguments of `Kit.schedule`."""
    return {
        "cron": when.cron or None,
        "every": when.every_ms / 1000 if when.every_ms else None,
        "at": utc(when.at_ms) if when.at_ms else None,
        "tz": when.tz,
        "until": utc(when.until_ms) if when.until_ms else None,
    }


def _like(old: JobSpec) -> dict[str, Any]:
    """The options of the jobs so far, for those with other arguments."""
    return {f.name: getattr(old, f.name) for f in fields(JobSpec) if f.name not in _OF_ARGUMENTS}
