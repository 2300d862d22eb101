"""Export format: jobs as lines of JSON, for `jobkit export` and `jobkit import`.

A line has all data of a job in Redis, unchanged: the record with its events, sealed arguments and result, preview, log,
artifacts, metrics. Nothing is unsealed, so an imported line is still authentic, and runs or unpickles only with the
same secret. Files of large results are not exported; the line has the reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from jobkit.model import InvalidParams, JobSnapshot
from jobkit.settings import checked_name
from jobkit.store import wire
from jobkit.store.namespace import RedisNamespace, in_slices

#: Version of the lines; newer ones are rejected.
VERSION = 2

#: Fields of the processes that had the job, and of arq's own keys, which are meaningless elsewhere.
_LEFT_OUT = frozenset({"client", "token", "fin", "waits", "after", "arq", "arqq", "arqt", "out"})


class _Head(msgspec.Struct, frozen=True):
    jobkit: int


class Dump(_Head, frozen=True):
    """One exported job; the names are those of a line, which has bytes as base64. `jobkit` is `VERSION`."""

    id: str
    record: dict[str, str]
    args: bytes
    result: bytes
    preview: bytes
    log: list[tuple[str, str, str, str]]
    artifacts: dict[str, str]
    bodies: dict[str, bytes]
    metrics: list[str] = []

    @property
    def snapshot(self) -> JobSnapshot:
        return wire.snapshot({name.encode(): value.encode() for name, value in self.record.items()})

    def to_line(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def from_line(cls, line: bytes) -> Dump:
        """Decode and validate a line.

        Raises:
            InvalidParams: not a line of an export, or of a newer jobkit.
        """
        try:
            version = msgspec.json.decode(line, type=_Head).jobkit
        except msgspec.MsgspecError:
            raise InvalidParams("it is not a line of `jobkit export`") from None
        if version > VERSION:
            raise InvalidParams(f"it was written by a newer jobkit (version {version}, here {VERSION})")
        try:
            dump = msgspec.json.decode(line, type=cls)
            int(dump.record["us"])
            checked_name("id", dump.snapshot.id)
            checked_name("queue", dump.snapshot.spec.queue)
            checked_name("queue", dump.record["queue"])
        except wire.UNREADABLE as error:
            raise InvalidParams(f"it cannot be read: {type(error).__name__}: {str(error)[:200]}") from None
        return dump if version > 1 else msgspec.structs.replace(dump, preview=b"")  # it was not sealed


async def read_dumps(namespace: RedisNamespace, job_ids: Sequence[str]) -> list[Dump | None]:
    """Return all data of each job; None if it does not exist or its record cannot be read."""
    found = await read_keys(namespace, job_ids)
    return [dump_of(namespace, job_id, keys) for job_id, keys in zip(job_ids, found, strict=True)]


async def read_keys(
    namespace: RedisNamespace, names: Sequence[str], result_bytes: int | None = None
) -> list[Sequence[Any]]:
    """Return what all keys of each job contain; `result_bytes`: at most so many bytes of the result."""
    found = await namespace.many(
        [
            command
            for name in names
            for command in (
                ("HGETALL", f"job:{name}"),
                ("GET", f"args:{name}"),
                ("GET", f"result:{name}") if result_bytes is None else ("GETRANGE", f"result:{name}", 0, result_bytes),
                ("GET", f"preview:{name}"),
                ("XRANGE", f"log:{name}", "-", "+"),
                ("HGETALL", f"artifacts:{name}"),
                ("HGETALL", f"bodies:{name}"),
                ("LRANGE", f"metrics:{name}", 0, -1),
            )
        ]
    )
    return [found[8 * i : 8 * i + 8] for i in range(len(names))]


def dump_of(namespace: RedisNamespace, job_id: str, keys: Sequence[Any]) -> Dump | None:
    """Return the data of a job from the contents of its keys; None if it does not exist or cannot be read."""
    return namespace.readable(f"job:{job_id}", partial(_dump, job_id), keys)


async def restore(namespace: RedisNamespace, dumps: Sequence[Dump], least_s: float = 0.0) -> list[bool]:
    """Restore ended jobs; their time to live, at least `least_s`, starts again. False if the id exists.

    Raises:
        ValueError: a job has not ended.
    """
    answers: list[int] = []
    for some in in_slices(dumps):
        answers += await namespace.run("restore", _restore_args(namespace, some, least_s))
    return [answer == 1 for answer in answers]


def _restore_args(namespace: RedisNamespace, dumps: Sequence[Dump], least_s: float) -> list[Any]:
    args: list[Any] = []
    for dump in dumps:
        snapshot = dump.snapshot
        if not snapshot.is_terminal:
            raise ValueError(f"job {snapshot.id} has not ended")
        own_s = snapshot.spec.result_ttl_s
        options = wire.options(
            us=int(dump.record["us"]),
            state=snapshot.state.value,
            ttl_ms=max(1, int(least_s * 1000), namespace.ttl_ms if own_s is None else int(own_s * 1000)),
            record={name: value for name, value in dump.record.items() if name != "batch"},  # it has counted the job
            log=dump.log,
            artifacts=dump.artifacts,
            metrics=dump.metrics,
        )
        args += [
            snapshot.id,
            options,
            dump.args,
            dump.result,
            dump.preview,
            len(dump.bodies),
        ]
        for name, body in dump.bodies.items():
            args += [name, body]
    return args


def _dump(job_id: str, found: Sequence[Any]) -> Dump | None:
    record, args, result, preview, log, artifacts, bodies, metrics = found
    if not record:
        return None
    snapshot = wire.snapshot_of(job_id, record)
    return Dump(
        VERSION,
        snapshot.id,
        {name: value for name, value in wire.texts(record).items() if name not in _LEFT_OUT},
        args or b"",
        result or b"",
        preview or b"",
        [_chunk(entry) for _, entry in log],
        wire.texts(artifacts),
        {wire.text(name): body for name, body in bodies.items()},
        list(map(wire.text, metrics)),
    )


def _chunk(entry: Mapping[bytes, bytes]) -> tuple[str, str, str, str]:
    first, count, size, lines = (wire.text(entry.get(part)) for part in (b"f", b"c", b"b", b"l"))
    return first, count, size, lines
