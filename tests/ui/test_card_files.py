"""Artifacts, the whole log and figures of Bokeh on the card."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest

from jobkit.client.loop import background
from jobkit.model.person import Person, Role
from jobkit.run.inside.shown_values import ROWS, preview_of
from jobkit.ui.access.actions import Actions
from jobkit.ui.card import downloads as files
from jobkit.ui.card.downloads import answer
from jobkit.ui.card.job_card import JobCard
from jobkit.ui.card.job_feed import CardControl
from tests.support import by_default, wait_until
from tests.ui.conftest import CANARY, Serve, Window, text_of
from tests.ui.stage import Stage
from tests.ui.test_card_in_browser import card

#: One red pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg=="
)


@pytest.fixture
def running(stage: Stage) -> str:
    return stage.running("train", title="Train a model")


def told(stage: Stage, job: str, **asked: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer(stage.kit, job, asked))
    return found


@pytest.mark.parametrize(
    ("media_type", "content", "preview"),
    [
        ("text/csv", b"a,b\n1,2\n", {"table": {"columns": ["a", "b"], "rows": [["1", "2"]], "shape": [1, 2]}}),
        ("application/json", b'{"lr": 0.1}', {"json": {"lr": 0.1}}),
        ("text/plain", "grün".encode(), {"text": "grün"}),
        ("text/html", b"<b>x</b>", {"page": "<b>x</b>"}),
        ("image/png", PNG, {"picture": "data:image/png;base64," + base64.b64encode(PNG).decode()}),
    ],
)
def test_an_artifact_is_shown_as_what_it_is(
    stage: Stage, running: str, media_type: str, content: bytes, preview: Any
) -> None:
    stage.save(running, "made", media_type, content)

    assert told(stage, running, action="show", name="made")["preview"] == preview


def test_a_saved_table_is_shown_as_a_table(stage: Stage, running: str, tmp_path: Path) -> None:
    pandas, _ = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    pandas.DataFrame({"x": [1, 2]}).to_parquet(tmp_path / "x")
    stage.save(running, "made", "application/vnd.apache.parquet", (tmp_path / "x").read_bytes())

    assert told(stage, running, action="show", name="made")["preview"]["table"]["shape"] == [2, 1]


def test_of_a_table_that_unpacks_to_gigabytes_only_the_first_rows_are_read(stage: Stage, running: str) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array(["x" * 1_000]))
    file = io.BytesIO()
    parquet.write_table(pa.table({"text": text}), file)  # 1 GB of text in 100 kB
    stage.save(running, "made", "application/vnd.apache.parquet", file.getvalue())

    shown = told(stage, running, action="show", name="made")["preview"]["table"]

    assert shown["shape"] == [1_000_000, 1]
    assert len(shown["rows"]) == ROWS
    assert len(file.getvalue()) < 200_000
    assert pa.default_memory_pool().max_memory() < 200_000_000


@pytest.mark.parametrize(
    ("media_type", "content"),
    [("application/octet-stream", b"\x80\x05K\x01."), ("application/json", b"{"), ("image/tiff", b"II*")],
)
def test_what_a_page_cannot_show_is_said(stage: Stage, running: str, media_type: str, content: bytes) -> None:
    stage.save(running, "model.bin", media_type, content)

    assert "which a page cannot show" in told(stage, running, action="show", name="model.bin")["problem"]
    assert base64.b64decode(told(stage, running, action="save", name="model.bin")["base64"]) == content


def test_an_artifact_that_is_not_there_or_too_large_is_a_sentence(
    stage: Stage, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.save(running, "big.csv", "text/csv", b"x" * 100)
    monkeypatch.setattr(files, "SHOWN_BYTES", 50)
    monkeypatch.setattr(files, "SAVED_BYTES", 50)

    assert "it has 'big.csv'" in told(stage, running, action="show", name="other")["problem"]
    assert told(stage, running, action="show", name="big.csv")["problem"] == (
        "big.csv has 100 B, too much to show here; save it"
    )
    assert "`kit.artifact(" in told(stage, running, action="save", name="big.csv")["problem"]
    assert "no job" in told(stage, "no-such-job", action="whole-log")["problem"]


@pytest.mark.browser
def test_the_card_lists_artifacts_shows_small_pictures_and_saves(
    stage: Stage, serve: Serve, window: Window, running: str
) -> None:
    stage.save(running, "losses.csv", "text/csv", b"step,loss\n1,0.5\n2,0.25\n")
    stage.save(running, "curve.png", "image/png", PNG)
    stage.succeed(running)
    page = window.open(serve(card(stage, running)))

    page.wait_for_selector(".files img.figure")  # a small picture of an ended job, unasked
    assert set(page.locator(".files .name").all_inner_texts()) == {"losses.csv", "curve.png"}
    assert text_of(page, ".file:has-text('losses.csv')").split("\n")[1:3] == ["table", "23 B"]
    page.click(".file .name:has-text('losses.csv')")
    page.wait_for_selector(".files td:has-text('0.25')")
    with page.expect_download() as download:
        page.click("[aria-label='Save losses.csv']")
    assert download.value.suggested_filename == "losses.csv"
    assert Path(download.value.path()).read_bytes() == b"step,loss\n1,0.5\n2,0.25\n"


@pytest.mark.nightly
@pytest.mark.browser
def test_a_whole_log_is_saved_though_the_card_holds_its_end(
    stage: Stage, serve: Serve, window: Window, running: str
) -> None:
    for start in range(0, 1_200, 400):
        stage.log(running, *[f"line {n} \N{GREEK SMALL LETTER PI}" for n in range(start, start + 400)])
    page = window.open(serve(card(stage, running)))
    page.wait_for_selector(".line:has-text('line 1199')")

    with page.expect_download() as download:
        page.click("[aria-label='Save the log']")

    saved = Path(download.value.path()).read_text("utf-8").splitlines()
    assert (len(saved), saved[0], saved[-1]) == (1_200, "line 0 \u03c0", "line 1199 \u03c0")


@pytest.mark.parametrize(("name", "is_answered"), [("ada", True), ("eve", False)])
def test_pages_of_a_log_are_read_for_its_owner_alone(
    stage: Stage, running: str, monkeypatch: pytest.MonkeyPatch, name: str, is_answered: bool
) -> None:
    answered: list[Any] = []

    def note(kit: Any, job_id: str, asked: Any) -> str:
        answered.append(job_id)
        return ""

    monkeypatch.setattr("jobkit.ui.card.job_feed.answer", note)
    card = JobCard(stage.kit, running, access=Actions(stage.kit, Person(name, Role.OWN)))
    wait_until(lambda: card._control.model is not None, what="the job")

    card._control.do("log-page", {"action": "log-page", "search": "x"})
    background.call(asyncio.sleep(0))
    if is_answered:
        wait_until(lambda: bool(answered), what="an answer")

    assert answered == ([running] if is_answered else [])
    card._control.stop()


def test_a_newer_question_about_a_log_replaces_one_that_waits(stage: Stage, running: str) -> None:
    stage.log(running, *[f"line {n}" for n in range(20)])
    texts: list[str] = []
    control = CardControl(Actions(stage.kit), lambda whole, _: texts.extend(filter(None, [whole.get("file")])))
    control.follow(running)
    wait_until(lambda: control.model is not None, what="the job")

    for n in ("1", "12"):
        control.do("log-page", {"action": "log-page", "name": n, "search": n})
    wait_until(lambda: bool(texts), what="an answer")

    assert [[line["text"] for line in json.loads(text)["lines"]] for text in texts] == [["line 12"]]
    control.stop()


@pytest.mark.browser
def test_a_search_and_the_pages_of_a_log_see_all_of_it(
    stage: Stage, serve: Serve, window: Window, running: str
) -> None:
    def told() -> str:
        return text_of(page, ".logs .strip .muted").replace("\n", "")

    for start in range(1, 1_301, 100):
        stage.log(running, *[f"step {n}" for n in range(start, start + 99)])
        stage.log(running, f"failed at {start}", source="log", level="ERROR")
    page = window.open(serve(card(stage, running)))
    page.wait_for_selector(".line:has-text('step 1299')")
    assert told() == "lines 801 to 1,300 of 1,300"

    page.fill(".find", "STEP 42")  # 42 and 420 to 429, of which the browser has none
    page.wait_for_selector(".line[data-n='42']")
    assert page.locator(".line").count() == 11
    assert told() == "lines 42 to 429 of 1,300; 11 match"

    page.fill(".find", "")
    page.wait_for_selector(".line[data-n='1300']")
    page.select_option(".logs .pick", label="Errors")
    page.wait_for_selector(".line[data-n='100']")
    assert page.locator(".line").count() == 13
    page.select_option(".logs .pick", label="All levels")
    page.wait_for_selector(".line:has-text('step 1299')")

    page.click("button:has-text('Older lines')")
    page.wait_for_selector(".line[data-n='301']")
    assert told() == "lines 301 to 800 of 1,300"
    stage.log(running, "one more")
    page.wait_for_selector(".pill:has-text('1 new line')")
    page.click("button:has-text('Newer lines')")
    page.wait_for_selector(".line[data-n='801']")
    page.click(".strip button:has-text('Follow')")
    page.wait_for_selector(".line:has-text('one more')")
    assert told() == "lines 801 to 1,301 of 1,301"


@pytest.mark.nightly
@pytest.mark.browser
def test_a_log_is_narrowed_to_warnings_and_errors(stage: Stage, serve: Serve, window: Window, running: str) -> None:
    stage.log(running, "printed")
    page = window.open(serve(card(stage, running)))
    page.wait_for_selector(".line:has-text('printed')")
    assert page.locator(".logs .pick").is_hidden()  # there is nothing to choose yet
    for level in ("INFO", "WARNING", "ERROR"):
        stage.log(running, f"said {level}", source="log", level=level, logger="train")
    page.wait_for_selector(".line:has-text('said ERROR')")

    page.select_option(".logs .pick", label="Warnings")
    stage.log(running, "more printed")
    stage.log(running, "a second", source="log", level="ERROR")

    page.wait_for_selector(".line:has-text('a second')")
    shown = [line for line in page.locator(".line .text").all() if line.is_visible()]
    assert [line.inner_text() for line in shown] == ["said WARNING", "said ERROR", "a second"]


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "is_alone"), by_default([("light", False), ("dark", True)]))
def test_a_bokeh_figure_is_drawn_in_a_frame_that_reaches_nothing(
    stage: Stage, serve: Serve, url: str, window: Window, running: str, scheme: str, is_alone: bool
) -> None:
    figure = pytest.importorskip("bokeh.plotting").figure(title=f"Losses {CANARY}", width=400, height=220)
    figure.line([1, 2, 3], [3, 1, 2])
    models = pytest.importorskip("bokeh.models")
    figure.js_on_event("document_ready", models.CustomJS(code="window.top.boom=1"))
    column = pytest.importorskip("bokeh.layouts").column(figure, models.Div(text=CANARY))
    preview, _ = preview_of(column)
    assert "bokeh" in preview
    stage.succeed(running, preview=preview)

    # The dashboard has not loaded what draws the text beside the figure.
    page = window.open(serve(card(stage, running)) if is_alone else f"{url}?job={running}", color_scheme=scheme)

    frame = page.frame_locator(".result iframe.drawn")
    frame.locator("canvas").first.wait_for()
    wait_until(lambda: page.locator("iframe.drawn").bounding_box()["height"] > 220, what="the frame to fit")  # type: ignore[index]
    assert page.evaluate("window.boom === undefined")
    assert page.locator("iframe.drawn").get_attribute("sandbox") == "allow-scripts"
    window.errors[:] = [
        said for said in window.errors if "Security" not in said and "cross-origin frame" not in said
    ]  # the frame's refusals


@pytest.mark.nightly
@pytest.mark.browser
def test_a_page_of_an_artifact_may_run_but_reach_nothing(
    stage: Stage, serve: Serve, window: Window, running: str
) -> None:
    stage.save(
        running,
        "figure.html",
        "text/html",
        b"<p id=p>no</p><script>p.textContent='ran';try{top.document.title}catch{}</script>",
    )
    stage.succeed(running)
    page = window.open(serve(card(stage, running)))

    page.click(".file .name")

    page.frame_locator(".files iframe").locator("text=ran").wait_for()
    assert page.evaluate("window.boom === undefined")
