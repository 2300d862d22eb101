"""Questions of a job to people, as its snapshot tells of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from jobkit.model.plain import instant


class OpenQuestion(msgspec.Struct, frozen=True):
    """A question that waits for an answer.

    Attributes:
        key: identifies it among the questions of its job.
        text: at most 200 characters of it.
        at: asked. due: the job waits until then; None for no limit.
    """

    key: str
    text: str
    at: datetime
    due: datetime | None = None


def open_questions(wire: Any) -> tuple[OpenQuestion, ...]:
    """Return the questions in a record or event; Lua encodes an empty list as an object."""
    return tuple(
        OpenQuestion(str(one["key"]), str(one["text"]), at, instant(one.get("due")))
        for one in (wire if isinstance(wire, list) else ())
        if (at := instant(one["at"])) is not None
    )
