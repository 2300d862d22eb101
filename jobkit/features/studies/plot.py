"""The history of a study: the value of each trial by its number, and the best one so far as a line. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobkit.features.batches.batch_plot import MAX_POINTS, evenly, picture, sample_note, scale
from jobkit.ui.card.curves import COLOURS

#: The axis of the history.
TRIAL = "trial"

#: Corners of the line of best values.
_CORNERS = 500

#: Colours of what was pruned, and of what failed: as `COLOURS`.
_GREY, _RED = "#7a8594", COLOURS[6]

#: What the marks mean, by how a trial ended: a word, a colour, and another shape than a dot around (0, 0).
MARKS: Mapping[str, tuple[str, str, list[Any] | None]] = {
    "succeeded": ("value", COLOURS[0], None),
    "pruned": (
        "pruned (last metric)",
        _GREY,
        ["path", {"d": "M-4-3h8L0 4z", "fill": "transparent", "stroke": _GREY, "stroke-width": 1.5}],
    ),
    "failed": ("failed", _RED, ["path", {"d": "M-3.5-3.5l7 7m0-7l-7 7", "stroke": _RED, "stroke-width": 2}]),
}

#: The line of best values; parallel coordinates have the best trials in this colour.
BEST = COLOURS[1]
_LINE = ["path", {"d": "M-7 0h14", "stroke": BEST, "stroke-width": 2}]


@dataclass(frozen=True, slots=True)
class TrialMark:
    """One trial that has ended: its place in the batch, its number, how it ended, and its value if it has one."""

    row: int
    number: int
    face: str
    value: float | None = None


def history(trials: Sequence[TrialMark], name: str, is_maximized: bool | None) -> dict[str, Any] | None:
    """Return the history as of `batch_plot.picture`, or None if no trial has a value.

    Args:
        trials: those that have ended, by number. name: of their values.
        is_maximized: whether a larger value is a better one; None for no line of best values.
    """
    valued = [trial for trial in trials if trial.value is not None]
    if not valued:
        return None
    across = scale([0.0, float(max(1, trials[-1].number))], is_count=True)
    # What was pruned may be far away: it stands at the edge.
    complete = [trial.value for trial in valued if trial.face == "succeeded"]
    up = scale([value for value in (complete or [trial.value for trial in valued]) if value is not None])
    marked = [trial for trial in trials if trial.value is not None or trial.face == "failed"]
    shown = evenly(marked, MAX_POINTS)
    faces = [face for face in MARKS if any(trial.face == face for trial in shown)]
    dots = [
        # What has no value stands on the axis.
        [round(across.at(t.number), 4), 0 if t.value is None else round(up.at(t.value), 4), faces.index(t.face), t.row]
        for t in shown
    ]
    best = [] if is_maximized is None else _best(trials, is_maximized)
    line = [(across.at(number), up.at(value)) for number, value in best]
    return {
        "y": name,
        "size": len(marked),
        "note": sample_note(len(shown), len(marked), "trials"),
        "series": [*(MARKS[face][0] for face in faces), *(["best so far"] if line else [])],
        **picture(f"{TRIAL} number", across, up, dots, [(BEST, line)] if line else []),
        "colours": [*(MARKS[face][1] for face in faces), BEST],
        "marks": [*(MARKS[face][2] for face in faces), _LINE],
    }


def _best(trials: Sequence[TrialMark], is_maximized: bool) -> list[tuple[int, float]]:
    """Return the corners of the line of best values: number and value."""
    corners: list[tuple[int, float]] = []
    for trial in trials:
        if trial.face != "succeeded" or trial.value is None:
            continue
        if not corners:
            corners.append((trial.number, trial.value))
        elif trial.value > corners[-1][1] if is_maximized else trial.value < corners[-1][1]:
            corners += [(trial.number, corners[-1][1]), (trial.number, trial.value)]
    if not corners:
        return []
    end = (trials[-1].number, corners[-1][1])
    return [*evenly(corners, _CORNERS), corners[-1], end]
