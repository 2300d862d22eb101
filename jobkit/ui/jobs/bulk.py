"""Bulk actions: on the chosen jobs, or on all that a search finds.

The jobs are counted, the user confirms, and the action runs in slices on the background loop while the page shows its
progress; a delete waits for some seconds in which it can be undone. It goes on when the window is closed. `Actions`
checks each slice and writes it into the audit log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from jobkit.client.loop import background
from jobkit.model import JobkitError
from jobkit.model.plain import dumps
from jobkit.store.query import Query, narrowed
from jobkit.ui.access.actions import Actions

_ENDED = ("succeeded", "failed", "cancelled")

#: What may be done to many: the states in which it makes sense, and the words before and after it.
ACTIONS = {
    "cancel": (("scheduled", "queued", "running"), "cancelled", "cancelled or asked to stop"),
    "retry": (_ENDED, "retried", "submitted again"),
    "delete": (_ENDED, "deleted", "deleted"),
}

#: Jobs of one slice; the page shows a step for each.
SLICE = 200

#: Seconds in which a delete can be undone.
UNDO_S = 5.0

#: Seconds for counting the jobs before the question, at most.
_COUNT_S = 10.0

#: Most ids that a browser may name.
MOST = 10_000


@dataclass(frozen=True, slots=True)
class BulkCall:
    """An action on jobs by id, or on all that a query finds."""

    action: str
    ids: tuple[str, ...] = ()
    query: Query | None = None


class Bulk:
    """The bulk work of one table. `show` takes a JSON text each time that something is to be seen; from any thread.

    The text: `state` is "counting", "asking", "undoable", "running" or "ended"; `action`, `total` (jobs, where known),
    `done`, `until` (ms, of "undoable"), `sentence` (of "ended").
    """

    def __init__(self, access: Actions, show: Callable[[str], object]) -> None:
        self._access = access
        self._show = show
        self._call: BulkCall | None = None
        self._total: int | None = None
        self._stopped = asyncio.Event()
        self._is_busy = False
        self.shown = ""

    def ask(self, call: BulkCall) -> None:
        """Count the jobs, and have the page ask for confirmation."""
        if not self._is_busy and call.action in ACTIONS and self._access.may(call.action):
            background.spawn(self._ask(call))

    def go(self) -> None:
        """Start: the user has confirmed."""
        call, self._call = self._call, None
        if call is not None and not self._is_busy:
            self._is_busy = True
            self._stopped.clear()
            background.spawn(self._run(call, self._total))

    def stop(self) -> None:
        """Cancel, undo, or stop between two slices; finished slices stay done."""
        self._call = None
        if self._is_busy:
            background.start().call_soon_threadsafe(self._stopped.set)
        else:
            self._tell()

    # -- on the background loop --------------------------------------------------------------------------------------

    async def _ask(self, call: BulkCall) -> None:
        self._call = None
        query = self._query_of(call)
        self._tell("counting", call.action)
        try:
            total = len(call.ids) if query is None else await self._access.kit.verbs.count(query, _COUNT_S)
        except JobkitError as error:
            self._tell("ended", call.action, sentence=str(error))
            return
        if total is None:
            sentence = "how many jobs that would be is not known yet: they are still being read; try again in a moment"
            self._tell("ended", call.action, sentence=sentence)
        elif not total:
            self._tell("ended", call.action, sentence=f"no job here can be {ACTIONS[call.action][1]}")
        else:
            self._call, self._total = call, total
            self._tell("asking", call.action, total=total)

    def _query_of(self, call: BulkCall) -> Query | None:
        """Return the query of the jobs, newest first: jobs that come meanwhile are newer, and left out."""
        if call.query is None:
            return None
        states: tuple[str, ...] = ACTIONS[call.action][0]
        if call.query.states:
            states = tuple(state for state in call.query.states if state in states) or ("none",)
        query = replace(call.query, states=states, order="", cursor="", limit=SLICE)
        only = self._access.person.only_owner
        return query if only is None else narrowed(query, only)

    async def _run(self, call: BulkCall, total: int | None) -> None:
        done, problem = 0, ""
        try:
            if call.action == "delete":
                self._tell("undoable", call.action, total=total, until=int((time.time() + UNDO_S) * 1000))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopped.wait(), UNDO_S)
                    self._tell()
                    return
            async for ids in self._slices(call):
                if self._stopped.is_set():
                    break
                self._tell("running", call.action, total=total, done=done)
                answer = await self._access.act(call.action, ids)
                done += len(ids)
                if not answer.is_ok:
                    problem = problem or answer.sentence
            sentence = f"{done:,} {'job' if done == 1 else 'jobs'} {ACTIONS[call.action][2]}"
            if problem:
                sentence = problem if done <= SLICE else f"{done:,} jobs were gone through; first problem: {problem}"
            elif self._stopped.is_set():
                sentence += ", then stopped"
            self._tell("ended", call.action, total=total, done=done, sentence=sentence, is_ok=not problem)
        except JobkitError as error:
            self._tell("ended", call.action, done=done, sentence=f"after {done:,} jobs: {error}")
        finally:
            self._is_busy = False

    async def _slices(self, call: BulkCall) -> AsyncIterator[Sequence[str]]:
        query = self._query_of(call)
        if query is None:
            for start in range(0, len(call.ids), SLICE):
                yield call.ids[start : start + SLICE]
            return
        while True:
            page = await self._access.kit.verbs.page(query)
            if page.jobs:
                yield [job.id for job in page.jobs]
            if not page.next_cursor:
                return
            query = replace(query, cursor=page.next_cursor)

    def _tell(self, state: str = "", action: str = "", **facts: Any) -> None:
        self.shown = dumps({"state": state, "action": action, **facts}) if state else ""
        self._show(self.shown)
