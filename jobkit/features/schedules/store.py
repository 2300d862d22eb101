"""Schedules in the store; see `lua/lib/schedules.lua` beside this file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from jobkit.features.schedules.model import Firing, ScheduleRun, ScheduleSnapshot, ScheduleSpec
from jobkit.model import JobkitError
from jobkit.store import wire
from jobkit.store.namespace import StorePart
from jobkit.store.redis import RedisStore
from jobkit.store.values import SubmitReply

#: Milliseconds for which only the first worker to ask gets a due schedule.
FIRING_MS = 500

_json = msgspec.json.encode


class PartsNotKept(JobkitError):
    """Large parts of a schedule's arguments are not in the store."""


class ScheduleStore(StorePart):
    """Verbs for schedules."""

    async def put(self, spec: ScheduleSpec, payload: bytes, next_ms: int) -> bool:
        """Store a schedule, or change the one with this name; pauses and past runs are kept.

        Args:
            payload: its sealed arguments.
            next_ms: its next slot; for `every_ms` one interval after the origin of the slots. Ignored if the timing has
                not changed.

        Returns:
            False if it is defined in code (`spec.module`) and was changed at run time, which takes precedence.

        Raises:
            PartsNotKept: large parts of its arguments are not kept.
        """
        options = wire.options(
            name=spec.name,
            spec=_json(spec.to_wire()).decode(),
            timing=_json(spec.timing()).decode(),  # the same text means the same slots
            next=next_ms,
            anchor=next_ms - spec.every_ms if spec.every_ms else 0,
            is_code=bool(spec.module),
            blobs=spec.blobs or None,
        )
        reply = await self._ns.run("schedule_put", [options, payload])
        if reply == -1:
            raise PartsNotKept(
                f"large parts of the arguments of schedule {spec.name!r} are no longer kept: make it anew"
            )
        return bool(reply == 1)

    async def snapshots(self, names: Sequence[str] | None = None) -> list[ScheduleSnapshot]:
        """Return all schedules, or those with these names, sorted by name."""
        if names is None:
            names = self._ns.names("schedules", await self._ns.ask("ZRANGE", "schedules", 0, -1))
        found = await self._ns.many(
            [
                command
                for name in names
                for command in (("HGETALL", f"schedule:{name}"), ("LRANGE", f"schedule-runs:{name}", 0, -1))
            ]
        )
        now_ms = await self._ns.now_ms()
        kept: list[ScheduleSnapshot] = []
        for name, record, raw_runs in zip(names, found[::2], found[1::2], strict=True):
            read = [self._ns.readable(f"schedule-runs:{name}", _run, raw, raw) for raw in raw_runs]
            runs = [run for run in read if run is not None]
            decode = partial(_snapshot, runs=tuple(runs), now_ms=now_ms)
            if (snapshot := self._ns.readable(f"schedule:{name}", decode, record)) is not None:
                kept.append(snapshot)
        live = [run.job_id for snapshot in kept for run in snapshot.runs if run.job_id and not run.finished_ms]
        states = dict(zip(live, await self._ns.fields(("state", "started"), live), strict=True))
        return sorted((_with_states(snapshot, states) for snapshot in kept), key=lambda snapshot: snapshot.name)

    async def payload(self, name: str) -> bytes | None:
        """Return the sealed arguments."""
        found: bytes | None = await self._ns.ask("GET", f"schedule-args:{name}")
        return found

    async def due(self, limit: int = 20) -> tuple[list[ScheduleSnapshot], float]:
        """Return due schedules, and the seconds until the next one is due (infinity: none known).

        Only the first worker to ask gets a schedule; others get it again after half a second.
        """
        wait_ms, now_ms, *rows = await self._ns.run("schedule_due", [FIRING_MS, limit])
        read = [self._ns.readable("schedules", partial(_due, now_ms=now_ms), row) for row in rows]
        return [due for due in read if due is not None], float("inf") if wait_ms < 0 else wait_ms / 1000

    async def fire(self, firing: Firing) -> list[SubmitReply] | None:
        """Submit the jobs of a slot and set the next one; takes effect once, however many workers try.

        Returns:
            The replies to the submits of its jobs; None if the slot is no longer the next one, or the schedule is
            paused, was changed or removed.
        """
        options = wire.options(
            name=firing.name,
            rev=firing.rev,
            slot=firing.slot_ms,
            next=firing.next_ms,
            look=firing.look_ms,
            holds_for=firing.holds_for or None,
            left_out=firing.left_out,
            ttl_ms=self._ns.ttl_ms,
            runs=[_json(run).decode() for run in firing.runs],
            jobs=len(firing.jobs),
        )
        reply = await self._ns.run("schedule_fire", [options, *wire.submit_args(firing.jobs)])
        return None if reply == [-1] else wire.answers(firing.jobs, reply)

    async def pause(self, name: str) -> bool:
        """Pause a schedule; False if it does not exist."""
        return await self._change(what="pause", name=name)

    async def resume(self, name: str, rev: str, next_ms: int) -> bool:
        """Resume with the slot `next_ms` (0: none left); False if it does not exist or `rev` has changed."""
        return await self._change(what="resume", name=name, rev=rev, next=next_ms, ttl_ms=self._ns.ttl_ms)

    async def remove(self, name: str) -> bool:
        """Remove a schedule; its jobs stay. False if it does not exist."""
        return await self._change(what="remove", name=name)

    async def _change(self, **options: Any) -> bool:
        return bool(await self._ns.run("schedule_change", [wire.options(**options)]) == 1)


_run = msgspec.json.Decoder(ScheduleRun).decode


def _snapshot(record: Mapping[bytes, bytes], **more: Any) -> ScheduleSnapshot:
    """Return the snapshot in a schedule's hash, with `more` fields.

    Raises:
        ValueError, KeyError, TypeError: the hash is damaged.
    """
    fields = {**wire.texts(record), "spec": msgspec.json.decode(record[b"spec"])}
    return replace(msgspec.convert(fields, ScheduleSnapshot, strict=False), **more)


def _with_states(snapshot: ScheduleSnapshot, states: Mapping[str, Sequence[bytes | None] | None]) -> ScheduleSnapshot:
    """Return the snapshot with state and start of the jobs of runs that have not ended."""
    runs = []
    for run in snapshot.runs:
        if run.job_id in states:
            state, started = states[run.job_id] or (b"", b"")
            run = replace(run, state=wire.text(state), started_ms=wire.number(started))
        runs.append(run)
    return replace(snapshot, runs=tuple(runs))


def _due(row: Sequence[Any], now_ms: int) -> ScheduleSnapshot:
    """Decode an item of the reply of `schedule_due`."""
    flat, is_running, payload = row
    record = dict(zip(flat[::2], flat[1::2], strict=True))
    return _snapshot(record, now_ms=now_ms, is_running=is_running == 1, payload=payload or b"")


async def read_newest(store: RedisStore) -> None:
    """Read all schedules, which finds damaged ones."""
    await store.part(ScheduleStore).snapshots()
