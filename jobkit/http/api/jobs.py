"""Handlers for jobs: submit, list, read, cancel, retry, delete."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec

from jobkit.http.api.shapes import JobList, Submit
from jobkit.http.core import access
from jobkit.http.core.handling import ApiCall
from jobkit.http.core.messages import Problem, Response, json_response, printable
from jobkit.http.core.tail import on_loop
from jobkit.model import InvalidParams, JobNotFound, JobSnapshot, JobState
from jobkit.settings import checked_name
from jobkit.store.grammar import parse
from jobkit.store.query import Query, narrowed

#: Pages of the store read for one list, if a token covers only some of the jobs.
_MAX_PAGES = 20


async def submit(call: ApiCall) -> Response:
    """Submit a job."""
    body: Submit = call.body
    call.require_task(body.task)
    if call.grant.owner not in (None, call.grant.subject):
        raise access.insufficient("a job needs an owner, and you have no name: log in, or use a token with a name")
    asked = msgspec.structs.asdict(body)
    options = {
        name: value for name, value in asked.items() if name not in ("task", "params") and value is not msgspec.UNSET
    }
    job = await asyncio.to_thread(call.kit.submit_info, body.task, body.params, options, owner=call.grant.subject)
    if call.grant.owner not in (None, job.owner):
        raise Problem(
            409, "key_taken", f"the key {printable(str(options.get('key')))!r} belongs to a job of another owner", "key"
        )
    return accepted(call, job.id)


def accepted(call: ApiCall, job_id: str) -> Response:
    """Return a 202 with the URLs of the job and its events."""
    url = call.job_url(job_id)
    return json_response(
        {"id": job_id, "topic": url, "url": url, "events": f"{url}/events"},
        202,
        Location=url,
        Link=_links(call, url),
        Cache_Control="no-store",
    )


def _links(call: ApiCall, url: str) -> str:
    return f'<{call.hub_url}>; rel="mercure", <{url}>; rel="self"'


async def list_jobs(call: ApiCall) -> Response:
    """List jobs, newest first."""
    asked: JobList = call.query
    if call.grant.tasks and asked.task:
        call.require_task(asked.task)
    jobs: list[JobSnapshot] = []
    cursor = asked.cursor
    wanted = _wanted(asked)
    if call.grant.owner is not None:
        wanted = narrowed(wanted, call.grant.owner)
    for _ in range(_MAX_PAGES):
        page = await call.kit.aio.page(replace(wanted, limit=asked.limit - len(jobs), cursor=cursor))
        jobs += [snapshot for snapshot in page.jobs if call.grant.sees(snapshot.spec)]
        cursor = page.next_cursor
        if not cursor or len(jobs) >= asked.limit:
            break
    return json_response({"jobs": [snapshot.to_json() for snapshot in jobs], "next_cursor": cursor or None})


def _wanted(asked: JobList) -> Query:
    """Return the query of the store for a list.

    Raises:
        InvalidParams: the search text, the order or the cursor is not valid.
    """
    given = Query(
        states=tuple(asked.state),
        task=asked.task or None,
        queue=asked.queue or None,
        order=asked.order,
        cursor=asked.cursor,
    )
    wanted = parse(asked.q, given.checked())
    return replace(wanted, search=(*wanted.texts, asked.search)) if asked.search else wanted


async def find(call: ApiCall) -> JobSnapshot:
    """Return the snapshot of the job in the path.

    Raises:
        Problem: 404, it is not kept or not covered by the token; a caller cannot tell which.
    """
    try:
        job_id = checked_name("id", call.params["id"])
        snapshot: JobSnapshot = await call.kit.aio.snapshot(job_id)
    except (InvalidParams, JobNotFound):
        raise _unknown(call) from None
    if not call.grant.sees(snapshot.spec):
        raise _unknown(call)
    return snapshot


def _unknown(call: ApiCall) -> Problem:
    return Problem(404, "job_not_found", f"no job {printable(call.params['id'])!r} is kept here", "id")


async def read(call: ApiCall) -> Response:
    """Read everything about a job."""
    snapshot = await find(call)
    waits_for = [""]
    if snapshot.state is JobState.QUEUED:
        waits_for = await call.kit.aio.waits_for_many([snapshot.id])
    return json_response(snapshot.to_json() | {"waits_for": waits_for[0]}, Link=_links(call, call.job_url(snapshot.id)))


async def cancel(call: ApiCall) -> Response:
    """Ask a job to stop."""
    snapshot = await find(call)
    if snapshot.is_terminal or not await call.kit.aio.cancel(snapshot.id, call.body.reason):
        raise Problem(409, "ended", f"job {snapshot.id} has {_ended(snapshot)}; there is nothing to cancel", "id")
    return json_response((await call.kit.aio.snapshot(snapshot.id)).to_json(), 202)


async def retry(call: ApiCall) -> Response:
    """Run an ended job again, as a new job."""
    snapshot = await find(call)
    if not snapshot.is_terminal:
        raise Problem(
            409,
            "not_ended",
            f"job {snapshot.id} is {snapshot.state}; only an ended job can be retried, so cancel it first",
            "id",
        )
    job: Any = await call.kit.aio.retry(snapshot.id, **({"owner": call.grant.subject} if call.grant.subject else {}))
    return accepted(call, job.id)


async def remove(call: ApiCall) -> Response:
    """Delete an ended job with its result, logs and artifacts."""
    snapshot = await find(call)
    (is_gone,) = await on_loop(call.kit.verbs.delete([snapshot.id]))
    if not is_gone:
        raise Problem(409, "not_ended", f"job {snapshot.id} has not ended; cancel it first", "id")
    return Response(204)


def _ended(snapshot: JobSnapshot) -> str:
    return "been cancelled" if snapshot.state == "cancelled" else str(snapshot.state)
