"""Damaged keys, which were put aside, and records and members that are left out; see `lua/lib/damage.lua`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from jobkit.model import StoreUnavailable
from jobkit.store import wire
from jobkit.store.namespace import RedisNamespace, shown


class Damage(NamedTuple):
    """Something that no version of jobkit has written like this.

    Attributes:
        name: the key, and after a newline the field, member or entry. why: the reason, for people.
        is_aside: the key was of another type, and is now `damaged:{key}`.
    """

    name: bytes
    why: str
    is_aside: bool

    def __str__(self) -> str:
        return f"{shown(self.name)} ({self.why})"


async def damaged(namespace: RedisNamespace) -> list[Damage]:
    """Return what is known to be damaged, by name, and forget what has gone or can be read by now."""
    await namespace.report()
    found = await namespace.ask("HGETALL", "damaged")
    every = [Damage(name, *_note(raw)) for name, raw in sorted(found.items())]
    gone = await _gone(namespace, [one.name for one in every if not one.is_aside])
    if gone:
        with contextlib.suppress(StoreUnavailable):  # it takes no changes
            await namespace.ask("HDEL", "damaged", *gone)
    return [one for one in every if one.name not in gone]


async def discard(namespace: RedisNamespace, every: Sequence[Damage]) -> int:
    """Delete what is damaged; return how much of it there was."""
    return sum(await namespace.run_each("discard", [one.name for one in every]))


def _note(raw: bytes) -> tuple[str, bool]:
    try:
        note = wire.mapping(raw)
    except wire.UNREADABLE:
        return "no reason is known", False
    return str(note.get("why")), note.get("aside") is True


async def _gone(namespace: RedisNamespace, names: Sequence[bytes]) -> set[bytes]:
    keys = [name.partition(b"\n")[0].decode("utf-8", "replace") for name in names]
    there = await namespace.many([("EXISTS", key) for key in keys])
    gone = {name for name, is_there in zip(names, there, strict=True) if not is_there}
    jobs = {name: key.removeprefix("job:") for name, key in zip(names, keys, strict=True) if name.startswith(b"job:")}
    records = await namespace.many([("HGETALL", f"job:{job_id}") for job_id in jobs.values()])
    for (name, job_id), record in zip(jobs.items(), records, strict=True):
        if namespace.readable(f"job:{job_id}", partial(wire.snapshot_of, job_id), record) is not None:
            gone.add(name)
    return gone
