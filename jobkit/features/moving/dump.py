"""Export format: jobs as lines of JSON, for `jobkit export` and `jobkit import`.

A line has all data of a job in Redis, unchanged: the record with its events, sealed arguments and result, preview, log,
artifacts, and what features keep for jobs. The lines behind it have what it needs beside that
(`ContentLine`): facts, large parts of its call, its files; what several jobs need is there once. Groups of jobs come at
the end, see `moved` in `jobkit/feature.py`; then a seal of all lines. Nothing is unsealed, so an imported job is
still authentic, and runs or unpickles only with the same secret.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from jobkit.features import FEATURES, modules
from jobkit.model import InvalidParams, JobSnapshot, LogLine
from jobkit.model.plain import dumps, now_ms
from jobkit.settings import checked_name
from jobkit.store import wire
from jobkit.store.namespace import RedisNamespace, in_slices

#: Version of the lines of an export; others are rejected.
VERSION = 1

#: Fields of the processes that had the job, and of the door by which it came, which are meaningless elsewhere; so are
#: those of features, whose names begin with "_".
_LEFT_OUT = frozenset({"client", "token", "fin", "waits", "after", "door", "uses"})

#: Kinds of keys that features keep for jobs.
_HASHES = tuple(kind for feature in FEATURES for kind in feature.hashes)
_LISTS = tuple(kind for feature in FEATURES for kind in feature.lists)


T = TypeVar("T", bound="Dump | None")


class _Head(msgspec.Struct, frozen=True, omit_defaults=True):
    jobkit: int


class ContentLine(_Head, frozen=True):
    """A line with a content, or with its next bytes.

    Attributes:
        piece: "made" (facts), "part" (of a call), "file" (in the folder of a job), the kind of a group, or "seal" (of
            all lines before it). Readers ignore others.
        name: see `jobkit.features.moving.belongings`; the id of a group.
        content: the bytes. more: the next line has further ones.
    """

    piece: str
    name: str
    content: bytes
    more: bool = False


class Dump(_Head, frozen=True):
    """One exported job; the names are those of a line, which has bytes as base64. `jobkit` is `VERSION`.

    Attributes:
        hashes, lists: what features keep, by the kinds of their keys.
        parts: names of the large parts of its call.
        folder: of its files, see `JobFolder`; behind "=" if another server owns it.
        ran: name of the facts of its worker.
        result_in: in an archive, the SHA-256 of a large result, which is kept beside.
        left_out: in an archive, what was not copied, in words.
    """

    id: str
    record: dict[str, str]
    args: bytes
    result: bytes
    preview: bytes
    log: list[tuple[str, str, str, str]]
    artifacts: dict[str, str]
    bodies: dict[str, bytes]
    hashes: dict[str, dict[str, bytes]] = {}
    lists: dict[str, list[str]] = {}
    parts: list[str] = []
    folder: str = ""
    ran: str = ""
    result_in: str = ""
    left_out: str = ""

    def noted(self, line: LogLine) -> Dump:
        """Return the same job with one more line at the end of its log."""
        count = int(self.record.get("logn") or 0) + 1
        text = msgspec.json.encode([line.to_wire()]).decode()
        chunk = str(count), "1", str(len(text)), text
        return replace(self, record={**self.record, "logn": str(count)}, log=[*self.log, chunk])

    def bare(self) -> Dump:
        """Return the same job without all that is sealed, and without its files."""
        return replace(self, args=b"", result=b"", preview=b"", bodies={}, hashes={}, parts=[], folder="", ran="")

    def stopped(self, reason: str) -> Dump:
        """Return a job that has not ended as a cancelled one, from whose checkpoints another one can go on."""
        at_ms, seq = now_ms(), int(self.record["seq"]) + 1
        data = {"state": "cancelled", "finished": at_ms, "reason": reason}
        event = {"id": self.id, "seq": seq, "type": "cancelled", "at": at_ms, "data": data}
        kept = {name: value for name, value in self.record.items() if name not in ("cancel", "asking", "due")}
        ended = {"state": "cancelled", "seq": str(seq), "finished": str(at_ms), f"e{seq}": dumps(event)}
        return replace(self, record=kept | ended)

    @property
    def snapshot(self) -> JobSnapshot:
        return wire.snapshot({name.encode(): value.encode() for name, value in self.record.items()})

    def to_line(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def from_line(cls, line: bytes) -> Dump:
        """Decode and validate a line.

        Raises:
            InvalidParams: not a line of an export, or of another version.
        """
        try:
            version = msgspec.json.decode(line, type=_Head).jobkit
        except msgspec.MsgspecError:
            raise InvalidParams("it is not a line of `jobkit export`") from None
        if version != VERSION:
            raise InvalidParams(f"it was written by another version of jobkit (format {version}, here {VERSION})")
        try:
            dump = msgspec.json.decode(line, type=cls)
            int(dump.record["us"])
            checked_name("id", dump.snapshot.id)
            checked_name("queue", dump.snapshot.spec.queue)
            checked_name("queue", dump.record["queue"])
            for kept in itertools.chain(*dump.lists.values()):
                msgspec.json.decode(kept, type=dict)
        except wire.UNREADABLE as error:
            raise InvalidParams(f"it cannot be read: {type(error).__name__}: {str(error)[:200]}") from None
        return dump


def read_line(line: bytes) -> Dump | ContentLine:
    """Decode and validate a line of an export. Raises InvalidParams, see `Dump.from_line`."""
    if b'"piece":' in line[:100]:
        try:
            piece = msgspec.json.decode(line, type=ContentLine)
        except msgspec.MsgspecError as error:
            raise InvalidParams(f"it cannot be read: {error}") from None
        if piece.jobkit == VERSION:
            return piece
    return Dump.from_line(line)


async def read_dumps(namespace: RedisNamespace, job_ids: Sequence[str]) -> list[Dump | None]:
    """Return all data of each job; None if it does not exist or its record cannot be read."""
    found = await read_keys(namespace, job_ids)
    dumps = [dump_of(namespace, job_id, keys) for job_id, keys in zip(job_ids, found, strict=True)]
    return await with_facts(namespace, dumps)


async def with_facts(namespace: RedisNamespace, dumps: Sequence[T]) -> list[T]:
    """Return dumps with the names of what is kept of their workers."""
    workers = sorted({dump.record["worker"] for dump in dumps if dump is not None and dump.record.get("worker")})
    ran: dict[str, str] = {}
    for module in modules("contents"):
        ran |= zip(workers, await module.CONTENTS(namespace).of_workers(workers), strict=True)
    return [dump if dump is None else replace(dump, ran=ran.get(dump.record.get("worker", ""), "")) for dump in dumps]


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
                ("HGET", "blobs", name),
                ("HGET", "filed", name),
                *(("HGETALL", f"{kind}:{name}") for kind in _HASHES),
                *(("LRANGE", f"{kind}:{name}", 0, -1) for kind in _LISTS),
            )
        ]
    )
    return list(zip(*[iter(found)] * (9 + len(_HASHES) + len(_LISTS)), strict=True))


def dump_of(namespace: RedisNamespace, job_id: str, keys: Sequence[Any]) -> Dump | None:
    """Return the data of a job from the contents of its keys; None if it does not exist or cannot be read."""
    return namespace.readable(f"job:{job_id}", partial(_dump, job_id), keys)


async def restore(namespace: RedisNamespace, dumps: Sequence[Dump], least_s: float = 0.0) -> list[bool]:
    """Restore ended jobs; their time to live, at least `least_s` seconds, starts again.

    Returns:
        For each job True, or False if a job with its id exists.

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
            lists={kind: dump.lists[kind] for kind in _LISTS if kind in dump.lists},
            parts=dump.parts,
            folder=dump.folder,
        )
        kinds: dict[str, Mapping[str, str | bytes]] = {"artifacts": dump.artifacts, "bodies": dump.bodies}
        kinds |= {kind: dump.hashes.get(kind, {}) for kind in _HASHES}
        fields = [item for kind, found in kinds.items() for pair in found.items() for item in (kind, *pair)]
        args += [snapshot.id, options, dump.args, dump.result, dump.preview, len(fields) // 3, *fields]
    return args


def _dump(job_id: str, found: Sequence[Any]) -> Dump | None:
    record, args, result, preview, log, artifacts, bodies, parts, folder, *more = found
    if not record:
        return None
    snapshot = wire.snapshot_of(job_id, record)
    return Dump(
        VERSION,
        snapshot.id,
        {name: value for name, value in wire.texts(record).items() if name not in _LEFT_OUT and name[:1] != "_"},
        args or b"",
        result or b"",
        preview or b"",
        [_chunk(entry) for _, entry in log],
        wire.texts(artifacts),
        _by_name(bodies),
        {kind: _by_name(fields) for kind, fields in zip(_HASHES, more, strict=False) if fields},
        {kind: [*map(wire.text, lines)] for kind, lines in zip(_LISTS, more[len(_HASHES) :], strict=True) if lines},
        parts=wire.text(parts).split(),
        folder=wire.text(folder),
    )


def _by_name(fields: Mapping[bytes, bytes]) -> dict[str, bytes]:
    return {wire.text(name): value for name, value in fields.items()}


def _chunk(entry: Mapping[bytes, bytes]) -> tuple[str, str, str, str]:
    first, count, size, lines = (wire.text(entry.get(part)) for part in (b"f", b"c", b"b", b"l"))
    return first, count, size, lines
