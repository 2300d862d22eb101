"""`Page`: one page of a dashboard, jobkit's or a user's own, and `PageSession`, its hold on one browser tab.

    def costs(session):
        return pn.pane.Markdown("# Costs")

    Dashboard(kit, pages=[*PAGES, Page("costs", "Costs", costs)]).servable()

A page is built when it is first shown, and kept until the tab is closed. What it shows stands in its own part
of the URL (`session.query`), so that a link, the back button and a reload bring it back.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobkit.client.kit import Kit
from jobkit.model.person import Person, Role
from jobkit.ui.access.actions import Actions
from jobkit.ui.live.bridge import SessionBridge

logger = logging.getLogger("jobkit.ui")

_SLUG = re.compile(r"[a-z][a-z0-9-]{0,30}")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")

#: What stands in the URL for the dashboard itself.
RESERVED = ("page", "job")

#: Characters of one value in the URL, at most.
_LONG = 1000

#: Values of a page in the URL, at most.
_MANY = 20


@dataclass(frozen=True, slots=True)
class Turn:
    """The way from the card of a job, or from the list of jobs, to a page.

    Attributes:
        of_job: returns the page's part of the URL for the id of the card's job.
        word, title: of the button on the card of an ended job; without a word, another part of the card leads there.
        keeps_card: whether the card stays open beside the page.
        of_jobs: `of_jobs(kit, ids, search, zone)`, a coroutine that returns the page's part of the URL for selected
            jobs; without ids for all jobs that the search finds. The list of jobs has a button for it.
        most: selected jobs, at most.
    """

    of_job: Callable[[str], Mapping[str, str]]
    word: str = ""
    title: str = ""
    keeps_card: bool = False
    of_jobs: Callable[[Kit, Sequence[str], str, str], Awaitable[Mapping[str, str]]] | None = None
    most: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    Attributes:
        slug: its name in the URL, `?page=slug`: small letters, digits and dashes.
        title: its name in the header.
        build: makes what is shown, anything that Panel can show; called once per browser tab, at the first look. A
            component of jobkit fills the page; anything else gets a margin and scrolls.
        role: the least that a person must be to see it: "view", "operate" or "admin".
        own_too: whether people who see their own jobs alone may see it, too (`session.person`). Such a page must hide
            other owners' jobs itself.
        is_shown: whether the header names it, asked now and then on jobkit's background loop; always unless given.
            A link to the page works in either case.
        keys: its own keys, as `(key, what it does)`, for the list behind `?`.
        turn: how cards and the list of jobs lead to it, if they do.

    Example:
        >>> def costs(session):
        ...     return f"{len(session.kit.jobs(state='succeeded'))} jobs"
        >>> dashboard = Dashboard(kit, pages=[*PAGES, Page("costs", "Costs", costs)])
    """

    slug: str
    title: str
    build: Callable[[PageSession], Any]
    role: str = Role.VIEW
    own_too: bool = False
    is_shown: Callable[[Kit], Awaitable[bool]] | None = None
    keys: tuple[tuple[str, str], ...] = ()
    turn: Turn | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.slug, str) or not _SLUG.fullmatch(self.slug):
            raise ValueError(
                f"slug must be small letters, digits and dashes, at most 31, beginning with a letter, not {self.slug!r}"
            )
        if not isinstance(self.title, str) or not self.title.strip():
            raise ValueError(f"title of page {self.slug!r} must be a text, not {self.title!r}")
        if not callable(self.build):
            raise ValueError(f"build of page {self.slug!r} must be a function of a PageSession, not {self.build!r}")
        if self.role not in set(Role):
            raise ValueError(f"role of page {self.slug!r} must be view, operate or admin, not {self.role!r}")

    def is_for(self, person: Person) -> bool:
        """Return whether the person may see it."""
        is_own = person.may_with_own or (person.role is Role.OWN and self.role == Role.VIEW)
        return person.may(Role(self.role)) or (self.own_too and is_own)


async def nowhere(_: Kit) -> bool:
    """Return False, as `is_shown` of a page that the header names only while it is shown."""
    return False


