"""Damaged keys, which were put aside, and records and members that are left out; see `lua/lib/damage.lua`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from jobkit.model import JobSnapshot, StoreUnavailable
from jobkit.store import wire
from jobkit.store.namespace import RedisNamespace, shown

#: First parts of the keys that `reread` is about.
_REREAD = frozenset([b"schedule", b"schedules", b"schedule-runs", b"rules", b"worker", b"workers"])


class Damage(NamedTuple):
    """Something that jobkit has not written like this.

    Attributes:
        name: the key, and after a newline the field, member or entry. why: the reason, for people.
        is_aside: the key was of another type, and is now `damaged:{key}`.
        is_readable: a verb has failed with a job that has not ended and whose record can be read.
    """

    name: bytes
    why: str
    is_aside: bool
    is_readable: bool

    def __str__(self) -> str:
        return f"{shown(self.name)} ({self.why})"


async def damaged(namespace: RedisNamespace) -> list[Damage]:
    """Return what is known to be damaged, by name, and forget what has gone or can be read by now."""
    await namespace.report()
    found = await namespace.ask("HGETALL", "damaged")
    notes = {name: _note(raw) for name, raw in sorted(found.items())}
    gone, jobs = await _look_at(namespace, [name for name, note in notes.items() if not note.is_aside])
    gone |= {name for name, snapshot in jobs.items() if snapshot.is_terminal or not notes[name].has_failed}
    if gone:
        with contextlib.suppress(StoreUnavailable):  # it takes no changes
            await namespace.ask("HDEL", "damaged", *gone)
    return [Damage(name, note.why, note.is_aside, name in jobs) for name, note in notes.items() if name not in gone]


async def reread(namespace: RedisNamespace) -> None:
    """Forget what was damaged in the keys of schedules, rules and workers, which the caller reads next."""
    found = await namespace.ask("HGETALL", "damaged")
    kinds = {name: name.partition(b"\n")[0].partition(b":")[0] for name in found}
    names = [name for name, raw in found.items() if kinds[name] in _REREAD and not _note(raw).is_aside]
    if names:
        with contextlib.suppress(StoreUnavailable):
            await namespace.ask("HDEL", "damaged", *names)


async def discard(namespace: RedisNamespace, every: Sequence[Damage]) -> int:
    """Delete what is damaged, but no job whose record can be read; return how much was deleted."""
    return sum(await namespace.run_each("discard", [one.name for one in every if not one.is_readable]))


class _DamageNote(NamedTuple):
    why: str
    is_aside: bool = False
    has_failed: bool = False


def _note(raw: bytes) -> _DamageNote:
    try:
        note = wire.mapping(raw)
    except wire.UNREADABLE:
        return _DamageNote("no reason is known")
    return _DamageNote(str(note.get("why")), note.get("aside") is True, note.get("failed") is True)


async def _look_at(namespace: RedisNamespace, names: Sequence[bytes]) -> tuple[set[bytes], dict[bytes, JobSnapshot]]:
    """Return the names of keys that are gone, and the snapshots of jobs that can be read."""
    keys = [name.partition(b"\n")[0].decode("utf-8", "replace") for name in names]
    there = await namespace.many([("EXISTS", key) for key in keys])
    gone = {name for name, is_there in zip(names, there, strict=True) if not is_there}
    jobs = {name: key.removeprefix("job:") for name, key in zip(names, keys, strict=True) if name.startswith(b"job:")}
    records = await namespace.many([("HGETALL", f"job:{job_id}") for job_id in jobs.values()])
    readable = {}
    for (name, job_id), record in zip(jobs.items(), records, strict=True):
        snapshot = namespace.readable(f"job:{job_id}", partial(_whole, job_id), record)
        if snapshot is not None:
            readable[name] = snapshot
    return gone, readable


def _whole(job_id: str, record: Mapping[bytes, Any]) -> JobSnapshot:
    """Return the snapshot in a job's hash; raises if the verbs cannot read it, see `Records.read`."""
    if not record[b"queue"] or wire.number(record[b"us"]) <= 0:
        raise ValueError("it has no queue or no time of submit")
    return wire.snapshot_of(job_id, record)
