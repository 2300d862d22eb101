"""Execution of a notebook in the process of its job: a kernel, its cells one by one, and what they leave.

The kernel is a child of the job's process. It is ended before the attempt ends, whatever the reason; if the process is
killed, the kernel ends with it (`kernel.py`), and the worker's own sweep finds it by its environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from jobkit.codec import decode
from jobkit.features.notebooks.as_html import as_html
from jobkit.features.notebooks.kernel import ORDER, KernelOrder
from jobkit.features.notebooks.parameters import INJECTED, SUFFIX, TAG, cell_of
from jobkit.model import ErrorKind, InvalidParams, JobkitError, LogLine
from jobkit.model.snapshot import JobError
from jobkit.run import news
from jobkit.run.attempt import Outcome, Rejected, failed
from jobkit.run.ended import EndedElsewhere
from jobkit.run.inside import context
from jobkit.run.inside.context import Context
from jobkit.run.inside.pictures import PICTURE
from jobkit.run.inside.tracebacks import crash_text
from jobkit.run.process import frames
from jobkit.tasks.cell import title_of

#: A cell that is interrupted, because the job is stopped, has so many seconds for its clean-up.
_CLEAN_UP_S = 3.0

#: The notebook is saved after a cell if this many times as long as the last save took is over, and so many seconds.
_TIMES, _NOTEBOOK_S, _HTML_S = 20, 0.2, 5.0

#: What a cell prints is in the notebook up to so many characters. The log of the job has more.
_PRINTED_CHARS, _MORE = 1_000_000, "\n… the rest is in the log of the job …\n"

#: Beginning of the names of folders for a run's files. Younger ones may not be locked yet.
_PREFIX, _YOUNG_S = "jobkit-notebook-", 60.0

#: Media types of what it leaves.
MEDIA = {SUFFIX: "application/x-ipynb+json", ".html": "text/html"}

#: Maximum length of the path of a Unix socket, less what ZeroMQ adds to it.
_SOCKET_CHARS = 90

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


async def execute(name: str, content: str, cwd: str, parameters: Mapping[str, Any]) -> Any:
    """Execute a notebook with these parameters; return how it ended or, outside a job, what its last cell shows.

    Args:
        content: its JSON. cwd: working directory of the kernel; that of this process if it does not exist here.

    Raises:
        EndedElsewhere: a cell failed, or the kernel died; outside a job a JobkitError. Rejected: a library is missing.
    """
    nbformat, _ = _library("nbformat"), _library("nbclient")
    _sweep()
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, _locked(folder):
        node = nbformat.reads(content, as_version=4)
        _insert(nbformat, node, parameters, Path(folder, "parameters"))
        running = _Execution(name, node, folder, cwd if os.path.isdir(cwd) else os.getcwd()).run()
        if context.active() is not None:
            return await running
        try:
            ended = await running
        except EndedElsewhere as error:
            raise JobkitError(str(error.outcome.error)) from None
        return None if ended is None else decode(ended.outcome.form, ended.outcome.body)


@contextlib.contextmanager
def _locked(folder: str | Path) -> Iterator[None]:
    """Hold the lock of a folder, which ends with this process. Raises OSError if another process has it."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def _sweep() -> None:
    """Delete the folders of processes that were killed."""
    for each in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or its process lives
            if time.time() - each.stat().st_mtime > _YOUNG_S:
                with _locked(each):
                    shutil.rmtree(each, ignore_errors=True)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise Rejected(
            f"notebooks as jobs need {error.name}, which {sys.executable} does not have: "
            'pip install "panel-jobkit[notebook]" there'
        ) from None


def _insert(nbformat: Any, node: Any, parameters: Mapping[str, Any], file: Path) -> None:
    """Insert a cell that sets the parameters after the cell of their defaults; replace that of an earlier run."""
    node.cells = [cell for cell in node.cells if INJECTED not in cell.metadata.get("tags", [])]
    if parameters:
        at = next(i for i, cell in enumerate(node.cells) if TAG in cell.metadata.get("tags", []))
        cell = nbformat.v4.new_code_cell(cell_of(parameters, file), metadata={"tags": [INJECTED]})
        if node.nbformat_minor < 5:
            del cell["id"]
        node.cells.insert(at + 1, cell)


def _is_executed(cell: Any) -> bool:
    is_skipped = "skip-execution" in cell.metadata.get("tags", [])
    return cell.cell_type == "code" and bool(cell.source.strip()) and not is_skipped


