"""The card in a real browser: live, usable by keyboard, and inert whatever a job says."""

from __future__ import annotations

import json
import re
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from jobkit.ui.words import assets
from tests.support import ROOT, wait_until
from tests.test_format import AGES, DURATIONS, LEFT
from tests.ui.conftest import CANARY, Serve, Window, text_of, wait_for
from tests.ui.stage import Stage

pytestmark = pytest.mark.browser


def card(stage: Stage, job_id: str, **options: Any) -> Callable[[], Any]:
    from jobkit.ui.card.job_card import JobCard

    return lambda: JobCard(stage.kit, job_id, **options)


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "table"), [("duration", DURATIONS), ("timeLeft", LEFT), ("ago", AGES)])
def test_the_browser_writes_times_as_python_does(browser: Any, name: str, table: list[tuple[float, str]]) -> None:
    page = browser.new_page()
    common = assets.esm("nav").partition("// The header's content")[0]

    written = page.evaluate(
        f"(values) => {{ {common}; return values.map((value) => {name}(value)); }}", [v for v, _ in table]
    )

    page.close()
    assert written == [text for _, text in table]


def test_a_running_job_moves_without_a_reload_and_ticks_by_itself(stage: Stage, serve: Serve, window: Window) -> None:
    job = stage.submit("simulate", {"n": 400, "method": "rk4"}, title="Integrate an orbit")
    page = window.open(serve(card(stage, job)))
    page.wait_for_selector(".jk-card .chip:has-text('Queued')")

    stage.start(job, "gpu-1")
    stage.progress(job, 100, 400, "step 100")
    stage.log(job, "hello from the job")

    page.wait_for_selector(".chip:has-text('Running')")
    bar = page.locator("[role=progressbar]")
    wait_until(lambda: bar.get_attribute("aria-valuenow") == "25", what="the bar")
    assert text_of(page, ".count").startswith("100 / 400")
    assert text_of(page, ".args") == "n=400, method=rk4"
    assert "worker gpu-1" in text_of(page, ".meta")
    page.wait_for_selector(".line:has-text('hello from the job')")
    before = text_of(page, ".elapsed")
    wait_until(lambda: text_of(page, ".elapsed") != before, what="the clock to tick")

    table = {"columns": ["model", "score"], "rows": [["forest", "0.96"]], "shape": [1, 2]}
    stage.succeed(job, {"type": "DataFrame", "text": "", "table": table})

    page.wait_for_selector(".chip:has-text('Succeeded')")
    page.wait_for_selector(".result td.num:has-text('0.96')")
    assert page.locator(".actions button").all_inner_texts() == ["Run again"]


def test_cancel_asks_once_and_retry_shows_the_new_job(stage: Stage, serve: Serve, window: Window) -> None:
    job = stage.running()
    page = window.open(serve(card(stage, job)))

    page.click(".actions button:has-text('Cancel')")
    assert stage.kit.snapshot(job).cancel_requested_at is None
    page.click(".actions button.danger")

    wait_until(lambda: stage.kit.snapshot(job).is_cancelling, what="the request")
    page.wait_for_selector(".chip:has-text('Cancelling')")
    page.wait_for_selector(".bar.cancelling")
    stage.cancelled(job)
    page.wait_for_selector(".chip:has-text('Cancelled')")


def test_a_job_with_checkpoints_can_be_stopped_at_one_and_continued(stage: Stage, serve: Serve, window: Window) -> None:
    job = stage.running()
    saved = {"saved": "epoch 43", "saved_at": int(time.time() * 1000) - 120_000}
    stage.progress(job, 43, 100, resumed="resumed at epoch 43", resumed_completed=43, **saved)
    page = window.open(serve(card(stage, job)))
    page.wait_for_selector(".meta:has-text('resumed at epoch 43 · checkpoint 2 min ago')")
    assert page.locator("[role=progressbar]").get_attribute("aria-valuenow") == "43"

    page.click(".actions button:has-text('Cancel')")
    page.click(".actions button:has-text('Stop at checkpoint')")

    wait_until(lambda: stage.kit.snapshot(job).is_cancelling, what="the request")
    stage.cancelled(job)
    page.wait_for_selector(".chip:has-text('Cancelled')")
    assert page.locator(".actions button").all_inner_texts() == ["Retry", "Continue"]
    assert page.locator(".actions button.primary").get_attribute("title") == "From its checkpoint: epoch 43"


