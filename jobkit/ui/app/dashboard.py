"""`Dashboard`: the pages of jobkit, one object per browser session.

    Dashboard(jobkit.connect()).servable()

It keeps no state: jobs come from the kit, and the URL has all that is chosen (`?page=submit`, `?q=state:failed`,
`?job=...`), so that links can be shared and the back button works.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode

import panel as pn
import param
from panel.viewable import Viewable, Viewer

import jobkit.ui.panel_server as panel_server
from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.model.person import Person, Role
from jobkit.settings import user_name
from jobkit.ui.access.actions import Actions
from jobkit.ui.access.session import refusal, role_changed
from jobkit.ui.app.frame import PageFrame
from jobkit.ui.app.header import BellFeed, BellSubscriber, Nav, StoreBannerFeed
from jobkit.ui.app.pages import PAGES
from jobkit.ui.card.job_card import JobCard
from jobkit.ui.card.job_feed import ACTIONS
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.component import Component, Notice
from jobkit.ui.live.control import on_request
from jobkit.ui.live.page import Page, PageSession
from jobkit.ui.live.shared_feed import Subscriber, poke_feeds
from jobkit.ui.patch import MainPart, PlainSheets
from jobkit.ui.words import assets
from jobkit.ui.words.theme import Theme

logger = logging.getLogger("jobkit.ui")

#: What holds a page: one that fills it, and anything else, which scrolls.
_FILLED = {"min-height": "0", "overflow": "hidden"}
_SCROLLED = {"min-height": "0", "overflow": "auto", "padding": "16px"}

#: Colour below the pages, which hides the skeleton of `words/skeleton.css`.
_GROUND = "var(--jk-ground)"

#: What is old is grey: the header sets this while the server is away.
_PALE = {"filter": "var(--jk-stale, none)"}


class FrameRow(PlainSheets, MainPart, pn.Row):
    """Parts beside each other."""


class FrameColumn(PlainSheets, pn.Column):
    """Parts below each other."""


class DrawerHead(Component):
    """The drawer's own line: Close and Copy link."""

    MODULE = "drawer"

    request = param.String(default="")

    def __init__(self, bridge: SessionBridge, on_close: Callable[[], object]) -> None:
        super().__init__()
        on_request(self, bridge, lambda *_: on_close())


class DrawerCard(JobCard):
    """The card of a job as the drawer shows it."""

    _stylesheets: ClassVar[list[str]] = [assets.css("card"), assets.source("drawer_card.css")]


class Drawer(PlainSheets, pn.Column):
    """Card of one job, or nothing. `card` is as of `JobCard`; `on_close` is called in the session to close it.

    It is made when it is first opened, since a browser loads the scripts of all that is on a page before it shows any.
    """

    def __init__(self, kit: Kit, *, bridge: SessionBridge, on_close: Callable[[], object], **card: Any) -> None:
        super().__init__(visible=False, margin=0, stylesheets=[assets.source("drawer_frame.css")])
        self._head = DrawerHead(bridge, on_close)
        self._make = lambda: DrawerCard(kit, keyboard=True, margin=0, bridge=bridge, **card)
        self._card: DrawerCard | None = None

    def open(self, job_id: str) -> None:
        """Show another job; "" closes."""
        if job_id and self._card is None:
            self._card = self._make()  # type: ignore[no-untyped-call]
            self[:] = [self._head, self._card]
        self.visible = bool(job_id)
        if self._card is not None and job_id != self._card.job_id:
            self._card.follow(job_id)


def _nothing(session: PageSession) -> Notice:
    if session.person.role is not Role.NONE:
        return Notice("No page", "None of the pages here is for you.")
    return Notice(*refusal(session.person, session.kit.settings))


#: The only page of a person whose role allows none.
_NOTHING = Page("nothing", "No access", _nothing, role=Role.NONE, own_too=True)


