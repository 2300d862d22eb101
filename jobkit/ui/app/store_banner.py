"""`StoreBanner`: the sentence that stands on every page of a dashboard while the store takes no changes.

Asked for once in `LOOK_S` by each server process, not by each page, with one small script that tries to write nothing:
so it is true where no worker lives, and goes by itself. A refused action makes it look at once.
"""

from __future__ import annotations

from typing import Any, ClassVar

import param
from panel.custom import JSComponent

from jobkit.ui.live.component import Component
from jobkit.ui.live.feed_page import TextFeed
from jobkit.ui.words import assets

#: What it means for who looks at the page.
_MEANWHILE = "Until then nothing can be submitted or changed here; jobs that run go on, and their results are kept."


class StoreBannerFeed(TextFeed):
    """The sentence, "" where all is well."""

    LOOK_S = 5.0
    CHANNELS = ()

    async def text(self) -> str:
        refused = await self.kit.verbs.store.refused()
        return f"{refused}. {_MEANWHILE}" if refused is not None else ""


class StoreBanner(Component, JSComponent):
    """The sentence on the page.

    Attributes:
        text: what it says; nothing is shown where it is empty.
    """

    text = param.String(default="")

    fills_page: ClassVar[bool] = False
    _esm = assets.esm("store_banner")
    _stylesheets: ClassVar[list[str]] = [assets.css("store_banner")]

    def __init__(self, **params: Any) -> None:
        super().__init__(sizing_mode="stretch_width", margin=0, **params)
