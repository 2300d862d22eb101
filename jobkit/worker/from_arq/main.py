"""A worker process for a settings class of arq's; what `jobkit worker --arq` runs."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import Any

from arq.connections import RedisSettings
from arq.utils import import_string
from arq.worker import get_kwargs
from redis.connection import parse_url
from redis.exceptions import RedisError

from jobkit.model import JobkitError
from jobkit.settings import Settings, masked
from jobkit.worker.about import RecycleLimits
from jobkit.worker.from_arq.worker import Worker
from jobkit.worker.main import CANNOT_START, STOPPED, log_to_stderr

logger = logging.getLogger("jobkit.worker.from_arq")


def run_arq_worker(
    path: str,
    settings: Settings,
    *,
    burst: bool = False,
    slots: int | None = None,
    queue: str | None = None,
    max_jobs: int | None = None,
    max_time: float | None = None,
    max_memory: int | None = None,
    verbose: bool = False,
) -> int:
    """Run the jobs of an existing arq worker until a signal, a limit or (burst) an empty queue; blocks.

    Args:
        path: of the settings class, `"module.WorkerSettings"`.
        settings: jobkit's own. Their URL counts where the class names no Redis and it is one.
        burst, slots, queue: before what the class says.
        max_jobs, max_time (seconds), max_memory (bytes): stop after that much.

    Returns:
        0 after an orderly end, 2 where the worker could not start.
    """
    log_to_stderr(settings.log_format, verbose=verbose, quiet=("asyncio",))
    logging.getLogger("jobkit.worker").setLevel(logging.DEBUG if verbose else logging.WARNING)
    logger.setLevel(logging.INFO)  # arq's lines tell of jobs
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        options = options_of(path, settings)
        over = {"burst": burst or None, "max_jobs": slots, "queue_name": queue}
        options |= {name: value for name, value in over.items() if value is not None}
        worker = _made(path, options, settings)
        worker.recycle = RecycleLimits(max_jobs, max_time, max_memory)
        where = masked(worker.settings.url)
        logger.info(
            "worker %s serves %s with %d slots; see it with JOBKIT_URL=%s jobkit dashboard",
            worker.info.id, worker.queue_name, worker.max_jobs, where,
        )  # fmt: skip
        worker.run()
    except (JobkitError, _CannotStart) as error:
        logger.error("%s", error)
        return CANNOT_START
    except (RedisError, OSError) as error:
        logger.error("Redis at %s does not answer (%s): check redis_settings of %s", where, error, path)
        return CANNOT_START
    except KeyboardInterrupt:  # before the signal handlers were in place
        return 130
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    logger.info("worker ended after %d jobs", worker.jobs_complete + worker.jobs_failed)
    return STOPPED if worker.was_asked_to_stop else 0


class _CannotStart(Exception):
    """One sentence for the user."""


def _made(path: str, options: dict[str, Any], settings: Settings) -> Worker:
    try:
        return Worker(**options, settings=settings, owns_process=True)
    except (RuntimeError, ValueError, TypeError, ImportError) as error:  # arq's own checks of what is in the class
        raise _CannotStart(f"--arq {path}: {error}") from error


def options_of(path: str, settings: Settings) -> dict[str, Any]:
    """Return the arguments that arq's settings class gives to a worker.

    Raises:
        _CannotStart: there is no such class, or its module cannot be imported.
    """
    sys.path.append(os.getcwd())  # as arq does
    try:
        options: dict[str, Any] = dict(get_kwargs(import_string(path.replace(":", "."))))
    except Exception as error:  # the module is the user's
        raise _CannotStart(f"--arq {path}: {type(error).__name__}: {error}") from error
    if not options.get("functions") and not options.get("cron_jobs"):
        raise _CannotStart(f"--arq {path}: it names neither functions nor cron_jobs")
    is_ours = settings.scheme in ("redis", "rediss", "unix")
    if is_ours and options.get("redis_settings") is None and options.get("redis_pool") is None:
        options["redis_settings"] = redis_settings(settings.url)
    return options


def redis_settings(url: str) -> RedisSettings:
    """A URL of ours as arq's settings."""
    found: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]  # redis-py has none here
    tls = {
        name: found[name] for name in RedisSettings.__dataclass_fields__ if name.startswith("ssl_") and name in found
    }
    return RedisSettings(
        host=found.get("host", "localhost"),
        port=found.get("port", 6379),
        unix_socket_path=found.get("path"),
        database=found.get("db", 0),
        username=found.get("username"),
        password=found.get("password"),
        ssl=url.startswith("rediss://"),
        **({"ssl_check_hostname": True} | tls if url.startswith("rediss://") else {}),
    )
