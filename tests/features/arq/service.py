"""A typical service of an arq user. Functions and hooks append lines to a file."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from arq import Retry, func
from arq.connections import RedisSettings

Ctx = dict[str, Any]


def note(line: str) -> None:
    with Path(os.environ["SERVICE_NOTES"]).open("a") as file:
        file.write(line + "\n")


async def add(ctx: Ctx, a: int, b: int = 1) -> int:
    print(f"adding {a} and {b}")
    note(f"add {a} for {ctx['greeting']}")
    return a + b


async def wait(ctx: Ctx, name: str, seconds: float = 60.0) -> str:
    note(f"start {name} try {ctx['job_try']}")
    try:
        await asyncio.sleep(seconds)
    finally:
        note(f"leave {name}")
    return name


async def until(ctx: Ctx, name: str, path: str) -> str:
    """Wait for a file."""
    note(f"start {name} try {ctx['job_try']}")
    while not Path(path).exists():  # noqa: ASYNC110  # another process creates it
        await asyncio.sleep(0.02)
    note(f"end {name}")
    return name


async def block(ctx: Ctx, seconds: float) -> None:
    note("block")
    time.sleep(seconds)  # noqa: ASYNC251  # the mistake under test


async def flaky(ctx: Ctx, succeeds_at: int) -> int:
    if ctx["job_try"] < succeeds_at:
        raise Retry(defer=0.05)
    return int(ctx["job_try"])


async def poison(ctx: Ctx) -> None:
    note("poison")
    os.kill(os.getpid(), signal.SIGKILL)


async def startup(ctx: Ctx) -> None:
    ctx["greeting"] = "hello"
    note("startup")


async def shutdown(ctx: Ctx) -> None:
    note("shutdown")


class WorkerSettings:
    functions = (add, wait, until, block, func(flaky, max_tries=3), poison)
    on_startup = startup
    on_shutdown = shutdown
    redis_settings = RedisSettings(unix_socket_path=os.environ.get("SERVICE_SOCKET"))
    allow_abort_jobs = True
    poll_delay = float(os.environ.get("SERVICE_POLL", "0.5"))
    job_completion_wait = int(os.environ.get("SERVICE_WAIT", "0"))
