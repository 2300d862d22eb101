"""Handlers for results, logs and artifacts. Sent as JSON or as bytes that the worker made; nothing is unpickled."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec

from jobkit.codec import MSGPACK, Subject, decode, is_reference
from jobkit.http.api.jobs import find
from jobkit.http.api.shapes import LogQuery
from jobkit.http.core.handling import ApiCall
from jobkit.http.core.messages import Problem, Response, json_response, printable, to_json
from jobkit.http.core.tail import on_loop
from jobkit.model import JobSnapshot, JobState

#: Media types of a result besides JSON, and the part of the preview that each is.
_PARTS = {"image/png": "png", "text/html": "html", "text/plain": "text"}

#: The preview itself, as JSON.
PREVIEW = "application/vnd.jobkit.preview+json"


async def result(call: ApiCall) -> Response:
    """Read the value: as JSON if it is plain data, else its preview."""
    snapshot = await find(call)
    _require_value(snapshot)
    preview: Mapping[str, Any] = await call.kit.aio.preview(snapshot.id) or {}
    is_forged = preview.get("problem") == "signature"
    headers = {"X-Jobkit-Type": _header(str(preview.get("type", "")))}
    if call.request.accepts(PREVIEW) and not is_forged:
        return _with(Response(200, to_json(preview), {"Content-Type": PREVIEW}), headers)
    for media_type, part in _PARTS.items():
        if call.request.accepts(media_type) and preview.get(part):
            return _with(_part(preview, media_type, part), headers)
    found, value = await _plain_value(call, snapshot)
    if found:
        return _with(json_response(value), headers)
    if "json" in preview:
        return _with(json_response(preview["json"]), headers)
    if preview.get("png"):
        return _with(_part(preview, "image/png", "png"), headers)
    if preview.get("table"):
        return _with(json_response(preview["table"]), headers)
    if is_forged:
        why = preview["unavailable"]
        raise Problem(502, "signature", f"the result of job {snapshot.id} is not available: {why}", "id")
    if why := preview.get("unavailable"):  # the text is not the value
        raise Problem(410, "result_unavailable", f"the result of job {snapshot.id} is not available: {why}")
    if preview.get("text"):
        return _with(_part(preview, "text/plain", "text"), headers)
    raise Problem(410, "expired", f"the result of job {snapshot.id} is not available: it is no longer kept")


def _require_value(snapshot: JobSnapshot) -> None:
    if not snapshot.is_terminal:
        raise Problem(409, "not_finished", f"job {snapshot.id} is {snapshot.state}; it has no result yet", "id")
    if snapshot.state is not JobState.SUCCEEDED:
        why = f": {snapshot.error}" if snapshot.error else ""
        was = "was " if snapshot.state is JobState.CANCELLED else ""
        raise Problem(
            409,
            str(snapshot.state),
            f"job {snapshot.id} has no result, since it {was}{snapshot.state}{why}",
            "id",
        )


async def _plain_value(call: ApiCall, snapshot: JobSnapshot) -> tuple[bool, Any]:
    """Return `(True, value)` if the result is plain data, else `(False, None)`: nothing is unpickled.

    Raises:
        SignatureError: the stored value was not sealed as the result of this job.
    """
    sealed = await on_loop(call.kit.verbs.sealed_result(snapshot.id))
    if not sealed or is_reference(sealed):  # a large result: the preview is enough
        return False, None
    await on_loop(call.kit.verbs.check_reuse(snapshot))
    form, body = call.kit.codec.verify(sealed, Subject("result", snapshot.result_id, snapshot.spec.task))
    return (True, decode(form, body)) if form == MSGPACK else (False, None)


def _part(preview: Mapping[str, Any], media_type: str, part: str) -> Response:
    raw = preview[part]
    body = base64.b64decode(raw) if part == "png" else str(raw).encode("utf-8", "replace")
    charset = "" if part == "png" else "; charset=utf-8"
    return Response(200, body, {"Content-Type": f"{media_type}{charset}"})


async def logs(call: ApiCall) -> Response:
    """Read the log, as JSON or text."""
    asked: LogQuery = call.query
    snapshot = await find(call)
    log = await call.kit.aio.log_slice(snapshot.id, **msgspec.structs.asdict(asked))
    if call.request.accepts("text/plain"):
        text = "".join(f"{line.text}\n" for line in log.lines)
        return Response(200, text.encode("utf-8", "replace"), {"Content-Type": "text/plain; charset=utf-8"})
    numbers = {name: getattr(log, name) for name in ("total", "dropped", "matched", "cursor")}
    return json_response({"lines": [line.to_json() for line in log.lines], **numbers})


async def artifacts(call: ApiCall) -> Response:
    """List the artifacts of a job, oldest first."""
    snapshot = await find(call)
    found: Any = await call.kit.aio.artifacts(snapshot.id)
    base = f"{call.job_url(snapshot.id)}/artifacts"
    return json_response(
        {"artifacts": [{**one.to_json(), "url": f"{base}/{quote(one.name, safe='')}"} for one in found]}
    )


async def artifact(call: ApiCall) -> Response:
    """Download an artifact.

    As an attachment: what a job made must not run as a page of this server.
    """
    snapshot = await find(call)
    name = call.params["name"]
    found: Any = await call.kit.aio.artifacts(snapshot.id)
    one = next((each for each in found if each.name == name), None)
    if one is None:
        raise Problem(404, "artifact_not_found", f"job {snapshot.id} has no artifact {printable(name)!r}", "name")
    content: bytes = await asyncio.to_thread(partial(one.read))
    return Response(
        200,
        content,
        {
            "Content-Type": _header(one.media_type) or "application/octet-stream",
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        },
    )


def _with(response: Response, headers: Mapping[str, str]) -> Response:
    response.headers |= {name: text for name, text in headers.items() if text}
    return response


def _header(text: str) -> str:
    """Return `text` if it fits into a header: ASCII on one line; else ""."""
    return text if text.isascii() and text.isprintable() and len(text) <= 200 else ""