class _Execution:
    """One run of a notebook.

    Args:
        name: of the notebook. folder: for its files meanwhile. cwd: of the kernel.
    """

    def __init__(self, name: str, node: Any, folder: str, cwd: str) -> None:
        self._node, self._folder, self._cwd = node, folder, cwd
        self._job = context.current()
        self._cells = [i for i, cell in enumerate(node.cells) if _is_executed(cell)]
        self._outputs = Outputs(name, node, self._job)
        self._label, self._at = "starting the kernel", 0
        self._number = 0  # of the cell that runs
        self._ended: asyncio.Future[frames.EndReport] = asyncio.get_running_loop().create_future()

    async def run(self) -> EndedElsewhere | None:
        self._report()
        client = _client(self._node, self._job)
        self._outputs.save()
        try:
            async with self._kernel(client):
                for at, index in enumerate(self._cells):
                    cell, self._at = self._node.cells[index], at
                    self._label = f"cell {at + 1} of {len(self._cells)}: {title_of(cell.source)}"
                    self._report()
                    await self._execute(client, cell, index)
                    self._outputs.save()
                self._at, self._label = len(self._cells), ""
                self._report()
            client.set_widgets_metadata()
        finally:
            self._outputs.save(is_last=True)
        outcome = self._ended.result().outcome if self._ended.done() else None
        return (
            None if outcome is None or outcome.outcome == "failed" else EndedElsewhere(outcome)
        )  # a cell that may fail

    async def _execute(self, client: Any, cell: Any, index: int) -> None:
        exceptions = importlib.import_module("nbclient.exceptions")
        self._number, self._ended = self._at + 1, asyncio.get_running_loop().create_future()
        running = asyncio.ensure_future(client.async_execute_cell(cell, index, execution_count=self._number))
        try:
            await asyncio.shield(running)
        except exceptions.CellExecutionError as error:
            with contextlib.suppress(TimeoutError):  # a kernel of another language tells nothing
                report = await asyncio.wait_for(asyncio.shield(self._ended), 2 if client.is_own else 0)
                raise EndedElsewhere(report.outcome) from None
            text = f"{_ANSI.sub('', error.traceback)}\n{error.ename}: {error.evalue}"
            where = f"Cell In[{self._at + 1}]"
            found = JobError(ErrorKind.EXCEPTION, error.ename, error.evalue, traceback=text, where=where)
            raise EndedElsewhere(Outcome("failed", error=found)) from None
        except exceptions.DeadKernelError:
            code = await client.km.provisioner.poll() if client.km.provisioner is not None else None
            kind, _ = crash_text(code or 0)
            sentence = f"the kernel died in {self._label} ({kind})"
            raise EndedElsewhere(failed(ErrorKind.CRASH, kind, sentence)) from None
        except BaseException:  # the job is stopped: let the cell clean up, and keep what it shows meanwhile
            with contextlib.suppress(Exception):
                await client.km.interrupt_kernel()
            await asyncio.wait([running], timeout=_CLEAN_UP_S)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            raise

    @contextlib.asynccontextmanager
    async def _kernel(self, client: Any) -> AsyncIterator[None]:
        """Start the kernel, and end it with all that it has started in its group."""
        reads, writes = os.pipe()
        try:
            reading = asyncio.create_task(self._read(reads))
            order = KernelOrder(
                os.getpid(), writes, self._folder, [path for path in sys.path if path], len(self._cells),
                self._job.job_id, self._job.attempt, self._job.task,
            )  # fmt: skip
            environ = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
            environ[ORDER] = msgspec.msgpack.encode(order).hex()
            is_hurried = True
            try:
                client.create_kernel_manager()
                client.km.connection_file = f"{self._folder}/kernel.json"
                if len(self._folder) < _SOCKET_CHARS:  # else over TCP, where users of this machine can listen
                    client.km.transport, client.km.ip = "ipc", f"{self._folder}/kernel"
                await client.async_start_new_kernel(cwd=self._cwd, env=environ, pass_fds=(writes,))
                os.close(writes)
                writes = -1
                await client.async_start_new_kernel_client()
                yield
                is_hurried = False
            finally:
                if client.kc is not None:
                    client.kc.stop_channels()
                if client.km is not None and client.km.has_kernel:
                    await client.km.shutdown_kernel(now=is_hurried)
        finally:
            if writes >= 0:
                os.close(writes)
            await asyncio.wait([reading], timeout=1)
            reading.cancel()

    async def _read(self, fd: int) -> None:
        """Take the news of the kernel until it ends."""
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb"))
        found = frames.Frames()
        try:
            while data := await reader.read(1 << 16):
                for kind, content in found.feed(data):
                    self._take(kind, content)
        finally:
            transport.close()

    def _take(self, kind: bytes, content: Any) -> None:
        recorder = self._job.recorder
        if kind == frames.ENDED:
            number, report = content
            if number == self._number and not self._ended.done():  # not that of an earlier cell, which may fail
                self._ended.set_result(frames.EndReport.from_wire(report))
        elif recorder is None:
            return
        elif kind == frames.PROGRESS:
            self._report(*content)
        elif kind == frames.LINES:
            for line in map(LogLine.from_wire, content):
                recorder.line(line.source, line.text, line.level, line.logger)
        elif kind == frames.NEWS:
            name, said = content
            recorder.emit(name, news.of(name).read(said))
        elif kind == frames.ARTIFACT:
            name, media, body, path = content
            try:
                self._keep(name, media, Path(path) if path else body)
            finally:
                if path:
                    Path(path).unlink(missing_ok=True)

    def _keep(self, name: str, media: str, body: bytes | Path) -> None:
        recorder = self._job.recorder
        assert recorder is not None
        try:
            if media == PICTURE:
                recorder.relay(name, media, body)
            else:
                recorder.artifact(name, media, body)
        except (InvalidParams, OSError) as error:
            recorder.line("jobkit", str(error), "WARNING")

    def _report(self, completed: float | None = None, total: float | None = None, message: str = "") -> None:
        """Show how far it is, with the progress of the running cell."""
        part = completed / total if completed is not None and total else 0.0
        inner = f"{message} {completed:g}/{total:g}".strip() if completed is not None and total else message
        label = " · ".join(filter(None, (self._label, inner)))
        self._job.report(self._at + part, len(self._cells), label)


