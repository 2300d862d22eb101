"""`python -m tests.chaos.newer worker ...`: jobkit like a later version with additional fields.

It writes fields that this version does not know, and accepts records without them. Its workers and submitters run
beside those of this version (and of an earlier one, `--older REVISION`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jobkit.model import JobSpec
from jobkit.model.snapshot import JobError
from jobkit.store import values

#: Field of a record's spec that every version has to keep.
MARK = "from_a_later_version"

_FIELD: Mapping[str, Any] = {MARK: {"kept": [1, "zwei", None]}}


def become() -> None:
    """Make this process write as a later version from now on."""
    _add(JobSpec, "to_wire")
    _add(JobError, "to_wire")
    _add(values.Ending, "data")
    _add_facts()


def _add(kind: type, name: str) -> None:
    before = getattr(kind, name)

    def more(self: Any) -> dict[str, Any]:
        return {**before(self), **_FIELD}

    setattr(kind, name, more)


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