class PageSession:
    """A page in one browser tab: the API that a page uses.

    Attributes:
        page: the page itself.
        access: the gate for all actions, see `Actions`; it has the person.
        bridge: takes functions and texts from other threads into this tab, see `SessionBridge`.
        query: the page's own part of the URL.
        is_shown: whether the page is shown now.

    Example:
        >>> def mine(session):
        ...     return JobTable(session.kit, bridge=session.bridge, access=session.access, search="owner:me")
        >>> page = Page("mine", "Mine", mine, own_too=True)
    """

    def __init__(self, page: Page, access: Actions, bridge: SessionBridge, host: Any) -> None:
        self.page = page
        self.access = access
        self.bridge = bridge
        self.query: dict[str, str] = {}
        self.is_shown = False
        self._hooks: dict[str, list[Callable[..., object]]] = {}
        self._host = host  # the dashboard

    @property
    def kit(self) -> Kit:
        """The kit whose jobs are shown."""
        return self.access.kit

    @property
    def person(self) -> Person:
        """The person of the session, with their role."""
        return self.access.person

    @property
    def job(self) -> str:
        """Id of the job whose card is open beside the page, or ""."""
        return str(self._host.job)

    @property
    def is_live(self) -> bool:
        """True while the store answers."""
        return self.kit.hub.is_live

    def open(self, job_id: str) -> None:
        """Open the card of a job beside the page; "" closes it."""
        self._host.open(job_id)

    @property
    def turns(self) -> Mapping[str, Turn]:
        """The ways from cards and the list of jobs to this person's pages, by slug."""
        turns: Mapping[str, Turn] = self._host.turns
        return turns

    def go(self, slug: str, **query: str) -> None:
        """Turn to another page, which then shows what `query` says."""
        self._host.go(slug, query)

    def remember(self, replace: bool = False, **query: str | None) -> None:
        """Put values into the page's part of the URL; "" and None take one out. The page's `on_query` is not called.

        Args:
            replace: change the entry of the browser's history instead of adding one: for what is typed letter by
                letter.
        """
        before = dict(self.query)
        self.query = read_query({**self.query, **{name: value or "" for name, value in query.items()}})
        if self.query != before:
            self._host.note(self, replace)

    def remember_search(self, search: str, **query: str) -> None:
        """`remember` the search text as `q`. While it is typed, the entry of the browser's history is changed."""
        others = {name: self.query.get(name, "") for name in query}
        self.remember(bool(search and self.query.get("q")) and others == query, q=search, **query)

    def on_shown(self, hook: Callable[[], object]) -> None:
        """Call it each time the page comes into sight, also for the first time."""
        self._hooks.setdefault("shown", []).append(hook)

    def on_hidden(self, hook: Callable[[], object]) -> None:
        """Call it each time another page is turned to: from then on this page should read nothing."""
        self._hooks.setdefault("hidden", []).append(hook)

    def on_query(self, hook: Callable[[Mapping[str, str]], object]) -> None:
        """Call it with the page's part of the URL when a link, `go` or the back button has changed it."""
        self._hooks.setdefault("query", []).append(hook)

    def on_job(self, hook: Callable[[str], object]) -> None:
        """Call it with the job's id when another job's card is opened, or "" when it is closed."""
        self._hooks.setdefault("job", []).append(hook)

    def on_status(self, hook: Callable[[bool], object]) -> None:
        """Call it with False when the store stops answering, and with True when it does again."""
        self._hooks.setdefault("status", []).append(hook)

    # -- called by the dashboard -------------------------------------------------------------------------------------

    def show(self, is_shown: bool) -> None:
        if is_shown != self.is_shown:
            self.is_shown = is_shown
            self.tell("shown" if is_shown else "hidden")

    def take(self, query: Mapping[str, str], is_asked: bool = False) -> None:
        """Show the state of a URL; if `is_asked`, also when it has not changed."""
        found = read_query(query)
        if found != self.query or is_asked:
            self.query = found
            self.tell("query", dict(found))

    def tell(self, what: str, *values: object) -> None:
        """Call all hooks of a kind, in the order in which they were added; log those that fail."""
        for hook in list(self._hooks.get(what, ())):
            try:
                hook(*values)
            except Exception:
                logger.exception("a page could not be updated")


def read_query(told: Mapping[str, str]) -> dict[str, str]:
    """Return the part of a URL that a page may keep: short values of plain names, without the dashboard's own."""
    kept = {
        name: str(value)[:_LONG]
        for name, value in told.items()
        if value and name not in RESERVED and _NAME.fullmatch(name)
    }
    return dict(list(kept.items())[:_MANY])