def _client(node: Any, job: Context) -> Any:
    """Return what executes cells: in a kernel of this Python, or in the notebook's own if that is another language."""
    nbclient, jupyter = _library("nbclient"), _library("jupyter_client")
    name = node.metadata.get("kernelspec", {}).get("name", "")
    language = node.metadata.get("kernelspec", {}).get("language") or node.metadata.get("language_info", {}).get("name")
    is_python = (language or "python").lower() == "python"
    if is_python:
        _library("ipykernel")
    elif name not in jupyter.kernelspec.find_kernel_specs():
        raise Rejected(f"the notebook needs the kernel {name!r}, which {platform.node()} does not have")

    class OwnKernel(jupyter.AsyncKernelManager):  # type: ignore[misc,name-defined]
        @property
        def kernel_spec(self) -> Any:
            argv = [sys.executable, "-m", "jobkit.features.notebooks.kernel", "-f", "{connection_file}"]
            argv.append("--HistoryManager.enabled=False")  # of the user, which all kernels would write to
            spec = jupyter.kernelspec.KernelSpec(argv=argv, language="python", display_name="Python")
            return spec if is_python else super().kernel_spec

    class Client(nbclient.NotebookClient):  # type: ignore[misc,name-defined]
        is_own = is_python
        printed = -1, 0  # index of a cell, and the characters that it has printed

        def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
            content = msg["content"]
            if msg["msg_type"] == "clear_output":
                self.printed = cell_index, 0
            elif msg["msg_type"] == "stream":
                if job.recorder is not None:
                    job.recorder.write(content["name"], content["text"])
                before = self.printed[1] if self.printed[0] == cell_index else 0
                self.printed = cell_index, before + len(content["text"])
                if self.printed[1] > _PRINTED_CHARS:
                    if before > _PRINTED_CHARS:
                        return None
                    text = content["text"][: _PRINTED_CHARS - before] + _MORE
                    msg = {**msg, "content": {**content, "text": text}}
            return super().process_message(msg, cell, cell_index)

    return Client(node, kernel_manager_class=OwnKernel, timeout=None, store_widget_state=True)


class Outputs:
    """The executed notebook and its HTML as artifacts of the job, which grow while it runs."""

    def __init__(self, name: str, node: Any, job: Context) -> None:
        self._name, self._node, self._job = name, node, job
        self._due = {SUFFIX: 0.0, ".html": time.monotonic() + _HTML_S}
        self._refused: set[str] = set()

    def save(self, *, is_last: bool = False) -> None:
        """Save the notebook and its HTML, each unless its last save was just now or took long. Never raises."""
        for suffix, pause_s in ((SUFFIX, _NOTEBOOK_S), (".html", _HTML_S)):
            began = time.monotonic()
            if not is_last and began < self._due[suffix]:
                continue
            try:
                if self._job.recorder is not None:
                    self._job.recorder.artifact(self._name + suffix, MEDIA[suffix], self._rendered(suffix))
            except Exception as error:  # too large, a broken output, nbconvert is missing
                self._warn(suffix, error)
            now = time.monotonic()
            self._due[suffix] = now + max(pause_s, _TIMES * (now - began))

    def _rendered(self, suffix: str) -> bytes:
        if suffix == SUFFIX:
            text: str = importlib.import_module("nbformat").writes(self._node)
            return text.encode("utf-8", "replace")
        return as_html(self._node, self._name)

    def _warn(self, suffix: str, error: Exception) -> None:
        if suffix not in self._refused and self._job.recorder is not None:
            self._refused.add(suffix)
            self._job.recorder.line("jobkit", f"{self._name}{suffix} could not be saved: {error}", "WARNING")
