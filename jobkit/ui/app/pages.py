"""`PAGES`: the pages that every dashboard has, in the order of its header. The first one is its home."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from jobkit.client.loop import background
from jobkit.model import JobkitError
from jobkit.model.people import Role
from jobkit.ui.access.actions import not_found
from jobkit.ui.audit.audit_page import AuditPage, has_people
from jobkit.ui.failures.failures_page import STATES, FailuresPage
from jobkit.ui.form.task_form import TaskForm
from jobkit.ui.jobs.compare import ComparePage, nowhere
from jobkit.ui.jobs.job_table import JobTable
from jobkit.ui.live.feed_page import LivePage
from jobkit.ui.live.page import Page, PageSession
from jobkit.ui.schedules.schedules_page import SchedulesPage, are_there
from jobkit.ui.timeline import timeline
from jobkit.ui.workers.workers_page import WorkersPage

logger = logging.getLogger("jobkit.ui")

_FULL: dict[str, Any] = {"sizing_mode": "stretch_both", "margin": 0}


def jobs(session: PageSession) -> JobTable:
    """`q`: the search text. `sort`: the order, "" for newest first. `at`: cursor of the page."""

    def asked(event: Any) -> None:
        if '"open-submit"' in event.new:
            session.go("submit")

    def look() -> None:
        session.remember_search(table.search, sort=table.order, at=table.cursor)

    def take(query: Mapping[str, str]) -> None:
        table.turn_to(query.get("q", ""), query.get("sort", ""), query.get("at", ""))

    def compare(ids: list[str]) -> None:
        session.go("compare", **({"ids": ",".join(ids)} if ids else {"q": table.search or "state:ended"}))

    table: JobTable = fed(
        JobTable,
        session,
        search=session.query.get("q", ""),
        order=session.query.get("sort", ""),
        cursor=session.query.get("at", ""),
        selected=session.job,
        on_look=look,
        on_compare=compare if session.has("compare") else None,
    )
    table.param.watch(asked, "request")
    session.on_query(take)
    session.on_job(lambda job_id: table.param.update(selected=job_id))
    return table


def fed(kind: type[LivePage], session: PageSession, **options: Any) -> Any:
    """Return a page that reads while it is shown."""
    page = kind(
        session.kit,
        access=session.access,
        is_open=False,
        on_open=session.open,
        bridge=session.bridge,
        **options,
        **_FULL,
    )
    session.on_shown(lambda: page.param.update(is_open=True))
    session.on_hidden(lambda: page.param.update(is_open=False))
    return page


def failures(session: PageSession) -> FailuresPage:
    """`group`: id of the group that is open. `state`: the listed state, "" for "open"."""

    def chosen(group: str, state: str) -> None:
        session.remember(group=group, state="" if state == "open" else state)

    def take(query: Mapping[str, str]) -> None:
        state = query.get("state", "open")
        page.param.update(group=query.get("group", "")[:40], state=state if state in STATES else "open")

    page: FailuresPage = fed(FailuresPage, session, on_choose=chosen)
    take(session.query)
    session.on_query(take)
    return page


def submit(session: PageSession) -> TaskForm:
    """`again`: id of a job whose arguments are filled in. `task`: the chosen task."""
    form = TaskForm(
        session.kit,
        on_submit=session.open,
        on_sweep=lambda tag: session.go("jobs", q=f"tag:{tag}"),
        access=session.access,
        bridge=session.bridge,
        **_FULL,
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
                raise not_found(job_id)
        except JobkitError as error:
            logger.info("job %s cannot be run again: %s", job_id, error)
            return
        session.bridge.push(lambda: form.fill_from(snapshot))

    session.on_shown(form.refresh)
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
        keys=(("/", "search"), ("x", "choose"), ("j  k", "next, previous job"), ("Enter", "open")),
    ),
    Page(
        "timeline",
        "Timeline",
        timeline.page,
        own_too=True,
        keys=(("/", "search"), ("j  k", "attempt before, after"), ("Enter", "open its job")),
    ),
    Page("failures", "Failures", failures, keys=(("j  k", "next, previous group"),)),
    Page("workers", "Workers", partial(fed, WorkersPage)),
    Page("schedules", "Schedules", partial(fed, SchedulesPage), is_shown=are_there),
    Page("compare", "Compare", ComparePage, own_too=True, is_shown=nowhere),
    Page("submit", "Submit", submit, role=Role.OPERATE, own_too=True, keys=(("Ctrl+Enter", "submit the form"),)),
    Page("audit", "Audit", partial(fed, AuditPage), role=Role.ADMIN, is_shown=has_people),
)
