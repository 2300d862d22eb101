"""`/api/audit`: the audit trail."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Struct

from jobkit.http.api.routing import see
from jobkit.http.api.shapes import STREAM_ID, Limit, answer, doc, shown
from jobkit.http.auth import access
from jobkit.http.core.handling import ApiCall
from jobkit.model.person import AuditEntry, Role

#: See `MODELS` of the shapes.
MODELS = (AuditEntry,)


class AuditQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """Page of the audit trail."""

    limit: Limit = 100
    before: Annotated[
        str, doc("Only older entries: `next_before` of the previous page.", max_length=60), shown(STREAM_ID)
    ] = ""


AuditJson = answer("AuditJson", entries=list[AuditEntry], next_before=str | None)


async def audit(call: ApiCall) -> Any:
    """List the audit trail, newest first; for administrators."""
    asked: AuditQuery = call.query
    if not call.grant.is_open and call.grant.role != Role.ADMIN:
        raise access.insufficient("the audit trail is for people who log in with the role admin", "admin")
    found = await call.kit.aio.audit(asked.limit, asked.before)
    entries = [entry.to_json() for entry in found]
    return {"entries": entries, "next_before": found[-1].id if found else None}


ROUTES = (see("/api/audit", audit, AuditJson, query=AuditQuery),)
