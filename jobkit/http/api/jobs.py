"""Handlers for jobs: submit, list, read, cancel, retry, move, delete; and for their results, logs and artifacts.

Values are sent as JSON or as bytes that the worker made; nothing is unpickled.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from jobkit.attempts import check_reuse
from jobkit.codec import MSGPACK, Subject, decode, is_reference
from jobkit.http.api.shapes import JobList, LogQuery, Submit
from jobkit.http.auth import access
from jobkit.http.core.handling import ApiCall
from jobkit.http.core.tail import on_loop
from jobkit.http.messages import FORM, TEXT, Problem, Response, json_response, printable, to_json
from jobkit.model import JobSnapshot, JobState
from jobkit.model.errors import NoCheckpoint
from jobkit.model.start import outlook
from jobkit.store.grammar import parse
from jobkit.store.query import Query, narrowed

#: Pages of the store read for one list, if a token covers only some of the jobs.
_MAX_PAGES = 20

#: The preview of a result itself, as JSON.
PREVIEW = "application/vnd.jobkit.preview+json"

#: Media types of a result besides JSON, and the part of the preview that each is.
_PARTS = {"image/png": "png", "text/html": "html", "text/plain": "text"}


async def submit(call: ApiCall) -> Response:
    """Submit a job."""
    body: Submit = call.body
    call.require_task(body.task)
    if call.grant.owner not in (None, call.grant.subject):
        raise access.insufficient("a job needs an owner, and you have no name: log in, or use a token with a name")
    options = msgspec.to_builtins(body, builtin_types=[datetime])  # fields that the caller has given
    task, params = options.pop("task"), options.pop("params")
    if call.request.media_type == FORM:  # its arguments are texts
        info = (await call.kit.aio.tasks()).get(task)
        params = params if info is None else info.read_texts(params.items())
    since = await newest_event(call)
    job = await asyncio.to_thread(call.kit.submit_info, task, params, options, owner=call.grant.subject)
    if call.grant.owner not in (None, job.owner):
        field = "id" if "id" in options else "key"
        message = f"the {field} {printable(str(options.get(field)))!r} belongs to a job of another owner"
        raise Problem(409, f"{field}_taken", message, field)
    return accepted(call, job.id, since)


async def newest_event(call: ApiCall) -> str:
    """Return the id of the newest event, to be read before a submit: streams that resume after it miss nothing."""
    return await on_loop(call.kit.verbs.store.last_event_id())


def accepted(call: ApiCall, job_id: str, since: str) -> Response:
    """Return a 202 with the URLs of the job and its events, and the id of an event before its first."""
    url = call.job_url(job_id)
    return json_response(
        {"id": job_id, "topic": url, "url": url, "events": f"{url}/events", "last_event_id": since},
        202,
        {"Location": url, "Link": _links(call, url), "Cache-Control": "no-store"},
    )


def _links(call: ApiCall, url: str) -> str:
    links = [(f"{call.base}{route.path}", route.rel) for route in call.api.routes if route.rel]
    return ", ".join(f'<{target}>; rel="{rel}"' for target, rel in (*links, (url, "self")))


async def list_jobs(call: ApiCall) -> Any:
    """List jobs, newest first."""
    asked: JobList = call.query
    if call.grant.tasks and asked.task:
        call.require_task(asked.task)
    filters = Query(states=tuple(asked.state), task=asked.task or None, queue=asked.queue or None, order=asked.order)
    wanted = parse(asked.q, filters, asked.tz or "UTC")
    if asked.search:
        wanted = replace(wanted, search=(*wanted.texts, asked.search))
    if call.grant.owner is not None:
        wanted = narrowed(wanted, call.grant.owner)
    jobs: list[JobSnapshot] = []
    cursor = asked.cursor
    for _ in range(_MAX_PAGES):
        page = await call.kit.aio.page(replace(wanted, limit=asked.limit - len(jobs), cursor=cursor))
        jobs += [snapshot for snapshot in page.jobs if call.grant.sees(snapshot.spec)]
        cursor = page.next_cursor
        if not cursor or len(jobs) >= asked.limit:
            break
    return {"jobs": [snapshot.to_json() for snapshot in jobs], "next_cursor": cursor or None}


async def find(call: ApiCall) -> JobSnapshot:
    """Return the snapshot of the job in the path."""
    return await call.find("id", "job", call.kit.aio.snapshot, lambda found: call.grant.sees(found.spec))


async def read(call: ApiCall) -> Response:
    """Read everything about a job."""
    snapshot = await find(call)
    waits_for, starts = [""], {}
    if snapshot.state in (JobState.QUEUED, JobState.SCHEDULED):
        starts = await call.kit.aio.expected_starts([snapshot])
    if snapshot.state is JobState.QUEUED:
        waits_for = await call.kit.aio.waits_for_many([snapshot.id])
    more = {"waits_for": waits_for[0], **outlook(snapshot, starts.get(snapshot.id))}
    headers = {"Link": _links(call, call.job_url(snapshot.id))}
    return json_response(snapshot.to_json() | more, headers=headers)


async def cancel(call: ApiCall) -> Any:
    """Ask a job to stop."""
    snapshot = await find(call)
    if snapshot.is_terminal or not await call.kit.aio.cancel(
        snapshot.id, call.body.reason, at_checkpoint=call.body.checkpoint, by=call.grant.subject
    ):
        has = "been cancelled" if snapshot.state is JobState.CANCELLED else snapshot.state
        raise Problem(409, "ended", f"job {snapshot.id} has {has}; there is nothing to cancel", "id")
    return (await call.kit.aio.snapshot(snapshot.id)).to_json()


async def retry(call: ApiCall) -> Response:
    """Run an ended job again, as a new job."""
    snapshot = await find(call)
    if not snapshot.is_terminal:
        message = f"job {snapshot.id} is {snapshot.state}; only an ended job can be retried, so cancel it first"
        raise Problem(409, "not_ended", message, "id")
    owner = {"owner": call.grant.subject} if call.grant.subject else {}
    since = await newest_event(call)
    try:
        job: Any = await call.kit.aio.retry(snapshot.id, from_checkpoint=call.body.from_checkpoint, **owner)
    except NoCheckpoint as error:
        raise Problem(409, "no_checkpoint", str(error), "from_checkpoint") from None
    return accepted(call, job.id, since)


async def move_job(call: ApiCall) -> Any:
    """Move a waiting job to another queue or priority."""
    snapshot = await find(call)
    if refused := await call.kit.aio.move(snapshot.id, by=call.grant.subject, **msgspec.to_builtins(call.body)):
        raise Problem(409, "not_waiting", refused[snapshot.id], "id")
    return (await find(call)).to_json()


async def remove(call: ApiCall) -> Response:
    """Delete an ended job with its result, logs and artifacts."""
    snapshot = await find(call)
    (is_gone,) = await call.kit.aio.delete([snapshot.id])
    if not is_gone:
        raise Problem(409, "not_ended", f"job {snapshot.id} has not ended; cancel it first", "id")
    return Response(204)


# -- results, logs and artifacts ---------------------------------------------------------------------------------------


async def result(call: ApiCall) -> Response:
    """Read the value: as JSON if it is plain data, else its preview."""
    snapshot = await find(call)
    if not snapshot.is_terminal:
        raise Problem(409, "not_finished", f"job {snapshot.id} is {snapshot.state}; it has no result yet", "id")
    if snapshot.state is not JobState.SUCCEEDED:
        why = f": {snapshot.error}" if snapshot.error else ""
        was = "was " if snapshot.state is JobState.CANCELLED else ""
        message = f"job {snapshot.id} has no result, since it {was}{snapshot.state}{why}"
        raise Problem(409, str(snapshot.state), message, "id")
    preview: Mapping[str, Any] = await call.kit.aio.preview(snapshot.id) or {}
    response = await _result(call, snapshot, preview)
    if name := _header(str(preview.get("type", ""))):
        response.headers["X-Jobkit-Type"] = name
    return response


async def _result(call: ApiCall, snapshot: JobSnapshot, preview: Mapping[str, Any]) -> Response:
    is_forged = preview.get("problem") == "signature"
    if call.request.accepts(PREVIEW) and not is_forged:
        return Response(200, to_json(preview), {"Content-Type": PREVIEW})
    for media_type, part in _PARTS.items():
        if call.request.accepts(media_type) and preview.get(part):
            return _part(preview, media_type)
    found, value = await _plain_value(call, snapshot)
    if found:
        return json_response(value)
    if "json" in preview:
        return json_response(preview["json"])
    if preview.get("png"):
        return _part(preview, "image/png")
    if preview.get("table"):
        return json_response(preview["table"])
    unavailable = f"the result of job {snapshot.id} is not available"
    if is_forged:
        raise Problem(502, "signature", f"{unavailable}: {preview['unavailable']}", "id")
    if why := preview.get("unavailable"):  # the text is not the value
        raise Problem(410, "result_unavailable", f"{unavailable}: {why}")
    if preview.get("text"):
        return _part(preview, "text/plain")
    raise Problem(410, "expired", f"{unavailable}: it is no longer kept")


async def _plain_value(call: ApiCall, snapshot: JobSnapshot) -> tuple[bool, Any]:
    """Return `(True, value)` if the result is plain data, else `(False, None)`. Raises SignatureError: it is forged."""
    sealed = await on_loop(call.kit.verbs.store.result(snapshot.id))
    if not sealed or is_reference(sealed):  # a large result: the preview is enough
        return False, None
    await on_loop(check_reuse(call.kit.verbs.store, snapshot, call.kit.codec))
    form, body = call.kit.codec.verify(sealed, Subject("result", snapshot.result_id, snapshot.spec.task))
    return (True, decode(form, body)) if form == MSGPACK else (False, None)


def _part(preview: Mapping[str, Any], media_type: str) -> Response:
    raw = preview[_PARTS[media_type]]
    if media_type == "image/png":
        return Response(200, base64.b64decode(raw), {"Content-Type": media_type})
    return _text(str(raw), f"{media_type}; charset=utf-8")


def _text(text: str, content_type: str = TEXT) -> Response:
    return Response(200, text.encode("utf-8", "replace"), {"Content-Type": content_type})


async def logs(call: ApiCall) -> Any:
    """Read the log, as JSON or text."""
    asked: LogQuery = call.query
    snapshot = await find(call)
    log = await call.kit.aio.log_slice(snapshot.id, **msgspec.structs.asdict(asked))
    if call.request.accepts("text/plain"):
        return _text("".join(f"{line.text}\n" for line in log.lines))
    return log.to_json()


async def artifacts(call: ApiCall) -> Any:
    """List the artifacts of a job, oldest first."""
    snapshot = await find(call)
    found: Any = await call.kit.aio.artifacts(snapshot.id)
    base = f"{call.job_url(snapshot.id)}/artifacts"
    return {"artifacts": [one.to_json() | {"url": f"{base}/{quote(one.name, safe='')}"} for one in found]}


async def artifact(call: ApiCall) -> Response:
    """Download an artifact."""
    snapshot = await find(call)
    name = call.params["name"]
    found: Any = await call.kit.aio.artifacts(snapshot.id)
    one = next((each for each in found if each.name == name), None)
    if one is None:
        raise Problem(404, "artifact_not_found", f"job {snapshot.id} has no artifact {printable(name)!r}", "name")
    headers = {  # as an attachment: what a job made must not run as a page of this server
        "Content-Type": _header(one.media_type) or "application/octet-stream",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
    }
    return Response(200, await asyncio.to_thread(one.read), headers)


def _header(text: str) -> str:
    """Return `text` if it fits into a header: ASCII on one line; else ""."""
    return text if text.isascii() and text.isprintable() and len(text) <= 200 else ""
