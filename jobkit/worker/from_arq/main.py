"""A worker process for a settings class of arq's; what `jobkit worker --arq` runs."""

from __future__ import annotations

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
from jobkit.worker.main import log_to_stderr, run_in_new_loop
from jobkit.worker.worker import JobWorker

logger = logging.getLogger("jobkit.worker.from_arq")


def run_arq_worker(
    path: str,
    settings: Settings,
    *,
    burst: bool = False,
    slots: int | None = None,
    queue: str | None = None,
    recycle: RecycleLimits,
    verbose: bool = False,
) -> int:
    """Run the jobs of an existing arq worker until a signal, a limit or (burst) an empty queue; blocks.

    Args:
        path: of the settings class, `"module.WorkerSettings"`.
        settings: jobkit's own. Their URL counts if the class names no Redis and it is one.
        burst, slots, queue: before what the class says.
        recycle: stop (after running jobs) when these limits are reached.

    Returns:
        the exit status, see `run_in_new_loop`.
    """
    log_to_stderr(settings.log_format, verbose=verbose, quiet=("asyncio",))
    logging.getLogger("jobkit.worker").setLevel(logging.DEBUG if verbose else logging.WARNING)
    logger.setLevel(logging.INFO)  # arq's lines tell of jobs

    def make() -> Worker:
        options = options_of(path, settings)
        over = {"burst": burst or None, "max_jobs": slots, "queue_name": queue}
        options |= {name: value for name, value in over.items() if value is not None}
        try:
            worker = Worker(**options, settings=settings, owns_process=True)
        except (RuntimeError, ValueError, TypeError, ImportError) as error:  # arq's own checks of what is in the class
            raise JobkitError(f"--arq {path}: {error}") from error
        worker.recycle = recycle
        return worker

    def serve(worker: JobWorker) -> None:
        where = masked(worker.settings.url)
        logger.info(
            "worker %s serves %s with %d slots; see it with JOBKIT_URL=%s jobkit dashboard",
            worker.info.id, worker.queue_name, worker.max_jobs, where,
        )  # fmt: skip
        try:
            worker.run()
        except JobkitError:
            raise
        except (RedisError, OSError) as error:
            raise JobkitError(f"Redis at {where} does not answer ({error}): check redis_settings of {path}") from error

    return run_in_new_loop(make, serve, logger)


def options_of(path: str, settings: Settings) -> dict[str, Any]:
    """Return the arguments that arq's settings class gives to a worker.

    Raises:
        JobkitError: there is no such class, or its module cannot be imported.
    """
    sys.path.append(os.getcwd())  # as arq does
    try:
        options: dict[str, Any] = dict(get_kwargs(import_string(path.replace(":", "."))))
    except Exception as error:  # the module is the user's
        raise JobkitError(f"--arq {path}: {type(error).__name__}: {error}") from error
    if not options.get("functions") and not options.get("cron_jobs"):
        raise JobkitError(f"--arq {path}: it names neither functions nor cron_jobs")
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
