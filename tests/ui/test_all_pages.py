"""Every page in both themes: no findings of axe-core, no requests to other hosts, no console errors."""

from __future__ import annotations

from typing import Any

import pytest

from jobkit.ui import PAGES
from tests.features.studies.test_card import begun
from tests.support import by_default, wait_until
from tests.ui.conftest import Window
from tests.ui.stage import Stage

pytestmark = pytest.mark.browser


#: Turns to a page as the back button does.
TURN = "search => { history.pushState({}, '', search); dispatchEvent(new PopStateEvent('popstate')); }"


def fill(stage: Stage) -> str:
    """A bit of everything; the id of a failed job."""
    done, failed, running = (stage.submit("train", {"n": n}, title=f"Train {n}") for n in range(3))
    for job in (done, failed, running):
        stage.start(job, "gpu-1.4711")
    stage.progress(running, 37, 100, "epoch 3")
    stage.log(failed, "one line", "loss is nan", level="WARNING")
    stage.succeed(done, summary="DataFrame 3 × 4")
    stage.fail(failed, "ValueError", "loss is nan", 'File "train.py", line 28, in evaluate\n    raise', "train.py:28")
    stage.submit("train", title="Waits")
    stage.submit("train", title="Later", delay_ms=60_000)
    stage.beat("gpu-1.4711")
    stage.start(stage.submit("train", title="Lost", queue="other"), "gpu-2.815", "other")
    stage.beat("gpu-2.815", "other")
    stage.kill("gpu-2.815")
    return failed


def turn(page: Any, slug: str, job: str = "") -> None:
    page.evaluate(TURN, f"?page={slug}" + (f"&job={job}" if job else ""))
    page.wait_for_selector(f".tab[data-page={slug}][aria-current=page]", state="attached")  # in the menu of a phone
    wait_until(lambda: page.locator("section.jk:visible").count() > 0, what=f"page {slug} to be shown")
    if job:
        page.wait_for_selector(".jk-card .title:visible")
    page.wait_for_timeout(300)  # after fading in


#: Options of axe-core: also whether what is pressed is large enough, 24 px, which it leaves out by default.
AXE = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}

#: Rules of axe-core that hold although it calls a breach of them moderate.
LANDMARKS = ("landmark-one-main", "landmark-no-duplicate-main", "page-has-heading-one")


def findings(page: Any, where: str) -> list[str]:
    """Serious and critical findings of axe-core, and those of dashboards without a main part or h1, a line each."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options=AXE).response
    is_dashboard, lines = page.locator(".jk-nav").count() > 0, []
    if is_dashboard and page.locator("h1").count() != 1:
        lines.append(f"{where}: not one h1")
    for each in found["violations"]:
        if each["impact"] in ("serious", "critical") or (is_dashboard and each["id"] in LANDMARKS):
            for node in each["nodes"][:4]:
                why = " ".join(node["failureSummary"].split())
                lines.append(f"{where}: {each['id']}: {node['target'][0][-1]}: {node['html'][:120]}: {why[:240]}")
    return lines


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("theme", "width"), by_default([("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390), ("light", 2560)])
)
def test_the_audit_has_nothing_serious_to_say_of_any_page(
    stage: Stage, url: str, window: Window, theme: Any, width: int
) -> None:
    failed = fill(stage)
    page = window.open(url, width=width, height=900, color_scheme=theme, has_touch=width < 500)
    page.wait_for_selector(f".jk-nav[data-theme={theme}]")
    wrong: list[str] = []

    for slug in [each.slug for each in PAGES if each.slug != "jobs"] + ["jobs"]:
        turn(page, slug)
        wrong += findings(page, slug)
    (done,) = stage.kit.jobs(state="succeeded")
    for query, ready in (
        (f"log&id={failed}", ".jk-log .line"),
        (f"compare&ids={done.id},{failed}", ".jk-pair .glance"),
        ("compare&q=task:train", ".jk-batch .grid .row"),
    ):
        page.evaluate(TURN, f"?page={query}")
        page.wait_for_selector(ready)
        wrong += findings(page, query)
    page.evaluate(TURN, f"?page=batch&id={begun(stage, with_importance=True).id}")
    page.wait_for_selector(".jk-batch .importance dl b")
    wrong += findings(page, "a study's card")
    turn(page, "jobs", failed)
    wrong += findings(page, "a job's card")
    page.keyboard.press("?")
    page.wait_for_selector("dialog.help[open]")
    wrong += findings(page, "the list of keys")

    assert not wrong, "\n".join(wrong)


@pytest.mark.nightly
def test_the_audit_has_nothing_serious_to_say_of_empty_pages_on_a_phone_nor_of_a_card(
    stage: Stage, url: str, window: Window
) -> None:
    page = window.open(url, width=380, height=800)
    page.wait_for_selector("text=No jobs yet")
    wrong: list[str] = []

    for slug in [each.slug for each in PAGES]:
        turn(page, slug)
        assert page.evaluate("document.documentElement.scrollWidth") <= 380, slug
        wrong += findings(page, slug)
    failed = fill(stage)
    turn(page, "jobs", failed)  # the drawer covers the page
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    wrong += findings(page, "a job's card as the page")

    assert not wrong, "\n".join(wrong)
