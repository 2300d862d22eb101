"""joblib's `Parallel` on real workers."""

from __future__ import annotations

import errno
import os
import signal
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pytest
import redis
from joblib import Parallel, delayed, parallel_config

import jobkit.joblib
from jobkit.client.kit import Kit
from jobkit.model import InvalidParams, JobFailed, JobkitError
from tests.client.calls import double, fail, hold, where
from tests.support import PORTABLE, wait_until
from tests.worker import jobs
from tests.worker.conftest import Bench


@pytest.fixture
def kit(bench: Bench) -> Kit:
    """Kit of a bench with a worker."""
    bench.worker("-c", "2")
    return bench.kit


def test_calls_run_in_batches_in_warm_processes(kit: Kit) -> None:
    with parallel_config("jobkit", kit=kit, tags=["grid"]):
        values = Parallel(n_jobs=-1, batch_size=10, pre_dispatch="all")(delayed(where)(n) for n in range(60))

    assert [n for n, *_ in values] == list(range(60))
    found = kit.jobs(task="where")
    assert len(found) < 10
    assert {(job.snapshot.spec.title, *job.tags) for job in found} >= {("10 × where", "grid")}
    assert len({pid for _, pid, _ in values}) <= 2
    assert {level for *_, level in values} == {("ThreadingBackend", 1)}  # for calls of Parallel in the calls


@pytest.mark.skipif(PORTABLE, reason="needs processes that start at once")
def test_short_calls_share_jobs_more_and_more(kit: Kit) -> None:
    with parallel_config("jobkit", kit=kit):
        assert Parallel()(delayed(double)(n) for n in range(500)) == [2 * n for n in range(500)]
    assert len(kit.jobs(limit=1000)) < 250


def test_the_number_of_jobs_is_that_of_slots_or_the_one_given(kit: Kit) -> None:
    with parallel_config("jobkit", kit=kit):
        assert [joblib.effective_n_jobs(n) for n in (-1, -2, -9, 1, 5)] == [2, 1, 1, 1, 5]
        with pytest.raises(ValueError, match="n_jobs == 0"):
            joblib.effective_n_jobs(0)
        assert Parallel(n_jobs=1)(delayed(os.getpid)() for _ in range(2)) == [os.getpid()] * 2
    assert not kit.jobs()
    with parallel_config("jobkit", kit=kit, queue="nobody"):
        assert joblib.effective_n_jobs(-1) == joblib.cpu_count()


@pytest.mark.skipif(PORTABLE, reason="needs processes that start at once")
def test_n_jobs_bounds_what_runs(bench: Bench) -> None:
    bench.worker("-c", "4")
    with parallel_config("jobkit", kit=bench.kit):
        spans = Parallel(n_jobs=2, batch_size=1)(delayed(span)(0.1) for _ in range(6))

    assert max(sum(a <= start < b for a, b in spans) for start, _ in spans) == 2


def span(seconds: float) -> tuple[float, float]:
    began = time.monotonic()
    time.sleep(seconds)
    return began, time.monotonic()


def test_an_error_is_raised_and_cancels_the_rest(kit: Kit, bench: Bench) -> None:
    calls = [delayed(fail)("here"), *(delayed(hold)(bench.file(f"s{n}"), bench.file("go")) for n in range(3))]
    with parallel_config("jobkit", kit=kit), pytest.raises(LookupError, match="here") as caught:
        Parallel(n_jobs=2, batch_size=1)(calls)

    assert isinstance(caught.value.__cause__, JobFailed)
    wait_until(lambda: all(job.is_terminal for job in kit.jobs()), what="the rest to be cancelled")
    assert {str(job.state) for job in kit.jobs()} == {"failed", "cancelled"}


def test_a_generator_yields_results_at_once_and_cancels_the_rest(kit: Kit, bench: Bench) -> None:
    calls = [delayed(double)(1), delayed(hold)(bench.file("s"), bench.file("go"))]
    with parallel_config("jobkit", kit=kit):
        values = Parallel(n_jobs=2, batch_size=1, return_as="generator")(calls)
        assert next(values) == 2
        with pytest.warns(UserWarning, match="have been cancelled"):
            values.close()
    wait_until(lambda: all(job.is_terminal for job in kit.jobs()), what="the rest to be cancelled")


