"""`PAGES`: the pages that every dashboard has, in the order of its header. The first one is its home."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

from jobkit.client.checks import unknown_job
from jobkit.client.loop import background
from jobkit.features import modules
from jobkit.model import JobkitError
from jobkit.model.person import Role
from jobkit.ui.app.fed import fed
from jobkit.ui.form.task_form import TaskForm
from jobkit.ui.jobs.groups import groups
from jobkit.ui.jobs.job_table import JobTable
from jobkit.ui.live.page import Page, PageSession, Turn, nowhere
from jobkit.ui.log.log_view import log_page
from jobkit.ui.workers.workers_page import WorkersPage

logger = logging.getLogger("jobkit.ui")


def jobs(session: PageSession) -> JobTable:
    """`q`: the search text. `sort`: the order, "" for newest first. `hide`: columns. `at`: cursor of the page."""
    url = {"q": "search", "sort": "order", "hide": "hidden", "at": "cursor"}
    table: JobTable = fed(JobTable, session, url, on_go=session.go, turns=session.turns)
    return table


def submit(session: PageSession) -> TaskForm:
    """`again`: id of a job whose arguments are filled in. `task`: the chosen task."""
    page = groups().page_name
    form: TaskForm = fed(
        TaskForm,
        session,
        on_submit=session.open,
        on_sweep=(lambda group_id: session.go(page, id=group_id)) if page else None,
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


_OF_FEATURES = [module.PAGE for module in modules("page")]

#: Each is one line here and one folder, or a feature. Those for admins alone are the last.
PAGES: tuple[Page, ...] = (
    Page(
        "jobs",
        "Jobs",
        jobs,
        own_too=True,
        keys=(("/", "search"), ("x", "select"), ("j  k", "next, previous job"), ("Enter", "open")),
    ),
    *(page for page in _OF_FEATURES if page.role != Role.ADMIN),
    Page("workers", "Workers", partial(fed, WorkersPage)),
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
        turn=Turn(lambda job_id: {"id": job_id}),
    ),
    Page(
        "submit",
        "Submit",
        submit,
        role=Role.OPERATE,
        own_too=True,
        keys=(("Ctrl+Enter", "submit the form"),),
        turn=Turn(lambda job_id: {"again": job_id}, "Edit and run", "Run again with other arguments", keeps_card=True),
    ),
    *(page for page in _OF_FEATURES if page.role == Role.ADMIN),
)
