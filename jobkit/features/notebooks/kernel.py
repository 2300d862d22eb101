"""`python -m jobkit.features.notebooks.kernel -f FILE`: the IPython kernel of a notebook that runs as a job.

What its cells say by jobkit (progress, metrics, artifacts, log) goes to the job's process through a pipe, as frames
like those of a job to its worker (`run/process/frames.py`), and so does how a cell failed and what the last one shows.
It ends with the job's process, however that ends.
"""

from __future__ import annotations

import importlib
import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from jobkit.codec import MSGPACK
from jobkit.model import JobkitError, LogLine
from jobkit.run.attempt import Outcome
from jobkit.run.ended import raised, succeeded
from jobkit.run.inside import context, patches
from jobkit.run.inside.answers import Reply
from jobkit.run.inside.context import Context
from jobkit.run.inside.recorder import Recorder
from jobkit.run.inside.shown_values import Body, Bounds, safe_repr
from jobkit.run.inside.ticker import Ticker
from jobkit.run.process import frames
from jobkit.system import death

#: Variable of the kernel's environment with its `KernelOrder`, as hexadecimal digits.
ORDER = "JOBKIT_KERNEL"

#: A value of the last cell is kept itself up to this size; of plain data, and of tables and arrays.
_VALUE_BYTES = 1_000_000
_TABLES = ("pandas", "numpy", "polars", "pyarrow")


class KernelOrder(msgspec.Struct, frozen=True):
    """Orders of a job's process to its kernel.

    Attributes:
        parent: id of that process. fd: pipe to it. folder: for large artifacts on their way.
        path: directories to import from, of that process. cells: number of cells that will be executed.
    """

    parent: int
    fd: int
    folder: str
    path: list[str]
    cells: int
    job_id: str
    attempt: int
    task: str


class _PipeSink:
    """Sends the news of the cells to the job's process."""

    def __init__(self, order: KernelOrder) -> None:
        self._fd, self._folder = order.fd, order.folder
        self._lock = threading.RLock()

    def send(self, kind: bytes, content: Any) -> None:
        view = memoryview(frames.frame(kind, content))
        with self._lock:
            while view:
                view = view[os.write(self._fd, view) :]

    def lines(self, lines: Sequence[LogLine]) -> None:
        self.send(frames.LINES, [line.to_wire() for line in lines])

    def progress(self, completed: float | None, total: float | None, message: str) -> None:
        self.send(frames.PROGRESS, (completed, total, message))

    def emit(self, kind: str, news: Any) -> None:
        self.send(frames.NEWS, (kind, news))

    def artifact(self, name: str, media: str, body: Body) -> None:
        if isinstance(body, bytes) and len(body) <= frames.PART_BYTES:
            self.send(frames.ARTIFACT, (name, media, body, ""))
            return
        path = f"{self._folder}/{secrets.token_hex(8)}"
        frames.spool(path, body, "")
        self.send(frames.ARTIFACT, (name, media, b"", path))

    def sync(self, key: str, reply: Callable[[Reply], None]) -> bool:
        """Do nothing: it cannot go on later."""
        return False

    def request(self, feature: str, key: str, body: bytes, reply: Callable[[Reply], None]) -> None:
        raise JobkitError("a notebook that runs as a job cannot ask questions")


def ending_of(value: Any) -> Outcome:
    """Return the success of a notebook whose last cell shows a value: itself if it is data, else its text."""
    outcome = succeeded(value, allow_pickle=True).last()
    is_data = outcome.form == MSGPACK or type(value).__module__.partition(".")[0] in _TABLES
    if is_data and len(outcome.body) <= _VALUE_BYTES:
        return outcome
    text = succeeded(safe_repr(value), allow_pickle=True).last()
    preview = {name: each for name, each in (outcome.preview or {}).items() if name != "unavailable"}
    return replace(text, preview=preview or None, summary=outcome.summary if is_data else text.summary)


def _follow(shell: Any, sink: _PipeSink, recorder: Recorder, cells: int) -> None:
    """Tell how cells fail, and what the last one shows."""
    shell.compile.get_code_name = lambda raw, transformed, number: f"Cell In[{number}]"  # in tracebacks

    def ended(result: Any) -> None:
        error = result.error_before_exec or result.error_in_exec
        if error is None and result.execution_count != cells:
            return
        recorder.close()
        outcome = ending_of(result.result) if error is None else raised(error, allow_pickle=True).last()
        sink.send(frames.ENDED, (result.execution_count, frames.EndReport(outcome, False, (b"", b""))))

    shell.events.register("post_run_cell", ended)


def _is_of_cells(record: logging.LogRecord) -> bool:
    """Return False for an error of the kernel's own sockets: at its end, it may flush to one that is closed already."""
    return record.exc_info is None or not type(record.exc_info[1]).__module__.startswith("zmq.")


def main() -> None:
    order = msgspec.msgpack.decode(bytes.fromhex(os.environ.pop(ORDER)), type=KernelOrder)
    if not death.end_with_parent(order.parent, signal.SIGKILL):
        sys.exit("the process of the job is gone")
    os.set_inheritable(order.fd, False)
    sys.path[1:1] = [path for path in order.path if path not in sys.path]
    sink = _PipeSink(order)
    ticker = Ticker(lambda: recorder.tick())
    recorder = Recorder(sink, ticker.arm, bounds=Bounds(each_bytes=1 << 40, total_bytes=1 << 40))
    job = Context(order.job_id, order.attempt, order.task, recorder)
    if order.job_id:
        context.own_process(job)
        os.register_at_fork(after_in_child=job.detach)
        patches.install(is_shown=True)
    app: Any = importlib.import_module("ipykernel.kernelapp").IPKernelApp.instance()
    app.initialize()
    logging.getLogger("tornado.general").addFilter(_is_of_cells)
    _follow(app.shell, sink, recorder, order.cells)
    Path(order.folder).mkdir(exist_ok=True)
    app.start()
    recorder.close()


if __name__ == "__main__":
    main()
