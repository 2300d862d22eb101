"""From a prepared submission to a schedule of such jobs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from jobkit.codec import Codec, Subject
from jobkit.model import InvalidParams, ScheduleSpec
from jobkit.schedules.firing import subject_of
from jobkit.schedules.timing import Timing
from jobkit.store.values import Submission


def scheduled(prepared: Submission, name: str, when: Timing, codec: Codec, **rules: Any) -> tuple[ScheduleSpec, bytes]:
    """The schedule whose jobs are like the prepared one, and its arguments, sealed for it.

    Args:
        name: "" for one made of the task and its arguments.
        rules: further fields of `ScheduleSpec`.

    Raises:
        InvalidParams: an argument is a job, whose result would be the same each time.
    """
    job = prepared.spec
    if job.needs:
        raise InvalidParams("an argument of a schedule cannot be a job: pass its value, job.result()")
    form, body = codec.verify(prepared.payload, Subject("args", job.id, job.task))
    spec = ScheduleSpec(
        name or default_name(job.task, job.params),
        replace(job, id="", key="", delay_ms=0, at_ms=0),
        when.cron,
        when.every_ms,
        when.at_ms,
        when.tz,
        when.until_ms,
        **rules,
    )
    return spec, codec.seal(form, body, subject_of(spec))


def default_name(task: str, params: Mapping[str, Any]) -> str:
    """The name of a schedule that was given none: the same task with the same arguments has the same one."""
    name = re.sub(r"[^A-Za-z0-9_.:-]", "_", task)[:180]
    if name == task and not params:
        return name
    digest = hashlib.sha256(task.encode() + b"\0" + msgspec.json.encode(dict(params), order="sorted"))
    return f"{name}-{digest.hexdigest()[:6]}"
