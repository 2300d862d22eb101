"""A worker process from start to exit status, and its log; what `jobkit worker` and the supervisor run."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from jobkit.features import modules, services
from jobkit.joined import REVOKED
from jobkit.model import JobkitError, StoreUnavailable
from jobkit.model.plain import iso
from jobkit.model.unhandled import log_unhandled
from jobkit.run.inside.tracebacks import keep_locals
from jobkit.run.placement import Placement
from jobkit.run.process.state import hiding
from jobkit.run.shortage import Threads, raise_file_limit
from jobkit.settings import Settings
from jobkit.system import processes
from jobkit.tasks.info import sealed_definition
from jobkit.tasks.registry import registry
from jobkit.worker.about import RecycleLimits
from jobkit.worker.helpers import end

if TYPE_CHECKING:
    from jobkit.worker.worker import JobWorker


def log_to_stderr(log_format: str, *, verbose: bool, quiet: Sequence[str] = ("asyncio", "arq")) -> None:
    """Set up the logging of this process: "text", or "json" for `JsonLines`; of `quiet` loggers only warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonLines() if log_format == "json" else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    for chatty in quiet:
        logging.getLogger(chatty).setLevel(logging.WARNING)


class JsonLines(logging.Formatter):
    """`{"time", "level", "logger", "message", "job_id"?, "exception"?}`, time as ISO 8601 in UTC.

    A line belongs to a job if its format begins with the id, as ours do: "job %s ...".
    """

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": iso(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if isinstance(record.msg, str) and record.msg.startswith("job %s") and isinstance(record.args, tuple):
            line["job_id"] = str(record.args[0])
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


logger = logging.getLogger("jobkit.worker")

#: Exit status of a worker of which a part has failed, and which has to be started again.
FAILED = 1
#: Exit status of a worker that could not start: a task module that fails to import, a Redis that refuses us.
CANNOT_START = 2
#: After `jobkit workers stop`: its supervisor does not start it again.
STOPPED = 3


def run_worker(
    settings: Settings,
    *,
    tasks: Sequence[str] = (),
    queues: Sequence[str] | Mapping[str, float] = ("default",),
    slots: int = 10,
    resources: Mapping[str, float] | None = None,
    burst: bool = False,
    recycle: RecycleLimits | None = None,
    verbose: bool = False,
    is_local: bool = False,
    is_supervised: bool = False,
    revive: Callable[[], bool] | None = None,
) -> int:
    """Run jobs until a signal, a limit or (burst) an empty queue; blocks.

    Args:
        settings: where and how; `settings.url` is a Redis, not `local://`.
        tasks: modules to import before the first job.
        queues: served in this order; with weights ({"fast": 3, "slow": 1}) they share the slots. `slots`: jobs at once.
        resources: what it has for jobs that need such things: {"gpu": 2}.
        recycle: stop (after running jobs) when these limits are reached.
        is_local: it serves a home on this machine: jobs run in the environment of who submitted them.
        is_supervised: by the home's supervisor, whose SIGHUP asks it to retire.
        revive: see `JobWorker`.

    Returns:
        the exit status, see `run_in_new_loop`.
    """
    log_to_stderr(settings.log_format, verbose=verbose)
    if settings.missing_guard == "TLS and a password":
        logger.warning(
            "%s is reached over the network without TLS and a password: anyone who reaches it can read and change "
            "its contents; docs/reliability.md says how to guard it",
            settings.masked_url,
        )

    runner: Placement | None = None

    def make() -> JobWorker:
        nonlocal runner
        registry.load(tasks)
        keep_locals(settings.locals)
        runner = Placement(
            tasks,
            spares=min(2, slots),
            start_method=settings.start_method,
            block_s=min(1.0, 2 * settings.heartbeat),
            dead_s=settings.lease,
            is_local=is_local,
            imports_ahead=settings.import_ahead,
        )
        runner.prepare()
        # Redis and arq, while the processes of jobs start
        from jobkit.worker.walltime import IDLE, Walltime, seconds_of
        from jobkit.worker.worker import JobWorker

        worker = JobWorker(
            settings,
            runner,
            queues=queues,
            slots=slots,
            resources=resources,
            burst=burst,
            recycle=recycle,
            walltime=Walltime.of(os.environ, settings.drain),
            idle_s=seconds_of(os.environ, IDLE),
            tasks=registry.names(),
            introduce=partial(_introduce, is_local=is_local),
            watch=runner.watch,
            revive=revive,
        )
        worker.store.runs_any_python = is_local
        return worker

    def serve(worker: JobWorker) -> None:
        logger.info("worker %s serves %s with %d slots", worker.info.id, ", ".join(queues), slots)
        with hiding():  # coroutines may run in this very process
            if is_supervised:
                worker.loop.add_signal_handler(signal.SIGHUP, worker.stop_gently, "retire", "replaced")
            else:
                drain_on_hangup(worker)
            drain_on_sigusr1(worker)
            worker.loop.run_until_complete(_serve(worker))

    try:
        return run_in_new_loop(make, serve, logger)
    finally:
        if runner is not None:
            runner.abandon()


