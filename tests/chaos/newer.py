"""`python -m tests.chaos.newer worker ...`: jobkit as a later version might be, which knows more than this one.

Whatever it writes has fields that this version has never heard of; and it does not stumble over their absence. Workers
of it serve beside those of this version (and of an earlier one, `--older REVISION`), and submit beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jobkit.model import JobSpec
from jobkit.model.snapshot import JobError
from jobkit.store import base
from jobkit.worker import about

#: In a record's spec: whoever handles the job has to leave it there.
MARK = "from_a_later_version"

_FIELD: Mapping[str, Any] = {MARK: {"kept": [1, "zwei", None]}}


def become() -> None:
    """From here on this process writes as a later version."""
    _add(JobSpec, "to_wire")
    _add(JobError, "to_wire")
    _add(base.Ending, "data")
    _add_facts()


def _add(kind: type, name: str) -> None:
    before = getattr(kind, name)

    def more(self: Any) -> dict[str, Any]:
        return {**before(self), **_FIELD}

    setattr(kind, name, more)


def _add_facts() -> None:
    from jobkit.worker import worker

    before = about.facts

    def more(*args: Any, **options: Any) -> dict[str, Any]:
        return {**before(*args, **options), MARK: "yes"}

    worker.facts = more  # type: ignore[assignment]


def kept(spec: bytes) -> bool:
    """Whether a record's spec, as it is stored, still has what only the later version knows."""
    return bool(json.loads(spec).get(MARK) == _FIELD[MARK])


if __name__ == "__main__":
    from jobkit.cli import main

    become()
    main()
