"""`SearchedPage`: a live page with the search box of `words/search.js`: its text, what is wrong with it, completion."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import msgspec
import param

from jobkit.client.loop import background
from jobkit.client.verbs import Verbs
from jobkit.model import InvalidParams, JobkitError
from jobkit.model.plain import dumps
from jobkit.store.completion import COUNTED, Caret, Suggestion, caret_in, suggestions
from jobkit.store.grammar import HELP, MAX_CHARS, parse, read_search
from jobkit.store.query import Query, is_pattern, narrowed
from jobkit.ui.live.component import LivePage

#: Seconds for counting the values of a field, at most: a user waits for the suggestions.
_COUNT_S = 0.1


class SearchedPage(LivePage):
    """A page of the jobs that a search finds.

    Attributes:
        search: the search text, see `store.grammar`. problem: what is wrong with it. help: the lines of its help.
        zone: time zone of the browser, for times like 22:00; "" until it is known, then that of the server counts.
        options: the newest suggestions of the search box, as JSON.
    """

    search = param.String(default="")
    problem = param.String(default="")
    help = param.List(default=[list(line) for line in HELP])
    options = param.String(default="")
    zone = param.String(default="")

    _completing: Future[None] | None = None

    def query_of(self, order: str = "", cursor: str = "") -> tuple[Query, str]:
        """Return the query of the search text and "", or an empty query and what is wrong."""
        return read_search(self.search, order, cursor, zone=self.zone or None)

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        text = str(asked.get("text", ""))[:MAX_CHARS]
        if action == "complete":
            at = asked.get("at")
            if self._completing is not None:
                self._completing.cancel()  # only the newest text counts
            place = at if isinstance(at, int) and 0 <= at <= len(text) else len(text)
            self._completing = background.spawn(self._complete(text, place))
        elif action == "zone":
            self._set_zone(str(asked.get("zone", ""))[:60])
        else:
            super()._do(action, asked)

    def _set_zone(self, zone: str) -> None:
        before = self.query_of()
        with suppress(InvalidParams):
            parse("", zone=zone)
            self.zone = zone
        if self.query_of() != before:
            self._follow()

    async def _complete(self, text: str, at: int) -> None:
        """On the background loop: send what can be typed at a place of a text."""
        caret, found = caret_in(text, at), list[Suggestion]()
        if caret is not None:
            with suppress(JobkitError):
                found = await completed(self._kit.verbs, caret, self._access.person.only_owner, self.zone)
        told = {"text": text, "at": at, "options": msgspec.to_builtins(found)}
        if caret is not None:
            told |= {"from": caret.start, "to": caret.end, "field": caret.field, "typed": caret.typed}
        self._bridge.put(self, {"options": dumps(told)})


async def completed(verbs: Verbs, caret: Caret, only: str | None = None, zone: str = "") -> list[Suggestion]:
    """Return the suggestions at a caret, with the number of jobs that match the rest of the text.

    Args:
        only: the owner whose jobs alone may be counted, or None.
    """
    if caret.field not in COUNTED or (only is not None and is_pattern(only)):
        return suggestions(caret)
    try:
        rest = parse(caret.rest, zone=zone or None)
    except InvalidParams:  # another word is half typed
        rest = Query()
    verbs.use_index()
    for query in (rest, Query()):
        if (counts := await verbs.tally(narrowed(query, only), caret.field, for_s=_COUNT_S)) is not None:
            break
    return await asyncio.to_thread(suggestions, caret, counts)  # 100,000 jobs may have as many tags
