"""Task module that breaks the part `BROKEN` of its worker, once, when the file `BREAK_AT` appears."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable
from typing import Any

PARTS = {
    "inbox": ("jobkit.worker.inbox", "WorkerInbox", "read"),
    "heartbeat": ("jobkit.worker.lease", "LeaseKeeper", "beat"),
    "scheduler": ("jobkit.features.schedules.beside", "Scheduler", "keep"),
    "durations": ("jobkit.worker.about", "Durations", "keep"),
    "exchange with Redis": ("jobkit.worker.worker", "JobWorker", "_exchange"),
}


def is_time() -> bool:
    """Return True once, when the file is there."""
    try:
        os.unlink(os.environ["BREAK_AT"])
    except FileNotFoundError:
        return False
    return True


def breaking(old: Callable[..., Any]) -> Callable[..., Any]:
    async def runs(self: Any, *args: Any, **options: Any) -> Any:
        work = asyncio.ensure_future(old(self, *args, **options))
        try:
            while not work.done():
                if is_time():
                    raise RuntimeError("broken by a test")
                await asyncio.wait([work], timeout=0.02)
            return work.result()
        finally:
            work.cancel()

    def beats(self: Any) -> None:
        if is_time():
            raise RuntimeError("broken by a test")
        old(self)

    return runs if asyncio.iscoroutinefunction(old) else beats


if part := os.environ.get("BROKEN"):
    module, owner, name = PARTS[part]
    kind = getattr(importlib.import_module(module), owner)
    setattr(kind, name, breaking(getattr(kind, name)))
