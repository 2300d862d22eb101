"""`Notice`: a page that has one thing to say, and what may be done about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import param
from panel.custom import JSComponent

from jobkit.ui import assets
from jobkit.ui.own import SelfContained


class Notice(SelfContained, JSComponent):
    """One thing to say.

    Attributes:
        said: in a few words. more: in a sentence. lines: what somebody may type.
    """

    said = param.String(default="")
    more = param.String(default="")
    lines = param.List(default=[], item_type=str)

    _esm = assets.esm("notice")
    _stylesheets: ClassVar[list[str]] = [assets.css("notice")]

    def __init__(self, said: str, more: str, lines: Sequence[str] = ()) -> None:
        super().__init__(said=said, more=more, lines=list(lines), sizing_mode="stretch_both", margin=0)
