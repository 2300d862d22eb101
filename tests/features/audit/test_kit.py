"""`kit.audit`: the audit trail as a table."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from jobkit.features.audit.kit import AuditEntries
from jobkit.model.person import AuditEntry
from jobkit.ui.card.card_html import table_html


def test_times_are_local_in_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = AuditEntry(
        "ada", "", "cli", "cancel", targets=("f" * 16,), count=1, at=datetime(2026, 1, 1, 23, 30, tzinfo=UTC)
    )
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        shown = repr(AuditEntries([entry])), table_html(AuditEntries([entry]))
    finally:
        monkeypatch.undo()
        time.tzset()

    assert shown[0].splitlines()[1].split()[:2] == ["2026-01-02", "00:30"]
    assert "<td>2026-01-02 00:30</td>" in shown[1]
    assert "job ffffffff" in shown[0]
