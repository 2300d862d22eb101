"""The API's table, second part: what steers jobs."""

from __future__ import annotations

from collections.abc import Mapping

from jobkit.http import shapes, steering
from jobkit.http import shapes_steering as mine
from jobkit.http.routing import Handler, Route


def _see(
    path: str, handler: Handler, summary: str, answer: type, query: type = shapes.Nothing, missing: str = ""
) -> Route:
    """A `GET`; `missing` is what a name or id may not find."""
    refusals = {404: f"No such {missing}."} if missing else {}
    return Route("GET", path, handler, summary, "view", {200: answer}, query=query, refusals=refusals, tag="all")


def _act(path: str, handler: Handler, summary: str, answer: Mapping[int, type], on: str) -> Route:
    """A `POST` without a body on one schedule or group."""
    return Route(
        "POST",
        path,
        handler,
        summary,
        "operate",
        answer,
        body=shapes.Nothing,
        body_is_optional=True,
        refusals={404: f"No such {on}.", 409: "Not in this state."},
        tag="all",
        on=on,
    )


_GROUP = "group of failures"

#: In the order of the document.
STEERING: list[Route] = [
    _see("/api/schedules", steering.schedules, "Schedules, with their last runs.", mine.Schedules),
    _see("/api/schedules/{name}", steering.schedule, "One schedule.", mine.Schedule, missing="schedule"),
    Route(
        "DELETE",
        "/api/schedules/{name}",
        steering.remove_schedule,
        "Forget a schedule; its jobs stay.",
        "operate",
        {204: None},
        query=shapes.Nothing,
        refusals={404: "No such schedule."},
        tag="all",
        on="schedule",
    ),
    *(
        _act(f"/api/schedules/{{name}}/{word}", handler, summary, answer, "schedule")
        for word, handler, summary, answer in (
            ("pause", steering.pause_schedule, "Fire nothing until it is resumed.", {200: mine.Schedule}),
            ("resume", steering.resume_schedule, "Go on with its next time.", {200: mine.Schedule}),
            ("run", steering.run_schedule, "Run it once now.", {202: shapes.Accepted}),
        )
    ),
    _see("/api/paused", steering.paused, "Queues and tasks that are paused.", mine.Paused),
    *(
        _act(f"/api/{on}s/{{name}}/{word}", handler, summary, {200: mine.Changed}, on)
        for on, word, handler, summary in (
            ("queue", "pause", steering.pause_queue, "Let nothing more of a queue start; what runs goes on."),
            ("queue", "resume", steering.resume_queue, "Let a paused queue go on."),
            ("task", "pause", steering.pause_task, "Let no more jobs of a task start, in whichever queue."),
            ("task", "resume", steering.resume_task, "Let the jobs of a paused task go on."),
        )
    ),
    Route(
        "POST",
        "/api/jobs/{id}/move",
        steering.move_job,
        "Let a waiting job wait in another queue, or with another priority.",
        "operate",
        {200: shapes.Job},
        body=mine.Move,
        refusals={404: "No such job is kept.", 409: "It does not wait."},
        tag="all",
    ),
    _see(
        "/api/failures",
        steering.failures,
        "Failed jobs in groups, that failed last first.",
        mine.Failures,
        mine.FailureQuery,
    ),
    _see("/api/failures/{id}", steering.failure, "One group.", mine.Failure, missing=_GROUP),
    *(
        _act(f"/api/failures/{{id}}/{word}", handler, summary, answer, _GROUP)
        for word, handler, summary, answer in (
            (
                "retry",
                steering.retry_failures,
                "Run its jobs again that nobody has run again; at most 1000 at once.",
                {202: mine.Repeated},
            ),
            ("mute", steering.mute_failures, "Known; not to be shown any more.", {200: mine.Failure}),
            ("resolve", steering.resolve_failures, "Mended; failing again is shown.", {200: mine.Failure}),
            ("reopen", steering.reopen_failures, "Take back what was said of it.", {200: mine.Failure}),
        )
    ),
    _see("/api/audit", steering.audit, "Who did what, newest first; for administrators.", mine.Audit, mine.AuditQuery),
]
