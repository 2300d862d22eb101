"""`PAGES`: the pages that every dashboard has, in the order of its header. The first one is its home."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import param

from jobkit.client.checks import unknown_job
from jobkit.client.loop import background
from jobkit.model import JobkitError
from jobkit.model.people import Role
from jobkit.ui.audit.audit_page import AuditPage, has_people
from jobkit.ui.failures.failures_page import FailuresPage
from jobkit.ui.form.task_form import TaskForm
from jobkit.ui.jobs.compare import BatchPage, ComparePage, nowhere
from jobkit.ui.jobs.job_table import JobTable
from jobkit.ui.live.page import Page, PageSession
from jobkit.ui.log.log_view import log_page
from jobkit.ui.schedules.schedules_page import SchedulesPage, are_there
from jobkit.ui.timeline.timeline import Timeline
from jobkit.ui.workers.workers_page import WorkersPage

logger = logging.getLogger("jobkit.ui")


def fed(kind: Callable[..., Any], session: PageSession, url: Mapping[str, str] | None = None, **options: Any) -> Any:
    """Return a page that reads while it is shown. `url` has its parameters by the names of their values in the URL."""
    page = kind(
        session.kit,
        access=session.access,
        bridge=session.bridge,
        is_open=False,
        on_open=session.open,
        sizing_mode="stretch_both",
        margin=0,
        **options,
    )
    live = getattr(page, "head", page)  # of the timeline
    kept = {key: live.param[name] for key, name in (url or {}).items()}

    def take(query: Mapping[str, str]) -> None:
        live.param.update(**{each.name: _valid(each, query.get(key)) for key, each in kept.items()})

    def remember(*_: object) -> None:
        values = {key: (each.default, getattr(live, each.name)) for key, each in kept.items()}
        shown = {key: "" if value == usual else value for key, (usual, value) in values.items()}
        session.remember_search(shown.pop("q", ""), **shown)

    if kept:
        take(session.query)
        session.on_query(take)
        live.param.watch(remember, [each.name for each in kept.values()])
    if "selected" in live.param:
        live.selected = session.job
        session.on_job(lambda job_id: live.param.update(selected=job_id))
    session.on_shown(lambda: live.param.update(is_open=True))
    session.on_hidden(lambda: live.param.update(is_open=False))
    return page


def _valid(parameter: param.Parameter[Any], value: str | None) -> Any:
    is_known = value is not None and (not isinstance(parameter, param.Selector) or value in parameter.objects)
    return value if is_known else parameter.default


def jobs(session: PageSession) -> JobTable:
    """`q`: the search text. `sort`: the order, "" for newest first. `hide`: columns. `at`: cursor of the page."""
    url = {"q": "search", "sort": "order", "hide": "hidden", "at": "cursor"}
    table: JobTable = fed(JobTable, session, url, on_go=session.go, may_compare=session.has("compare"))
    return table


def submit(session: PageSession) -> TaskForm:
    """`again`: id of a job whose arguments are filled in. `task`: the chosen task."""
    form: TaskForm = fed(
        TaskForm, session, on_submit=session.open, on_sweep=lambda batch_id: session.go("batch", id=batch_id)
    )

    def fill(query: Mapping[str, str]) -> None:
        if query.get("again"):
            background.spawn(again(query["again"]))
        elif query.get("task"):
            form.fill(query["task"], {})

    async def again(job_id: str) -> None:
        """On the background loop."""
        try:
            snapshot = await session.kit.aio.snapshot(job_id)
            if not session.access.sees(snapshot):
                raise unknown_job(job_id)
            is_other = await session.kit.aio.runs_other_code(job_id)
        except JobkitError as error:
            logger.info("job %s cannot be run again: %s", job_id, error)
            return
        session.bridge.push(lambda: form.fill_from(snapshot, is_other=is_other))

    session.on_query(fill)
    fill(session.query)
    return form


#: Each is one line here and one folder.
PAGES: tuple[Page, ...] = (
    Page(
        "jobs",
        "Jobs",
        jobs,
        own_too=True,
        keys=(("/", "search"), ("x", "select"), ("j  k", "next, previous job"), ("Enter", "open")),
    ),
    Page(
        "timeline",
        "Timeline",
        partial(fed, Timeline, url={"q": "search", "range": "range", "lanes": "lanes"}),
        own_too=True,
        keys=(
            ("/", "search"),
            ("← →  ↑ ↓", "next bar, next lane"),
            ("j  k", "attempt before, after"),
            ("Enter", "open its job"),
            ("+  −  0", "zoom in, out, back to now"),
        ),
    ),
    Page(
        "failures",
        "Failures",
        partial(fed, FailuresPage, url={"group": "group", "state": "state"}),
        keys=(("j  k", "next, previous group"),),
    ),
    Page("workers", "Workers", partial(fed, WorkersPage)),
    Page("schedules", "Schedules", partial(fed, SchedulesPage), is_shown=are_there),
    Page("batch", "Batch", BatchPage, own_too=True, is_shown=nowhere),
    Page("compare", "Compare", ComparePage, own_too=True, is_shown=nowhere),
    Page(
        "log",
        "Log",
        log_page,
        own_too=True,
        is_shown=nowhere,
        keys=(
            ("/", "find in the log"),
            ("j  k", "next, previous hit"),
            ("e", "all lines, warnings, errors"),
            ("t", "times since the start"),
            ("w", "wrap long lines"),
            ("f", "follow the end"),
        ),
    ),
    Page("submit", "Submit", submit, role=Role.OPERATE, own_too=True, keys=(("Ctrl+Enter", "submit the form"),)),
    Page("audit", "Audit", partial(fed, AuditPage), role=Role.ADMIN, is_shown=has_people),
)
