"""Pages of jobs whose reads are late: whatever happens meanwhile, they end like a page that is read afterwards."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest

from jobkit.client.loop import background
from jobkit.features.batches.store import BatchStore
from jobkit.store.query import Query
from jobkit.ui.jobs.board import BoardFeed
from jobkit.ui.jobs.home import HomeFeed
from tests.support import wait_until
from tests.ui.screen import Screen
from tests.ui.stage import Stage

PAGES = {
    "home": (HomeFeed, Query()),
    "all": (BoardFeed, Query(limit=200)),
    "of a task": (BoardFeed, Query(task="train")),
    "running": (BoardFeed, Query(states=("running",))),
    "queued": (BoardFeed, Query(states=("queued",))),
}

#: Cells that do not depend on time or on reads of their own pace.
STEADY = ("id", "face", "args", "progress", "batch", "worker")


def make_late(thing: Any, name: str, chance: random.Random) -> None:
    """Have a read of the store take a while before and after it is done."""
    read: Callable[..., Any] = getattr(thing, name)

    @wraps(read)
    async def late(*of: Any, **more: Any) -> Any:
        await asyncio.sleep(chance.choice((0.0, 0.01, 0.02)))
        found = await read(*of, **more)
        await asyncio.sleep(chance.choice((0.0, 0.02, 0.05)))
        return found

    setattr(thing, name, late)


def play(stage: Stage, chance: random.Random) -> None:
    """Do something of all that may happen to jobs, with and without a pause in between."""
    waiting: list[str] = []
    running: list[str] = []
    ended: list[str] = []
    for step in range(40):
        what = chance.choice(("submit", "batch", "start", "start", "progress", "progress", "end", "retry", "delete"))
        if what == "submit":
            waiting.append(stage.submit(params={"n": step}))
        elif what == "batch":
            waiting += stage.batch(*({"n": n} for n in range(chance.randrange(1, 4))))[1:]
        elif what == "start" and waiting:
            stage.start(waiting[0])
            running.append(waiting.pop(0))
        elif what == "progress" and running:
            stage.progress(chance.choice(running), step, 100)
        elif what == "end" and running:
            ended.append(running.pop(chance.randrange(len(running))))
            chance.choice((stage.succeed, stage.fail))(ended[-1])
        elif what == "retry" and ended:
            waiting.append(stage.submit(params={"n": step}, retry_of=chance.choice(ended)))
        elif what == "delete" and ended:
            background.call(stage.store.delete([ended.pop()]))
        background.call(asyncio.sleep(chance.choice((0.0, 0.0, 0.03))))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("page", PAGES)
def test_a_page_ends_like_one_that_is_read_afterwards(stage: Stage, page: str, seed: int) -> None:
    chance = random.Random(f"{page} {seed}")
    feed, query = PAGES[page]
    make_late(stage.store, "snapshots", chance)
    for name in ("infos", "folded", "newest"):
        make_late(stage.store.part(BatchStore), name, chance)
    screen = Screen(stage, query, None, feed)

    play(stage, chance)

    def shown(rows: list[dict[str, Any]]) -> tuple[list[list[Any]], bool]:
        times = [row["submitted_at"] for row in rows]
        is_ordered = feed is HomeFeed or times == sorted(times, reverse=True)
        return sorted([row.get(cell) for cell in STEADY] for row in rows), is_ordered  # some are of one millisecond

    async def read() -> dict[str, Any]:
        fresh = feed(stage.kit, query)
        await fresh.read()
        return fresh.model.whole(fresh.now())

    def is_same() -> bool:
        now = background.call(read())
        rows = [screen.rows[row_id] for row_id in screen.order if row_id in screen.rows and row_id not in screen.left]
        return shown(rows) == shown(now["rows"]) and screen.told["counts"] == now["counts"]

    wait_until(is_same, what="the page to be as it is read now")
    screen.close()
