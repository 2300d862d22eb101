"""Cross-validation as in a notebook: five folds of a function that imports scikit-learn, submitted five times.

In each round: the time from the submit to the first step that the submitter hears of, by part.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable

import jobkit
from benchmarks.place import SECRET, Place, jobkit_worker, running, until
from benchmarks.table import Row, most, row

#: The import that is measured, and the one of a run without scikit-learn.
_LIBRARY, _INSTEAD = "sklearn.linear_model", "pandas"
#: What a fold says when it begins.
_STEP = "fits"
#: Seconds between two rounds: a person changes a line.
_PAUSE_S = 3.0


def measure(place: Place) -> list[Row]:
    library = _LIBRARY if importlib.util.find_spec("sklearn") is not None else _INSTEAD
    first, *later = _rounds(place, library)
    without = _rounds(place, library, JOBKIT_IMPORT_AHEAD="0")[1:]
    what = f"5 folds that import {library}: submit to first step"
    return [
        row(f"{what}, round 1", "jobkit", [first["step"]], "s"),
        most(f"{what}, rounds 2 to 5", [found["step"] for found in later], "s", 0.3),
        row(f"{what}, rounds 2 to 5", "jobkit, import_ahead off", [found["step"] for found in without], "s"),
        *(row(f"- of which {part}, rounds 2 to 5", "jobkit", [found[part] for found in later], "s") for part in _PARTS),
        row("- of which import, round 1", "jobkit", [first["import"]], "s"),
        row("5 folds, submit to last result, rounds 2 to 5", "jobkit", [found["all"] for found in later], "s"),
    ]


def _rounds(place: Place, library: str, **environment: str) -> list[dict[str, float]]:
    place.flush()
    with running(jobkit_worker(2), place, **environment), jobkit.connect(place.url, secret=SECRET) as kit:
        until(kit.workers, "the worker")
        found = []
        for number in range(place.pick(5, 2)):
            time.sleep(_PAUSE_S * (number > 0 and not place.is_quick))
            found.append(_round(kit, _fold(library)))
    return found


_PARTS = ("claim", "fork and unpickle", "import", "news")


def _fold(library: str) -> Callable[..., list[float]]:
    step = _STEP

    def fold(k: int) -> list[float]:
        import importlib
        import time

        entered = time.time()
        importlib.import_module(library)
        imported = time.time()
        jobkit.current().report(k, 5, step)
        return [entered, imported]

    return fold


def _round(kit: jobkit.Kit, fold: Callable[..., list[float]]) -> dict[str, float]:
    """Return seconds: of the fold whose first step came first, by part, and until the last result."""
    heard: dict[str, float] = {}
    submitted = time.time()
    batch = kit.map(fold, [{"k": k} for k in range(5)])

    def note(job: jobkit.Job) -> None:
        if job.message == _STEP:
            heard.setdefault(job.id, time.time())

    for job in batch.jobs:
        job.param.watch(lambda change: note(change.obj), "message")
        note(job)
    values = batch.values()
    all_s = time.time() - submitted
    place, job = min(enumerate(batch.jobs), key=lambda pair: heard.get(pair[1].id, time.time()))
    entered, imported = values[place]
    assert job.started_at is not None
    claimed = job.started_at.timestamp()  # to the millisecond
    return {
        "step": heard.get(job.id, time.time()) - submitted,
        "claim": max(0.0, claimed - submitted),
        "fork and unpickle": max(0.0, entered - claimed),
        "import": imported - entered,
        "news": max(0.0, heard.get(job.id, time.time()) - imported),
        "all": all_s,
    }
