"""`Dashboard`: the pages of jobkit, one object per browser session.

    Dashboard(jobkit.connect()).servable()

It holds no state of its own: what is shown comes from the kit, what is chosen stands in the URL
(`?page=submit`, `?q=state:failed`, `?job=...`), so that a link can be sent.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

import panel as pn
import param
from panel.io.resources import LOCAL_DIST
from panel.viewable import Viewable, Viewer
from panel_material_ui.template.base import Page

from jobkit.client.loop import background
from jobkit.model import JobkitError
from jobkit.model.people import Person, Role
from jobkit.ui.bridge import SessionBridge
from jobkit.ui.desk import Desk
from jobkit.ui.drawer import Drawer
from jobkit.ui.form import TaskForm
from jobkit.ui.live import on_loop
from jobkit.ui.nav import Nav
from jobkit.ui.table import JobTable
from jobkit.ui.workers import WorkersPage

if TYPE_CHECKING:
    from jobkit.client import Kit

logger = logging.getLogger("jobkit.ui")

#: The Material theme in jobkit's own colours (tokens.css): a quiet header, the same grounds as the components.
_THEME: dict[str, Any] = {
    "light": {"palette": {"primary": {"main": "#1d4ed8"}, "background": {"default": "#ffffff", "paper": "#ffffff"}}},
    "dark": {"palette": {"primary": {"main": "#93c5fd"}, "background": {"default": "#0f1216", "paper": "#0f1216"}}},
}

_BAR = {"minHeight": "48px !important", "height": "48px", "paddingLeft": "16px", "paddingRight": "8px", "margin": 0}
_LOOK: dict[str, Any] = {
    "& .MuiAppBar-root": {"boxShadow": "none", "backgroundImage": "none", "borderBottom": "1px solid"},
    "&.mui-light .MuiAppBar-root": {"backgroundColor": "#ffffff", "color": "#475569", "borderColor": "#e2e8f0"},
    "&.mui-dark .MuiAppBar-root": {"backgroundColor": "#0f1216", "color": "#cbd5e1", "borderColor": "#262e38"},
    "& .MuiToolbar-root": _BAR,
    "& .MuiAppBar-root .MuiLinearProgress-root": {"display": "none"},
    "& .main-content": {"paddingTop": "1px"},
}


class Dashboard(Viewer):
    """Jobs, Workers and Submit, with the card of the chosen job beside them.

    Args:
        kit: whose jobs.
        may_act: whether jobs may be submitted, cancelled, retried and deleted from here, by those whose role allows it.
        title: of the browser's tab.
    """

    page: Any = param.Selector(default="jobs", objects=["jobs", "workers", "submit"], doc="The page that is shown.")
    search = param.String(default="", doc="The search text of the jobs page.")
    job = param.String(default="", doc="Id of the job whose card is open, or an empty text.")

    def __init__(self, kit: Kit, *, may_act: bool = True, title: str = "jobkit", **params: Any) -> None:
        super().__init__(**params)  # type: ignore[no-untyped-call]  # panel's
        self._kit = kit
        self._title = title
        self._desk = Desk(kit, Person() if may_act else Person().at_most(Role.VIEW))
        self._may_act = may_act = self._desk.may("submit")
        self._bridge = SessionBridge()
        _ask_nobody_else()
        self._read_url()
        self._table = JobTable(
            kit,
            search=self.search,
            selected=self.job,
            desk=self._desk,
            on_open=self._open,
            on_search=lambda text: self.param.update(search=text),
            bridge=self._bridge,
            sizing_mode="stretch_both",
            visible=self.page == "jobs",
            margin=0,
        )
        self._table.param.watch(self._table_asked, "request")
        self._form = TaskForm(
            kit,
            on_submit=self._submitted,
            desk=self._desk,
            bridge=self._bridge,
            sizing_mode="stretch_both",
            visible=self.page == "submit",
            margin=0,
        )
        self._workers = WorkersPage(
            kit,
            desk=self._desk,
            is_open=self.page == "workers",
            on_open=self._open,
            bridge=self._bridge,
            sizing_mode="stretch_both",
            visible=self.page == "workers",
            margin=0,
        )
        self._drawer = Drawer(
            kit,
            actions=("cancel", "retry", "rerun"),
            desk=self._desk,
            on_action=self._acted,
            on_close=lambda: self.param.update(job=""),
            bridge=self._bridge,
        )
        pages = [["jobs", "Jobs"], ["workers", "Workers"], *([["submit", "Submit"]] if may_act else [])]
        self._nav = Nav(
            pages=pages,
            page=self.page,
            place=_place(kit),
            status="live" if kit.hub.is_live else "reconnecting",
            on_page=lambda page: self.param.update(page=page),
            on_theme=self._themed,
            sizing_mode="stretch_width",
            margin=0,
        )
        self._layout: Any = None
        self._bridge.on_close(kit.hub.on_status(lambda is_live: on_loop(self._status, is_live)))
        self.param.watch(lambda _: self._turn(), "page")
        self.param.watch(lambda _: self._show_job(), "job")
        self.param.watch(lambda _: self._table.param.update(search=self.search), "search")
        self._show_job()

    # -- in the session ---------------------------------------------------------------------------------------------

    def _read_url(self) -> None:
        """Take page, search and job from the URL, and keep them there."""
        location = pn.state.location
        if location is None:
            return
        wanted = {name: values[-1] for name, values in parse_qs(location.search.removeprefix("?")).items()}
        page = wanted.get("page", "")
        if page not in (("workers", "submit") if self._may_act else ("workers",)):
            page = "jobs"
        self.param.update(page=page, search=wanted.get("q", "")[:500], job=wanted.get("job", "")[:200])
        self.param.watch(lambda _: self._write_url(), ["page", "search", "job"])

    def _write_url(self) -> None:
        location = pn.state.location
        if location is None:
            return
        shown = {"page": self.page if self.page != "jobs" else "", "q": self.search, "job": self.job}
        query = urlencode({name: value for name, value in shown.items() if value})
        location.search = f"?{query}" if query else ""

    def _turn(self) -> None:
        self._nav.page = self.page
        self._table.visible = self.page == "jobs"
        self._workers.visible = self._workers.is_open = self.page == "workers"
        self._form.visible = self.page == "submit"
        if self.page == "submit":
            self._form.refresh()

    def _show_job(self) -> None:
        self._table.selected = self.job
        self._drawer.open(self.job)

    def _open(self, job_id: str) -> None:
        self.job = job_id

    def _submitted(self, job_id: str) -> None:
        self.job = job_id

    def _table_asked(self, event: Any) -> None:
        if '"open-submit"' in event.new and self._may_act:
            self.page = "submit"

    def _acted(self, action: str, job_id: str) -> None:
        if action == "retry":
            self.job = job_id
        elif action == "rerun":
            background.spawn(self._refill(job_id))

    def _themed(self, dark: bool) -> None:
        if self._layout is not None:
            self._layout.dark_theme = dark

    def _connected(self, is_live: bool) -> None:
        self._nav.status = "live" if is_live else "reconnecting"
        self._table.away = not is_live

    # -- on the background loop -------------------------------------------------------------------------------------

    def _status(self, is_live: bool) -> None:
        self._bridge.push(lambda: self._connected(is_live))

    async def _refill(self, job_id: str) -> None:
        """'Run again with changes': the form, filled in as the job was."""
        try:
            spec = (await self._kit.aio.snapshot(job_id)).spec
        except JobkitError as error:
            logger.info("job %s cannot be run again: %s", job_id, error)
            return

        def show() -> None:
            self.page = "submit"
            self._form.fill(spec.task, spec.params, spec.queue)

        self._bridge.push(show)

    # -- how it shows itself ----------------------------------------------------------------------------------------

    def __panel__(self) -> Viewable:
        if self._layout is None:
            body = pn.Row(
                self._table,
                self._workers,
                self._form,
                self._drawer,
                sizing_mode="stretch_both",
                margin=0,
                styles={"gap": "0", "min-height": "0", "overflow": "hidden"},
            )
            self._layout = Page(  # type: ignore[no-untyped-call]  # panel's
                header=[self._nav],
                main=[body],
                theme_config=_THEME,
                sx=_LOOK,
                busy_indicator=None,
                meta_title=self._title,
                title="",
            )
        layout: Viewable = self._layout
        return layout

    def servable(self, title: str | None = None, *args: Any, **options: Any) -> Viewable:
        """Show it on this server's page, under `title` in the browser's tab."""
        page: Viewable = self.__panel__().servable(title or self._title, *args, **options)
        return page


def _ask_nobody_else() -> None:
    """Take Panel's own style sheets from this server.

    Panel says so only while it renders a page. A session that is made anew for a window that was away for long (a
    laptop that slept) has no such moment, and its window would ask a CDN.
    """
    document = pn.state.curdoc
    if document is not None and document.session_context is not None:
        prefix = f"{pn.state.rel_path}/" if pn.state.rel_path else ""
        document.template_variables.setdefault("dist_url", prefix + LOCAL_DIST)


def _place(kit: Kit) -> str:
    """Where the jobs are, as the user named it: an embedded server's socket is an accident of its home."""
    url = kit.settings.masked_url
    home = str(kit.settings.home)
    return f"local://{home}" if url.startswith("unix://") and home in url else url
