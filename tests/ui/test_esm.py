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
_STRIP = "SearchBox, timeTexts, timeWords, withoutTime"
_STARTS = "startText, clockText, keepSelected"


def units_pass(folder: Path, tmp_path: Path, **modules: str) -> None:
    """Check the units `*.test.mjs` of a folder; each finds the text of module `name` at the address `JOBKIT_NAME`."""
    from playwright._impl._driver import compute_driver_executable

    node, _ = compute_driver_executable()  # Playwright brings node, so it need not be installed
    addresses = {}
    for name, text in modules.items():
        module = tmp_path / f"{name}.mjs"
        module.write_text(text, "utf-8")
        addresses[f"JOBKIT_{name.upper()}"] = module.as_uri()
    units = sorted(folder.glob("*.test.mjs"))

    ended = subprocess.run(
        [node, "--test", "--test-reporter=tap", *map(str, units)],
        env={**os.environ, **addresses},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    count = sum(each.read_text("utf-8").count("\ntest(") for each in units)
    assert count
    assert f"# pass {count}\n" in ended.stdout


def sources(*names: str) -> str:
    """Return the texts of scripts, one after the other."""
    return "\n".join(assets.source(f"{name}.js") for name in names)


def test_the_modules_units_pass_under_nodes_test_runner(tmp_path: Path) -> None:
    units_pass(
        _ESM,
        tmp_path,
        esm=f"{assets.esm('card')}\nexport {{{_UNITS}, {_STARTS}}};\n",
        csv=f"{sources('csv')}\nexport {{csvCell, distinct}};\n",
        chart=f"{sources('chart')}\nexport {{chartsOf}};\n",
        strip=sources("common", "icons", "search", "strip")
        + "\nexport {SearchBox, timeTexts, timeWords, withoutTime};\n",
        log=f"{sources('log_reader')}\nexport {{LogReader}};\n",
        drafts=sources("common", "fields", "drafts") + "\nexport {Drafts, fieldText, mayBeSecret};\n",
    )


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
