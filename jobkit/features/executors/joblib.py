"""The backend "jobkit" of joblib, which `import jobkit.joblib` registers by importing this module."""

from __future__ import annotations

import io
import itertools
import os
import pickle
import secrets
import shutil
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
from joblib.parallel import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend

from jobkit.codec import pickler
from jobkit.connecting import connect
from jobkit.files.file_store import ARRAY_FILE
from jobkit.files.places import place_of
from jobkit.files.storage import make_folders
from jobkit.model import JobkitError, ResultUnavailable
from jobkit.model.format import size
from jobkit.run.inside import context
from jobkit.tasks.task import name_of

if TYPE_CHECKING:
    from jobkit.features.executors.executor import JobExecutor

#: Options of the jobs unless given. A search ends with its program, so its parts are not kept for long.
_OPTIONS = {"reuse": 1000, "result_ttl": "1h"}

#: A batch takes so many bytes at most, if it has several calls.
_BATCH_BYTES = 5_000_000

#: Folder of arrays below the directory for large results, and the seconds after which those of a killed program go.
_FOLDER, _KEPT_S = "arrays", 7 * 86_400.0


class JobkitBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """Runs the batches of `joblib.Parallel` as jobs.

    `n_jobs=-1`, the default, means all slots of the workers; 1 runs the calls here, as joblib promises.

    Args:
        kit: where the jobs go; the default kit unless given.
        options: of the jobs, as for `kit.options`: `joblib.parallel_config("jobkit", queue="gpu")`. Processes stay for
            further batches (`reuse=1000`), and ended jobs are kept for an hour (`result_ttl="1h"`), unless given.

    Raises:
        InvalidParams: an unknown option or an invalid value.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    default_n_jobs = -1

    def __init__(self, kit: Any = None, nesting_level: int | None = None, **options: Any) -> None:
        super().__init__(nesting_level=nesting_level)
        isolation = options.get("isolation") or "process"
        kept = {name: value for name, value in _OPTIONS.items() if name != "reuse" or isolation == "process"}
        self._kit = kit or connect()
        self._bound = self._kit.submitter.with_options({**kept, **options})
        self._executor: JobExecutor | None = None
        self._arrays: Arrays | None = None
        self._threads, self._most_calls = 0, sys.maxsize

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many calls run at once. Negative: so many less than all slots of the workers, plus one."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is not None and n_jobs > 0:
            return int(n_jobs)
        queue = self._bound.over.queue or "default"
        serving = [each.slots for each in self._kit.workers() if each.takes_jobs and queue in each.queues]
        return max(1, (sum(serving) or int(joblib.cpu_count())) + 1 + (-1 if n_jobs is None else n_jobs))

    def configure(self, n_jobs: int = 1, parallel: Any = None, **settings: Any) -> int:
        """Prepare a call of `Parallel`; return the effective number of jobs."""
        found = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._threads = self.inner_max_num_threads or max(1, joblib.cpu_count() // found)
        self._executor = self._bound.executor(max_workers=n_jobs if n_jobs and n_jobs > 0 else None)
        self._arrays = Arrays(self._kit, settings.get("max_nbytes"), settings.get("mmap_mode"))
        return found

    def compute_batch_size(self) -> int:
        return max(1, min(int(super().compute_batch_size()), self._most_calls))

    def submit(self, func: Any, callback: Callable[[Any], object] | None = None) -> Future[Any]:
        """Submit a batch. An error becomes that of the future, because callbacks call this, too, and theirs is
        not seen."""
        assert self._executor is not None
        assert self._arrays is not None
        future: Future[Any]
        try:
            body, sent, mapped_ones = self._arrays.dumps(func)
            made = ArrayBatch if sent else CallBatch
            batch = made(body, len(func), name_of(func.items[0][0]), self._threads)
            self._most_calls = _BATCH_BYTES * len(func) // (len(batch.body) + self._arrays.new_bytes(sent))
            future = self._executor.submit(batch, **sent)
        except Exception as error:
            future = Future()
            future.set_exception(error)
        else:
            future.add_done_callback(lambda _: mapped_ones.clear())
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel all jobs, also those that run."""
        if self._executor is not None:
            self._executor.abort()

    def terminate(self) -> None:
        """End a call of `Parallel`."""
        if self._executor is not None and self._arrays is not None:
            self._executor.shutdown(wait=False)
            self._arrays.delete()
        self.reset_batch_stats()


class CallBatch:
    """A job: a pickled batch of calls. Returns the list of their values.

    Args:
        body: pickle of joblib's callable. size, of: number of calls, and the name of what they call.
        threads: maximum number of threads of native libraries (BLAS, OpenMP).
    """

    def __init__(self, body: bytes, size: int, of: str, threads: int) -> None:
        self.body, self._threads = body, threads
        self.__name__, self.__doc__ = of, f"{size} × {of}"  # the job's name and title

    def __call__(self) -> list[Any]:
        calls = pickle.loads(self.body)
        with _limited(self._threads):
            return list(calls())


class ArrayBatch(CallBatch):
    """A batch with large arrays as arguments of the job."""

    def __call__(self, **arrays: Any) -> list[Any]:
        token = _sent.set(arrays)
        try:
            return super().__call__()
        finally:
            _sent.reset(token)


def _limited(threads: int) -> AbstractContextManager[Any]:
    try:
        from threadpoolctl import threadpool_limits  # scikit-learn needs it
    except ImportError:
        return nullcontext()
    return threadpool_limits(threads)  # type: ignore[no-any-return]  # it has no types


