"""Export format: jobs as lines of JSON, for `jobkit export` and `jobkit import`.

A line has all data of a job in Redis, unchanged: the record with its events, sealed arguments and result, preview, log,
artifacts. Nothing is unsealed, so an imported line is still authentic, and runs or unpickles only with the same secret.
Files of large results are not exported; the line has the reference.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from jobkit.model import InvalidParams, JobSnapshot
from jobkit.settings import checked_name
from jobkit.store import wire
from jobkit.store.namespace import RedisNamespace

#: Version of the lines; newer ones are rejected.
VERSION = 2

#: Fields of the processes that had the job, and of arq's own keys, which are meaningless elsewhere.
_LEFT_OUT = frozenset({"client", "token", "fin", "waits", "after", "arq", "arqq", "arqt"})


@dataclass(frozen=True, slots=True)
class Dump:
    """One exported job. `snapshot` is that of its record."""

    snapshot: JobSnapshot
    us: int
    record: Mapping[str, str]
    args: bytes
    result: bytes
    preview: bytes
    log: Sequence[Sequence[str]]
    artifacts: Mapping[str, str]
    bodies: Mapping[str, bytes]

    def to_line(self) -> bytes:
        return msgspec.json.encode(
            {
                "jobkit": VERSION,
                "id": self.snapshot.id,
                "record": dict(self.record),
                "args": _b64(self.args),
                "result": _b64(self.result),
                "preview": _b64(self.preview),
                "log": [list(chunk) for chunk in self.log],
                "artifacts": dict(self.artifacts),
                "bodies": {name: _b64(body) for name, body in self.bodies.items()},
            }
        )

    @classmethod
    def from_line(cls, line: bytes) -> Dump:
        """Decode and validate a line.

        Raises:
            InvalidParams: not a line of an export, or of a newer jobkit.
        """
        try:
            fields = msgspec.json.decode(line)
            version = fields["jobkit"]
        except (msgspec.MsgspecError, TypeError, KeyError):
            raise InvalidParams("it is not a line of `jobkit export`") from None
        if not isinstance(version, int) or version > VERSION:
            raise InvalidParams(f"it was written by a newer jobkit (version {version!r}, here {VERSION})")
        try:
            record = {str(name): str(value) for name, value in fields["record"].items()}
            snapshot = wire.snapshot({name.encode(): value.encode() for name, value in record.items()})
            checked_name("id", snapshot.id)
            checked_name("queue", snapshot.spec.queue)
            checked_name("queue", record["queue"])
            return cls(
                snapshot,
                int(record["us"]),
                record,
                base64.b64decode(fields["args"], validate=True),
                base64.b64decode(fields["result"], validate=True),
                base64.b64decode(fields["preview"], validate=True) if version > 1 else b"",  # was not sealed
                [[str(part) for part in chunk] for chunk in fields["log"] if len(chunk) == 4],
                {str(name): str(meta) for name, meta in fields["artifacts"].items()},
                {str(name): base64.b64decode(body, validate=True) for name, body in fields["bodies"].items()},
            )
        except wire.UNREADABLE as error:
            raise InvalidParams(f"it cannot be read: {type(error).__name__}: {str(error)[:200]}") from None


async def read_dumps(namespace: RedisNamespace, job_ids: Sequence[str]) -> list[Dump | None]:
    """Return all data of each job; None if it does not exist or its record cannot be read."""
    found = await namespace.many(
        [
            command
            for job_id in job_ids
            for command in (
                ("HGETALL", f"job:{job_id}"),
                *(("GET", f"{name}:{job_id}") for name in ("args", "result", "preview")),
                ("XRANGE", f"log:{job_id}", "-", "+"),
                ("HGETALL", f"artifacts:{job_id}"),
                ("HGETALL", f"bodies:{job_id}"),
            )
        ]
    )
    return [_dump(job_id, found[7 * i : 7 * i + 7]) for i, job_id in enumerate(job_ids)]


async def restore(namespace: RedisNamespace, dumps: Sequence[Dump]) -> list[bool]:
    """Restore ended jobs; their time to live starts again. False if the id exists.

    Raises:
        ValueError: a job has not ended.
    """
    args: list[Any] = []
    for dump in dumps:
        if not dump.snapshot.is_terminal:
            raise ValueError(f"job {dump.snapshot.id} has not ended")
        own_s = dump.snapshot.spec.result_ttl_s
        options = {
            "us": dump.us,
            "state": dump.snapshot.state.value,
            "ttl_ms": max(1, int((namespace.settings.result_ttl if own_s is None else own_s) * 1000)),
            "record": dump.record,
            "log": dump.log,
            "artifacts": dump.artifacts,
        }
        args += [
            dump.snapshot.id,
            msgspec.json.encode(options),
            dump.args,
            dump.result,
            dump.preview,
            len(dump.bodies),
        ]
        for name, body in dump.bodies.items():
            args += [name, body]
    return [answer == 1 for answer in await namespace.run("restore", args)]


def _dump(job_id: str, found: Sequence[Any]) -> Dump | None:
    record, args, result, preview, log, artifacts, bodies = found
    snapshot = wire.readable(f"the record of job {job_id}", wire.snapshot, record)
    if snapshot is None:
        return None
    fields = {name.decode(): value.decode("utf-8", "replace") for name, value in record.items()}
    return Dump(
        snapshot,
        int(fields["us"]),
        {name: value for name, value in fields.items() if name not in _LEFT_OUT},
        args or b"",
        result or b"",
        preview or b"",
        [[entry[part].decode("utf-8", "replace") for part in (b"f", b"c", b"b", b"l")] for _, entry in log],
        {name.decode(): meta.decode() for name, meta in artifacts.items()},
        {name.decode(): body for name, body in bodies.items()},
    )


def _b64(value: bytes) -> str:
    return base64.b64encode(value).decode()
