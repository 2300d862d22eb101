"""Makes the pictures of the gallery: of each notebook the card or output that shows most, from the built site.

    make docs && python docs/make_gallery.py

Needs the `test` extra and a Chromium.
"""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent
GALLERY = DOCS / "images" / "gallery"

#: Size of a picture, in pixels, and of the part of the page that it shows.
WIDTH, HEIGHT = 560, 350
COLOURS = 64


def main() -> None:
    """Make all pictures."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    GALLERY.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        for notebook in sorted((DOCS.parent / "notebooks").glob("*.ipynb")):
            page.goto((DOCS / "_build" / "notebooks" / notebook.with_suffix(".html").name).as_uri())
            cards = page.locator("[class^=jks-]")
            shown = cards if cards.count() else page.locator(".cell")
            boxes = [each.bounding_box() or {"height": 0} for each in shown.all()]
            tallest = max(range(len(boxes)), key=lambda n: boxes[n]["height"])
            picture = Image.open(BytesIO(shown.nth(tallest).screenshot())).convert("RGB")
            frame = Image.new("RGB", (picture.width, picture.width * HEIGHT // WIDTH), "white")
            frame.paste(picture, (0, 0))
            frame = frame.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
            frame.quantize(COLOURS, dither=Image.Dither.NONE).save(GALLERY / f"{notebook.stem}.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
