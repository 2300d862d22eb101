"""All routes: of the API, and of Mercure's hub.

Requests are checked, and the OpenAPI document is made, from this table. A route's summary in the document is the first
line of its handler's docstring.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobkit.http.api import events, jobs, openapi, overview, shapes, steering
from jobkit.http.mercure import hub, subscriptions
from jobkit.http.messages import EVENT_STREAM, Handler, Route

_NO_TASK = {404: "No such task.", 422: "An argument or option is not allowed."}
_NO_JOB = {404: "No such job is kept."}
_ENDED = _NO_JOB | {409: "It has ended."}
_NOT_ENDED = _NO_JOB | {409: "It has not ended."}
_NOT_WAITING = _NO_JOB | {409: "It does not wait."}
_NO_VALUE = _NO_JOB | {409: "It has not finished, or has no value.", 410: "The value is no longer kept."}
_NO_FILE = {404: "No such job or artifact.", 410: "It is no longer kept."}
_NO_SCHEDULE = {404: "No such schedule."}
_FORGED = {502: "What is stored does not carry a valid signature."}
_BUSY = {503: "Too many streams."}
_GROUP = "group of failures"
_NO_GROUP = {404: f"No such {_GROUP}."}
_NO_TOKEN = {401: "No token, or one that is not accepted."}
_NO_RIGHT = {403: "The token does not grant this."}

#: Media types of a result; None is any JSON.
_RESULT = (None, "image/png", "text/plain", "text/html", jobs.PREVIEW)
_LOG = (shapes.LogJson, "text/plain")
_JOB_STREAM = {200: (EVENT_STREAM,), 204: None}


def _tag(path: str) -> str:
    return "jobs" if path.startswith("/api/jobs") else "all"


def _see(path: str, handler: Handler, answers: Any, query: type = shapes.Nothing, **options: Any) -> Route:
    """A `GET`. `answers`: by status, or for 200 alone: a type, a media type, or several of them."""
    if not isinstance(answers, Mapping):
        answers = {200: answers if isinstance(answers, (type, tuple)) else (answers,)}
    return Route(
        "GET", path, handler, options.pop("scope", "view"), answers, query=query, **{"tag": _tag(path), **options}
    )


def _act(path: str, handler: Handler, answers: Mapping[int, Any], **options: Any) -> Route:
    """A `POST`. By default: without a body, on a job, group, queue or task that may not exist or be in this state."""
    refusals = {404: f"No such {options.get('on', 'job')}.", 409: "Not in this state."}
    body = options.pop("body", shapes.Nothing)
    options = {"tag": _tag(path), "refusals": refusals, **options}
    is_optional = body in (shapes.Nothing, shapes.Cancel)
    scope = options.pop("scope", "operate")
    return Route("POST", path, handler, scope, answers, body=body, body_is_optional=is_optional, **options)


def _delete(path: str, handler: Handler, **options: Any) -> Route:
    return Route("DELETE", path, handler, "operate", {204: None}, query=shapes.Nothing, tag=_tag(path), **options)


def _hub(method: str, path: str, handler: Handler, answer: Any, refusals: Mapping[int, str]) -> Route:
    """A route of the hub, which identifies the caller itself: it accepts more kinds of tokens than the API."""
    path = f"/.well-known/mercure{path}"
    choices = {"match_type": subscriptions.MATCH_TYPES} if "{subscriber}" in path else {}
    options: dict[str, Any] = {"refusals": refusals, "tag": "mercure", "asks_itself": True, "choices": choices}
    return Route(method, path, handler, "", {200: answer if isinstance(answer, tuple) else (answer,)}, **options)


def _subscriptions(path: str, handler: Handler) -> Route:
    refusals = _NO_TOKEN | _NO_RIGHT | {404: "No such subscription."}
    return _hub("GET", f"/subscriptions{path}", handler, (None, subscriptions.LD_JSON), refusals)


_JOBS = [
    _act("/api/jobs", jobs.submit, {202: shapes.AcceptedJson}, refusals=_NO_TASK, body=shapes.Submit, scope="submit"),
    _see("/api/jobs", jobs.list_jobs, shapes.JobPageJson, shapes.JobList),
    _see("/api/jobs/{id}", jobs.read, shapes.JobReadJson, refusals=_NO_JOB),
    _delete("/api/jobs/{id}", jobs.remove, refusals=_NOT_ENDED),
    _act("/api/jobs/{id}/cancel", jobs.cancel, {202: shapes.JobJson}, refusals=_ENDED, body=shapes.Cancel),
    _act("/api/jobs/{id}/retry", jobs.retry, {202: shapes.AcceptedJson}, refusals=_NOT_ENDED | _FORGED),
    _see("/api/jobs/{id}/result", jobs.result, _RESULT, refusals=_NO_VALUE | _FORGED),
    _see("/api/jobs/{id}/logs", jobs.logs, _LOG, shapes.LogQuery, refusals=_NO_JOB),
    _see("/api/jobs/{id}/artifacts", jobs.artifacts, shapes.ArtifactsJson, refusals=_NO_JOB),
    _see("/api/jobs/{id}/artifacts/{name}", jobs.artifact, "application/octet-stream", refusals=_NO_FILE | _FORGED),
    _see("/api/jobs/{id}/events", events.job_events, _JOB_STREAM, shapes.JobStreamQuery, refusals=_NO_JOB | _BUSY),
]

_OVERVIEW = [
    _see("/api/events", events.events, EVENT_STREAM, shapes.StreamQuery, refusals=_BUSY),
    _see("/api/tasks", overview.tasks, shapes.TasksJson),
    _see("/api/tasks/{name}", overview.task, shapes.TaskJson, refusals={404: "No such task."}),
    _see("/api/queues", overview.queues, shapes.QueuesJson, about="all"),
    _see("/api/workers", overview.workers, shapes.WorkersJson, about="all"),
    _see("/api/stats", overview.stats, shapes.StatsJson, about="all"),
]

_STEERING = [
    _see("/api/schedules", steering.schedules, shapes.SchedulesJson),
    _see("/api/schedules/{name}", steering.schedule, shapes.ScheduleJson, refusals=_NO_SCHEDULE),
    _delete("/api/schedules/{name}", steering.remove_schedule, refusals=_NO_SCHEDULE, on="schedule"),
    _act("/api/schedules/{name}/pause", steering.pause_schedule, {200: shapes.ScheduleJson}, on="schedule"),
    _act("/api/schedules/{name}/resume", steering.resume_schedule, {200: shapes.ScheduleJson}, on="schedule"),
    _act("/api/schedules/{name}/run", steering.run_schedule, {202: shapes.AcceptedJson}, on="schedule"),
    _see("/api/paused", steering.paused, shapes.PausedJson),
    _act("/api/queues/{name}/pause", steering.pause_queue, {200: shapes.ChangedJson}, on="queue", about="all"),
    _act("/api/queues/{name}/resume", steering.resume_queue, {200: shapes.ChangedJson}, on="queue", about="all"),
    _act("/api/tasks/{name}/pause", steering.pause_task, {200: shapes.ChangedJson}, on="task", about="owners"),
    _act("/api/tasks/{name}/resume", steering.resume_task, {200: shapes.ChangedJson}, on="task", about="owners"),
    _act(
        "/api/jobs/{id}/move",
        jobs.move_job,
        {200: shapes.JobJson},
        refusals=_NOT_WAITING,
        body=shapes.Move,
        tag="all",
    ),
    _see("/api/failures", steering.failures, shapes.FailuresJson, shapes.FailureQuery, about="owners"),
    _see("/api/failures/{id}", steering.failure, shapes.FailureJson, refusals=_NO_GROUP, about="owners"),
    _act("/api/failures/{id}/retry", steering.retry_failures, {202: shapes.RepeatedJson}, on=_GROUP, about="owners"),
    _act("/api/failures/{id}/mute", steering.mute_failures, {200: shapes.FailureJson}, on=_GROUP, about="owners"),
    _act("/api/failures/{id}/resolve", steering.resolve_failures, {200: shapes.FailureJson}, on=_GROUP, about="owners"),
    _act("/api/failures/{id}/reopen", steering.reopen_failures, {200: shapes.FailureJson}, on=_GROUP, about="owners"),
    _see("/api/audit", steering.audit, shapes.AuditJson, shapes.AuditQuery),
]

_SERVICE = [
    _see("/api/healthz", overview.health, shapes.HealthJson, scope="", tag="service"),
    _see("/api/metrics", overview.metrics, "text/plain", tag="service", about="all"),
    _see("/api/openapi.json", openapi.document, None, scope="", tag="service"),
    Route("GET", "/api/docs", openapi.page, "", {200: ("text/html",)}, tag="service"),
    Route("GET", "/api/docs.js", openapi.script, "", {200: ("text/javascript",)}, tag="service"),
]

_METADATA = "/.well-known/oauth-protected-resource/.well-known/mercure"

_MERCURE = [
    _hub("GET", "", hub.subscribe, EVENT_STREAM, _NO_TOKEN),
    _hub("POST", "", hub.publish, "text/plain", {**_NO_TOKEN, **_NO_RIGHT, 413: "Too large.", 415: "No form."}),
    _hub("QUERY", "", hub.subscribe, EVENT_STREAM, {**_NO_TOKEN, 415: "No form."}),
    _subscriptions("", subscriptions.subscriptions),
    _subscriptions("/{topic}", subscriptions.of_topic),
    _subscriptions("/{match_type}/{match}", subscriptions.of_match),
    _subscriptions("/{match_type}/{match}/{subscriber}", subscriptions.one_of_match),
    Route("GET", _METADATA, subscriptions.metadata, "", {200: (None,)}, tag="mercure"),
]

#: In the order of the document.
ROUTES = (*_JOBS, *_OVERVIEW, *_STEERING, *_SERVICE, *_MERCURE)
