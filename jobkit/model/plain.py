"""Value classes as plain data: records of the store, JSON for users, and times."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Self

import msgspec


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """Base of the values that the store keeps as JSON, without fields that are the default, to keep records small."""

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON for the store."""
        wire: dict[str, Any] = msgspec.to_builtins(self)
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """Return the value in a record; unknown fields are ignored.

        Raises:
            ValueError: a field is missing or has the wrong type.
        """
        return msgspec.convert(wire, cls)


def to_json(value: Any) -> Any:
    """Return a value as JSON for users: all fields of a record, times as ISO 8601 UTC, enum members as text."""
    if isinstance(value, msgspec.Struct):
        return {name: to_json(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def is_number(value: Any) -> bool:
    """Return True for what a float can hold: no truth, nothing infinite, no NaN, no larger int."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def now_ms() -> int:
    """Return the time in milliseconds since the epoch, by this machine's clock."""
    return time.time_ns() // 1_000_000


def dumps(value: Any) -> str:
    """Return compact JSON that any parser takes: what is not finite becomes null, what is not JSON its text."""
    return _encode(value).decode()


_encode = msgspec.json.Encoder(enc_hook=str).encode


def instant(ms: Any) -> datetime | None:
    """Return milliseconds since the epoch (a number or its text) as an aware datetime; None for 0, None and ""."""
    return datetime.fromtimestamp(int(ms) / 1000, UTC) if ms else None


def to_ms(at: datetime | None) -> int:
    """Return an instant as milliseconds since the epoch; 0 for None."""
    return 0 if at is None else round(at.timestamp() * 1000)


def iso(at: datetime | None) -> str | None:
    """Return `2026-11-24T15:00:00.123Z`, or None."""
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
