"""`kit.audit`: the audit trail, newest entries first."""

from __future__ import annotations

from typing import ClassVar

from jobkit.client.connection import Connection
from jobkit.client.forms import on_loop
from jobkit.client.tables import Table
from jobkit.model.cells import Columns
from jobkit.model.format import many
from jobkit.model.person import AuditEntry


def _targets(entry: AuditEntry) -> str:
    """Return `job 5f0c1234`, or `12 jobs` for several."""
    if entry.count != 1 or not entry.targets:
        return many(entry.count, entry.on)
    only = entry.targets[0]
    return f"{entry.on} {only[:8] if entry.on == 'job' else only}"


def _outcome(entry: AuditEntry) -> str:
    """Return `succeeded`, or `failed 12 times`."""
    word = "succeeded" if entry.outcome == "done" else entry.outcome
    return word if entry.times == 1 else f"{word} {entry.times:,} times"


class AuditEntries(Table, list[AuditEntry]):
    """Actions of users, newest first."""

    COLUMNS: ClassVar[Columns] = {
        "When": lambda entry: entry.at,
        "Who": lambda entry: entry.who or "unknown",
        "By": lambda entry: entry.via,
        "Action": lambda entry: entry.action,
        "On": _targets,
        "Outcome": _outcome,
        "Note": lambda entry: entry.note,
    }
    EMPTY = "No actions yet."


async def audit(connection: Connection, limit: int = 100, before: str = "") -> AuditEntries:
    """Return up to `limit` actions of users, newest first; with `before`, an entry's id, older ones.

    Raises:
        InvalidParams: `before` is not the id of an entry.
    """
    return AuditEntries(await connection.store.audit_log.entries(limit, before))


class KitAudit:
    """The verb about the audit trail that the kit itself has."""

    audit = on_loop("connection", audit)
