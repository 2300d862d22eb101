"""`StoreBanner`: the sentence on every page of a dashboard while the store refuses changes.

Each server process, not each page, checks every `LOOK_S` seconds with one small script that tries an empty write: so it
is right without any worker, and the sentence goes by itself. A refused action triggers a check at once.
"""

from __future__ import annotations

from typing import Any, ClassVar

import param
from panel.custom import JSComponent

from jobkit.ui.live.component import Component
from jobkit.ui.live.feed_page import TextFeed
from jobkit.ui.words import assets

#: Consequence for the user.
_MEANWHILE = "Until then nothing can be submitted or changed here; jobs that run go on, and their results are kept."


class StoreBannerFeed(TextFeed):
    """The sentence, "" if the store takes changes."""

    LOOK_S = 5.0
    CHANNELS = ()

    async def text(self) -> str:
        refused = await self.kit.verbs.store.refused()
        return f"{refused}. {_MEANWHILE}" if refused is not None else ""


class StoreBanner(Component, JSComponent):
    """The sentence on the page.

    Attributes:
        text: the sentence; "" hides the banner.
    """

    text = param.String(default="")

    fills_page: ClassVar[bool] = False
    _esm = assets.esm("store_banner")
    _stylesheets: ClassVar[list[str]] = [assets.css("store_banner")]

    def __init__(self, **params: Any) -> None:
        super().__init__(sizing_mode="stretch_width", margin=0, **params)
