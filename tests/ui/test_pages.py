"""Pages of a dashboard: the URL, the back button, pages by users, themes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import panel as pn
import pytest

import jobkit
import jobkit.ui
from jobkit.client.loop import background
from jobkit.model import StoreUnavailable
from jobkit.ui import PAGES, Dashboard, Page, PageSession
from jobkit.ui.app.header import StoreBannerFeed
from jobkit.ui.live.page import read_query
from jobkit.ui.words.theme import Theme
from tests.support import wait_until
from tests.ui.conftest import CANARY, Serve, Window, text_of
from tests.ui.stage import Stage


def note(session: PageSession) -> Any:
    return pn.pane.Str("my own page")


def pages_of(dashboard: Dashboard) -> list[str]:
    return [slug for slug, _ in dashboard._nav.pages]


def url_of(dashboard: Dashboard) -> str:
    return str(json.loads(dashboard._nav.url or "{}").get("search", ""))


def test_every_public_name_of_the_ui_can_be_loaded() -> None:
    for name in jobkit.ui.__all__:
        assert getattr(jobkit.ui, name) is not None


def test_a_page_is_refused_with_a_sentence_that_names_what_is_wrong() -> None:
    for values, word in (
        (("My page", "Title", note), "slug"),
        (("mine", " ", note), "title"),
        (("mine", "Mine", "note"), "build"),
        (("mine", "Mine", note, "root"), "role"),
    ):
        with pytest.raises(ValueError, match=word):
            Page(*values)  # type: ignore[arg-type]


def test_two_pages_of_one_slug_are_refused(stage: Stage) -> None:
    with pytest.raises(ValueError, match="'jobs'"):
        Dashboard(stage.kit, pages=[*PAGES, Page("jobs", "Mine", note)])
    with pytest.raises(ValueError, match="at least one"):
        Dashboard(stage.kit, pages=[])


def test_a_page_is_built_when_it_is_first_shown_and_notified_when_hidden(stage: Stage) -> None:
    told: list[str] = []

    def build(session: PageSession) -> Any:
        told.append("built")
        session.on_shown(lambda: told.append("shown"))
        session.on_hidden(lambda: told.append("hidden"))
        return pn.pane.Str("mine")

    dashboard = Dashboard(stage.kit, pages=[*PAGES, Page("mine", "Mine", build)])
    assert told == []

    for slug in ("mine", "jobs", "mine", "mine"):
        dashboard.go(slug)

    assert told == ["built", "shown", "hidden", "shown"]


def test_each_page_has_its_own_part_of_the_url_and_finds_it_again(stage: Stage) -> None:
    sessions: dict[str, PageSession] = {}
    asked: list[dict[str, str]] = []

    def build(session: PageSession) -> Any:
        sessions["mine"] = session
        session.on_query(lambda query: asked.append(dict(query)))
        return pn.pane.Str("mine")

    dashboard = Dashboard(stage.kit, pages=[*PAGES, Page("mine", "Mine", build)])
    dashboard.go("mine", {"range": "1h"})
    assert url_of(dashboard) == "?page=mine&range=1h"

    sessions["mine"].remember(range="6h", empty="")
    dashboard.open("j1")
    assert url_of(dashboard) == "?page=mine&range=6h&job=j1"
    dashboard.go("jobs")
    assert url_of(dashboard) == "?job=j1"
    dashboard.go("mine")
    assert url_of(dashboard) == "?page=mine&range=6h&job=j1"
    assert asked == []

    dashboard._follow("?page=mine&range=24h")  # the back button
    assert asked == [{"range": "24h"}]
    assert dashboard.job == ""
    assert url_of(dashboard) == "?page=mine&range=6h&job=j1"  # the browser needs no update


def test_a_page_may_not_take_the_dashboards_own_names_of_the_url() -> None:
    told = {"page": "x", "job": "y", "q": "z" * 1900, "bad name": "1", "none": ""}

    assert read_query(told) == {"q": "z" * 1000}


def test_a_viewer_sees_no_pages_with_actions_and_links_to_them_fail(stage: Stage) -> None:
    dashboard = Dashboard(stage.kit, may_act=False, pages=[*PAGES, Page("boss", "Boss", note, role="admin")])

    assert not {"submit", "boss"} & set(pages_of(dashboard))
    dashboard._follow("?page=submit&task=train&job=j1")
    assert (dashboard.page, dashboard._banner.said) == ("jobs", "The page Submit is not for you.")
    assert json.loads(dashboard._nav.url) == {"search": "?job=j1", "replace": True, "n": 1}
    dashboard.go("jobs")
    assert dashboard._banner.said == ""
    dashboard._follow("?page=nothing-here")
    assert dashboard._banner.said == "There is no such page."
    dashboard.page = "boss"
    assert dashboard.page == "jobs"


def test_a_page_that_fails_to_build_is_a_sentence_and_others_work(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    def build(session: PageSession) -> Any:
        raise RuntimeError("no such table")

    dashboard = Dashboard(stage.kit, pages=[*PAGES, Page("mine", "Mine", build)])
    dashboard.go("mine")

    assert "could not be built" in dashboard._holders["mine"][0].said
    assert "no such table" in caplog.text
    dashboard.go("jobs")
    assert dashboard.page == "jobs"


def test_a_page_whose_kit_is_closed_says_stopped_and_logs_no_error(caplog: pytest.LogCaptureFixture) -> None:
    with jobkit.connect("sync://") as kit:
        dashboard = Dashboard(kit)

    wait_until(lambda: dashboard._nav.status == "stopped", what="the page")

    assert "could not be updated" not in caplog.text


def test_a_page_that_comes_and_goes_is_named_when_it_is_there(stage: Stage) -> None:
    there = False

    async def is_shown(kit: Any) -> bool:
        return there

    dashboard = Dashboard(stage.kit, pages=[*PAGES, Page("late", "Late", note, is_shown=is_shown)])
    assert "late" not in pages_of(dashboard)
    dashboard.go("late")  # a link to it works all the same
    assert "late" in pages_of(dashboard)
    dashboard.go("jobs")

    there = True
    dashboard.go("workers")

    wait_until(lambda: "late" in pages_of(dashboard), what="the page to be named")


def test_a_theme_is_checked_and_finds_a_text_colour_for_its_accent() -> None:
    theme = Theme.read({"accent": "#0f766e", "sans": "Inter, sans-serif", "dark": {"accent": "#5eead4"}})

    assert theme.variables("light")["--jk-theme-on-accent"] == "#ffffff"
    assert theme.variables("dark")["--jk-theme-dark-on-accent"] == "#0b1220"
    assert theme.variables("dark")["--jk-theme-sans"] == "Inter, sans-serif"
    for wrong in ({"colour": "#fff"}, {"accent": "red; } body { display: none"}, {"dark": "#000"}, {"accent": 3}):
        with pytest.raises(ValueError, match="theme"):
            Theme.read(wrong)


@pytest.mark.browser
def test_a_page_has_the_ground_of_its_theme_before_its_scripts_run(stage: Stage, url: str, browser: Any) -> None:
    grounds = {"light": "rgb(255, 255, 255)", "dark": "rgb(15, 18, 22)"}
    for system, chosen in (("dark", ""), ("light", ""), ("light", "dark"), ("dark", "light")):
        context = browser.new_context(color_scheme=system)
        context.add_init_script(f"localStorage.setItem('jobkit-theme', '{chosen}')")
        page = context.new_page()
        page.route("**/*.js*", lambda route: route.abort())

        page.goto(url, wait_until="domcontentloaded")

        ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert ground == grounds[chosen or system], (system, chosen)
        context.close()


@pytest.mark.browser
def test_the_back_button_goes_back_and_a_reload_stays(stage: Stage, url: str, window: Window) -> None:
    job = stage.submit("train", title="Train a model")
    page = window.open(url, width=1440)
    page.click(".row:has-text('Train a model')")
    page.wait_for_selector(".jk-card .title:has-text('Train a model')")
    page.click(".tab:has-text('Workers')")
    page.wait_for_selector("text=No worker runs")
    wait_until(lambda: page.evaluate("location.href") == f"{url}?page=workers&job={job}", what="the URL")
    assert page.title() == "Workers · jobkit"
    assert page.get_by_role("main").get_by_text("No worker runs").count() == 1  # for screen readers
    assert page.get_by_role("heading", level=1).all_inner_texts() == ["Workers"]

    page.reload()
    page.wait_for_selector("text=No worker runs")
    page.wait_for_selector(".jk-card .title:has-text('Train a model')")
    page.go_back()
    page.wait_for_selector(".jk-table .row:has-text('Train a model')")
    assert page.evaluate("location.href") == f"{url}?job={job}"
    page.go_back()
    page.locator(".jk-card .title").wait_for(state="hidden")
    assert page.evaluate("location.href") == url
    page.go_forward()
    page.wait_for_selector(".jk-card .title:has-text('Train a model')")
    assert page.title() == "jobkit"


@pytest.mark.nightly
@pytest.mark.browser
def test_a_users_page_is_beside_the_others_in_the_chosen_colours(stage: Stage, serve: Serve, window: Window) -> None:
    def costs(session: PageSession) -> Any:
        return pn.Column(pn.pane.Str(f"{session.kit.counts()['queued']} jobs wait"))

    def make() -> Any:
        pages = [*PAGES, Page("costs", CANARY, costs)]
        return Dashboard(stage.kit, pages=pages, title=CANARY, theme={"accent": "#0f766e"}).__panel__()

    stage.submit("train")
    page = window.open(serve(make))

    page.click(".tab[data-page=costs]")

    page.wait_for_selector("text=1 jobs wait")
    assert text_of(page, ".tab[aria-current]") == CANARY
    accent = "el => getComputedStyle(el).getPropertyValue('--jk-accent').trim()"
    assert page.locator(".jk-nav").evaluate(accent) == "#0f766e"
    page.click(".tab:has-text('Submit')")
    assert page.locator(".jk-form").evaluate(accent) == "#0f766e"
    assert page.evaluate("window.boom === undefined")


def test_a_connection_that_is_cut_while_a_dashboard_is_built_is_reported(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut between the check of the connection and the hub's first message used to be missed."""
    hub = stage.kit.hub
    listen = hub.on_status

    def cut_before(callback: Callable[[bool], None]) -> Callable[[], None]:
        monkeypatch.setattr(type(hub), "is_live", False)
        return listen(callback)

    monkeypatch.setattr(hub, "on_status", cut_before)

    assert Dashboard(stage.kit)._nav.status == "reconnecting"


def test_the_line_above_every_page_says_that_the_server_was_stopped(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused() -> None:
        raise StoreUnavailable("it does not answer")

    monkeypatch.setattr(stage.kit.verbs.store, "refused", refused)
    feed = StoreBannerFeed(stage.kit)
    assert background.call(feed.data()) == {"said": ""}

    monkeypatch.setattr(stage.kit.hub, "stopped", "it was stopped")

    assert background.call(feed.data()) == {"said": "it was stopped"}