class Dashboard(Viewer):
    """Pages of jobs, with the card of the chosen job beside them.

    Args:
        kit: whose jobs.
        pages: in the order of the header, the first is its home: `[*PAGES, Page(...)]` adds one of your own. All of
            jobkit's unless given.
        may_act: whether jobs may be submitted, cancelled, retried and deleted from here, by those whose role allows it.
        title: of the browser's tab.
        theme: colours and fonts by name, like `{"accent": "#0f766e", "dark": {"accent": "#5eead4"}}`; see `Theme`.

    Raises:
        ValueError: no page, two with one slug, or a theme with an unknown name or a value that is no colour.

    Example:
        >>> page = Dashboard(kit, title="Lab", theme={"accent": "#0f766e"}).servable()
    """

    page = param.String(default="", doc="Slug of the page that is shown.")
    job = param.String(default="", doc="Id of the job whose card is open, or an empty text.")

    def __init__(
        self,
        kit: Kit,
        *,
        pages: Sequence[Page] | None = None,
        may_act: bool = True,
        title: str = "jobkit",
        theme: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> None:
        super().__init__(**params)  # type: ignore[no-untyped-call]  # panel's
        self._kit = kit
        self._title = title
        self._theme = Theme.read(theme or {})
        self._access = Actions(kit, only_looks=not may_act)
        self._access.on_refused = lambda: poke_feeds(kit, StoreBannerFeed)
        person = self._access.person
        panel_server.set_policy(panel_server.FRAMES)
        if person.role is Role.NONE and not person.name:
            panel_server.refuse(*refusal(person, kit.settings))
        self._bridge = SessionBridge()
        known = _checked(PAGES if pages is None else pages)
        self._pages = {page.slug: page for page in known if page.is_for(person)} or {_NOTHING.slug: _NOTHING}
        self._titles = {page.slug: page.title for page in known}
        self.turns = {slug: page.turn for slug, page in self._pages.items() if page.turn is not None}
        self._home = next(iter(self._pages))
        self._sessions = {
            slug: PageSession(page, self._access, self._bridge, self) for slug, page in self._pages.items()
        }
        self._search = ""  # what the URL says
        self._urls = 0
        self._is_following = False
        self._holders = {slug: FrameColumn(sizing_mode="stretch_both", margin=0, visible=False) for slug in self._pages}
        self._drawer = Drawer(
            kit,
            actions=ACTIONS,
            access=self._access,
            on_open=self.open,
            on_close=lambda: self.open(""),
            turns=self.turns,
            on_turn=self._turn_from_card,
            bridge=self._bridge,
        )
        self._bell = BellSubscriber(self._notify, person.name or user_name())
        self._bridge.on_close(self._bell.stop)
        self._nav = Nav(
            bridge=self._bridge,
            title=title,
            home=self._home,
            place=_place(kit) if person.role is not Role.NONE else "",
            who=person.name,
            logout=f"{pn.state.base_url}logout" if pn.state.user else "",
            bell=person.role is not Role.NONE,
            on={
                "page": lambda asked: self.go(str(asked.get("page"))),
                "url": lambda asked: self._follow(str(asked.get("search", ""))),  # back, or an older session's window
                "theme": lambda asked: self._paint(bool(asked.get("dark"))),
                "bell": lambda asked: self._ring(asked.get("on") is True),
                "open": lambda asked: self.open(str(asked.get("id", ""))[:200]),
            },
            margin=0,
        )
        self._banner = Notice(is_banner=True)
        self._said = {"store": "", "page": ""}  # what is wrong with the store, or with the page that the URL names
        if person.role is not Role.NONE:
            banner = Subscriber(self._stands).start(kit, StoreBannerFeed)
            self._bridge.on_close(banner.stop)
        self._hidden = {slug for slug, page in self._pages.items() if page.is_shown is not None}
        self._name_pages()
        self._layout: Any = None
        self._hub = kit.hub  # of a closed kit it can still be read
        unlisten = self._hub.on_status(lambda is_live: self._bridge.push(lambda: self._connected(is_live)))
        self._bridge.on_close(unlisten)
        self._show_status(self._hub.is_live)  # after that, so that no change falls between the two
        if kit.settings.login and person.name:
            self._bridge.on_close(background.spawn(self._leave_with_role(person)).cancel)
        self.param.watch(lambda *_: self._turn(), ["page", "job"])
        self._follow(pn.state.location.search if pn.state.location is not None else "")
        for table in self._early_parts()[2:]:
            panel_server.hold_page(table, "page")

    # -- what a page may ask for, in the session ---------------------------------------------------------------------

    def open(self, job_id: str) -> None:
        """Show the card of a job beside the page; "" closes it."""
        self.job = job_id

    def go(self, slug: str, query: Mapping[str, str] | None = None) -> None:
        """Turn to a page; one that is not there, or that this person may not see, is left alone."""
        if slug not in self._pages:
            return
        self._say("page", "")
        if query is not None:
            self._sessions[slug].take(query, is_asked=True)
        if slug == self.page:
            self._write_url()
        self.page = slug

    def note(self, session: PageSession, replace: bool) -> None:
        """A page's part of the URL has changed."""
        if session.page.slug == self.page:
            self._write_url(replace)

    # -- the URL -----------------------------------------------------------------------------------------------------

    def _follow(self, search: str) -> None:
        """Show what a URL asks for: at first, when the browser goes back, when a new session takes over a window."""
        told = {name: values[-1] for name, values in parse_qs(search.removeprefix("?")[:5000]).items()}
        slug, job = told.get("page", self._home), told.get("job", "")[:200]
        refused = self._refusal(slug)
        self._say("page", refused)
        if slug not in self._pages:
            slug, told = self._home, {}
        self._is_following = True  # the browser shows this URL already: it is not sent back
        try:
            self._sessions[slug].take(told)
            self.param.update(page=slug, job=job)
        finally:
            self._is_following = False
        self._search = search if refused else self._url()
        self._write_url(replace=True)

    def _refusal(self, slug: str) -> str:
        """Return why the URL's page is not shown; "" if it is, or if there is none for this person at all."""
        if slug in self._pages or _NOTHING.slug in self._pages:
            return ""
        return f"The page {self._titles[slug]} is not for you." if slug in self._titles else "There is no such page."

    def _url(self) -> str:
        shown = {"page": "" if self.page == self._home else self.page, **self._sessions[self.page].query}
        query = urlencode({name: value for name, value in (*shown.items(), ("job", self.job)) if value})
        return f"?{query}" if query else ""

    def _write_url(self, replace: bool = False) -> None:
        search = self._url()
        if search != self._search and not self._is_following:
            self._search = search
            self._urls += 1
            self._nav.url = json.dumps({"search": search, "replace": replace, "n": self._urls})

    # -- the pages ---------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Show the page and the job that are chosen."""
        slug = self.page
        if slug not in self._pages:  # set from outside
            slug = self.page = self._home
        for other, session in self._sessions.items():
            if other != slug:
                session.show(False)
        self._build(slug)
        for other, holder in self._holders.items():
            holder.visible = other == slug
        self._sessions[slug].show(True)
        self._nav.param.update(page=slug, keys=[list(pair) for pair in self._pages[slug].keys])
        for session in self._sessions.values():
            session.tell("job", self.job)
        self._drawer.open(self.job)
        self._write_url()
        if slug in self._hidden:
            self._name_pages()
        background.spawn(self._find_pages())

    def _build(self, slug: str) -> None:
        holder = self._holders[slug]
        if len(holder):
            return
        try:
            made = self._pages[slug].build(self._sessions[slug])
            shown = pn.panel(made)
        except Exception:
            logger.exception("page %s could not be built", slug)
            said = f"The page {self._pages[slug].title} could not be built"
            shown = Notice(said, "The log of the server says why.")
        look = _FILLED if getattr(shown, "fills_page", False) else _SCROLLED
        holder.styles = {**look, **_PALE} if getattr(shown, "pales", True) else look
        holder.append(shown)

    def _name_pages(self) -> None:
        self._nav.pages = [
            [slug, page.title] for slug, page in self._pages.items() if slug not in self._hidden or slug == self.page
        ]

    def _turn_from_card(self, slug: str, id: str, covers: bool) -> None:
        turn = self.turns[slug]
        if covers or not turn.keeps_card:
            self.open("")
        self.go(slug, turn.of_job(id))

    def _ring(self, is_on: bool) -> None:
        if is_on and self._nav.bell:
            self._bell.start(self._kit, BellFeed)
        else:
            self._bell.stop()

    def _paint(self, is_dark: bool) -> None:
        """Show what is not of jobkit in the page's theme, as a page by a user may."""
        pn.config.theme = "dark" if is_dark else "default"  # type: ignore[misc]  # it has a setter
        for part in self._layout.select(lambda each: "dark_theme" in each.param):
            part.dark_theme = is_dark

    def _show_out(self) -> None:
        self._nav.again = True
        self._bridge.close()

    def _connected(self, is_live: bool) -> None:
        self._show_status(is_live)
        for session in self._sessions.values():
            session.tell("status", is_live)
        if is_live:
            background.spawn(self._find_pages())

    def _show_status(self, is_live: bool) -> None:
        away = "stopped" if self._hub.stopped else "reconnecting"  # the banner says why it was stopped
        self._nav.status = "live" if is_live else away

    # -- on the background loop -------------------------------------------------------------------------------------

    async def _leave_with_role(self, person: Person) -> None:
        """Once the role has changed, the browser must reload the page, and this session gets no more updates."""
        await role_changed(person, self._access.judge)
        self._bridge.push(self._show_out)

    def _notify(self, whole: Mapping[str, str], _: Mapping[str, str]) -> None:
        self._bridge.push(lambda: self._nav.param.update(**whole))

    def _stands(self, whole: Mapping[str, str], _: Mapping[str, str]) -> None:
        said = json.loads(whole["picture"])["said"]
        self._bridge.push(lambda: self._say("store", said))

    def _say(self, about: str, said: str) -> None:
        """Show a sentence in the line above all pages; "" for none."""
        self._said[about] = said
        self._banner.said = self._said["store"] or self._said["page"]

    async def _find_pages(self) -> None:
        """Find the pages that the header names now."""
        hidden: set[str] = set()
        for slug, page in self._pages.items():
            try:
                if page.is_shown is not None and not await page.is_shown(self._kit):
                    hidden.add(slug)
            except Exception as error:  # the store is away, or a user's function failed
                logger.info("could not check whether page %s is shown: %s", slug, error)
                hidden |= self._hidden & {slug}
        if hidden != self._hidden:
            self._hidden = hidden
            self._bridge.push(self._name_pages)

    # -- how it shows itself ----------------------------------------------------------------------------------------

    def _early_parts(self) -> list[Any]:
        """Return the components that are shown if these can be drawn before Panel is loaded, else [].

        A session whose document others get, too (`--reuse-sessions`), must not tell them what its person sees.
        """
        shown = [self._nav, self._banner, *self._holders[self.page]]
        is_home = not self.job and [type(each).__name__ for each in shown] == [*assets.HOME]
        return shown if is_home and not pn.config.reuse_sessions else []

    def __panel__(self) -> Viewable:
        if self._layout is None:
            body = FrameRow(
                *self._holders.values(),
                self._drawer,
                sizing_mode="stretch_both",
                margin=0,
                styles={"gap": "0", "min-height": "0", "overflow": "hidden", "background": _GROUND},
            )
            is_lean = {page.build for page in self._pages.values()} <= {page.build for page in (*PAGES, _NOTHING)}
            self._layout = PageFrame(
                self._nav, self._banner, body, theme=self._theme, is_lean=is_lean,
                early=lambda: {type(each).__name__: each.values() for each in self._early_parts()},
            )  # fmt: skip
        layout: Viewable = self._layout
        return layout

    def servable(self, title: str | None = None, *args: Any, **options: Any) -> Viewable:
        """Show it on this server's page, under `title` in the browser's tab."""
        page: Viewable = self.__panel__().servable(title or self._title, *args, **options)
        return page


def _checked(pages: Sequence[Page]) -> Sequence[Page]:
    if not pages:
        raise ValueError("pages must name at least one")
    slugs: set[str] = set()
    for page in pages:
        if not isinstance(page, Page):
            raise ValueError(f"pages must be of jobkit.ui.Page, not {page!r}")
        if page.slug in slugs:
            raise ValueError(f"pages must not have two of the slug {page.slug!r}")
        slugs.add(page.slug)
    return pages


def _place(kit: Kit) -> str:
    """Return the URL of the jobs as the user gave it: an embedded server's socket only follows from its home."""
    url = kit.settings.masked_url
    home = str(kit.settings.home)
    return f"local://{home}" if url.startswith("unix://") and home in url else url
