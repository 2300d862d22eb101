"""`Notice`: one sentence, as a page or above all pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import param
from panel.custom import JSComponent

from jobkit.ui.live.component import Component
from jobkit.ui.words import assets


class Notice(Component, JSComponent):
    """One thing to say.

    Attributes:
        said: in a few words, "" for nothing. more: in a sentence. lines: commands to type.
        is_banner: whether it is a line above other content, and also says when the server does not answer.
    """

    said = param.String(default="")
    more = param.String(default="")
    lines = param.List(default=[], item_type=str)
    is_banner = param.Boolean(default=False)

    _esm = assets.esm("notice")
    _stylesheets: ClassVar[list[str]] = [assets.css("notice")]

    def __init__(self, said: str = "", more: str = "", lines: Sequence[str] = (), *, is_banner: bool = False) -> None:
        look = {"sizing_mode": "stretch_width", "styles": {"flex": "none"}} if is_banner else {}
        shown = {"sizing_mode": "stretch_both", **look, "said": said, "more": more, "lines": list(lines)}
        super().__init__(margin=0, is_banner=is_banner, **shown)
