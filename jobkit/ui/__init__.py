"""Pages, components and notebook displays of jobkit.

    from jobkit.ui import Dashboard, JobCard, JobTable, Page, PAGES, TaskForm, Timeline

Each name is loaded on first access, so that the pure modules (`words`, `card.card_model`, `card.card_html`) serve the
command line and a notebook without loading Panel.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from jobkit.features.names import COMPONENTS

if TYPE_CHECKING:
    from jobkit.features.names import Timeline
    from jobkit.ui.access.actions import action, each
    from jobkit.ui.app.dashboard import Dashboard
    from jobkit.ui.app.pages import PAGES
    from jobkit.ui.card.job_card import JobCard
    from jobkit.ui.form.task_form import TaskForm
    from jobkit.ui.jobs.job_table import JobTable
    from jobkit.ui.live.page import Page, PageSession

__all__ = [
    # a dashboard and its pages
    "Dashboard", "Page", "PageSession", "PAGES",
    # components for any Panel page
    "JobCard", "JobTable", "TaskForm", "Timeline",
    # actions of a page of your own
    "action", "each",
]  # fmt: skip

_HOMES = {
    "Dashboard": "app.dashboard",
    "Page": "live.page",
    "PageSession": "live.page",
    "PAGES": "app.pages",
    "JobCard": "card.job_card",
    "JobTable": "jobs.job_table",
    "TaskForm": "form.task_form",
    "JobDisplay": "notebook",
    "FormDisplay": "notebook",
    "TableDisplay": "notebook",
    "job_report": "card.report",
    "action": "access.actions",
    "each": "access.actions",
}


def __getattr__(name: str) -> Any:
    home = f"jobkit.ui.{_HOMES[name]}" if name in _HOMES else COMPONENTS.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
