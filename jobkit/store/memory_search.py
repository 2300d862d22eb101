"""Whether a job belongs on a page: the filters of `lua/list.lua`, for the store in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobkit.model import JobSnapshot
from jobkit.store.base import Query


def matches(job: JobSnapshot, query: Query) -> bool:
    """True where `job` passes every filter of `query`."""
    spec = job.spec
    if query.states and job.state not in query.states:
        return False
    if query.task and spec.task != query.task:
        return False
    if query.queue and spec.queue != query.queue:
        return False
    if not query.search:
        return True
    error = (job.error.type, job.error.message) if job.error else ()
    texts = (spec.id, spec.task, spec.title, spec.params, spec.tags, spec.owner, spec.key)
    return _has((*texts, job.message, job.summary, job.worker, *error), _lower(query.search))


def _has(value: Any, text: bytes) -> bool:
    """Whether the text stands in a value, or in a name or value inside of it."""
    if isinstance(value, Mapping):
        return any(_has(name, text) or _has(part, text) for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return any(_has(part, text) for part in value)
    if isinstance(value, bool):
        value = str(value)
    elif isinstance(value, (int, float)):
        value = f"{float(value):.0f}" if value % 1 == 0 else f"{value:.14g}"
    return isinstance(value, str) and text in _lower(value)


def _lower(text: str) -> bytes:
    """A to Z in lower case, as Lua does it."""
    return text.encode("utf-8", "replace").lower()
