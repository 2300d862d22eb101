"""The verbs of the store on Redis for schedules."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from jobkit.model import ScheduleRun, ScheduleSnapshot, ScheduleSpec
from jobkit.store import records
from jobkit.store.redis_part import RedisPart
from jobkit.store.schedules import DueSchedule, Firing, due_of, put_args, snapshot_of, with_states
from jobkit.store.values import SubmitReply
from jobkit.store.wire import submit_args

#: Milliseconds for which only the first worker to ask gets a due schedule.
FIRING_MS = 500


class RedisSchedules(RedisPart):
    async def clock(self) -> int:
        with self._reaching():
            seconds, micros = await self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def put_schedule(self, spec: ScheduleSpec, payload: bytes, next_ms: int) -> bool:
        with self._reaching():
            return bool(await self.functions.run("schedule_put", put_args(spec, payload, next_ms)) == 1)

    async def schedules(self, names: Sequence[str] | None = None) -> list[ScheduleSnapshot]:
        with self._reaching():
            if names is None:
                names = [raw.decode() for raw in await self.redis.zrange(f"{self.prefix}schedules", 0, -1)]
            pipe = self.redis.pipeline(transaction=False)
            for name in names:
                pipe.hgetall(f"{self.prefix}schedule:{name}")
                pipe.lrange(f"{self.prefix}schedule-runs:{name}", 0, -1)
            pipe.time()
            *found, (seconds, micros) = await pipe.execute()
            now_ms = int(seconds) * 1000 + int(micros) // 1000
            kept: list[ScheduleSnapshot] = []
            for name, record, raw_runs in zip(names, found[::2], found[1::2], strict=True):
                read = [records.readable(f"a run of schedule {name}", _run, raw) for raw in raw_runs]
                runs = [run for run in read if run is not None]
                snapshot = records.readable(f"schedule {name}", partial(snapshot_of, runs=runs, now_ms=now_ms), record)
                if snapshot is not None:
                    kept.append(snapshot)
            live = [run.job_id for snapshot in kept for run in snapshot.runs if run.job_id and not run.finished_ms]
            states: dict[str, tuple[str, int]] = {}
            if live:
                pipe = self.redis.pipeline(transaction=False)
                for job_id in live:
                    pipe.hmget(f"{self.prefix}job:{job_id}", ["state", "started"])
                for job_id, (state, started) in zip(live, await pipe.execute(), strict=True):
                    states[job_id] = (state or b"").decode(), int(started or 0)
        return sorted((with_states(snapshot, states) for snapshot in kept), key=lambda snapshot: snapshot.name)

    async def schedule_payload(self, name: str) -> bytes | None:
        with self._reaching():
            value: bytes | None = await self.redis.get(f"{self.prefix}schedule-args:{name}")
            return value

    async def due_schedules(self, limit: int = 20) -> tuple[list[DueSchedule], float]:
        with self._reaching():
            wait_ms, now_ms, *rows = await self.functions.run("schedule_due", [FIRING_MS, limit])
        read = [records.readable("a schedule that is due", partial(due_of, now_ms=now_ms), row) for row in rows]
        return [due for due in read if due is not None], float("inf") if wait_ms < 0 else wait_ms / 1000

    async def fire(self, firing: Firing) -> list[SubmitReply] | None:
        options = {
            "name": firing.name,
            "rev": firing.rev,
            "slot": firing.slot_ms,
            "next": firing.next_ms,
            "look": firing.look_ms,
            "left_out": firing.left_out,
            "ttl_ms": self._ttl_ms,
            "runs": [msgspec.json.encode(run.to_wire()).decode() for run in firing.runs],
            "jobs": len(firing.jobs),
        }
        if firing.holds_for:
            options["holds_for"] = firing.holds_for
        with self._reaching():
            args = [msgspec.json.encode(options), *submit_args(firing.jobs)]
            reply = await self.functions.run("schedule_fire", args)
        return None if reply == [-1] else records.answers(firing.jobs, reply)

    async def pause_schedule(self, name: str) -> bool:
        return await self._change(what="pause", name=name)

    async def resume_schedule(self, name: str, rev: str, next_ms: int) -> bool:
        return await self._change(what="resume", name=name, rev=rev, next=next_ms, ttl_ms=self._ttl_ms)

    async def remove_schedule(self, name: str) -> bool:
        return await self._change(what="remove", name=name)

    async def _change(self, **options: Any) -> bool:
        with self._reaching():
            return bool(await self.functions.run("schedule_change", [msgspec.json.encode(options)]) == 1)


def _run(raw: bytes) -> ScheduleRun:
    return ScheduleRun.from_wire(records.mapping(raw))