def run_in_new_loop(make: Callable[[], JobWorker], serve: Callable[[JobWorker], None], logger: logging.Logger) -> int:
    """Make a worker and let it serve, both with a new event loop.

    Returns:
        The exit status: 0 after an orderly end, 1 if a part of it has failed, 2 if it could not start, 3 if
        `jobkit workers stop` asked for it, 4 if this machine was revoked.
    """
    raise_file_limit()
    loop = asyncio.new_event_loop()
    loop.set_default_executor(Threads(thread_name_prefix="asyncio"))
    loop.set_exception_handler(log_unhandled)
    asyncio.set_event_loop(loop)
    try:
        worker = make()
        serve(worker)
    except JobkitError as error:
        logger.error("%s", error)
        return REVOKED if isinstance(error, StoreUnavailable) and error.is_revoked else CANNOT_START
    except KeyboardInterrupt:  # before the signal handlers were in place
        return 130
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    logger.info("worker ended after %d jobs", worker.jobs_complete + worker.jobs_failed)
    return STOPPED if worker.was_asked_to_stop else FAILED if worker.helpers.has_failed else 0


def drain_on_hangup(worker: JobWorker) -> None:
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as `nohup` sets it
        worker.loop.add_signal_handler(signal.SIGHUP, worker.hang_up)


def drain_on_sigusr1(worker: JobWorker) -> None:
    if signal.getsignal(signal.SIGUSR1) in (signal.SIG_DFL, signal.SIG_IGN):  # else a task module uses it
        worker.loop.add_signal_handler(signal.SIGUSR1, worker.stop_gently, "drain", "SIGUSR1")


async def _serve(worker: JobWorker) -> None:
    beside: list[asyncio.Task[None]] = []
    try:
        for name, module in services("worker", worker.settings):
            if service := module.service_of(worker.settings, worker.store):
                await service.begin()
                beside.append(worker.helpers.run(name, service.run()))
        await worker.async_run()
    finally:
        await end(beside)
        await worker.close()


async def _introduce(worker: JobWorker, *, is_local: bool) -> None:
    if is_local:  # all workers are processes of this machine
        for dead in await worker.store.report_dead(processes.has_died):
            logger.info("worker %s has died; its jobs run again", dead)
    tasks, codec = registry.all(), worker.codec
    others = [each for each in await worker.store.workers() if each.is_alive and each.id != worker.info.id]
    for other, keys in (await worker.store.key_ids(others)).items():
        if problem := codec.key_problem(keys):
            fix = "set the same JOBKIT_SECRET for both, or let the machine that has joined join again"
            logger.warning("worker %s %s: %s, else jobs fail", other, problem, fix)
    await worker.store.publish_tasks({task.name: sealed_definition(task.info().to_json(), codec) for task in tasks})
    for module in modules("coded"):
        await module.introduce(worker.store, tasks, worker.settings, codec)