def test_what_cannot_be_sent_raises_and_does_not_hang(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    def calls() -> Iterator[object]:
        yield from (delayed(double)(n) for n in range(8))
        yield delayed(double)(n for n in ())  # a generator has no pickle

    with parallel_config("jobkit", kit=kit):
        with pytest.raises(TypeError, match="generator"):
            Parallel(n_jobs=2, batch_size=1)(calls())
        monkeypatch.setattr(kit.verbs.parts, "_most_bytes", 1_000_000)
        with pytest.raises(InvalidParams, match=r"takes 1\.6 MB, more than the 1\.0 MB .* set JOBKIT_RESULTS"):
            Parallel(n_jobs=2)(delayed(np.sum)(np.zeros(200_000)) for _ in range(2))
    wait_until(lambda: all(job.is_terminal for job in kit.jobs()), what="the rest to be cancelled")


def test_a_wrong_option_is_refused_before_anything_is_called(kit: Kit) -> None:
    with pytest.raises(InvalidParams, match="unknown option 'quee'"):
        parallel_config("jobkit", kit=kit, quee="gpu")


def test_a_killed_worker_is_survived(bench: Bench) -> None:
    first = bench.worker("-c", "2")
    values = []
    with parallel_config("jobkit", kit=bench.kit):
        running = Parallel(n_jobs=2, batch_size=1, return_as="generator_unordered")(
            delayed(jobs.until.function)(bench.file(f"n{n}"), bench.file("go")) for n in range(4)
        )
        bench.started("n0")
        first.send_signal(signal.SIGKILL)
        first.wait()
        bench.worker("-c", "2")
        bench.started("n0", times=2)
        Path(bench.file("go")).touch()
        values = list(running)

    assert values == ["done"] * 4
    assert sum(job.snapshot.losses for job in bench.kit.jobs()) >= 1


def test_large_arrays_are_mapped_from_one_file_each(sharing: Bench) -> None:
    sharing.worker("-c", "2")
    data = np.arange(300_000, dtype=float).reshape(300, 1000, order="F")
    with parallel_config("jobkit", kit=sharing.kit):
        found = Parallel(n_jobs=2, batch_size=1)(delayed(describe)(data, n) for n in range(4))

    kinds, files, sums, orders = zip(*found, strict=True)
    assert set(kinds) == {"memmap"}
    assert len(set(files)) == 1
    assert sums == tuple(data[n].sum() for n in range(4))
    assert set(orders) == {True}
    assert not list((sharing.folder / "results").glob("*/arrays/*"))
    assert all(len(job.snapshot.spec.params) == 0 for job in sharing.kit.jobs())


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left"),
        (OSError("9 requested and 5 written"), "9 req"),
    ],
)
def test_an_array_that_cannot_be_written_is_told_in_a_sentence(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, why: str
) -> None:
    def save(*_: object, **__: object) -> None:
        raise error

    with jobkit.connect(**{**bench.place, "results": str(tmp_path / "results")}) as kit:
        monkeypatch.setattr(np, "save", save)
        with (
            parallel_config("jobkit", kit=kit),
            pytest.raises(JobkitError, match=rf"an array of 1\.6 MB cannot be written to .*arrays: {why}.*max_nbytes"),
        ):
            Parallel(n_jobs=2)(delayed(np.sum)(np.zeros(200_000)) for _ in range(2))
        assert not kit.jobs()


def test_an_array_of_many_batches_is_stored_once_without_a_directory(kit: Kit, bench: Bench) -> None:
    data = np.arange(300_000, dtype=float).reshape(300, 1000)
    with parallel_config("jobkit", kit=kit):
        found = Parallel(n_jobs=2, batch_size=1)(delayed(row_sum)(data, n) for n in range(4))

    assert found == [data[n].sum() for n in range(4)]
    with redis.Redis.from_url(bench.place["url"]) as client:
        assert len(client.keys(f"jk:{bench.place['namespace']}:blob:*")) == 1


@pytest.mark.parametrize("is_shared", [True, False])
def test_batches_grow_with_an_array_of_all_calls_but_not_with_one_of_each(kit: Kit, is_shared: bool) -> None:
    shared = np.ones((2, 200_000))
    with parallel_config("jobkit", kit=kit):
        parallel = Parallel(n_jobs=2, batch_size=2)
        found = parallel(delayed(row_sum)(shared if is_shared else np.ones((2, 200_000)), 0) for _ in range(8))

    assert found == [200_000.0] * 8
    assert (parallel._backend._most_calls > 100) == is_shared


def row_sum(data: np.ndarray, n: int) -> float:
    return float(data[n].sum())


def test_arrays_of_single_calls_go_with_them_and_memmaps_are_mapped(sharing: Bench, tmp_path: Path) -> None:
    made: list[weakref.ref[np.ndarray]] = []
    most: list[tuple[int, int]] = []

    def calls() -> Iterator[object]:
        for n in range(60):
            array = np.full(200_000, float(n))
            made.append(weakref.ref(array))
            alive = sum(each() is not None for each in made)
            most.append((alive, len(list((tmp_path / "results").rglob("*.npy")))))
            yield delayed(np.sum)(array)

    sharing.worker("-c", "2")
    own = np.memmap(tmp_path / "own", dtype=float, mode="w+", shape=(3, 500_000))
    with parallel_config("jobkit", kit=sharing.kit):
        assert Parallel(n_jobs=2, batch_size=1)(calls()) == [200_000.0 * n for n in range(60)]
        found = Parallel(n_jobs=2)(delayed(describe)(own, n) for n in range(2))
    assert max(most) < (40, 40)
    assert [kind for kind, *_ in found] == ["memmap"] * 2


def describe(data: np.memmap, n: int) -> tuple[str, str, float, bool]:
    return type(data).__name__, str(data.filename), float(data[n].sum()), data.flags.f_contiguous


def test_inside_a_job_the_slot_is_lent(bench: Bench) -> None:
    bench.worker("-c", "1")
    assert bench.kit.submit(nested, bench.place).result(60) == [0, 2, 4]


def nested(place: dict[str, str]) -> list[int]:
    with jobkit.connect(**place) as kit, parallel_config("jobkit", kit=kit):
        return list(Parallel(n_jobs=2, batch_size=1)(delayed(double)(n) for n in range(3)))


@pytest.mark.nightly
def test_a_grid_search_finds_the_same(kit: Kit) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV

    x, y = datasets.make_regression(400, 30, noise=3.0, random_state=0)

    def search(n_jobs: int) -> GridSearchCV:
        return GridSearchCV(Ridge(), {"alpha": np.logspace(-3, 3, 12)}, n_jobs=n_jobs, cv=4).fit(x, y)

    with parallel_config("jobkit", kit=kit):
        ours = search(-1)
    theirs = search(1)

    for name in ("params", "split0_test_score", "mean_test_score", "rank_test_score"):
        assert np.array_equal(ours.cv_results_[name], theirs.cv_results_[name]), name
    assert ours.best_params_ == theirs.best_params_
    assert kit.jobs(task="_fit_and_score")
