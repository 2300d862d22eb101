"""`python -m tests.chaos.newer worker ...`: jobkit like a later version with additional fields.

It writes fields that this version does not know, and accepts records without them. Its workers and submitters run
beside those of this version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jobkit.model import JobSpec
from jobkit.model.snapshot import JobError
from jobkit.store import wire

#: Field of a record's spec that every version has to keep.
MARK = "from_a_later_version"

_FIELD: Mapping[str, Any] = {MARK: {"kept": [1, "zwei", None]}}


def become() -> None:
    """Make this process write as a later version from now on."""
    _add(JobSpec)
    _add(JobError)
    _add_to_calls()
    _add_facts()


def _add(kind: type) -> None:
    before = kind.to_wire  # type: ignore[attr-defined]

    def more(self: Any) -> dict[str, Any]:
        return {**before(self), **_FIELD}

    kind.to_wire = more  # type: ignore[attr-defined]


def _add_to_calls() -> None:
    """Add it to the specs of submits and to the data of endings, which become JSON in one step."""
    encode, options = wire._json, wire.options

    def more_json(value: Any) -> bytes:
        return encode(value.to_wire() if isinstance(value, JobSpec) else value)

    def more_options(**values: Any) -> bytes:
        return options(**values, **(_FIELD if "usage" in values else {}))

    wire._json, wire.options = more_json, more_options  # type: ignore[assignment]


def _add_facts() -> None:
    from jobkit.worker.worker import JobWorker

    before = JobWorker._facts

    def more(self: JobWorker) -> dict[str, Any]:
        return {**before(self), MARK: "yes"}

    JobWorker._facts = more  # type: ignore[method-assign]


def kept(spec: bytes) -> bool:
    """Return True if a stored spec still has the later version's field."""
    return bool(json.loads(spec).get(MARK) == _FIELD[MARK])


if __name__ == "__main__":
    from jobkit.cli import main

    become()
    main()
