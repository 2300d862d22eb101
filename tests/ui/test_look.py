"""The look, where it can be computed: contrast of every colour pair, one source of colours, no markup from text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import panel as pn
import pytest
from bokeh.models import ImportedStyleSheet

from jobkit.features.timeline.bars import COLOURS
from jobkit.model.format import FACES
from jobkit.ui.words import assets
from tests.ui.conftest import Window
from tests.ui.stage import Stage

HERE = Path(assets.__file__).parent.parent
TOKENS = (HERE / "words" / "tokens.css").read_text("utf-8")


def theme(name: str) -> dict[str, str]:
    light, dark = (block.partition("}")[0] for block in (TOKENS, TOKENS.partition('[data-theme="dark"]')[2]))
    found = dict(re.findall(r"--jk-([\w-]+):\s*(#[0-9a-f]{6})", light if name == "light" else dark))
    assert len(found) > 20
    return found


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def grey(colour: str) -> str:
    """Return a colour as the filter `grayscale(1)` shows it, which marks old data."""
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + f"{round(0.2126 * r + 0.7152 * g + 0.0722 * b):02x}" * 3


@pytest.mark.parametrize("shown", [str, grey])
@pytest.mark.parametrize("name", ["light", "dark"])
def test_every_text_has_enough_contrast_on_its_backgrounds(name: str, shown: Callable[[str], str]) -> None:
    colours = theme(name)
    pairs = [(text, ground) for text in ("text", "muted") for ground in ("bg", "raised", "sunken", "selected")]
    pairs += [(state, f"{state}-bg") for state in FACES]
    pairs += [("failed", "bg"), ("accent", "bg"), ("on-accent", "accent"), ("accent", "accent-soft"), ("bg", "failed")]

    weak = {pair: round(contrast(shown(colours[pair[0]]), shown(colours[pair[1]])), 2) for pair in pairs}

    assert {pair: ratio for pair, ratio in weak.items() if ratio < 4.5} == {}


@pytest.mark.parametrize("name", ["light", "dark"])
def test_bars_and_borders_of_fields_can_be_seen(name: str) -> None:
    colours = theme(name)

    assert contrast(colours["fill"], colours["track"]) >= 3
    assert contrast(colours["line-strong"], colours["bg"]) >= 2.5


#: How people without one kind of cone see a colour (linear RGB); Machado and others, 2009.
SIGHTS = {
    "all": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "no green": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "no blue": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


def seen(colour: str, sight: str) -> tuple[float, float, float]:
    """Return a colour as it is seen, in Oklab: distances are how different colours look."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    r, g, b = (max(0.0, sum(x * y for x, y in zip(row, linear, strict=True))) for row in SIGHTS[sight])
    long = (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) ** (1 / 3)
    middle = (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) ** (1 / 3)
    short = (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


def mixed(colour: str, ground: str, share: float) -> str:
    parts = ((int(colour[i : i + 2], 16), int(ground[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(one * share + two * (1 - share)):02x}" for one, two in parts)


@pytest.mark.parametrize("name", ["light", "dark"])
def test_everybody_can_distinguish_the_colours_of_tasks_and_curves(name: str) -> None:
    colours = theme(name)
    series = [colours[f"series-{n}"] for n in range(1, COLOURS + 1)]

    for one, other in combinations(series, 2):
        apart = {sight: math.dist(seen(one, sight), seen(other, sight)) for sight in SIGHTS}
        assert min(apart.values()) > 0.05, (one, other, apart)
    for colour in series:
        assert contrast(colour, colours["bg"]) >= 3
        for ground in (colour, mixed(colour, colours["bg"], 0.9)):  # a bar on the timeline that ended, one that runs
            assert max(contrast(ground, text) for text in ("#ffffff", "#0b1220")) >= 4.5


def test_both_themes_name_the_same_colours() -> None:
    assert theme("light").keys() == theme("dark").keys()


@pytest.mark.browser
def test_forced_colours_leave_bars_and_choices_visible(stage: Stage, url: str, window: Window) -> None:
    stage.progress(stage.running(), 3, 10)
    page = window.open(url, forced_colors="active")
    page.wait_for_selector(".row .bar")

    def ground(selector: str) -> Any:
        return page.locator(selector).first.evaluate("el => getComputedStyle(el).backgroundColor")

    assert ground(".row .bar > i") != ground(".row .bar")
    assert ground(".tab[aria-current]") != ground(".tab:not([aria-current])")
    assert ground(".counter[aria-pressed=true]") != ground(".counter[aria-pressed=false]")


@pytest.mark.parametrize("path", sorted(HERE.rglob("*.js")), ids=lambda path: path.name)
def test_no_module_turns_text_into_markup_or_asks_another_host(path: Path) -> None:
    code = re.sub(r"//.*", "", path.read_text("utf-8").replace("http://www.w3.org/2000/svg", ""))

    code = code.replace("import(new URL(url, document.baseURI))", "")  # for Panel's own shim
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\s*\(|new Function|https?://|import\(", code
    )


@pytest.mark.parametrize("path", sorted(HERE.rglob("*.css")), ids=lambda path: path.name)
def test_no_sheet_asks_another_host_or_has_its_own_text_colours(path: Path) -> None:
    css = path.read_text("utf-8")

    assert not re.search(r"url\(|@import|https?:", css)
    if path.name != "tokens.css":
        assert not re.search(r"(?<![-\w])color:\s*#", css)


@pytest.mark.parametrize("name", ["card", "table", "form", "nav", "drawer"])
def test_a_component_is_one_module_and_one_sheet(name: str) -> None:
    assert assets.esm(name).count("export default") == 1
    assert "import " not in re.sub(r"//.*|/\*.*?\*/|`[^`]*`|'[^']*'|\"[^\"]*\"", "", assets.esm(name))
    assert "--jk-bg" in assets.css(name)


def test_a_card_in_any_app_or_notebook_names_no_other_host(stage: Stage) -> None:
    from bokeh.document import Document

    from jobkit.ui.card.job_card import JobCard

    card = JobCard(stage.kit, stage.submit("train"), stylesheets=["/mine.css"])

    for root in (card.get_root(Document()), pn.Column(card).get_root(Document())):
        models: list[Any] = [model for model in root.references() if type(model).__name__ != "Column"]
        own = next(model for model in models if type(model).__name__ == "ReactiveESM")
        linked = [sheet.url for sheet in own.stylesheets if isinstance(sheet, ImportedStyleSheet)]
        assert linked == ["/mine.css"]
        assert own.importmap == {}
