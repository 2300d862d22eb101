"""Demo tasks, available if no tasks are configured. Each does real work of some seconds or minutes.

Their data ship with Python: the modules of the standard library. Randomness starts from a seed that is a parameter.
They are also examples of how to write tasks: plain functions, typed parameters, a docstring for the form,
`jobkit.progress` around the loop, `print` and `logging`. NumPy and pandas are imported inside the functions, so that a
worker that never runs them does not load them.
"""

from __future__ import annotations

import ast
import asyncio
import logging
import math
import platform
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jobkit

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from PIL.Image import Image

log = logging.getLogger(__name__)

Package = Literal["asyncio", "email", "http", "importlib", "json", "logging", "multiprocessing", "unittest", "xml"]

_CHUNK = 1_000_000

#: Directory of Python's standard library.
_LIBRARY = Path(sysconfig.get_path("stdlib"))


@jobkit.task
def estimate_pi(
    points: Annotated[int, jobkit.Range(2_000_000, 10**11)] = 1_200_000_000,
    method: Literal["darts", "stratified"] = "darts",
    seed: Annotated[int, jobkit.Range(0, 2**32 - 1)] = 1,
) -> dict[str, float]:
    """Estimate pi

    Draws random points, counts those inside the circle, and says how far off the estimate may be.

    Args:
        points: how many points are drawn; four times as many halve the error. Rounded to whole millions.
        method: "darts" counts the points that fall into the quarter circle; "stratified" takes the mean of the circle's
            height, one point in each of a million equal strips, which is far more exact for the same number of points.
        seed: start of the random numbers; the same seed gives the same estimate.

    Returns:
        The estimate, its standard error, the bounds of its 95 % confidence interval and its true error.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    chunks = points // _CHUNK
    strips = np.arange(_CHUNK) / _CHUNK
    total = squares = 0.0
    for n in jobkit.progress(range(1, chunks + 1), desc="million points"):
        if method == "darts":
            x, y = rng.random((2, _CHUNK))
            value = 4 * int(np.count_nonzero(x * x + y * y <= 1)) / _CHUNK
        else:
            x = strips + rng.random(_CHUNK) / _CHUNK
            value = 4 * float(np.sqrt(1 - x * x).mean())
        total += value
        squares += (value - math.pi) ** 2  # relative to a constant near the mean, to avoid rounding errors
        if n % max(1, chunks // 10) == 0:
            print(f"after {n:,} million points: {total / n:.9f}")
    mean = total / chunks
    variance = max(0.0, squares / chunks - (mean - math.pi) ** 2)
    error = math.sqrt(variance / (chunks - 1))
    return {
        "pi": mean,
        "standard error": error,
        "95 % from": mean - 1.96 * error,
        "95 % to": mean + 1.96 * error,
        "true error": mean - math.pi,
        "points": chunks * _CHUNK,
    }


@jobkit.task
def bootstrap_regression(
    response: Literal["lines", "kilobytes"] = "lines",
    predictors: list[Literal["functions", "classes", "branches", "imports"]] = ["functions", "classes", "branches"],  # noqa: B006  # never changed; a list is what a form shows
    resamples: Annotated[int, jobkit.Range(100, 1_000_000)] = 100_000,
    confidence: Annotated[float, jobkit.Range(0.5, 0.999)] = 0.95,
    intercept: bool = True,
    seed: Annotated[int, jobkit.Range(0, 2**32 - 1)] = 1,
) -> pd.DataFrame:
    """Bootstrap a regression

    What makes a module of Python long? Measures each module of the standard library on this machine, fits a linear
    model by least squares, and repeats the fit on modules drawn with replacement.

    Args:
        response: what is explained.
        predictors: by what it is explained, each counted per module.
        resamples: how often the fit is repeated.
        confidence: level of the intervals (percentile bootstrap).
        intercept: whether the model has a constant term.
        seed: start of the random numbers.

    Returns:
        A table with a row for each coefficient: estimate, standard error and interval.
    """
    import numpy as np
    import pandas as pd

    if not predictors and not intercept:
        raise ValueError("the model has nothing to fit: choose a predictor or an intercept")
    files = sorted(_LIBRARY.glob("*.py"))
    table = pd.DataFrame([_measured(file) for file in jobkit.progress(files, desc="modules")])
    print(f"measured {len(table)} modules of the library of Python {platform.python_version()}:")
    print(table.describe().loc[["mean", "50%", "max"]].round(1).to_string())

    names = list(dict.fromkeys(predictors)) + ["constant"] * intercept
    design = np.column_stack([table[name] if name != "constant" else np.ones(len(table)) for name in names])
    target = table[response].to_numpy(float)
    estimate = np.linalg.lstsq(design, target, rcond=None)[0]
    rng = np.random.default_rng(seed)
    fits = np.empty((resamples, len(names)))
    for n in jobkit.progress(range(resamples), desc="resamples"):
        drawn = rng.integers(0, len(target), len(target))
        fits[n] = np.linalg.lstsq(design[drawn], target[drawn], rcond=None)[0]
    tail = (1 - confidence) / 2
    low, high = np.quantile(fits, [tail, 1 - tail], axis=0)
    spread = 1 - np.var(target - design @ estimate) / np.var(target)
    log.info("the model explains %.0f %% of the variance of %s", 100 * spread, response)
    result = pd.DataFrame(
        {"estimate": estimate, "standard error": fits.std(axis=0, ddof=1), "from": low, "to": high}, index=names
    )
    return result.rename_axis(f"{response} per").round(3)


@jobkit.task
def cross_validate(
    packages: list[Package] = ["asyncio", "email", "http", "multiprocessing", "unittest", "xml"],  # noqa: B006  # as above
    neighbours: list[Annotated[int, jobkit.Range(1, 99)]] = [1, 3, 5, 9, 15, 25, 45],  # noqa: B006  # as above
    folds: Annotated[int, jobkit.Range(2, 50)] = 10,
    repeats: Annotated[int, jobkit.Range(1, 1000)] = 60,
    seed: Annotated[int, jobkit.Range(0, 2**32 - 1)] = 1,
) -> pd.DataFrame:
    """Cross-validate a classifier

    Which package is a function from? Takes the functions of some packages of Python's standard library, counts the
    pairs of letters in their source, and guesses the package of each function by its nearest neighbours.

    Args:
        packages: the classes to tell apart, at least two.
        neighbours: numbers of neighbours to compare.
        folds: parts of the data; each is guessed once from all the others.
        repeats: how often the data are shuffled and split anew.
        seed: start of the random numbers.

    Returns:
        A table with a row for each number of neighbours: mean accuracy, its standard error over the repeats, and the
        accuracy of always guessing the largest package.
    """
    import numpy as np
    import pandas as pd

    if len(set(packages)) < 2 or not neighbours:
        raise ValueError("choose at least two packages and one number of neighbours")
    sources = [(text, n) for n, name in enumerate(dict.fromkeys(packages)) for text in _functions(name)]
    labels = np.array([n for _, n in sources])
    counts = Counter(packages[n] for n in labels)
    print(f"{len(labels)} functions:", ", ".join(f"{name} {count}" for name, count in counts.most_common()))
    features = np.stack([_pairs(text) for text, _ in sources])
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    likeness = features @ features.T

    rng = np.random.default_rng(seed)
    most = max(neighbours)
    hits = np.zeros((repeats, len(neighbours)))
    for split in jobkit.progress(range(repeats), desc="splits"):
        for part in np.array_split(rng.permutation(len(labels)), folds):
            scores = likeness[part].copy()
            scores[:, part] = -np.inf  # exclude the test part from the training data
            nearest = np.argsort(-scores, axis=1)[:, :most]
            for column, k in enumerate(neighbours):
                votes = np.stack([(labels[nearest[:, :k]] == n).sum(axis=1) for n in range(len(counts))])
                hits[split, column] += (votes.argmax(axis=0) == labels[part]).sum()
        best = hits[split].argmax()
        share = 100 * hits[split, best] / len(labels)
        log.info("split %d: best with %d neighbours, %.1f %%", split + 1, neighbours[best], share)
    accuracy = hits / len(labels)
    error = accuracy.std(axis=0, ddof=1) / math.sqrt(repeats) if repeats > 1 else np.full(len(neighbours), np.nan)
    return pd.DataFrame(
        {
            "neighbours": neighbours,
            "accuracy": accuracy.mean(axis=0).round(4),
            "standard error": error.round(5),
            "largest package": round(max(counts.values()) / len(labels), 4),
        }
    )


@jobkit.task
def mandelbrot(
    width: Annotated[int, jobkit.Range(50, 4000)] = 1500,
    real: Annotated[float, jobkit.Range(-2, 2)] = -0.7436439,
    imaginary: Annotated[float, jobkit.Range(-2, 2)] = 0.1318259,
    magnification: Annotated[float, jobkit.Range(0.1, 10**12)] = 2000.0,
    iterations: Annotated[int, jobkit.Range(10, 100_000)] = 4000,
    colours: Literal["fire", "ocean", "grey"] = "ocean",
    fail_at: Annotated[int | None, "Fail on purpose at this row, to see how a failed job looks."] = None,
) -> Image:
    """Draw the Mandelbrot set

    A part of it, row by row, as a picture.

    Args:
        width: of the picture in pixels; its height is two thirds of it.
        real: real part of the point in the middle.
        imaginary: imaginary part of the point in the middle.
        magnification: 1 shows the whole set.
        iterations: after so many steps a point counts as inside; more show finer detail near the border.
        colours: of the points outside, by how soon they escape.

    Returns:
        The picture.
    """
    import numpy as np

    height = width * 2 // 3
    span = 3 / magnification
    columns = real + span * (np.arange(width) / width - 0.5)
    escape = np.zeros((height, width))
    for row in jobkit.progress(range(height), desc="rows"):
        if row == fail_at:
            raise RuntimeError(f"asked to fail at row {row}")
        point = columns + 1j * (imaginary + span * (0.5 - row / height) * 2 / 3)
        escape[row] = _escape_times(point, iterations)
        if row % max(1, height // 10) == 0:
            print(f"row {row} of {height}: {np.median(escape[row]):.0f} steps in the middle")
    return _coloured(escape, colours)


@jobkit.task
async def count_words(
    packages: list[Package] = ["asyncio", "email", "http", "importlib", "json", "logging", "xml"],  # noqa: B006  # as above
    shortest: Annotated[int, jobkit.Range(1, 30)] = 5,
    changed_since: date | None = None,
    case_sensitive: bool = False,
    pause: Annotated[float, jobkit.Range(0, 10), "Seconds to wait between two files."] = 0.05,
    fail_at: Annotated[int | None, "Fail on purpose at this file, to see how a failed job looks."] = None,
) -> pd.DataFrame:
    """Count words in source code

    Reads Python's own library, one file at a time; an async task, so it runs on the worker's loop.

    Args:
        packages: packages of the standard library to read.
        shortest: words with fewer letters are left out.
        changed_since: only files that were changed on this day or later; empty for all.
        case_sensitive: whether "Path" and "path" are two words.

    Returns:
        The 50 most frequent words: count, number of files, share of all words.
    """
    import pandas as pd

    files = [file for name in dict.fromkeys(packages) for file in _modules(name)]
    if changed_since is not None:
        files = [file for file in files if datetime.fromtimestamp(file.stat().st_mtime).date() >= changed_since]
    if not files:
        log.warning("none of the files was changed since %s", changed_since)
    words: Counter[str] = Counter()
    seen_in: Counter[str] = Counter()
    for n, file in enumerate(jobkit.progress(files, desc="files"), start=1):
        if n == fail_at:
            raise RuntimeError(f"asked to fail at file {n}, {file.name}")
        text = await asyncio.to_thread(file.read_text, "utf-8", "replace")
        found = re.findall(r"[^\W\d_]+", text if case_sensitive else text.lower())
        kept = [word for word in found if len(word) >= shortest]
        words.update(kept)
        seen_in.update(set(kept))
        if n % 20 == 0:
            print(f"{n} files, {words.total():,} words, most frequent: {words.most_common(1)[0][0]}")
        await asyncio.sleep(pause)
    total = max(1, words.total())
    rows = [
        {"word": word, "count": count, "files": seen_in[word], "share": round(count / total, 5)}
        for word, count in words.most_common(50)
    ]
    return pd.DataFrame(rows, columns=["word", "count", "files", "share"])


def _modules(package: str) -> list[Path]:
    """Return the modules of a package of the standard library; its tests are elsewhere in some versions."""
    folder = _LIBRARY / package
    files = folder.rglob("*.py")
    return sorted(file for file in files if not {"test", "tests"} & set(file.relative_to(folder).parts))


def _measured(file: Path) -> dict[str, float]:
    """Return the counts of one module."""
    text = file.read_text("utf-8", "replace")
    nodes = Counter(type(node).__name__ for node in ast.walk(ast.parse(text)))
    return {
        "lines": text.count("\n"),
        "kilobytes": len(text) / 1000,
        "functions": nodes["FunctionDef"] + nodes["AsyncFunctionDef"],
        "classes": nodes["ClassDef"],
        "branches": nodes["If"] + nodes["For"] + nodes["While"] + nodes["Try"],
        "imports": nodes["Import"] + nodes["ImportFrom"],
    }


def _functions(package: str) -> Iterator[str]:
    """Yield the source of the functions of a package that have at least eight lines."""
    for file in _modules(package):
        text = file.read_text("utf-8", "replace")
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = lines[node.lineno : node.end_lineno]
                if len(body) >= 8:
                    yield "\n".join(line.strip() for line in body)


def _pairs(text: str) -> np.ndarray[Any, Any]:
    """Return the logarithm of the frequency of each pair of letters; there are 64 letters."""
    import numpy as np

    codes = np.frombuffer(text.lower().encode("ascii", "replace"), np.uint8).astype(int) % 64
    return np.log1p(np.bincount(64 * codes[:-1] + codes[1:], minlength=64 * 64))


def _escape_times(point: np.ndarray[Any, Any], iterations: int) -> np.ndarray[Any, Any]:
    """Return the smoothed number of steps until each point escapes; 0 for points that do not."""
    import numpy as np

    times = np.zeros(point.shape)
    alive = np.arange(len(point))
    z = np.zeros_like(point)
    c = point
    for step in range(1, iterations + 1):
        z = z * z + c
        size = z.real * z.real + z.imag * z.imag
        gone = size > 256
        if gone.any():
            times[alive[gone]] = step + 1 - np.log2(0.5 * np.log2(size[gone]))
            alive, z, c = (each[~gone] for each in (alive, z, c))
            if not len(alive):
                break
    return times


def _coloured(escape: np.ndarray[Any, Any], colours: str) -> Image:
    """Return escape times as a picture; points that do not escape are black."""
    import numpy as np
    from PIL import Image, ImageOps

    outside = escape > 0
    shade = np.zeros(escape.shape, np.uint8)
    rank = escape[outside].argsort().argsort()  # by rank, so that each shade covers the same area
    shade[outside] = 255 * rank // max(1, len(rank))
    middle = {"fire": "orangered", "ocean": "steelblue", "grey": "grey"}[colours]
    return ImageOps.colorize(Image.fromarray(shade), "black", "white", mid=middle)