@pytest.mark.nightly
def test_a_card_that_only_looks_obeys_no_request(stage: Stage, serve: Serve, window: Window) -> None:
    made: list[Any] = []
    job = stage.running()

    def look() -> Any:
        made.append(card(stage, job, actions=())())
        return made[0]

    page = window.open(serve(look))
    page.wait_for_selector(".chip:has-text('Running')")
    assert page.locator(".actions button").count() == 0

    made[0].request = '{"action": "cancel", "n": 1}'
    made[0].request = '{"action": "rm -rf", "n": 2}'
    made[0].request = "not json"

    stage.log(job, "still here")
    page.wait_for_selector(".line:has-text('still here')")
    assert stage.kit.snapshot(job).cancel_requested_at is None


@pytest.mark.nightly
def test_an_error_stands_first_with_the_users_line_and_folded_libraries(
    stage: Stage, serve: Serve, window: Window
) -> None:
    job = stage.running(retries=1)
    stage.progress(job, 148, 400)
    stage.log(job, *[f"line {n}" for n in range(80)])
    stage.log(job, "fold 3 has no score", level="ERROR")
    stage.log(job, *[f"after {n}" for n in range(80)])
    stage.fail(
        job,
        "ValueError",
        "no score",
        'Traceback (most recent call last):\n  File "/home/a/train.py", line 12, in train\n    evaluate()\n'
        '  File "/usr/lib/python3/site-packages/x.py", line 1, in y\n    z()\n'
        '  File "/home/a/train.py", line 28, in evaluate\n    raise ValueError("no score")\nValueError: no score\n',
        "train.py:28 in evaluate",
        f"27\tif not score:\n28\t    raise ValueError({CANARY!r})\n29\treturn score",
    )

    page = window.open(serve(card(stage, job)))

    page.wait_for_selector(".failure b:has-text('ValueError')")
    assert text_of(page, ".frame.failing .place") == "train.py:28 in evaluate"
    assert page.locator(".failure .where").count() == 0  # once is enough
    assert page.locator(".failure .more").is_hidden()
    assert page.locator(".source .n").all_inner_texts() == ["27", "28", "29"]
    assert page.locator(".source .at span").all_text_contents() == ["28", f"    raise ValueError({CANARY!r})"]
    assert page.locator(".frame:not(.failing) code").first.inner_text() == "evaluate()"
    assert text_of(page, ".failure summary") == "1 library frame"
    assert page.locator(".failure").bounding_box()["y"] < page.locator(".logs").bounding_box()["y"]  # type: ignore[index]
    # The log opens at the first error, not at its end.
    inside = """(el) => {
        const box = el.parentElement.getBoundingClientRect(), me = el.getBoundingClientRect();
        return me.top >= box.top && me.bottom <= box.bottom;
    }"""
    wait_until(lambda: page.locator("[data-level=ERROR]").evaluate(inside), what="the error line to be in sight")
    assert page.locator(".actions button").all_inner_texts() == ["Retry"]


def test_a_long_message_leaves_room_for_the_place_and_unfolds(stage: Stage, serve: Serve, window: Window) -> None:
    job = stage.submit()
    stage.start(job)
    stage.fail(job, "ValueError", "row 17 is out of range; " * 40, "", "train.py:28 in evaluate")
    page = window.open(serve(card(stage, job)), width=390)
    said, more = page.locator(".failure-head p"), page.locator(".failure .more")

    more.wait_for()
    assert said.evaluate("said => said.clientHeight") <= 8 * 20
    more.click()

    assert said.evaluate("said => said.scrollHeight <= said.clientHeight && said.clientHeight > 8 * 20")
    assert more.count() == 0


def test_what_details_unfold_comes_into_sight(stage: Stage, serve: Serve, window: Window) -> None:
    job = stage.submit()
    stage.start(job)
    stage.log(job, *[f"line {n}" for n in range(40)])
    page = window.open(serve(card(stage, job)), height=260)
    page.wait_for_selector(".line:has-text('line 39')")

    page.click(".facts summary:text-is('Details')")

    wait_for(page, "() => scrollY > 0 || document.scrollingElement.scrollTop > 0")