class Arrays:
    """Large arrays among the arguments: each is one file, which the jobs map into their memory, as joblib does.

    The files are in the directory for large results, which local workers have and others may share
    (`JOBKIT_RESULTS`). A file is deleted with its array: one that is made for a call alone goes with its batch, so a
    long generator of calls fills neither memory nor disk. Without such a directory arrays are arguments of the jobs:
    large parts of their calls, each of which is stored once.

    Args:
        most_bytes: larger arrays become files; None for no files. mode: how they are mapped: "r", "c", ...
    """

    def __init__(self, kit: Any, most_bytes: int | None, mode: str | None) -> None:
        self._store = kit.verbs.file_store
        self._most_bytes, self._mode = most_bytes, {"w+": "r+"}.get(mode or "", mode)
        self._folder: Path | None = None
        if self._store is not None and mode is not None:
            base = kit.connection.call(kit.verbs.store.place)
            self._folder = self._store.place.local(f"{base}/{_FOLDER}/{secrets.token_hex(8)}")
        self._files: dict[int, tuple[weakref.ref[Any], str]] = {}  # by the id of the array while that lives
        self._before: dict[int, weakref.ref[Any]] = {}  # arrays of the last batch, likewise
        self._numbers = itertools.count()

    def dumps(self, calls: Any) -> tuple[bytes, dict[str, Any], list[Any]]:
        """Return the pickle of a batch, the arrays that are arguments of its job by name, and those whose files it
        needs, which must live until it has ended.

        Raises:
            JobkitError: a file cannot be written.
        """
        sent: dict[str, Any] = {}
        used: list[Any] = []
        with io.BytesIO() as file:
            self._pickler(file, sent, used).dump(calls)
            return file.getvalue(), sent, used

    def new_bytes(self, sent: Mapping[str, Any]) -> int:
        """Return the size of the arrays of a batch that the batch before it did not have: those of its calls alone."""
        before, self._before = self._before, {id(array): weakref.ref(array) for array in sent.values()}
        known = [before[id(array)]() if id(array) in before else None for array in sent.values()]
        return sum(array.nbytes for array, same in zip(sent.values(), known, strict=True) if array is not same)

    def delete(self) -> None:
        """Delete the files. Jobs that have mapped one keep it."""
        self._files.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _pickler(self, file: io.BytesIO, sent: dict[str, Any], used: list[Any]) -> Any:
        arrays, base = self, pickler()

        class ArrayPickler(base):  # type: ignore[misc,valid-type]
            def reducer_override(self, obj: Any) -> Any:
                if not arrays._is_large(obj):
                    return super().reducer_override(obj)
                if arrays._folder is None:
                    name = f"array {len(sent) + 1}"
                    sent[name] = obj
                    return taken, (name,)
                used.append(obj)
                return mapped, (arrays._file(obj), arrays._mode)

        return ArrayPickler(file, protocol=5)

    def _is_large(self, obj: Any) -> bool:
        numpy = sys.modules.get("numpy")
        if self._most_bytes is None or numpy is None or type(obj) not in (numpy.ndarray, numpy.memmap):
            return False
        return bool(obj.nbytes > self._most_bytes) and not obj.dtype.hasobject

    def _file(self, array: Any) -> str:
        """Return the file of an array, written at its first use. Raises JobkitError if it cannot be written."""
        assert self._folder is not None
        key = id(array)
        if key not in self._files:
            import numpy

            number = next(self._numbers)
            path = self._folder / f"{number}.npy"
            try:
                if not number:
                    make_folders(self._folder)
                    _sweep(self._folder.parent)
                numpy.save(path, array, allow_pickle=False)
            except OSError as error:
                raise JobkitError(
                    f"an array of {size(array.nbytes)} cannot be written to {self._folder.parent}: "
                    f"{error.strerror or error}; Parallel(max_nbytes=None) sends it with its call instead"
                ) from None
            self._files[key] = weakref.ref(array, lambda _: self._forget(key)), str(path)
        return self._files[key][1]

    def _forget(self, key: int) -> None:
        with suppress(OSError):
            os.unlink(self._files.pop(key)[1])


#: Arrays among the arguments of the job that runs here.
_sent: ContextVar[Mapping[str, Any]] = ContextVar("jobkit_joblib_arrays")


def taken(name: str) -> Any:
    """Return an array among the arguments of this job."""
    return _sent.get()[name]


def mapped(path: str, mode: Any) -> Any:
    """Return the array of a file, mapped into memory."""
    import numpy

    try:
        return numpy.load(path, mmap_mode=mode, allow_pickle=False)
    except OSError as error:
        with suppress(OSError):
            if mode in ("r", "c") and (copy := _fetched(path)):
                return numpy.load(copy, mmap_mode=mode, allow_pickle=False)
        raise ResultUnavailable(
            f"an array of this call is the file {path}, which cannot be read here ({error.strerror or error}): "
            "JOBKIT_RESULTS must be one directory, at the same path, for this machine and the submitting one"
        ) from None


def _fetched(path: str) -> Path | None:
    """Return a copy of an array of the machine that shares its place; None if this machine has not joined one."""
    found, job = ARRAY_FILE.search(path), context.active()
    if found is None or job is None or not job.results:
        return None
    place = place_of(job.results)  # a job's process does not know the URL of its worker
    return None if place.local("") is not None else place.fetched(found[0])


def _sweep(folder: Path) -> None:
    """Delete the arrays of calls that were killed."""
    for each in folder.iterdir():
        with suppress(OSError):
            if each.stat().st_mtime < time.time() - _KEPT_S:
                shutil.rmtree(each)


joblib.register_parallel_backend("jobkit", JobkitBackend)
