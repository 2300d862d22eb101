"""Optuna's storage of a study over its journal in the store. Imports Optuna, so it is imported by functions only."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from jobkit.model import JobkitError

#: Reads the entries from a number on.
Read = Callable[[int], Sequence[bytes]]

#: Appends entries behind so many; returns how many there are, see `JournalStore.append`.
Append = Callable[[int, Sequence[str]], int]


class StudyJournal(BaseJournalBackend):
    """The journal of one study.

    Its entries are read as JSON. Snapshots, which would be pickles, are not kept.

    Args:
        append: of the only process that may write; None to read alone. A writer reads the store once, because all
            later entries are its own.
    """

    def __init__(self, study_id: str, read: Read, append: Append | None = None) -> None:
        self._id, self._read, self._append = study_id, read, append
        self._entries: list[dict[str, Any]] = [*map(self._decoded, read(0))]

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        if self._append is None:
            self._entries += map(self._decoded, self._read(len(self._entries)))
        return self._entries[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if self._append is None:
            raise JobkitError(f"only its own job writes study {self._id}: change a copy of it, or begin another study")
        # Its readers need not know which thread has written an entry. For itself, a storage remembers that.
        texts = [_encoded(log) for log in logs]
        total, known = len(self._entries) + len(texts), len(self._entries)
        while (count := self._append(known, texts)) in range(known):  # the server has lost the newest ones, known here
            known, texts = count, [*map(_encoded, self._entries[count:known]), *texts]
        if count != total:
            raise JobkitError(f"study {self._id} goes on in another attempt of its job, so this one ends")
        self._entries += [json.loads(json.dumps(log)) for log in logs]

    def _decoded(self, entry: bytes) -> dict[str, Any]:
        try:
            found = json.loads(entry)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise JobkitError(f"the journal of study {self._id} is damaged: {entry[:60]!r} is no entry of Optuna's")
        return found


def _encoded(log: dict[str, Any]) -> str:
    return json.dumps(log | {"worker_id": ""}, separators=(",", ":"))


def storage_of(study_id: str, read: Read, append: Append | None = None) -> JournalStorage:
    """Return Optuna's storage with one study, whose name is its id; see `StudyJournal`."""
    return JournalStorage(StudyJournal(study_id, read, append))