def test_an_ended_job_that_wrote_too_much_shows_the_whole_log(stage: Stage, serve: Serve, window: Window) -> None:
    made: list[Any] = []
    job = stage.submit()
    stage.start(job)
    stage.log(job, *[f"line {n}" for n in range(1, 6)])
    stage.succeed(job)

    def show() -> Any:
        made.append(card(stage, job)())
        return made[0]

    page = window.open(serve(show))
    page.wait_for_selector(".line:has-text('line 5')")

    kept = [{"n": n, "at": "2026-11-28T03:00:00Z", "text": f"line {n + 3}", "source": "stdout"} for n in (1, 2)]
    asked: list[str] = []
    made[0].param.watch(lambda event: asked.append(event.new), "request")

    def is_asked() -> bool:  # the first time may be before the answer to the page's first words, which replaces it
        made[0].log = json.dumps({"lines": kept, "total": 2, "dropped": 3, "v": 99 + len(asked)})
        return any('"log-page"' in request for request in asked)

    wait_until(is_asked, what="the request")
    wait_until(lambda: page.locator(".line .num").all_inner_texts() == list("12345"), what="the whole log")
    wait_until(lambda: page.inner_text(".logs .strip h4 + span") == "5 lines", what="the number of lines")


@pytest.mark.parametrize("title", ["Short", "A title of some words", "A title that is so long that it needs two lines"])
def test_the_duration_stands_at_the_right_of_a_narrow_card(
    stage: Stage, serve: Serve, window: Window, title: str
) -> None:
    job = stage.submit(title=title)
    stage.start(job)
    stage.succeed(job)
    page = window.open(serve(card(stage, job)), width=560)
    page.wait_for_selector(".actions button")
    boxes: list[Any] = [page.locator(f".jk-card {each}").bounding_box() for each in (".top", ".elapsed", ".actions")]
    top, elapsed, actions = boxes

    right = top["x"] + top["width"]
    is_beside = abs(elapsed["y"] - actions["y"]) < 20
    assert actions["x"] + actions["width"] == pytest.approx(right, abs=1)
    assert elapsed["x"] + elapsed["width"] == pytest.approx(actions["x"] - 16 if is_beside else right, abs=1)


@pytest.mark.parametrize("width", [390, 600, 900])
def test_numbers_of_many_lines_fit_beside_their_text(stage: Stage, serve: Serve, window: Window, width: int) -> None:
    job = stage.submit()
    stage.start(job)
    stage.log(job, "first")
    page = window.open(serve(card(stage, job)), width=width)
    number = page.locator(".line .num")
    number.wait_for()
    assert page.locator(".rows").evaluate("rows => rows.style.getPropertyValue('--digits')") == "1"

    number.evaluate("number => { number.textContent = '1234567'; }")
    page.locator(".rows").evaluate("rows => rows.style.setProperty('--digits', 7)")

    assert number.evaluate("number => number.scrollWidth <= number.clientWidth")


@pytest.mark.nightly
def test_scrolling_up_pauses_the_log_and_a_pill_leads_back(stage: Stage, serve: Serve, window: Window) -> None:
    job = stage.running()
    stage.log(job, *[f"line {n}" for n in range(100)])
    page = window.open(serve(card(stage, job)))
    page.wait_for_selector(".line:has-text('line 99')")
    rows = page.locator(".rows")
    at_end = "(el) => el.scrollHeight - el.scrollTop - el.clientHeight < 12"
    wait_until(lambda: rows.evaluate(at_end), what="the log to follow")

    rows.hover()
    page.mouse.wheel(0, -400)
    page.wait_for_selector("button:has-text('Follow')")
    stage.log(job, "a new line", "and another")

    page.wait_for_selector(".pill:has-text('2 new lines')")
    assert not rows.evaluate(at_end)
    page.click(".pill")
    wait_until(lambda: rows.evaluate(at_end), what="the end of the log")
    assert page.locator(".pill").is_hidden()


def test_nothing_that_a_job_says_runs_in_the_browser(stage: Stage, serve: Serve, window: Window) -> None:
    job = stage.submit(
        CANARY, {CANARY: CANARY}, title=CANARY, owner=CANARY, tags=(CANARY,), retries=1, key=CANARY, retry_of=CANARY
    )
    stage.start(job, CANARY)
    stage.log(job, CANARY, level="ERROR", logger=CANARY)
    stage.retry_later(job, CANARY)
    stage.start(job, CANARY)
    stage.progress(job, 1, 2, CANARY)
    stage.fail(job, CANARY, CANARY, f'  File "{CANARY}", line 1, in {CANARY}\n    {CANARY}\nX: {CANARY}', CANARY)
    previews: list[dict[str, Any]] = [
        {"type": CANARY, "text": CANARY, "unavailable": CANARY},
        {"table": {"columns": [CANARY], "rows": [[CANARY]], "shape": [3, 3]}},
        {"json": {CANARY: CANARY}},
        {"json": [CANARY]},
        {"png": CANARY, "text": CANARY},
        {"html": f"<b id=inside>x</b>{CANARY}"},
    ]
    others = []
    for preview in previews:
        others.append(stage.submit())
        stage.start(others[-1])
        stage.succeed(others[-1], preview, CANARY)

    def page_of_all() -> Any:
        import panel as pn

        return pn.Column(*[card(stage, each)() for each in [job, *others]])

    page = window.open(serve(page_of_all))
    page.wait_for_selector(".failure b")
    wait_until(lambda: page.locator(".result:visible").count() == len(previews), what="all results")
    for summary in page.locator("summary:visible").all():
        summary.click()
    frame = page.frame_locator("iframe.sandbox")
    assert frame.locator("#inside").inner_text() == "x"
    assert page.locator("iframe.sandbox").get_attribute("sandbox") == ""

    assert page.evaluate("window.boom === undefined")
    # What the sandbox refuses to run or load, it says in the console; that is its purpose.
    window.errors[:] = [e for e in window.errors if "sandboxed" not in e and "Content Security Policy" not in e]


