"""Two jobs side by side: their differences in words, and the page in a real browser."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobkit.features.compare.pair_model import Side, change_of, pair
from jobkit.features.provenance.made_by import GitFacts, MadeBy, Origin, ProcessFacts
from jobkit.model import ErrorKind, JobSnapshot, JobSpec, JobState
from jobkit.model.metrics import Curves
from jobkit.model.snapshot import JobError
from jobkit.tasks.sources import Source
from tests.support import wait_until
from tests.ui.conftest import CANARY, Window, text_of
from tests.ui.conftest import _own_registry as _own_registry
from tests.ui.stage import Stage
from tests.ui.test_all_pages import findings

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def side(name: str, params: dict[str, Any], summary: str = "", seconds: float = 60.0, **facts: Any) -> Side:
    spec = JobSpec(name * 8, "train", params=params, abridged=tuple(facts.pop("abridged", ())))
    state = JobState.FAILED if "error" in facts else JobState.SUCCEEDED
    job = JobSnapshot(
        spec, 3, state, submitted_at=NOW, started_at=NOW, finished_at=NOW + timedelta(seconds=seconds), summary=summary,
        error=facts.pop("error", None),
    )  # fmt: skip
    return Side(job, **facts)


def ran(numpy: str, commit: str = "", diff: str = "", host: str = "box") -> MadeBy:
    git = GitFacts("/repo", commit, "main", bool(diff), ("M train.py",) if diff else ()) if commit else None
    return MadeBy(1, Origin(ProcessFacts(git=git), diff=diff), Origin(ProcessFacts(host=host), {"numpy": numpy}))


def section(data: dict[str, Any], name: str) -> Any:
    return next(each for each in data["sections"] if each.name == name)


def test_changes_and_outcome_stand_at_the_top() -> None:
    one = side("a", {"lr": 0.1, "n": 5}, "{'score': 0.8, 'note': 'x'}", 60, made=ran("2.4"))
    other = side("b", {"lr": 0.01, "n": 5}, "{'score': 0.9, 'note': 'x'}", 300, made=ran("2.5", host="gpu"))

    data = pair(one, other, NOW)

    assert data["changed"] == [
        ["Arguments", "lr 0.1 → 0.01 (−90 %)"],
        ["Packages", "numpy 2.4 → 2.5"],
        ["Machine", "host box → gpu"],
    ]
    assert data["came"] == [
        ["Outcome", "score 0.8 → 0.9 (+12 %)"],
        ["Outcome", "duration 1 m 00 s → 5 m 00 s (× 5)"],
    ]
    assert [row.name for row in section(data, "Arguments").equal] == ["n"]


def test_a_number_that_only_one_job_has_is_as_short_as_the_others() -> None:
    one, other = side("a", {}, "{'note': 'x'}", 60), side("b", {}, "{'note': 'x', 'loss': 0.123456789012}", 60)

    assert ["Outcome", "loss none → 0.123457"] in pair(one, other, NOW)["came"]


def test_equal_jobs_differ_in_nothing_though_one_took_a_little_longer() -> None:
    one, other = (
        side(name, {"lr": 0.1}, "0.5", seconds, made=ran("2.4", "c0ffee"))
        for name, seconds in (("a", 60.0), ("b", 63.0))
    )

    data = pair(one, other, NOW)

    assert (data["changed"], data["came"], data["files"]) == ([], [], [])


def test_an_error_and_what_is_not_known_are_said() -> None:
    failed = side("b", {"data": "DataFrame"}, error=JobError(ErrorKind.EXCEPTION, "KeyError", "f1"), abridged=["data"])

    data = pair(side("a", {"data": "DataFrame"}, "1", made=ran("2.4")), failed, NOW)

    assert ["Outcome", "state Succeeded → Failed"] in data["came"]
    assert any("KeyError: f1" in text for _, text in data["came"])
    assert section(data, "Arguments").note == "Known in brief only, and may differ: data."
    assert section(data, "Packages").note == "Not known for bbbbbbbb."


def test_typed_functions_and_changed_files_are_compared_by_line() -> None:
    def diff(text: str) -> str:
        return f"diff --git a/train.py b/train.py\n@@ -1,3 +1,3 @@\n import math\n-x = 1\n+{text}\n y = 2\n"

    old, new = Source("Cell In[3]", 1, "def f():\n    return 1\n"), Source("Cell In[7]", 1, "def f():\n    return 2\n")
    script = [Source("/repo/train.py", 1, f"x = {n}\n") for n in (3, 4)]  # its file has the same lines
    one = side("a", {}, made=ran("2", "c0ffee", diff("x = 3")), sources=[old, script[0]])
    other = side("b", {}, made=ran("2", "c0ffee", diff("x = 4")), sources=[new, script[1]])

    data = pair(one, other, NOW)

    assert data["files"] == [
        ["Cell In[3] → Cell In[7]", 1, 1, "", [(" ", "def f():"), ("-", "    return 1"), ("+", "    return 2")]],
        ["train.py", 1, 1, "", [(" ", "import math"), ("-", "x = 3"), ("+", "x = 4"), (" ", "y = 2")]],
    ]
    assert ["Code", "train.py +1 −1"] in data["changed"]


def test_of_two_commits_the_command_that_shows_the_rest_is_named() -> None:
    one, other = side("a", {}, made=ran("2", "a" * 40)), side("b", {}, made=ran("2", "b" * 40))

    data = pair(one, other, NOW)

    assert "git diff aaaaaaaaaaaa bbbbbbbbbbbb" in section(data, "Code").note
    assert data["changed"] == [["Code", "commit aaaaaaaaaaaa → bbbbbbbbbbbb"]]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [(1, 1.5, "+50 %"), (2, 1, "−50 %"), (0, 0.5, "+0.5"), (1, 4, "× 4"), (-1, -2, "−100 %"), (True, 2, ""),
     ("a", 1, ""), (1.0, float("nan"), ""), (5, 5, ""), (1e-300, 1e300, "+1e+300")],
)  # fmt: skip
def test_a_change_of_a_number_is_said_in_words_that_fit_its_size(old: Any, new: Any, said: str) -> None:
    assert change_of(old, new) == said


@pytest.mark.browser
def test_a_run_is_compared_with_the_one_before_it(stage: Stage, url: str, window: Window) -> None:
    jobs = [stage.submit("train", {"lr": lr, "note": CANARY}, title="Train a model") for lr in (0.1, 0.01)]
    for n, job in enumerate(jobs):
        stage.start(job)
        stage.measure(job, Curves(), loss=[(step, 1.0, 1 / (1 + n + step)) for step in range(9)])
        stage.succeed(job, summary=str({"score": 0.8 + n / 10, "note": CANARY}))
    page = window.open(url, width=1440, height=900)
    page.click(".jk-table .row:has-text('lr=0.01')")

    page.locator(".jk-card").get_by_role("button", name="Compare").click()

    wait_until(lambda: page.locator(".jk-pair .fact").count() >= 3, what="the answer")
    said = page.locator(".jk-pair .fact").all_inner_texts()
    assert [" ".join(text.split()) for text in said if "duration" not in text] == [
        "Arguments lr 0.1 → 0.01 (−90 %)",
        "score 0.8 → 0.9 (+12 %)",
        "metric loss 0.111111 → 0.1 (−10 %)",
    ]
    assert page.locator(".jk-pair .chart path.line").count() == 2
    assert not page.locator(".jk-pair .equal .line:visible").count()
    assert not findings(page, "two jobs")
    with page.expect_download() as saved:
        page.click(".jk-pair [title='Save what differs as CSV']")
    rows = saved.value.path().read_text("utf-8").splitlines()
    assert rows[0] == f"kind,name,{jobs[0]},{jobs[1]},change"
    assert "Arguments,lr,0.1,0.01,−90 %" in rows
    phone = window.open(page.url, width=390, height=800, color_scheme="dark")
    wait_until(lambda: phone.locator(".jk-pair .fact").count() >= 3, what="the linked page")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    assert not findings(phone, "two jobs on a phone")
    page.click(".jk-pair .side .link >> nth=0")
    page.wait_for_selector(".jk-card .title:has-text('Train a model')")
    page.go_back()
    page.click("nav >> text=Jobs")
    page.check(".jk-table .head .pick")
    page.click(".bulk [data-do=compare]")
    page.wait_for_url("**page=compare&set=*")
    assert len(page.url.partition("?")[2]) < 40
    wait_until(lambda: "Train a model" in text_of(page, ".jk-pair .sides"), what="both jobs")
