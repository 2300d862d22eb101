"""What a person sees: the job card, the table, the form, the pages, and the words and numbers on them.

    from jobkit.ui import Dashboard, JobCard, JobTable, Page, PAGES, TaskForm, Timeline

These names are loaded when they are asked for, so that the pure modules (`format`, `trace`, `feed`, `static`) serve the
command line and a notebook without loading panel.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobkit.ui.dashboard import Dashboard
    from jobkit.ui.form import TaskForm
    from jobkit.ui.job_card import JobCard
    from jobkit.ui.page import Page, PageSession
    from jobkit.ui.pages import PAGES
    from jobkit.ui.table import JobTable
    from jobkit.ui.timeline import Timeline

__all__ = ["Dashboard", "Page", "PageSession", "PAGES", "JobCard", "JobTable", "TaskForm", "Timeline"]

_HOMES = {
    "Dashboard": "dashboard",
    "Page": "page",
    "PageSession": "page",
    "PAGES": "pages",
    "JobCard": "job_card",
    "JobTable": "table",
    "TaskForm": "form",
    "Timeline": "timeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"jobkit.ui.{_HOMES[name]}"), name)
