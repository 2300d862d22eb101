"""Browser notifications: turned on with a click, for own jobs."""

from __future__ import annotations

import pytest

from jobkit.settings import user_name
from jobkit.ui.app.header import notifications
from tests.support import wait_until
from tests.ui.conftest import Window, wait_for
from tests.ui.stage import Stage

#: Notes what would be shown; permission is given when asked for.
FAKE = """
window.notes = [];
window.asked = 0;
window.Notification = class {
  static permission = 'default';
  static async requestPermission() { window.asked++; return (window.Notification.permission = 'granted'); }
  constructor(title, {body, tag}) { window.notes.push({title, body, tag}); window.last = this; }
  close() {}
};
"""


def test_a_few_ends_are_notified_one_by_one_and_many_as_a_number(stage: Stage) -> None:
    jobs = [stage.submit("train", title="Train a model") for _ in range(5)]
    for job in jobs:
        stage.start(job)
        stage.fail(job, "KeyError", "'f1'") if job == jobs[0] else stage.succeed(job, summary="0.93")
    ended = [stage.kit.snapshot(job) for job in jobs]

    assert [told["title"] for told in notifications(ended[:2])] == [
        "Train a model has failed",
        "Train a model has succeeded",
    ]
    assert "KeyError: 'f1'" in notifications(ended[:1])[0]["body"]
    assert "0.93" in notifications(ended[1:2])[0]["body"]
    assert notifications(ended) == [{"id": "", "title": "5 of your jobs have ended", "body": "1 failed"}]
    asking = stage.running("train", title="Train a model")
    stage.ask(asking, bool, "Go on?")
    asks = stage.kit.snapshot(asking)
    assert notifications([asks]) == [{"id": asking, "title": "Train a model asks", "body": "Go on?"}]
    assert notifications([*ended, asks])[0]["body"] == "1 failed, 1 more ask a question"


@pytest.mark.nightly
@pytest.mark.browser
def test_a_click_on_the_bell_turns_on_notifications_of_own_jobs(stage: Stage, url: str, window: Window) -> None:
    me = user_name()
    mine, other = stage.submit("train", owner=me, title="Mine"), stage.submit("train", owner="eve", title="Hers")
    later = stage.submit("train", owner=me, title="Later")
    for job in (mine, other, later):
        stage.start(job)
    page = window.open("about:blank")
    page.add_init_script(FAKE)
    page.goto(url)
    page.wait_for_selector(".bell")
    assert page.evaluate("window.asked") == 0

    page.click(".bell")

    page.wait_for_selector(".bell[aria-pressed=true]")
    wait_until(lambda: _is_listening(stage), what="the bell to be heard")
    stage.succeed(other)
    stage.succeed(mine, summary="42")
    wait_for(page, "window.notes.length > 0")
    assert [note["title"] for note in page.evaluate("window.notes")] == ["Mine has succeeded"]
    page.evaluate("window.last.onclick()")
    page.wait_for_selector(".jk-card:has-text('Mine')")

    page.click(".bell")
    wait_until(lambda: not _is_listening(stage), what="the bell to be silent")
    stage.succeed(later)
    page.wait_for_selector(".row[data-face=succeeded]:has-text('Later')")
    assert len(page.evaluate("window.notes")) == 1


def _is_listening(stage: Stage) -> bool:
    from jobkit.ui.app.header import BellFeed
    from jobkit.ui.live.shared_feed import open_feeds

    return bool(open_feeds(stage.kit, BellFeed))
