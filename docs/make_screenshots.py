"""Makes the pictures in `docs/images`: real jobs of a team (`team_place.py`), on the real dashboard, in both themes.

    python docs/make_screenshots.py
    python docs/make_screenshots.py --widths FOLDER
    python docs/make_screenshots.py --questions FOLDER --jobs 5000

The first makes those of every page and card; the second makes the same at the widths of a phone, a laptop and a large
screen, to compare them before and after a change. The third walks to the answers of a team's questions
(`tests/ui/questions.py`), and prints how many clicks and seconds each took. An error in the browser's console, a
request to another host, and a question without an answer make the exit status 1; the last lines name them. Needs the
`test` extra and a Chromium; takes a few minutes.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import team_place  # noqa: E402

#: File name, what the URL asks for, and what is on the page when it is ready.
PAGES = (
    ("home", "", ".jk-table .row[data-id]"),
    ("dashboard", "job={job}", ".jk-card .chart"),
    ("waiting-job", "job={waits}", ".jk-card .title"),
    ("failed-job", "job={failed}", ".jk-card .failure"),
    ("ended-job", "job={ended}", ".jk-card .chart"),
    ("batch", "page=batch&id={batch}", ".jk-batch .chart"),
    ("compare", "page=compare&ids={before},{ended}", ".jk-pair .chart"),
    ("jobs-compared", "page=compare&q=task:report", ".jk-batch .grid .row"),
    ("log", "page=log&id={log}&q=station", ".jk-log .line.current"),
    ("timeline", "page=timeline", ".jk-timeline .legend li"),
    ("failures", "page=failures&group={group}", ".jk-failures .failure"),
    ("workers", "page=workers", ".jk-workers .worker"),
    ("schedules", "page=schedules", ".jk-schedules .schedule"),
    ("submit", "page=submit", ".jk-form h2"),
)

#: Windows of `--widths`.
WINDOWS = ((390, 844), (1440, 900), (2560, 1440))

#: The pictures hold few colours: a palette makes them a third as large, with no visible difference.
COLOURS = 160


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=Path, metavar="FOLDER", help="for pictures at several widths")
    parser.add_argument("--questions", type=Path, metavar="FOLDER", help="for pictures of the answers to questions")
    parser.add_argument("--jobs", type=int, default=300, help="number of jobs of the place")
    asked = parser.parse_args()
    with team_place.served(asked.jobs) as (url, ids):
        if asked.questions:
            answer(url, ids, asked.questions)
        elif asked.widths:
            for window in WINDOWS:
                picture(url, window, asked.widths / str(window[0]), **ids)
        else:
            picture(url, (1280, 720), ROOT / "docs" / "images", **ids)


def answer(url: str, ids: Mapping[str, str], folder: Path) -> None:
    """Walk to the answer of each question, and print how many clicks and seconds it took, by the browser's clock.

    Raises SystemExit that names the questions without an answer, after all have been asked.
    """
    from tests.ui.questions import QUESTIONS, Walk

    unanswered = list[str]()
    folder.mkdir(parents=True, exist_ok=True)
    print("| question | clicks | searches | seconds | answer |\n|---|---|---|---|---|")
    with opened() as browser:
        for text, question in QUESTIONS.items():
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            page = context.new_page()
            page.goto(url)
            walk = Walk(page, ids)
            try:
                said = question(walk)
            except Exception as error:
                said = f"no answer: {str(error).splitlines()[0]}"
                unanswered.append(text)
            seconds = page.evaluate("performance.now() / 1000")
            print(f"| {text} | {walk.clicks} | {walk.searches} | {seconds:.1f} | {said[:100]} |", flush=True)
            keep(page.screenshot(), folder / f"{question.__name__}.png")
            context.close()
    if unanswered:
        sys.exit(f"no answer to: {' | '.join(unanswered)}")


@contextmanager
def opened() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def picture(url: str, window: tuple[int, int], folder: Path, **ids: str) -> None:
    """Make a picture of each page in both themes. A narrow window is that of a phone."""
    folder.mkdir(parents=True, exist_ok=True)
    is_phone, wrong = window[0] < 700, list[str]()
    near = (url.rpartition("/")[0], "data:", "blob:")
    with opened() as browser:
        for theme, suffix in (("light", ""), ("dark", "-dark")):
            context = browser.new_context(
                viewport={"width": window[0], "height": window[1]},
                color_scheme=theme,
                has_touch=is_phone,
                is_mobile=is_phone,
            )
            page = context.new_page()
            page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
            page.on("request", lambda asked: None if asked.url.startswith(near) else wrong.append(asked.url))
            for name, query, ready in PAGES:
                page.goto(f"{url}?{query.format(**ids)}")
                page.wait_for_selector(f".jk-nav[data-theme={theme}]")
                page.wait_for_selector(ready)
                page.locator(".jk-nav .place").evaluate("place => { place.textContent = 'local://'; }")
                page.wait_for_timeout(2000)  # until the fonts, the first flush and the figures are there
                keep(page.screenshot(), folder / f"{name}{suffix}.png")
            context.close()
    if wrong:
        sys.exit("\n".join(wrong))


def keep(picture: bytes, path: Path) -> None:
    image = Image.open(BytesIO(picture)).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
