"""The browser's half by itself: its units under node's test runner, and one card in both of its homes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobkit.model import EventType
from jobkit.ui.words import assets
from tests.ui.test_card_model import STARTED, at, event, progress, queued

_ESM = Path(__file__).parent / "esm"
_UNITS = "parse, duration, ago, timeLeft, usualWidth, number, bytes, ticking, ask, modelOf, logOf, Pulse"
_STARTS = "startText, clockText, keepSelected"
_LANES = "arrangeLanes, fromAxis, laneBlocks, laneLabel, laneRows, mixed, toAxis"


def test_the_modules_units_pass_under_nodes_test_runner(tmp_path: Path) -> None:
    from playwright._impl._driver import compute_driver_executable

    node, _ = compute_driver_executable()  # Playwright brings node, so it need not be installed
    module = tmp_path / "card.mjs"
    module.write_text(f"{assets.esm('card')}\nexport {{{_UNITS}, {_STARTS}}};\n", "utf-8")
    lanes = tmp_path / "lanes.mjs"
    lanes.write_text(
        f"{assets.source('timeline_lanes.js')}\nexport {{{_LANES}}};\n",
        "utf-8",
    )
    csv = tmp_path / "csv.mjs"
    csv.write_text(f"{assets.source('csv.js')}\nexport {{csvCell, distinct}};\n", "utf-8")
    chart = tmp_path / "chart.mjs"
    chart.write_text(f"{assets.source('chart.js')}\nexport {{chartsOf}};\n", "utf-8")
    strip = tmp_path / "strip.mjs"
    text = "\n".join(assets.source(f"{part}.js") for part in ("common", "icons", "search", "strip"))
    strip.write_text(f"{text}\nexport {{SearchBox, timeTexts, timeWords, withoutTime}};\n", "utf-8")
    log = tmp_path / "log.mjs"
    log.write_text(f"{assets.source('log_reader.js')}\nexport {{LogReader}};\n", "utf-8")
    drafts = tmp_path / "drafts.mjs"
    form = "\n".join(assets.source(f"{part}.js") for part in ("common", "fields", "drafts"))
    drafts.write_text(f"{form}\nexport {{Drafts, fieldText, mayBeSecret}};\n", "utf-8")
    units = sorted(map(str, _ESM.glob("*.test.mjs")))

    ended = subprocess.run(
        [node, "--test", "--test-reporter=tap", *units],
        env={
            **os.environ,
            "JOBKIT_ESM": module.as_uri(),
            "JOBKIT_LANES": lanes.as_uri(),
            "JOBKIT_CSV": csv.as_uri(),
            "JOBKIT_CHART": chart.as_uri(),
            "JOBKIT_STRIP": strip.as_uri(),
            "JOBKIT_LOG": log.as_uri(),
            "JOBKIT_DRAFTS": drafts.as_uri(),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    count = sum(each.read_text("utf-8").count("\ntest(") for each in _ESM.glob("*.test.mjs"))
    assert f"# pass {count}\n" in ended.stdout


def moments() -> Iterator[dict[str, str]]:
    """The texts of one job's card as its life goes on."""
    view = queued(tags=("demo",))
    yield view.everything(at(1))
    view.take(STARTED)
    view.take(progress(1, 25, 100, 6))
    yield view.everything(at(8))
    view.take(
        event(2, EventType.LOGGED, 8, first=1, count=2, lines=[[8, "", "", "", "hello"], [9, "", "", "", "<b>x</b>"]])
    )
    error = {"kind": "exception", "type": "ValueError", "message": "boom", "traceback": "", "where": "a.py:3 in f"}
    view.take(event(3, EventType.FAILED, 9, state="failed", finished=1, error=error))
    view.show({"type": "dict", "text": "{'a': 1}", "json": {"a": 1}})
    yield view.everything(at(9))


@pytest.fixture
def homes(browser: Any) -> Iterator[Any]:
    """A page with one card in each of its homes; `feed(texts)` there gives both the same."""
    page = browser.new_page()
    page.set_content("<div id='notebook'></div><div id='panel'></div>")
    page.evaluate(
        """async ([homes, card]) => {
          const made = await import(URL.createObjectURL(new Blob([homes], {type: "text/javascript"})));
          window.feed = await made.homes(card);
        }""",
        [(_ESM / "homes.mjs").read_text("utf-8"), assets.esm("card")],
    )
    yield page
    page.close()


@pytest.mark.browser
def test_both_homes_show_the_same_snapshots_alike(homes: Any) -> None:
    shown = [homes.evaluate("(texts) => window.feed(texts)", texts) for texts in moments()]

    for notebook, panel in shown:
        assert notebook == panel
    assert len({notebook for notebook, _ in shown}) == 3
    for (notebook, _), word in zip(shown, ("Queued", "Running", "ValueError"), strict=True):
        assert word in notebook
    assert "&lt;b&gt;x" in shown[2][0]


@pytest.mark.nightly
@pytest.mark.browser
def test_the_scroll_position_in_a_log_is_kept_when_it_is_sent_again(homes: Any) -> None:
    """A page that has missed something asks for everything; what is new in it is counted all the same."""

    def log(count: int) -> str:
        lines = [{"n": n, "at": at(n).isoformat(), "text": f"line {n}", "source": "stdout"} for n in range(1, count)]
        return json.dumps({"lines": lines, "total": count, "dropped": 0})

    homes.add_style_tag(content=assets.css("card"))
    _, running, _ = moments()
    homes.evaluate("(texts) => window.feed(texts)", running | {"log": log(100)})
    homes.evaluate("document.querySelectorAll('.rows').forEach((rows) => { rows.style.height = '100px'; })")
    homes.locator("#panel button:has-text('Pause')").click()
    homes.evaluate("document.querySelector('#panel .rows').scrollTop = 300")

    homes.evaluate("(texts) => window.feed(texts)", {"log": log(102)})

    assert homes.locator("#panel .pill").inner_text().startswith("2 new lines")
    assert homes.evaluate("document.querySelector('#panel .rows').scrollTop") == 300
    assert homes.locator("#notebook .pill").is_hidden()  # it follows
