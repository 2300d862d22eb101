"""All routes: of the API, and of Mercure's hub.

Requests are checked, and the OpenAPI document is made, from this table. A route's summary in the document is the first
line of its handler's docstring.
"""

from __future__ import annotations

from typing import Any

from jobkit.http.api import events, jobs, namespace, openapi, shapes
from jobkit.http.mercure import hub, subscriptions
from jobkit.http.messages import EVENT_STREAM, Handler, Route


def _see(path: str, handler: Handler, *answers: Any, **options: Any) -> Route:
    """A `GET` for callers who may see jobs. `answers`: see `Route`."""
    return Route("GET", path, handler, answers, **{"scope": "view", "query": shapes.Nothing, **options})


def _act(path: str, handler: Handler, status: int, *answers: Any, **options: Any) -> Route:
    """A `POST` for callers who may change jobs; without a body, and 409 in some states, unless `options` differ."""
    options = {"scope": "operate", "body": shapes.Nothing, "others": (409,), **options}
    is_optional = options["body"] in (shapes.Nothing, shapes.Cancel, shapes.RetryRequest)
    return Route("POST", path, handler, answers, status, body_is_optional=is_optional, **options)


def _delete(path: str, handler: Handler, **options: Any) -> Route:
    return Route("DELETE", path, handler, (), 204, scope="operate", query=shapes.Nothing, **options)


def _hub(method: str, path: str, handler: Handler, *answers: Any, others: tuple[int, ...]) -> Route:
    """A route of the hub, which identifies the caller itself: it accepts more kinds of tokens than the API."""
    return Route(method, f"/.well-known/mercure{path}", handler, answers, others=others, asks_itself=True)


def _subscriptions(path: str, handler: Handler) -> Route:
    return _hub("GET", f"/subscriptions{path}", handler, None, subscriptions.LD_JSON, others=(401, 403, 404))


_RESULT = (None, "image/png", "text/plain", "text/html", jobs.PREVIEW)

_GROUP: dict[str, Any] = {"on": "group of failures", "about": "owners"}

_METADATA = "/.well-known/oauth-protected-resource/.well-known/mercure"

