"""News of a job's checkpoints for its worker: one was written, or the job has gone on from one."""

from __future__ import annotations

from typing import Any

import msgspec

from jobkit.features.checkpoints.checkpoint_info import LABEL_CHARS, CheckpointInfo, is_checkpoint_name
from jobkit.features.checkpoints.files import KEPT
from jobkit.run.news import STORED_BYTES, News, Takes

#: The facts about a checkpoint have at most so many bytes, and its time is before this one (in the year 5138).
_FACTS_BYTES, _TIMES_END_MS = 200_000, 10**14


def read_info(facts: Any) -> CheckpointInfo:
    """Return the facts about a checkpoint. Raises ValueError for those that no job has by its own means."""
    info = CheckpointInfo.from_wire(facts)
    if not is_checkpoint_name(info.name) or not 0 <= info.at_ms < _TIMES_END_MS:
        raise ValueError(f"a checkpoint {info.name!r:.100} of {info.at_ms} ms")
    if len(info.text) > LABEL_CHARS or len(msgspec.msgpack.encode(info)) > _FACTS_BYTES:
        raise ValueError("a checkpoint with too many facts for the store")
    return info


def read_written(content: Any) -> tuple[CheckpointInfo, bytes]:
    """Return a checkpoint: its facts and, if it is no file, its bytes. Raises ValueError or TypeError."""
    facts, sealed = content
    if len(body := bytes(sealed)) > STORED_BYTES:
        raise ValueError("a checkpoint that is too large for the store")
    return read_info(facts), body


def _written(attempt: Takes, news: tuple[CheckpointInfo, bytes]) -> None:
    info, sealed = news
    attempt.keep("checkpoints", info.name, msgspec.json.encode(info), sealed, KEPT)
    _is_at(attempt, info)


def _resumed(attempt: Takes, info: CheckpointInfo) -> None:
    _is_at(attempt, info, resumed=info.phrase, resumed_completed=info.completed)


def _is_at(attempt: Takes, info: CheckpointInfo, **more: Any) -> None:
    attempt.can_go_on(is_fresh=True)
    attempt.show(saved=info.text, saved_at=info.at_ms, **more)


NEWS = {"checkpoint": News(read_written, _written), "resumed": News(read_info, _resumed)}
