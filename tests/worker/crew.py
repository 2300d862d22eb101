"""`python -m tests.worker.crew FAULT QUEUE ...`: one worker for each pair, forked from one warm process.

Jobs run in threads, so a worker costs only one fork. Prints the process ids, and `PID STATUS` for each that ends.
Ends at the end of its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import sys

from jobkit.run.shared import ThreadRunner
from jobkit.settings import Settings
from jobkit.worker.worker import JobWorker
from tests import faults

from . import jobs


def serve(fault: str, queue: str) -> None:
    """Run one worker until a signal."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    faults.arm(fault)

    async def run() -> None:
        worker = JobWorker(Settings.load(), ThreadRunner(), queues=[queue], slots=2)
        try:
            await worker.async_run()
        finally:
            await worker.close()

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(run())


def main() -> None:
    assert jobs.everything.name == "everything"
    children = []
    for fault, queue in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.setpgid(0, 0)
                serve(fault, queue)
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    print(*children, flush=True)
    living = set(children)
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        with contextlib.suppress(ChildProcessError):
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid:
                living.discard(pid)
                print(pid, os.waitstatus_to_exitcode(status), flush=True)
    for pid in living:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in living:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