#: In the order of the document.
ROUTES = (
    _act("/api/jobs", jobs.submit, 202, shapes.AcceptedJson, scope="submit", body=shapes.Submit, others=(404, 409)),
    _see("/api/jobs", jobs.list_jobs, shapes.JobPageJson, query=shapes.JobList),
    _see("/api/jobs/{id}", jobs.read, shapes.JobReadJson),
    _delete("/api/jobs/{id}", jobs.remove, others=(409,)),
    _act("/api/jobs/{id}/cancel", jobs.cancel, 202, shapes.JobJson, body=shapes.Cancel),
    _act("/api/jobs/{id}/retry", jobs.retry, 202, shapes.AcceptedJson, body=shapes.RetryRequest, others=(409, 502)),
    _see("/api/jobs/{id}/checkpoints", jobs.checkpoints, shapes.CheckpointsJson),
    _see("/api/jobs/{id}/question", jobs.question, shapes.QuestionJson, others=(404, 502)),
    _act("/api/jobs/{id}/question", jobs.answer, 200, shapes.AnsweredJson, body=shapes.Answer, others=(409, 502)),
    _see("/api/jobs/{id}/result", jobs.result, *_RESULT, others=(409, 410, 502)),
    _see("/api/jobs/{id}/logs", jobs.logs, shapes.LogJson, "text/plain", query=shapes.LogQuery),
    _see("/api/jobs/{id}/metrics", jobs.metrics, shapes.MetricsJson),
    _see("/api/jobs/{id}/made-by", jobs.made_by, shapes.MadeByJson),
    _see("/api/jobs/{id}/artifacts", jobs.artifacts, shapes.ArtifactsJson),
    _see("/api/jobs/{id}/artifacts/{name}", jobs.artifact, "application/octet-stream", others=(410, 502)),
    _see("/api/jobs/{id}/events", events.job_events, EVENT_STREAM, query=shapes.JobStreamQuery, others=(204,)),
    _see("/api/batches", namespace.batches, shapes.BatchesJson, query=shapes.BatchList),
    _see("/api/batches/{id}", namespace.batch, shapes.BatchJson),
    _act("/api/batches/{id}/cancel", namespace.cancel_batch, 200, shapes.BatchJson, body=shapes.Cancel, on="batch"),
    _act("/api/batches/{id}/retry", namespace.retry_batch, 202, shapes.RepeatedJson, on="batch", others=()),
    _see("/api/events", events.events, EVENT_STREAM, query=shapes.StreamQuery),
    _see("/api/tasks", namespace.tasks, shapes.TasksJson),
    _see("/api/tasks/{name}", namespace.task, shapes.TaskJson),
    _see("/api/queues", namespace.queues, shapes.QueuesJson, about="all"),
    _see("/api/workers", namespace.workers, shapes.WorkersJson, about="all"),
    _see("/api/stats", namespace.stats, shapes.StatsJson, about="all"),
    _see("/api/schedules", namespace.schedules, shapes.SchedulesJson),
    _see("/api/schedules/{name}", namespace.schedule, shapes.ScheduleJson),
    _delete("/api/schedules/{name}", namespace.remove_schedule, on="schedule"),
    _act("/api/schedules/{name}/pause", namespace.pause_schedule, 200, shapes.ScheduleJson, on="schedule"),
    _act("/api/schedules/{name}/resume", namespace.resume_schedule, 200, shapes.ScheduleJson, on="schedule"),
    _act("/api/schedules/{name}/run", namespace.run_schedule, 202, shapes.AcceptedJson, on="schedule"),
    _see("/api/paused", namespace.paused, shapes.PausedJson),
    _act("/api/queues/{name}/pause", namespace.pause_queue, 200, shapes.ChangedJson, on="queue", about="all"),
    _act("/api/queues/{name}/resume", namespace.resume_queue, 200, shapes.ChangedJson, on="queue", about="all"),
    _act("/api/tasks/{name}/pause", namespace.pause_task, 200, shapes.ChangedJson, on="task", about="owners"),
    _act("/api/tasks/{name}/resume", namespace.resume_task, 200, shapes.ChangedJson, on="task", about="owners"),
    _act("/api/jobs/{id}/move", jobs.move_job, 200, shapes.JobJson, body=shapes.Move, about="owners"),
    _see("/api/failures", namespace.failures, shapes.FailuresJson, query=shapes.FailureQuery, about="owners"),
    _see("/api/failures/{id}", namespace.failure, shapes.FailureJson, about="owners"),
    _act("/api/failures/{id}/retry", namespace.retry_failures, 202, shapes.RepeatedJson, **_GROUP),
    _act("/api/failures/{id}/mute", namespace.mute_failures, 200, shapes.FailureJson, **_GROUP),
    _act("/api/failures/{id}/resolve", namespace.resolve_failures, 200, shapes.FailureJson, **_GROUP),
    _act("/api/failures/{id}/reopen", namespace.reopen_failures, 200, shapes.FailureJson, **_GROUP),
    _see("/api/audit", namespace.audit, shapes.AuditJson, query=shapes.AuditQuery),
    _see("/api/healthz", namespace.health, shapes.HealthJson, scope=""),
    _see("/api/metrics", namespace.metrics, "text/plain", about="all"),
    _see("/api/openapi.json", openapi.document, None, scope=""),
    Route("GET", "/api/docs", openapi.page, ("text/html",)),
    Route("GET", "/api/docs.js", openapi.script, ("text/javascript",)),
    _hub("GET", "", hub.subscribe, EVENT_STREAM, others=(401, 429)),
    _hub("POST", "", hub.publish, "text/plain", others=(401, 403, 413, 415)),
    _hub("QUERY", "", hub.subscribe, EVENT_STREAM, others=(401, 415, 429)),
    _subscriptions("", subscriptions.subscriptions),
    _subscriptions("/{topic}", subscriptions.of_topic),
    _subscriptions("/{match_type}/{match}", subscriptions.of_match),
    _subscriptions("/{match_type}/{match}/{subscriber}", subscriptions.one_of_match),
    Route("GET", _METADATA, subscriptions.metadata, (None,)),
)