@pytest.mark.nightly
def test_the_card_speaks_to_screen_readers_and_rests_for_those_who_want_less_motion(
    stage: Stage, serve: Serve, window: Window
) -> None:
    job = stage.running(title="Train")
    page = window.open(serve(card(stage, job)), reduced_motion="reduce")
    page.wait_for_selector(".bar.unknown")
    assert page.locator(".bar > i").evaluate("(el) => getComputedStyle(el).animationName") == "none"
    assert page.locator("article").get_attribute("aria-label") == "Job Train, Running"

    stage.fail(job, "KeyError", "'f1'")

    wait_until(
        lambda: page.locator("[aria-live=polite]").inner_text() == "Train: Failed, KeyError", what="the live region"
    )


@pytest.mark.nightly
def test_a_job_without_a_worker_says_so(stage: Stage, serve: Serve, window: Window) -> None:
    job = stage.submit(queue="gpu")

    page = window.open(serve(card(stage, job)))

    page.wait_for_selector(".notice:has-text('no worker serves queue gpu')")
    assert text_of(page, ".notice code") == "jobkit worker -q gpu"


@pytest.mark.nightly
def test_an_unknown_job_is_said_to_be_unknown(stage: Stage, serve: Serve, window: Window) -> None:
    page = window.open(serve(card(stage, "no-such-job")))

    page.wait_for_selector(".notice:has-text(\"no job 'no-such-job'\")")
    assert page.locator(".chip").is_hidden()


@pytest.mark.nightly
def test_a_card_fits_a_small_screen(stage: Stage, serve: Serve, window: Window) -> None:
    job = stage.submit(
        "a_task_with_quite_a_long_name", {"parameter": "x" * 300}, title="A title that is much too long " * 4
    )
    stage.start(job)
    stage.log(job, "a long line " * 40)

    page = window.open(serve(card(stage, job)), width=380)

    page.wait_for_selector(".line")
    box = page.locator(".jk-card").bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 380
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    assert re.match(r"\d+ s", text_of(page, ".elapsed"))


def test_a_job_in_a_plain_panel_app_has_the_width_of_the_app(
    stage: Stage, serve: Serve, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is passed by hand: the app of notebook 05 as it stands there, and each way to put a job into a layout."""
    import panel as pn

    monkeypatch.setattr("jobkit.connect", lambda: stage.kit)
    warnings.simplefilter("ignore", PendingDeprecationWarning)  # of `name=` in a widget; pytest restores the filters
    notebook = json.loads(next((ROOT / "notebooks").glob("05-*.ipynb")).read_text("utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {"__name__": "notebook_05"}
    for source in cells[:2]:
        exec(source, names)  # the task and the class App
    job = stage.kit.get(stage.submit("train", {"n": 3}, title="Train"))
    batch = stage.kit.map(len, ["ab", "abc"])

    def page() -> Any:
        names["app"].submit()
        shown = names["app"].view()
        return pn.Column(shown, job, pn.panel(job), pn.Row(job.view()), batch, pn.Row(batch.view()), job.kit.jobs())

    opened = window.open(serve(page), width=1280)
    opened.wait_for_selector(".jk >> nth=6")

    widths = wait_until(lambda: all_of([box["width"] for box in boxes(opened)], 7), what="seven cards")
    assert min(widths) > 900, widths


def boxes(page: Any) -> list[Any]:
    return [each.bounding_box() or {"width": 0} for each in page.locator(".jk").all()]


def all_of(widths: list[float], count: int) -> list[float]:
    """`widths` once there are so many, none of them of a card that is still empty."""
    return widths if len(widths) == count and min(widths) > 0 else []
