"""All routes: of jobs and what they share, and those of features.

Requests are checked, and the OpenAPI document is made, from this table. A route's summary in the document is the first
line of its handler's docstring.
"""

from __future__ import annotations

from itertools import chain

from jobkit.features import modules
from jobkit.http.api import jobs, namespace, openapi, shapes, streams
from jobkit.http.api.routing import act, delete, see
from jobkit.http.messages import ANY, EVENT_STREAM, Route

_RESULT = (None, "image/png", "text/plain", "text/html", jobs.PREVIEW)

#: In the order of the document.
ROUTES = (
    act("/api/jobs", jobs.submit, 202, shapes.AcceptedJson, scope="submit", body=shapes.Submit, others=(404, 409)),
    see("/api/jobs", jobs.list_jobs, shapes.JobPageJson, query=shapes.JobList),
    see("/api/jobs/{id}", jobs.read, shapes.JobReadJson),
    delete("/api/jobs/{id}", jobs.remove, others=(409,)),
    act("/api/jobs/{id}/cancel", jobs.cancel, 202, shapes.JobJson, body=shapes.Cancel),
    act("/api/jobs/{id}/retry", jobs.retry, 202, shapes.AcceptedJson, body=shapes.RetryRequest, others=(409, 502)),
    see("/api/jobs/{id}/result", jobs.result, *_RESULT, others=(409, 410, 502)),
    see("/api/jobs/{id}/logs", jobs.logs, shapes.LogJson, "text/plain", query=shapes.LogQuery),
    see("/api/jobs/{id}/artifacts", jobs.artifacts, shapes.ArtifactsJson),
    see(
        "/api/jobs/{id}/artifacts/{name}",
        jobs.artifact,
        "application/octet-stream",
        others=(410, 502),
        schemas={"name": ANY},
    ),
    see("/api/jobs/{id}/events", streams.job_events, EVENT_STREAM, query=shapes.JobStreamQuery, others=(204,)),
    see("/api/events", streams.events, EVENT_STREAM, query=shapes.StreamQuery),
    see("/api/tasks", namespace.tasks, shapes.TasksJson),
    see("/api/tasks/{name}", namespace.task, shapes.TaskJson),
    see("/api/queues", namespace.queues, shapes.QueuesJson, about="all"),
    see("/api/workers", namespace.workers, shapes.WorkersJson, about="all"),
    see("/api/stats", namespace.stats, shapes.StatsJson, about="all"),
    see("/api/paused", namespace.paused, shapes.PausedJson),
    act("/api/queues/{name}/pause", namespace.pause_queue, 200, shapes.ChangedJson, on="queue", about="all"),
    act("/api/queues/{name}/resume", namespace.resume_queue, 200, shapes.ChangedJson, on="queue", about="all"),
    act("/api/tasks/{name}/pause", namespace.pause_task, 200, shapes.ChangedJson, on="task", about="owners"),
    act("/api/tasks/{name}/resume", namespace.resume_task, 200, shapes.ChangedJson, on="task", about="owners"),
    act("/api/jobs/{id}/move", jobs.move_job, 200, shapes.JobJson, body=shapes.Move, about="owners"),
    *chain.from_iterable(module.ROUTES for module in modules("routes")),
    see("/api/healthz", namespace.health, shapes.HealthJson, scope=""),
    see("/api/openapi.json", openapi.document, None, scope=""),
    Route("GET", "/api/docs", openapi.page, ("text/html",)),
    Route("GET", "/api/docs.js", openapi.script, ("text/javascript",)),
)
